"""A quota that keeps new servers out costs none of those that answer, whatever they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest

from spiderpool.api.core_v1 import Node, NodeSpec, ObjectReference, Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool_lab.alibaba import nlb_groups
from spiderpool_lab.alibaba.balancers import BalancerBackend, NLBGroup
from tests.cloudcontroller.service_cluster import ENI_BACKENDS, NAMESPACE, REGION, ZONES, ServiceCluster
from tests.cloudcontroller.test_readiness_gates import new_pod

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


@pytest.fixture
async def crowded(cluster: ServiceCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServiceCluster]:
    """The cluster with a third node, in an account where a server may be in one server group alone."""
    monkeypatch.setattr(nlb_groups, "TIMES_ADDED", 1)
    await cluster.grant(vSwitches=["vsw-2"])
    cluster.simulated.account.add_instance("c", identity="i-c")
    await cluster.client.create(Node(metadata=ObjectMeta(name="c"), spec=NodeSpec(providerID=f"{REGION}.i-c")))
    for number, name in enumerate("abc", 1):
        role = "new" if name == "b" else "old"
        await cluster.client.patch(Node, name, {"metadata": {"labels": {"role": role}}})
        ready = [{"type": "Ready", "status": "True"}]
        addresses = [{"type": "InternalIP", "address": f"172.31.192.20{number}"}]
        await cluster.client.patch(Node, name, {"status": {"conditions": ready, "addresses": addresses}}, sub="status")
    yield cluster
    for pod in await cluster.client.list(Pod, NAMESPACE):
        await cluster.client.delete(Pod, pod.name, NAMESPACE, grace=0)


def take(cluster: ServiceCluster, server: str, kind: str, address: str) -> str:
    """Puts a server into a group of somebody else, so that a quota keeps it out of all others; returns the group."""
    backend = BalancerBackend(server, kind, 9, address=address)
    cluster.simulated.account.tables.nlb_groups.put(NLBGroup("sgp-other", "other", {}, {}, backends=(backend,)))
    return "sgp-other"


def servers(cluster: ServiceCluster) -> set[str]:
    """The addresses of the servers of the Service's group."""
    (group,) = (each for each in cluster.simulated.account.tables.nlb_groups if each.identity != "sgp-other")
    return {each.address for each in group.backends}


async def keeps(cluster: ServiceCluster, expected: Collection[str]) -> None:
    """Checks that the servers are these while several plans are refused, after it was tried whether one makes room."""
    account = cluster.simulated.account

    def calls(action: str, since: int = 0) -> int:
        return sum(call.action == f"nlb:{action}ServerGroup" for call in [*account.calls][since:])

    await cluster.until(lambda: calls("RemoveServersFrom") > 0 and servers(cluster) == expected)
    before = len(account.calls)
    await cluster.until(lambda: calls("AddServersTo", before) >= 3)
    assert servers(cluster) == expected
    assert not calls("RemoveServersFrom", before)


async def test_nodes_by_address_stay_until_another_finds_room(crowded: ServiceCluster) -> None:
    annotations = {"type": "nlb", "server-group-type": "Ip", "backend-label": "role=old", **ZONES}
    await crowded.create("web", annotations=annotations)
    await crowded.address("web")
    old, new = {"172.31.192.201", "172.31.192.203"}, "172.31.192.202"
    await crowded.until(lambda: servers(crowded) == old)
    other = take(crowded, new, "ip", new)
    await crowded.set("web", backend_label="role=new")
    await crowded.wait_for_event("SyncLoadBalancerFailed", "QuotaExceeded.ServerAddedNum")
    await keeps(crowded, old)
    crowded.simulated.account.tables.nlb_groups.remove(other)
    await crowded.until(lambda: servers(crowded) == {new})


async def test_pods_that_are_no_longer_chosen_stay_where_others_find_no_room_and_those_that_have_gone_leave(
    crowded: ServiceCluster,
) -> None:
    blue = {f"172.31.192.1{place}": await ready_pod(crowded, f"blue-{place}") for place in range(3)}
    await crowded.endpoints("web", *((address, "a") for address in blue), pods=blue)
    await crowded.create("web", annotations={"type": "nlb", **ZONES, **ENI_BACKENDS})
    await crowded.address("web")
    await crowded.until(lambda: servers(crowded) == blue.keys())
    new = "172.31.192.20"
    other = take(crowded, "eni-b", "eni", new)
    await crowded.client.delete(Pod, "blue-2", NAMESPACE, grace=0)
    await crowded.endpoints("web", (new, "b"), pods={new: await ready_pod(crowded, "green")})
    await crowded.wait_for_event("SyncLoadBalancerFailed", "QuotaExceeded.ServerAddedNum")
    await crowded.until(lambda: servers(crowded) == {"172.31.192.10", "172.31.192.11"})
    await keeps(crowded, {"172.31.192.10", "172.31.192.11"})
    crowded.simulated.account.tables.nlb_groups.remove(other)
    await crowded.until(lambda: servers(crowded) == {new})


async def ready_pod(cluster: ServiceCluster, name: str) -> ObjectReference:
    """A pod that is ready."""
    pod = await new_pod(cluster, name)
    body = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await cluster.client.patch(Pod, name, body, NAMESPACE, sub="status", strategic=True)
    return pod
