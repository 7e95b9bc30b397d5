"""Nodes are as their servers are, and go when their servers are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from spiderpool.api.core_v1 import Taint
from spiderpool.cloudcontroller.nodes import NodeReconciler
from spiderpool.core.cloud.nodes import UNINITIALIZED
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.conftest import World

pytestmark = pytest.mark.control_plane


@pytest.fixture
async def nodes(world: World) -> AsyncIterator[NodeReconciler]:
    nodes = NodeReconciler(world.client, world.far.ecs(), world.nodes, world.recorder, 60.0, clock=world.clock)
    task = asyncio.create_task(nodes.run())
    yield nodes
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_new_node_is_identified(world: World, nodes: NodeReconciler) -> None:
    world.add_server("master")
    other = Taint("team", "a", "NoSchedule")
    await world.add_node("master", taints=[Taint(UNINITIALIZED, "true", "NoSchedule"), other])

    async def identified() -> bool:
        node = await world.node("master")
        taints = {taint.key for taint in node.spec.taints or []}
        return node.spec.providerID == "cn-hangzhou.i-master" and UNINITIALIZED not in taints

    await world.eventually(identified)  # the cluster's own controllers write to the same list of taints
    node = await world.node("master")
    assert (node.metadata.labels or {}).items() >= {
        "topology.kubernetes.io/region": "cn-hangzhou",
        "topology.kubernetes.io/zone": "cn-hangzhou-i",
        "node.kubernetes.io/instance-type": "ecs.g7.large",
        "failure-domain.beta.kubernetes.io/region": "cn-hangzhou",
        "failure-domain.beta.kubernetes.io/zone": "cn-hangzhou-i",
        "beta.kubernetes.io/instance-type": "ecs.g7.large",
    }.items()
    assert "team" in {taint.key for taint in node.spec.taints or []}


async def test_a_node_of_another_server_is_reported_and_left_alone(world: World, nodes: NodeReconciler) -> None:
    world.add_server("master")
    await world.add_node("master", provider_id="cn-hangzhou.i-other")

    async def reported() -> bool:
        return bool(await world.events("ProviderIDMismatch"))

    await world.eventually(reported)
    node = await world.node("master")
    assert node.spec.providerID == "cn-hangzhou.i-other"
    assert "topology.kubernetes.io/zone" not in (node.metadata.labels or {})


async def add_pair(world: World) -> None:
    """Two nodes: one well, one silent."""
    for name, ready in (("well", "True"), ("silent", "Unknown")):
        world.add_server(name)
        await world.add_node(name, ready=ready, provider_id=f"cn-hangzhou.i-{name}")


async def look(world: World, nodes: NodeReconciler, times: int = 1) -> None:
    for _ in range(times):
        await nodes.look_for_losses()
        world.clock.now += 60.0


async def test_a_node_goes_when_its_server_is_gone_twice(world: World, nodes: NodeReconciler) -> None:
    await add_pair(world)
    await look(world, nodes, 2)
    assert world.is_there("silent")
    world.far.account.delete_instance("i-silent")
    await look(world, nodes)
    assert world.is_there("silent")
    await look(world, nodes)
    await world.until(lambda: not world.is_there("silent"))
    assert world.is_there("well")


async def test_a_stopped_server_exists(world: World, nodes: NodeReconciler) -> None:
    await add_pair(world)
    await look(world, nodes, 4)
    assert world.is_there("silent")


@pytest.mark.parametrize("fault", [Fault(kind="empty"), Fault(kind="drop"), Fault(kind="throttle", seconds=30)])
async def test_no_bad_answer_deletes_a_node(world: World, nodes: NodeReconciler, fault: Fault) -> None:
    await add_pair(world)
    world.far.account.set_fault(fault)
    await look(world, nodes, 4)
    assert world.is_there("silent")


async def test_a_sole_node_is_never_deleted(world: World, nodes: NodeReconciler) -> None:
    await add_pair(world)
    world.far.account.delete_instance("i-silent")
    await world.set_ready("well", "Unknown")
    await look(world, nodes, 4)
    assert world.is_there("silent")
    assert not world.far.outcomes("ecs:DescribeInstances")


async def test_a_node_that_is_heard_of_again_stays(world: World, nodes: NodeReconciler) -> None:
    await add_pair(world)
    world.far.account.delete_instance("i-silent")
    await look(world, nodes)
    await world.set_ready("silent", "True")
    await look(world, nodes, 3)
    assert world.is_there("silent")
