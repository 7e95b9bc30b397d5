"""What the kernel's answers mean: only "it does not exist" is absence, everything else is a failure."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import (
    Kernel,
    Netns,
    all_links,
    find_link,
    index_of,
    link_at,
    lookup_route,
    opened_kernel,
)
from tests.kernel.environment import World

T = TypeVar("T")

ERROR, DONE, NEWLINK = 2, 3, 16
INTERRUPTED = 0x10
CLIENT = ip_address("203.0.113.77")


async def _in_node(world: World, work: Callable[[Netns], T]) -> T:
    def body() -> T:
        with opened_kernel(None, world.node, ExitStack()) as kernel:
            return work(kernel.node)

    return await run_inside(None, body)


@pytest.mark.lab
async def test_a_link_that_does_not_exist(world: World) -> None:
    def work(node: Netns) -> None:
        assert find_link(node, "eth7") is None
        assert find_link(node, "") is None
        assert link_at(node, 9999) is None
        assert link_at(node, index_of(node, "eth0")) == find_link(node, "eth0")
        with pytest.raises(KernelFailure, match="node: eth7 has disappeared"):
            index_of(node, "eth7")

    await _in_node(world, work)


@pytest.mark.lab
async def test_a_question_that_the_kernel_refuses_is_no_absent_link(world: World) -> None:
    def work(node: Netns) -> None:
        with pytest.raises(KernelFailure, match=r"node: look up link -1: .*\(errno 22\)"):
            link_at(node, -1)

    await _in_node(world, work)


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["", "unreachable", "blackhole", "prohibit"])
async def test_destinations_without_a_usable_route(world: World, kind: str) -> None:
    world.ip(world.node, "route", "delete", "default")
    if kind:
        world.ip(world.node, "route", "add", kind, "203.0.113.0/24")
    assert await _in_node(world, lambda node: lookup_route(node, CLIENT)) is None


@pytest.mark.lab
async def test_source_that_the_node_does_not_hold(world: World) -> None:
    foreign = ip_address("172.31.199.199")
    assert await _in_node(world, lambda node: lookup_route(node, CLIENT, foreign)) is None
    assert await _in_node(world, lambda node: lookup_route(node, CLIENT, ip_address("172.31.199.183"))) is not None


@pytest.mark.lab
async def test_dump_of_a_link_that_is_gone_is_empty(world: World) -> None:

    body = messages.route_dump(4, 9999)
    assert await _in_node(world, lambda node: node.dump(rt.GETROUTE, body)) == []


@pytest.mark.unit
def test_without_a_pod_there_is_no_side_of_it(netns: Netns) -> None:
    with pytest.raises(KernelFailure, match="the pod's network namespace is gone"):
        Kernel(netns, None, ExitStack()).netns("pod")


# A pretend kernel at the other end of a pair of sockets.


class Answering:
    """Answers each request with the next datagram of a list, which is made from the request's sequence number."""

    def __init__(self) -> None:
        self.connection, self._end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.answers: list[Callable[[int], bytes]] = []
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while request := self._end.recv(1 << 16):
            sequence = struct.unpack_from("=IHHII", request)[3]
            self._end.send(self.answers.pop(0)(sequence))

    def close(self) -> None:
        self.connection.close()
        self._thread.join()
        self._end.close()


@pytest.fixture
def kernel() -> Iterator[Answering]:
    kernel = Answering()
    yield kernel
    kernel.close()


@pytest.fixture
def netns(kernel: Answering) -> Netns:
    return Netns("node", rt.Socket(kernel.connection), -1)


def _message(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def _refusal(code: int, sequence: int) -> bytes:
    return _message(ERROR, sequence, struct.pack("=i", -code) + bytes(16))


@pytest.mark.unit
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS, errno.ENOMEM])
def test_other_errnos_are_failures(netns: Netns, kernel: Answering, code: int) -> None:
    questions: list[Callable[[], object]] = [
        lambda: link_at(netns, 7),
        lambda: find_link(netns, "eth0"),
        lambda: lookup_route(netns, CLIENT),
        lambda: all_links(netns),
    ]
    for question in questions:
        kernel.answers.append(partial(_refusal, code))
        with pytest.raises(KernelFailure, match=rf"node: .*\(errno {code}\)"):
            question()


@pytest.mark.unit
@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES])
def test_errnos_of_a_route_that_does_not_exist(netns: Netns, kernel: Answering, code: int) -> None:
    kernel.answers.append(partial(_refusal, code))
    assert lookup_route(netns, CLIENT) is None


@pytest.mark.unit
def test_interrupted_dump_is_repeated(netns: Netns, kernel: Answering) -> None:
    for body, flags in ((b"half", INTERRUPTED), (b"full", 0)):
        kernel.answers.append(partial(_dump, body, flags))
    assert netns.dump(rt.GETLINK, b"") == [b"full"]


def _dump(body: bytes, flags: int, sequence: int) -> bytes:
    return _message(NEWLINK, sequence, body) + _message(DONE, sequence, bytes(4), flags)


@pytest.mark.unit
def test_dump_that_never_is_complete_is_a_failure(netns: Netns, kernel: Answering) -> None:
    kernel.answers += [partial(_dump, b"half", INTERRUPTED)] * 20
    with pytest.raises(KernelFailure, match="interrupted by changes"):
        netns.dump(rt.GETLINK, b"")


@pytest.mark.unit
def test_only_an_unknown_socket_option_is_ignored() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        rt.enable_if_known(opened, 11)
    with pytest.raises(OSError, match="Bad file descriptor"):
        rt.enable_if_known(opened, 11)
