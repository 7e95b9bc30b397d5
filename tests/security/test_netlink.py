"""A pod with NET_ADMIN forges what the kernel says to the agent, whose sockets are in the pod's network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.agent import interfaces
from spiderpool.errors import KernelFailure
from spiderpool.kernel import arp, conntrack, events, messages, ndp
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import opened, run_inside
from tests.kernel.environment import World
from tests.security import netlink_forger
from tests.support.eventually import eventually

T = TypeVar("T")


async def _inside(namespace: str | Path, work: Callable[[], T]) -> T:
    with opened(namespace) as descriptor:
        return await run_inside(descriptor, work)


@contextlib.contextmanager
def _forging(namespace: str | Path, what: str, seconds: float = 0) -> Iterator[None]:
    """The attacker has sent for the first time, and goes on."""
    command = ["ip", "netns", "exec", Path(namespace).name, sys.executable, netlink_forger.__file__, what, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forger:
        assert forger.stdout is not None
        assert forger.stdout.readline().startswith("sent"), "the attacker cannot even send"
        try:
            yield
        finally:
            forger.kill()


def _unconnected() -> rt.Socket:
    """A socket as on a kernel that would let others send to it: then the check of the sender alone helps."""
    return rt.Socket(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE))


def _mac_of_lo(route: rt.Socket) -> str:
    return messages.read_link(route.request(rt.GETLINK, messages.link_by_name("lo"))[0]).mac


@pytest.mark.lab
@pytest.mark.parametrize("make", [rt.Socket, _unconnected])
@pytest.mark.parametrize("what", ["links", "refusals", "empty"])
async def test_forged_answers_are_not_believed(world: World, what: str, make: Callable[[], rt.Socket]) -> None:
    pod = world.pod()

    def attacked() -> tuple[list[str], int]:
        with contextlib.closing(make()) as route:
            route.request(rt.GETLINK, messages.link_by_name("lo"))  # now the socket has a port id
            with _forging(pod, what):
                found = [_mac_of_lo(route) for _ in range(20)]
                return found, len(route.request(rt.GETLINK, messages.link_header(), rt.DUMP))

    found, links = await _inside(pod, attacked)
    assert {*found} == {"00:00:00:00:00:00"}
    assert links == 1


@pytest.mark.lab
@pytest.mark.parametrize("make", [rt.Socket, _unconnected])
async def test_a_flood_ends_no_request_late(
    world: World, make: Callable[[], rt.Socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rt, "TIMEOUT", 1.0)
    pod = world.pod()

    def attacked() -> float:
        longest = 0.0
        with contextlib.closing(make()) as route:
            route.request(rt.GETLINK, messages.link_by_name("lo"))
            with _forging(pod, "empty", 5):
                for _ in range(20):
                    begin = time.monotonic()
                    with contextlib.suppress(KernelFailure):  # the flood may have left no room for the answer
                        assert _mac_of_lo(route) == "00:00:00:00:00:00"
                    longest = max(longest, time.monotonic() - begin)
        return longest

    assert await _inside(pod, attacked) < 1.5


@pytest.mark.lab
async def test_forged_news_is_not_heard(world: World) -> None:
    changes = events.address_changes(world.node)
    change = asyncio.ensure_future(anext(changes))
    await eventually(world.is_listening, "subscribed")
    with _forging(world.node, "addresses"):
        done, _ = await asyncio.wait([change], timeout=2 * events.QUIET)
    assert not done
    world.ip(world.node, "address", "add", "172.31.199.9/32", "dev", "eth0")
    async with asyncio.timeout(5):
        await change
    await changes.aclose()


@pytest.mark.lab
async def test_a_flood_of_news_hides_no_change_and_blocks_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST", 1.0)
    changes = events.address_changes(world.node)
    change = asyncio.ensure_future(anext(changes))
    await eventually(world.is_listening, "subscribed")
    with _forging(world.node, "addresses", 10):
        world.ip(world.node, "address", "add", "172.31.199.9/32", "dev", "eth0")
        longest, end = 0.0, time.monotonic() + 4
        while not change.done():
            before = time.monotonic()
            assert before < end, "the change is not reported"
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
    assert longest < 0.2
    await changes.aclose()


@pytest.mark.lab
@pytest.mark.parametrize("source", ["10.9.0.1/24", "2001:db8::1/64"])
async def test_an_odd_rule_of_the_pod_does_not_stop_its_removal(world: World, source: str) -> None:
    pod = world.pod()
    world.ip(pod, "-6" if ":" in source else "-4", "rule", "add", "from", source, "table", "101")
    await interfaces.remove("c" * 64, pod, "eth0", node=world.node)


NAMES = {1: "eth0", 2: "net1"}
READERS: dict[str, Callable[[bytes], object]] = {
    "link": messages.read_link,
    "addresses": lambda body: list(messages.read_addresses("pod", [body], NAMES)),
    "raw addresses": lambda body: list(messages.raw_addresses([body])),
    "duplicates": lambda body: list(messages.addresses_in_dad([body], 1)),
    "routes": lambda body: list(messages.read_routes("pod", [body], NAMES)),
    "rules": lambda body: list(messages.read_rules("pod", [body])),
    "neighbours": lambda body: list(messages.read_neighbours("pod", [body], NAMES)),
    "lookup": messages.read_route_lookup,
    "messages": lambda data: list(rt.messages(data)),
    "removals": events._removed,
    "changes": events.is_global_change,
    "connections": lambda body: conntrack.read(4, body),
    "ARP": arp.parse_reply,
    "neighbour discovery": ndp.parse_advertisement,
}


def _packed(kind: int, value: bytes, excess: int) -> bytes:
    length = max(0, 4 + len(value) + excess)
    return length.to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder) + value + bytes(-len(value) % 4)


LENGTHS = st.sampled_from([0, 0, 0, 0, -9, -4, 1, 4, 60000])
SIMPLE = st.builds(_packed, st.integers(0, 30), st.binary(max_size=20), LENGTHS)
ATTRIBUTES = st.lists(
    st.one_of(SIMPLE, st.builds(_packed, st.integers(0, 30), st.lists(SIMPLE, max_size=3).map(b"".join), LENGTHS)),
    max_size=6,
).map(b"".join)
HEADERS = st.tuples(st.sampled_from([0, 2, 10]), st.binary(min_size=7, max_size=31)).map(lambda t: bytes([t[0]]) + t[1])
BODIES = st.one_of(st.binary(max_size=80), st.builds(lambda head, rest: head + rest, HEADERS, ATTRIBUTES))


@pytest.mark.unit
@pytest.mark.parametrize("reader", READERS)
@given(body=BODIES)
def test_any_bytes_are_read_or_a_failure_of_the_kernel(reader: str, body: bytes) -> None:
    with contextlib.suppress(KernelFailure):
        READERS[reader](body)


@pytest.mark.unit
@given(datagrams=st.lists(st.one_of(BODIES, st.builds(_packed, st.just(0), BODIES, LENGTHS)), max_size=4))
def test_any_answer_ends_in_time(datagrams: list[bytes]) -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernels, contextlib.suppress(KernelFailure, rt.NetlinkError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(rt, "TIMEOUT", 0.05)
        for datagram in filter(None, datagrams):
            kernels.send(datagram)
        begin = time.monotonic()
        try:
            rt.Socket(ours).request(rt.GETLINK, b"")
        finally:
            assert time.monotonic() - begin < 5
