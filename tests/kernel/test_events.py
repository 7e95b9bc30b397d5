from __future__ import annotations

import asyncio

import pytest

from spiderpool.kernel import events
from tests.kernel.environment import World

pytestmark = pytest.mark.lab


async def test_addresses_that_come_and_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET", 0.05)
    changes = events.address_changes(world.node)
    for words in (("add", "172.31.199.9/32"), ("delete", "172.31.199.9/32"), ("add", "2001:db8::9/64")):
        change = asyncio.ensure_future(anext(changes))
        while not await _listening(world):
            await asyncio.sleep(0.01)
        world.ip(world.node, "address", words[0], words[1], "dev", "eth0")
        async with asyncio.timeout(5):
            await change
    await changes.aclose()


async def test_a_burst_is_one_change_and_link_local_addresses_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET", 0.3)
    changes = events.address_changes(world.node)
    change = asyncio.ensure_future(anext(changes))
    while not await _listening(world):
        await asyncio.sleep(0.01)
    world.batch(world.node, *(f"address add 172.31.199.{number}/32 dev eth0" for number in range(5, 15)))
    async with asyncio.timeout(5):
        await change
    another = asyncio.ensure_future(anext(changes))
    world.batch(world.node, "link add vethx type veth peer vethy", "link set vethx up", "link set vethy up")
    done, _ = await asyncio.wait([another], timeout=0.6)
    assert not done
    another.cancel()
    await asyncio.gather(another, return_exceptions=True)


async def _listening(world: World) -> bool:
    """Whether somebody in the node's namespace has joined the groups: their bits are in /proc/net/netlink."""
    await asyncio.sleep(0)
    table = world.inside(world.node, "cat", "/proc/net/netlink").splitlines()[1:]
    return any(int(line.split()[3], 16) & 0x110 for line in table)
