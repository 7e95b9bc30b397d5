"""Nodes are as their servers are, and go when their servers are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_in

from spiderpool.api.core_v1 import Node, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.cloudcontroller import nodes as nodes_module
from spiderpool.cloudcontroller.nodes import NodeListers, NodeReconciler
from spiderpool.core.ipam.evidence import SHUTDOWN, why_stopped
from spiderpool.core.ipam.new_nodes import UNINITIALIZED
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import InstanceStatus
from tests.cloudcontroller.conftest import CloudCluster
from tests.support.eventually import eventually
from tests.support.servers import describe

pytestmark = pytest.mark.control_plane

CONFIRM_PAUSE = 0.2


@pytest.fixture
async def nodes(cloud_cluster: CloudCluster) -> AsyncIterator[NodeReconciler]:
    listers = NodeListers(cloud_cluster.nodes, cloud_cluster.servers)
    nodes = NodeReconciler(
        cloud_cluster.cluster, cloud_cluster.simulated.ecs(), listers, 60.0, clock=cloud_cluster.clock
    )
    task = asyncio.create_task(nodes.run())
    yield nodes
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_new_node_is_identified(cloud_cluster: CloudCluster, nodes: NodeReconciler) -> None:
    cloud_cluster.add_server("master")
    other = Taint("team", "a", "NoSchedule")
    await cloud_cluster.add_node("master", taints=[Taint(UNINITIALIZED, "true", "NoSchedule"), other])

    async def identified() -> bool:
        node = await cloud_cluster.node("master")
        taints = {taint.key for taint in node.spec.taints or []}
        return node.spec.providerID == "cn-hangzhou.i-master" and UNINITIALIZED not in taints

    await eventually(identified)  # the cluster's own controllers write to the same list of taints
    node = await cloud_cluster.node("master")
    assert (node.metadata.labels or {}).items() >= {
        "topology.kubernetes.io/region": "cn-hangzhou",
        "topology.kubernetes.io/zone": "cn-hangzhou-i",
        "node.kubernetes.io/instance-type": "ecs.g7.large",
        "failure-domain.beta.kubernetes.io/region": "cn-hangzhou",
        "failure-domain.beta.kubernetes.io/zone": "cn-hangzhou-i",
        "beta.kubernetes.io/instance-type": "ecs.g7.large",
    }.items()
    assert "team" in {taint.key for taint in node.spec.taints or []}


async def test_a_node_of_another_server_is_reported_and_left_alone(
    cloud_cluster: CloudCluster, nodes: NodeReconciler
) -> None:
    cloud_cluster.add_server("master")
    await cloud_cluster.add_node("master", provider_id="cn-hangzhou.i-other")

    async def reported() -> bool:
        return bool(await cloud_cluster.events("ProviderIDMismatch"))

    await eventually(reported)
    node = await cloud_cluster.node("master")
    assert node.spec.providerID == "cn-hangzhou.i-other"
    assert "topology.kubernetes.io/zone" not in (node.metadata.labels or {})


@pytest.mark.parametrize("forged", ["i-no-such", "i-other"])
async def test_a_node_gets_no_server_that_the_cloud_does_not_confirm(
    cloud_cluster: CloudCluster, nodes: NodeReconciler, forged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "CONFIRM_PAUSE", CONFIRM_PAUSE)
    cloud_cluster.add_server("other")
    cloud_cluster.add_server("master")
    own = cloud_cluster.instance("master")
    name = cloud_cluster.node_name("master")
    await cloud_cluster.client.create(Node(metadata=ObjectMeta(name=name)))
    address = {"type": "InternalIP", "address": own.enis[0].primary_address}
    await cloud_cluster.client.patch(Node, name, {"status": {"addresses": [address]}}, sub="status")
    await eventually(lambda: bool((found := cloud_cluster.nodes.get(name)) and found.status.addresses))
    await describe(cloud_cluster.client, name, replace_in(own, identity=forged))

    async def refused() -> bool:
        return any(forged in text for text in await cloud_cluster.events("ServerNotConfirmed"))

    await eventually(refused)
    assert (await cloud_cluster.node("master")).spec.providerID is None
    await describe(cloud_cluster.client, name, own)

    async def identified() -> bool:
        cloud_cluster.clock.now += CONFIRM_PAUSE
        return (await cloud_cluster.node("master")).spec.providerID == "cn-hangzhou.i-master"

    await eventually(identified)


async def add_pair(cloud_cluster: CloudCluster) -> None:
    """Two nodes: one well, one silent."""
    for name, ready in (("well", "True"), ("silent", "Unknown")):
        cloud_cluster.add_server(name)
        await cloud_cluster.add_node(name, ready=ready, provider_id=f"cn-hangzhou.i-{name}")


async def look(cloud_cluster: CloudCluster, nodes: NodeReconciler, times: int = 1) -> None:
    for _ in range(times):
        await nodes.search_lost_servers()
        cloud_cluster.clock.now += 60.0


async def test_a_node_goes_when_its_server_is_gone_twice(cloud_cluster: CloudCluster, nodes: NodeReconciler) -> None:
    await add_pair(cloud_cluster)
    await look(cloud_cluster, nodes, 2)
    assert cloud_cluster.is_there("silent")
    cloud_cluster.simulated.account.delete_instance("i-silent")
    await look(cloud_cluster, nodes)
    assert cloud_cluster.is_there("silent")

    async def gone() -> bool:
        await look(cloud_cluster, nodes)
        return not cloud_cluster.is_there("silent")

    await eventually(gone)  # the cluster's own controllers change the Node, too, and a changed one is judged again
    assert cloud_cluster.is_there("well")


def set_status(cloud_cluster: CloudCluster, status: InstanceStatus) -> None:
    """Switch the server of the silent node on or off, as by the console."""
    instances = cloud_cluster.simulated.account.tables.instances
    server = instances.get("i-silent")
    assert server is not None
    instances.put(replace(server, status=status))


async def is_marked(cloud_cluster: CloudCluster) -> bool:
    return SHUTDOWN in {taint.key for taint in (await cloud_cluster.node("silent")).spec.taints or []}


async def look_until(cloud_cluster: CloudCluster, nodes: NodeReconciler, *, marked: bool) -> None:
    """Look until the node is marked, or not: a look may know an older Node, or have its write refused as outdated."""

    async def is_as_wanted() -> bool:
        await look(cloud_cluster, nodes)
        return await is_marked(cloud_cluster) is marked

    await eventually(is_as_wanted)


async def test_a_stopped_server_exists_and_its_node_says_so(cloud_cluster: CloudCluster, nodes: NodeReconciler) -> None:
    await add_pair(cloud_cluster)
    await look(cloud_cluster, nodes)
    assert not await is_marked(cloud_cluster)
    set_status(cloud_cluster, "Stopped")
    await look_until(cloud_cluster, nodes, marked=True)
    await look(cloud_cluster, nodes, 4)
    assert cloud_cluster.is_there("silent")
    assert why_stopped(await cloud_cluster.node("silent"), None), "for the collection of addresses, too"
    assert len(await cloud_cluster.events("ServerStopped")) == 1
    set_status(cloud_cluster, "Running")
    await look_until(cloud_cluster, nodes, marked=False)


async def test_a_node_that_is_ready_again_is_not_marked_any_more(
    cloud_cluster: CloudCluster, nodes: NodeReconciler
) -> None:
    await add_pair(cloud_cluster)
    set_status(cloud_cluster, "Stopped")
    await look_until(cloud_cluster, nodes, marked=True)
    await cloud_cluster.set_ready("silent", "True")

    async def unmarked() -> bool:
        return not await is_marked(cloud_cluster)

    await eventually(unmarked)


async def test_an_answer_without_the_servers_of_ready_nodes_marks_nothing(
    cloud_cluster: CloudCluster, nodes: NodeReconciler
) -> None:
    await add_pair(cloud_cluster)
    set_status(cloud_cluster, "Stopped")
    cloud_cluster.simulated.account.delete_instance("i-well")
    await look(cloud_cluster, nodes, 2)
    assert not await is_marked(cloud_cluster)


@pytest.mark.parametrize("fault", [Fault(kind="empty"), Fault(kind="drop"), Fault(kind="throttle", seconds=30)])
async def test_no_bad_answer_deletes_a_node(cloud_cluster: CloudCluster, nodes: NodeReconciler, fault: Fault) -> None:
    await add_pair(cloud_cluster)
    cloud_cluster.simulated.account.set_fault(fault)
    await look(cloud_cluster, nodes, 4)
    assert cloud_cluster.is_there("silent")


async def test_a_sole_node_is_never_deleted(cloud_cluster: CloudCluster, nodes: NodeReconciler) -> None:
    await add_pair(cloud_cluster)
    cloud_cluster.simulated.account.delete_instance("i-silent")
    await cloud_cluster.set_ready("well", "Unknown")
    await look(cloud_cluster, nodes, 4)
    assert cloud_cluster.is_there("silent")
    assert not cloud_cluster.simulated.outcomes("ecs:DescribeInstances")


async def test_a_node_that_is_heard_of_again_stays(cloud_cluster: CloudCluster, nodes: NodeReconciler) -> None:
    await add_pair(cloud_cluster)
    cloud_cluster.simulated.account.delete_instance("i-silent")
    await look(cloud_cluster, nodes)
    await cloud_cluster.set_ready("silent", "True")
    await look(cloud_cluster, nodes, 3)
    assert cloud_cluster.is_there("silent")
