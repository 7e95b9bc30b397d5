"""Health checks follow the policy of a Service while its balancer serves; the API server gives the port."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


def asked(cluster: ServiceCluster) -> str:
    """Where the servers of the only listener are checked."""
    listeners = [listener for balancer in cluster.simulated.account.tables.clbs for listener in balancer.listeners]
    return listeners[0].settings.get("HealthCheckConnectPort", "-520") if listeners else ""


async def follow(cluster: ServiceCluster, policy: str) -> Service:
    """The Service with another policy, when its balancer has the servers and the check of that."""
    found = await cluster.client.patch(Service, "web", {"spec": {"externalTrafficPolicy": policy}}, NAMESPACE)
    port = str(found.spec.healthCheckNodePort or "-520")
    await cluster.until(lambda: asked(cluster) == port)
    return found


async def test_a_change_of_the_policy_changes_the_check(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.until(lambda: asked(cluster) == "-520")
    assert (await follow(cluster, "Local")).spec.healthCheckNodePort
    await cluster.until(lambda: cluster.weights() == {"i-a": 1})
    assert not (await follow(cluster, "Cluster")).spec.healthCheckNodePort
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})


async def test_a_port_that_is_gone_is_asked_no_more_although_the_service_must_be_corrected(
    cluster: ServiceCluster,
) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", externalTrafficPolicy="Local")
    await cluster.address("web")
    assert asked(cluster) == str((await cluster.get("web")).spec.healthCheckNodePort)
    await cluster.set("web", scheduler="nonsense", established_timeout="60")
    await cluster.wait_for_event("InvalidService", "scheduler")
    await follow(cluster, "Cluster")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    (listener,) = cluster.clb().listeners
    assert listener.settings["EstablishedTimeout"] == "900"  # waits for the correction


@pytest.mark.parametrize("wrong", [{"default_weight": "101"}, {"scheduler": "nonsense", "protocol_port": "http:80"}])
async def test_nor_where_its_servers_or_its_listener_wait_for_the_correction(
    cluster: ServiceCluster, wrong: dict[str, str]
) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", externalTrafficPolicy="Local")
    await cluster.address("web")
    await cluster.set("web", **wrong)
    await cluster.wait_for_event("InvalidService", "must be")
    assert asked(cluster) == str((await cluster.get("web")).spec.healthCheckNodePort)
    await follow(cluster, "Cluster")
    (listener,) = cluster.clb().listeners
    assert (listener.protocol, listener.settings["HealthCheckType"]) == ("tcp", "tcp")


async def test_nor_while_a_balancer_of_another_kind_is_made(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web", externalTrafficPolicy="Local")
    await cluster.address("web")
    calls = cluster.simulated.account.calls
    calls.clear()
    given = {f"{PREFIX}type": "nlb", f"{PREFIX}zone-maps": ZONES["zone-maps"]}
    body = {"metadata": {"annotations": given}, "spec": {"externalTrafficPolicy": "Cluster"}}
    await cluster.client.patch(Service, "web", body, NAMESPACE)
    await cluster.wait_for_event("ExchangingLoadBalancer", "")
    assert asked(cluster) == "-520"
    actions = [call.action for call in calls]
    assert actions.index("slb:SetLoadBalancerTCPListenerAttribute") < actions.index("nlb:CreateLoadBalancer")
