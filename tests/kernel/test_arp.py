from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel.arp import ETH_P_ARP, gratuitous_request, parse_reply, request
from spiderpool.kernel.frames import announce
from spiderpool.kernel.namespaces import opened, run_inside, socket_in_netns
from tests.kernel.environment import World


async def _announce(namespace: int, link: str, address: str) -> None:
    finish = ExitStack()
    await run_inside(namespace, lambda: announce(link, IPv4Address(address), finish), finish.close)


@pytest.mark.unit
def test_frame() -> None:
    frame = gratuitous_request(bytes.fromhex("00163e000102"), IPv4Address("172.31.199.187"))
    assert frame.hex(" ") == (
        "ff ff ff ff ff ff 00 16 3e 00 01 02 08 06"
        " 00 01 08 00 06 04 00 01"
        " 00 16 3e 00 01 02 ac 1f c7 bb"
        " 00 00 00 00 00 00 ac 1f c7 bb"
    )


@pytest.mark.unit
def test_a_probe_names_no_sender() -> None:
    frame = request(bytes.fromhex("00163e000102"), IPv4Address("0.0.0.0"), IPv4Address("172.31.199.187"))
    assert frame[28:].hex(" ") == "00 00 00 00 00 00 00 00 00 00 ac 1f c7 bb"


@pytest.mark.unit
def test_only_replies_are_answers() -> None:
    asked = request(bytes.fromhex("00163e000102"), IPv4Address("10.0.0.1"), IPv4Address("10.0.0.7"))
    assert parse_reply(asked) is None
    reply = asked[:21] + b"\x02" + bytes.fromhex("eeffffffffff") + IPv4Address("10.0.0.7").packed + asked[32:]
    assert parse_reply(reply) == (IPv4Address("10.0.0.7"), bytes.fromhex("eeffffffffff"))
    assert parse_reply(reply + bytes(18)) == parse_reply(reply)  # Ethernet pads short frames
    assert parse_reply(reply[:41]) is None
    assert parse_reply(reply[:12] + b"\x08\x00" + reply[14:]) is None


@pytest.mark.lab
async def test_frame_crosses_the_wire(world: World) -> None:
    with opened(world.router) as router, opened(world.node) as node:
        listener = await socket_in_netns(router, socket.AF_PACKET, socket.SOCK_RAW, 0)
        with listener:
            listener.bind(("port", ETH_P_ARP))
            listener.setblocking(False)
            await _announce(node, "eth0", "172.31.199.187")
            async with asyncio.timeout(5):
                frame = await asyncio.get_running_loop().sock_recv(listener, 128)
    assert frame[:42] == gratuitous_request(bytes.fromhex("02163e000102"), IPv4Address("172.31.199.187"))


@pytest.mark.lab
async def test_missing_link(world: World) -> None:
    with (
        opened(world.node) as node,
        pytest.raises(KernelFailure, match=r"announce 10\.0\.0\.1 from eth7: No such device"),
    ):
        await _announce(node, "eth7", "10.0.0.1")
