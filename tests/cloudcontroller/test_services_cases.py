"""What is published for a Service, and what is not, in cases that the cloud's own controller knows as well."""

from __future__ import annotations

import pytest

from tests.cloudcontroller.service_cluster import ServiceCluster

pytestmark = pytest.mark.control_plane
shows = pytest.mark.reference_case


@shows("a host name is published")
async def test_a_host_name_is_published(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={"hostname": "web.example.com"})
    assert await cluster.address("web") == "web.example.com"
    await cluster.set("web", hostname=None)

    async def by_address() -> bool:
        return (await cluster.address("web")) == cluster.clb().address

    await cluster.eventually(by_address)


@shows("a lent balancer that does not exist")
async def test_a_lent_balancer_that_does_not_exist(cluster: ServiceCluster) -> None:
    await cluster.grant(loadBalancers=["lb-none"])
    await cluster.create("web", annotations={"id": "lb-none"})
    await cluster.wait_for_event("SyncLoadBalancerFailed", "lb-none, which annotation")
    assert not [*cluster.simulated.account.tables.clbs]
    assert not (await cluster.get("web")).status.loadBalancer.ingress
