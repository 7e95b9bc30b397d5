"""While a balancer takes the place of another one, pods wait for the one that clients use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from spiderpool.api.core_v1 import Event, ObjectReference, Pod
from spiderpool_lab.alibaba.balancers import BalancerBackend
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.service_cluster import ENI_BACKENDS, NAMESPACE, ZONES, ServiceCluster
from tests.cloudcontroller.test_readiness_gates import GATE, containers_ready, endpoints, is_open, new_pod
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


@pytest.fixture
async def exchanging(cluster: ServiceCluster) -> AsyncIterator[ServiceCluster]:
    """A Service with a classic balancer and one pod, which asks for a network one."""
    await cluster.grant(vSwitches=["vsw-2"])
    first = await new_pod(cluster, "first", GATE)
    await containers_ready(cluster, "first")
    await endpoints(cluster, _172_31_192_10=first)
    await cluster.create("web", annotations=ENI_BACKENDS)
    await cluster.eventually(lambda: is_open(cluster, "first"))
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await told(cluster, "takes the place of")
    yield cluster
    for pod in await cluster.client.list(Pod, NAMESPACE):
        await cluster.client.delete(Pod, pod.name, NAMESPACE, grace=0)


async def told(cluster: ServiceCluster, part: str) -> None:
    """Waits for an Event while no time passes for the reconciler, so that no server is found well."""

    async def recorded() -> bool:
        return any(part in each.message for each in await cluster.client.list(Event, NAMESPACE))

    await eventually(recorded, timeout=60.0, interval=0.1)


async def tried(cluster: ServiceCluster, action: str) -> None:
    """Waits until an action has been refused twice more, without time for the reconciler: two plans have ended."""
    calls = cluster.simulated.account.calls
    before = len(calls)
    await eventually(lambda: sum(call.action == action for call in [*calls][before:]) > 1, timeout=60.0, interval=0.1)


def refuse(cluster: ServiceCluster, action: str) -> int:
    """Has the cloud refuse an action; returns the number of the fault."""
    fault = Fault(kind="refuse", actions=action, code="OperationUnsupported", status=400)
    return cluster.simulated.account.set_fault(fault)


async def add_second(cluster: ServiceCluster) -> None:
    """Another pod of the Service, whose containers are ready."""
    first = await cluster.client.get(Pod, "first", NAMESPACE)
    known = ObjectReference(kind="Pod", name="first", namespace=NAMESPACE, uid=first.metadata.uid)
    second = await new_pod(cluster, "second", GATE)
    await containers_ready(cluster, "second")
    await endpoints(cluster, _172_31_192_10=known, _172_31_192_11=second)


def has_second(groups: Iterable[tuple[BalancerBackend, ...]]) -> bool:
    """Whether the second pod is a server."""
    return any(each.address == "172.31.192.11" for backends in groups for each in backends)


async def test_pods_wait_for_the_balancer_that_is_still_published(exchanging: ServiceCluster) -> None:
    number = refuse(exchanging, "slb:AddVServerGroupBackendServers")
    await add_second(exchanging)
    tables = exchanging.simulated.account.tables
    await eventually(lambda: has_second(each.backends for each in tables.nlb_groups), timeout=60.0, interval=0.1)
    await tried(exchanging, "slb:AddVServerGroupBackendServers")
    assert not await is_open(exchanging, "second")
    exchanging.simulated.account.faults.clear(number)
    await eventually(lambda: is_open(exchanging, "second"), timeout=60.0, interval=0.1)
    assert has_second(group.backends for group in tables.clb_groups)
    assert len(list(tables.clbs)) == 1, "it is still there"


async def test_pods_wait_for_the_balancer_that_is_published_already(exchanging: ServiceCluster) -> None:
    refuse(exchanging, "slb:DeleteLoadBalancer")
    await exchanging.wait_for_event("SyncLoadBalancerFailed", "DeleteLoadBalancer was refused")
    number = refuse(exchanging, "nlb:AddServersToServerGroup")
    await add_second(exchanging)
    tables = exchanging.simulated.account.tables
    await eventually(lambda: has_second(each.backends for each in tables.clb_groups), timeout=60.0, interval=0.1)
    await tried(exchanging, "nlb:AddServersToServerGroup")
    assert not await is_open(exchanging, "second")
    exchanging.simulated.account.faults.clear(number)
    await exchanging.eventually(lambda: is_open(exchanging, "second"))
    assert has_second(group.backends for group in tables.nlb_groups)
