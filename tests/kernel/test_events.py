from __future__ import annotations

import asyncio
import socket
from functools import partial

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import events
from tests.kernel.environment import World
from tests.support.eventually import eventually


@pytest.mark.lab
async def test_addresses_that_come_and_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET", 0.05)
    changes = events.address_changes(world.node)
    for words in (("add", "172.31.199.9/32"), ("delete", "172.31.199.9/32"), ("add", "2001:db8::9/64")):
        change = asyncio.ensure_future(anext(changes))
        await eventually(partial(_listening, world), "subscribed")
        world.ip(world.node, "address", words[0], words[1], "dev", "eth0")
        async with asyncio.timeout(5):
            await change
    await changes.aclose()


@pytest.mark.lab
async def test_a_burst_is_one_change_and_link_local_addresses_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET", 0.3)
    changes = events.address_changes(world.node)
    change = asyncio.ensure_future(anext(changes))
    await eventually(partial(_listening, world), "subscribed")
    world.batch(world.node, *(f"address add 172.31.199.{number}/32 dev eth0" for number in range(5, 15)))
    async with asyncio.timeout(5):
        await change
    another = asyncio.ensure_future(anext(changes))
    world.batch(world.node, "link add vethx type veth peer vethy", "link set vethx up", "link set vethy up")
    done, _ = await asyncio.wait([another], timeout=0.6)
    assert not done
    another.cancel()
    await asyncio.gather(another, return_exceptions=True)


def _listening(world: World) -> bool:
    """Whether somebody in the node's namespace has joined the groups: their bits are in /proc/net/netlink."""
    table = world.inside(world.node, "cat", "/proc/net/netlink").splitlines()[1:]
    return any(int(line.split()[3], 16) & 0x110 for line in table)


@pytest.mark.unit
async def test_a_broken_subscription_is_a_failure_and_no_change() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as broken:
        broken.setblocking(False)
        broken.bind(("127.0.0.1", 0))
        broken.connect(("127.0.0.1", 9))  # nobody listens: the next call fails with ECONNREFUSED
        broken.send(b"")
        with pytest.raises(KernelFailure, match="receive changes of addresses: Connection refused"):
            await events.is_change(broken)
