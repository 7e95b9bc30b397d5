"""An agent keeps pods from the metadata service: at the start, when the node's addresses change, and says when not."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.telemetry import METADATA_OPEN
from spiderpool_lab import namespaces
from tests.kernel.environment import World, run
from tests.support.eventually import eventually

pytestmark = pytest.mark.lab


def filters(world: World, nic: str = "eth0") -> str:
    return run("tc", "-n", world.node.name, "filter", "show", "dev", nic, "egress")


def rules(world: World) -> str:
    """All that the node filters, and on which qdiscs."""
    packets = world.inside(
        world.node, "sh", "-c", "(nft list tables; iptables-legacy-save) 2>/dev/null | grep metadata || true"
    )
    return "\n".join((packets, run("tc", "-n", world.node.name, "qdisc"), filters(world), filters(world, "eth1")))


def is_open() -> bool:
    (metric,) = METADATA_OPEN.collect()
    return bool(metric.samples[0].value)


async def keeping(world: World, stop: asyncio.Event, provider: str = "alibaba", *, blocked: bool = True) -> None:
    """The agent's task, in the namespace of the node until ``stop``."""
    loop = asyncio.get_running_loop()

    async def body() -> None:
        task = asyncio.create_task(MetadataAccess(provider, blocked=blocked).run())
        await asyncio.to_thread(asyncio.run_coroutine_threadsafe(stop.wait(), loop).result)
        task.cancel()
        await asyncio.wait([task])

    await asyncio.to_thread(namespaces.call_in, world.node, lambda: asyncio.run(body()))


async def test_rules_follow_the_nodes_addresses_and_go_when_they_are_not_wanted(wide: World) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(keeping(wide, stop))
    await eventually(lambda: "bpf" in filters(wide) and "bpf" in filters(wide, "eth1") and not is_open())
    before = filters(wide)
    wide.ip(wide.node, "address", "add", "172.31.199.99/20", "dev", "eth0")
    await eventually(lambda: filters(wide) != before, "the new address may pass")
    stop.set()
    await task
    assert "bpf" in filters(wide)
    stop = asyncio.Event()
    task = asyncio.create_task(keeping(wide, stop, blocked=False))
    await eventually(lambda: "bpf" not in filters(wide) and is_open())
    stop.set()
    await task


async def test_a_nic_that_cannot_be_filtered_is_told(wide: World) -> None:
    run("tc", "-n", wide.node.name, "qdisc", "add", "dev", "eth0", "ingress")
    METADATA_OPEN.set(0)
    stop = asyncio.Event()
    task = asyncio.create_task(keeping(wide, stop))
    await eventually(is_open)
    assert "bpf" in filters(wide, "eth1")
    stop.set()
    await task


async def test_without_a_cloud_nothing_is_loaded_and_what_was_is_removed(wide: World) -> None:
    METADATA_OPEN.set(0)
    before = rules(wide)
    for _ in range(2):
        await asyncio.to_thread(namespaces.call_in, wide.node, lambda: asyncio.run(MetadataAccess().run()))
        assert rules(wide) == before
        assert not is_open()
        stop = asyncio.Event()
        task = asyncio.create_task(keeping(wide, stop))
        await eventually(lambda: "bpf" in filters(wide, "eth1"))
        stop.set()
        await task
        assert rules(wide) != before
