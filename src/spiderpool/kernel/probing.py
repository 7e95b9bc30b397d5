"""Ask on a NIC's network which MAC has an address, by ARP (RFC 826, RFC 5227) and Neighbour Discovery (RFC 4861)."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

from spiderpool.core.network.plumbing.probing import AddressProbe
from spiderpool.errors import KernelFailure
from spiderpool.kernel import arp, ndp

TRIES = 3
"""Times that a probe is sent: a frame may get lost."""
TRY_SECONDS = 0.1
"""Seconds that each try waits for answers."""
_BUFFER = 2048  # bytes; answers to both protocols are shorter than an Ethernet frame of 1514

Address = IPv4Address | IPv6Address


def send_probes(link: str, probes: Sequence[AddressProbe], finish: ExitStack) -> dict[Address, frozenset[str]]:
    """The MACs that answer for each target, asked from the network namespace in which the calling thread is.

    Takes at most ``TRIES * TRY_SECONDS``; less if only gateways are asked for and all have answered. ``finish`` closes
    the sockets later, since closing a packet socket waits for an RCU grace period, some 10 ms.

    Raises:
        KernelFailure: the link is missing or down.
    """
    try:
        versions: set[int] = {probe.target.version for probe in probes}
        sockets = {version: _opened(link, version, finish) for version in versions}
        return _collect(sockets, probes)
    except OSError as error:
        raise KernelFailure(f"ask the network of {link}: {error.strerror}") from error


def _opened(link: str, version: int, finish: ExitStack) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = finish.enter_context(socket.socket(socket.AF_PACKET, kind))
    sock.bind((link, arp.ETH_P_ARP if version == 4 else ndp.ETH_P_IPV6))
    return sock


def _collect(sockets: dict[int, socket.socket], probes: Sequence[AddressProbe]) -> dict[Address, frozenset[str]]:
    answers: dict[Address, set[str]] = {probe.target: set() for probe in probes}
    for _ in range(TRIES):
        for probe in probes:
            sock = sockets[probe.target.version]
            sock.send(_frame(sock.getsockname()[4], probe))
        _listen(list(sockets.values()), answers, time.monotonic() + TRY_SECONDS, probes)
        if _is_complete(probes, answers):
            break
    return {target: frozenset(macs) for target, macs in answers.items()}


def _frame(mac: bytes, probe: AddressProbe) -> bytes:
    match probe.source, probe.target:
        case IPv4Address() as source, IPv4Address() as target:
            return arp.request(mac, source, target)
        case IPv6Address() as source, IPv6Address() as target:
            return ndp.solicitation(mac, source, target)
        case source, target:
            raise AssertionError(f"{source} and {target} are of two families")


def _listen(
    sockets: list[socket.socket], answers: dict[Address, set[str]], end: float, probes: Iterable[AddressProbe]
) -> None:
    while (remaining := end - time.monotonic()) > 0:
        for sock in select.select(sockets, [], [], remaining)[0]:
            frame = sock.recv(_BUFFER)
            answer = arp.parse_reply(frame) or ndp.parse_advertisement(frame)
            if answer and answer[0] in answers:
                answers[answer[0]].add(answer[1].hex(":"))
        if _is_complete(probes, answers):
            return


def _is_complete(probes: Iterable[AddressProbe], answers: dict[Address, set[str]]) -> bool:
    """Whether waiting longer adds nothing: only answers were expected, and all have come."""
    return all(probe.expects_answer and answers[probe.target] for probe in probes)
