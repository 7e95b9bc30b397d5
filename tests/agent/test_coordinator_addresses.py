"""Whose the addresses are that other plugins of a chain gave: what the coordinator asks, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spiderpool.api.cni_result import read_result
from spiderpool.api.coordinator import ClusterCoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.errors import AddressHeld
from tests.agent.chained_node import ChainedNode, container, on_chained_node
from tests.kernel.environment import World
from tests.support.api_server import Fault
from tests.support.calls import counted_calls
from tests.support.eventually import eventually

pytestmark = pytest.mark.lab

FREE = "172.31.199.66"
EVERYWHERE = ["0.0.0.0/0"]


def test_where_spiderpool_gave_all_addresses_no_file_of_another_sandbox_is_read(world: World, tmp_path: Path) -> None:
    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        node.gave("web", FREE)
        (tmp_path / "chained" / "other.json").mkdir(parents=True)  # whoever reads it fails
        await node.add("web", path, FREE)
        assert [*await node.routes()] == [FREE]

    on_chained_node(world, tmp_path, body)


def test_the_result_of_the_previous_plugin_is_decoded_once(world: World, tmp_path: Path) -> None:
    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        with counted_calls() as calls:
            await node.add("web", path, FREE, ipamCIDR=EVERYWHERE)
        assert calls.of[read_result.__name__] == 1

    on_chained_node(world, tmp_path, body)


def test_addresses_of_spiderpool_are_known_as_such_where_the_runtime_tells_no_uid(world: World, tmp_path: Path) -> None:
    """By now the node uses one as a gateway, which withholds the routes to those of other IPAM plugins alone."""

    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        node.gave("web", FREE)
        await node.add("web", path, FREE, tells_uid=False)
        await node.ip("route", "add", "198.51.100.0/24", "via", FREE, "dev", "eth0", "onlink")
        await node.ip("route", "flush", "table", "500")
        assert await node.coordinator.refresh() == 1
        assert [*await node.routes()] == [FREE]

    on_chained_node(world, tmp_path, body)


def test_of_two_pods_that_are_attached_at_once_one_gets_the_address(world: World, tmp_path: Path) -> None:
    """The one whose ADD began first has to wait for its pod meanwhile. Refreshes agree with what was decided."""

    async def body(node: ChainedNode) -> None:
        paths = {name: await node.pod(name, FREE) for name in ("slow", "fast")}
        node.node.server.inject(Fault("get", delay=0.5))
        slow = asyncio.create_task(node.add("slow", paths["slow"], FREE, tells_uid=False, ipamCIDR=EVERYWHERE))
        await eventually(lambda: node.node.server.requests["get"])
        await node.add("fast", paths["fast"], FREE, ipamCIDR=EVERYWHERE)
        assert not slow.done()
        (outcome,) = await asyncio.gather(slow, return_exceptions=True)
        assert isinstance(outcome, AddressHeld)
        assert "pod default/fast has it" in outcome.message
        await node.ip("route", "flush", "table", "500")
        assert await node.coordinator.refresh() == 1
        assert await node.routes() == {FREE: host_interface(container("fast"))}

    on_chained_node(world, tmp_path, body)


def test_a_networks_own_service_cidr_counts_at_a_refresh_as_well(world: World, tmp_path: Path) -> None:
    """Not that of the cluster, in which the pod's address is: neither to judge it, nor for routes of the pod."""
    found = CoordinatorStatus("Synced", None, ["10.8.0.0/16"], ["172.31.199.64/28"], [])
    known = SpiderCoordinator(metadata=ObjectMeta(name="default"), spec=ClusterCoordinatorSpec(), status=found)

    async def body(node: ChainedNode) -> None:
        node.node.server.put(known)
        await eventually(lambda: node.node.cluster.coordinator())
        path = await node.pod("web", FREE)
        await node.add("web", path, FREE, ipamCIDR=EVERYWHERE)
        await node.ip("route", "flush", "table", "500")
        assert await node.coordinator.refresh() == 1
        assert [*await node.routes()] == [FREE]
        assert "172.31.199.64/28" not in await asyncio.to_thread(world.ip, path, "route", "show", "table", "all")

    on_chained_node(world, tmp_path, body)
