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
        await eventually(world.is_listening, "subscribed")
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
    await eventually(world.is_listening, "subscribed")
    world.batch(world.node, *(f"address add 172.31.199.{number}/32 dev eth0" for number in range(5, 15)))
    async with asyncio.timeout(5):
        await change
    another = asyncio.ensure_future(anext(changes))
    world.batch(world.node, "link add vethx type veth peer vethy", "link set vethx up", "link set vethy up")
    done, _ = await asyncio.wait([another], timeout=0.6)
    assert not done
    another.cancel()
    await asyncio.gather(another, return_exceptions=True)


@pytest.mark.lab
async def test_rules_and_routes_that_somebody_removes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET", 0.3)
    losses = events.routing_losses(lambda table: table == 500, world.node)
    lines = ["rule add priority 1000 table 500", "rule add priority 1001 table 600"]
    for number, link in enumerate(("eth0", "vethx"), 1):
        lines += [f"route add {address}{number} dev {link} table 500" for address in ("10.9.0.", "2001:db8:9::")]
    pair = ("link add vethx type veth peer vethy", "link set vethx up", "link set vethy up")
    world.batch(world.node, *pair, *lines)
    loss = asyncio.ensure_future(anext(losses))
    await eventually(partial(world.is_listening, 0x404C0), "subscribed")
    world.batch(world.node, "rule delete priority 1001", "link delete vethx")
    done, _ = await asyncio.wait([loss], timeout=1)
    assert not done
    for words in (("-4", "route", "flush"), ("-6", "route", "flush"), ("rule", "delete")):
        world.ip(world.node, *words, "table", "500")
        async with asyncio.timeout(5):
            await loss
        loss = asyncio.ensure_future(anext(losses))
    loss.cancel()
    await asyncio.gather(loss, return_exceptions=True)


@pytest.mark.unit
async def test_a_broken_subscription_is_a_failure_and_no_change() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as broken:
        broken.setblocking(False)
        broken.bind(("127.0.0.1", 0))
        broken.connect(("127.0.0.1", 9))  # nobody listens: the next call fails with ECONNREFUSED
        broken.send(b"")
        with pytest.raises(KernelFailure, match="receive changes of the node's network: Connection refused"):
            await events.receive(broken)
