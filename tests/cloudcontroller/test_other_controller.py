"""The cloud's own controller beside ours: a warning that it runs, a refusal where it changes what we serve."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.core_v1 import Event, Node, Service
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.cloud.alibaba.naming import OTHER_LABEL
from tests.cloudcontroller.service_cluster import NAMESPACE, OTHER, ServiceCluster
from tests.support.running import running

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


async def renew(cluster: ServiceCluster) -> None:
    """Holds the Lease of the other controller as a leader does."""
    number = 0
    while True:
        number += 1
        body = {"spec": {"leaseTransitions": number}}
        await cluster.client.patch(Lease, OTHER.lease, body, OTHER.namespace)
        await asyncio.sleep(0.1)


async def reasons(cluster: ServiceCluster) -> set[str]:
    """The reasons of all Events."""
    return {each.reason for each in await cluster.client.list(Event, NAMESPACE)}


async def test_a_controller_that_runs_is_told_and_one_that_left_its_lease_behind_is_not(
    cluster: ServiceCluster,
) -> None:
    metadata = ObjectMeta(name=OTHER.lease, namespace=OTHER.namespace)
    await cluster.client.create(Lease(metadata=metadata, spec=LeaseSpec(holderIdentity="ccm-1")))
    try:
        await cluster.create("web")
        await cluster.address("web")
        await cluster.set("web", protocol_port="http:80")
        await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["http"])
        assert "OtherControllerRuns" not in await reasons(cluster)
        async with running(renew(cluster)):
            await cluster.wait_for_event("OtherControllerRuns", "kube-system/ccm")
        assert "SyncLoadBalancerFailed" not in await reasons(cluster)
    finally:
        await cluster.client.delete(Lease, OTHER.lease, OTHER.namespace)


@pytest.mark.reference_case("label service.beta.kubernetes.io/hash")
async def test_a_controller_that_changes_a_service_of_ours_is_told(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.client.patch(Service, "web", {"metadata": {"labels": {OTHER_LABEL: "1a2b"}}}, NAMESPACE)
    await cluster.wait_for_event("SyncLoadBalancerFailed", "another controller serves this Service as well")
    label = {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}}
    await cluster.client.patch(Node, "b", label)
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})


@pytest.mark.reference_case("label service.beta.kubernetes.io/hash")
async def test_what_the_other_controller_wrote_before_is_no_fault(cluster: ServiceCluster) -> None:
    await cluster.create("web", labels={OTHER_LABEL: "1a2b"})
    await cluster.address("web")
    await cluster.client.patch(Service, "web", {"metadata": {"labels": {OTHER_LABEL: None}}}, NAMESPACE)
    await cluster.set("web", protocol_port="http:80")
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["http"])
    assert "SyncLoadBalancerFailed" not in await reasons(cluster)
