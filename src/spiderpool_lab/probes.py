"""Sends pings, HTTP and HTTPS requests, TCP connections and datagrams from inside a network namespace.

Used in nodes and on the host. Sockets are opened in the namespace; no process is started.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, assert_never

import msgspec

from spiderpool_lab import namespaces

_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}
_HEADERS = {4: 28, 6: 48}
"""Bytes of a packet before what an ICMP echo or a datagram carries: the IP header, and 8 of its own."""
_PMTUDISC_DO = 2
_WHOLE_PACKETS = {
    4: ((socket.IPPROTO_IP, 10, _PMTUDISC_DO),),  # IP_MTU_DISCOVER
    6: ((socket.IPPROTO_IPV6, 23, _PMTUDISC_DO), (socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)),  # IPV6_MTU_DISCOVER
}
"""IP version → socket options with which neither the sender nor a router fragments (ip(7), ipv6(7))."""
_CONCURRENT = 32
"""Probes in progress at once: more would delay each other beyond their timeouts."""
_identifiers = itertools.count(os.getpid())


class TrafficProbe(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """One probe. ``source`` is a pod (``namespace/name``) or None for the node itself.

    ``bind`` is the source address, None for the one that routes choose. ``path`` is that of an HTTP request. ``packet``
    is the size in bytes of the IP packet of a ping or datagram, which must not be fragmented; 0 for a small one. It is
    sent up to ``count`` times, with ``timeout`` seconds for each, until it is answered.
    """

    kind: Literal["ping", "http", "https", "tcp", "udp"]
    target: str
    source: str | None = None
    bind: str | None = None
    port: int = 80
    path: str = "/"
    packet: int = 0
    count: int = 2
    timeout: float = 1.0

    @property
    def version(self) -> int:
        """The IP version of the target, 4 or 6."""
        return ip_address(self.target).version

    @property
    def payload(self) -> bytes:
        """What a ping or datagram carries."""
        return bytes(max(self.packet - _HEADERS[self.version], 0))


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``ok`` if the target answered, else ``error`` says why not. HTTP has a status and body, UDP a body."""

    ok: bool
    error: str = ""
    status: int | None = None
    body: str = ""


async def run(probe: TrafficProbe, netns: Path | None) -> Answer:
    """Send a probe from inside ``netns``, up to ``count`` times until it is answered."""
    answer = Answer(ok=False, error="not tried: count is 0")
    for _ in range(probe.count):
        answer = await _attempt(probe, netns)
        if answer.ok:
            break
    return answer


async def run_all(probes: Sequence[tuple[TrafficProbe, Path | None]]) -> list[Answer]:
    """Send all probes, a limited number at a time; answers in the order of the probes."""
    slots = asyncio.Semaphore(_CONCURRENT)

    async def run_in_slot(probe: TrafficProbe, netns: Path | None) -> Answer:
        async with slots:
            return await run(probe, netns)

    return await asyncio.gather(*(run_in_slot(probe, netns) for probe, netns in probes))


async def _attempt(probe: TrafficProbe, netns: Path | None) -> Answer:
    try:
        async with asyncio.timeout(probe.timeout):
            return await _send(probe, netns)
    except TimeoutError:
        return Answer(ok=False, error=f"no answer within {probe.timeout} s")
    except (OSError, ValueError) as error:
        return Answer(ok=False, error=str(error))


async def _send(probe: TrafficProbe, netns: Path | None) -> Answer:
    match probe.kind:
        case "ping":
            return await _ping(probe, netns)
        case "http" | "https":
            return await _http(probe, netns)
        case "tcp":
            return await _tcp(probe, netns)
        case "udp":
            return await _udp(probe, netns)
        case _:
            assert_never(probe.kind)


async def _ping(probe: TrafficProbe, netns: Path | None) -> Answer:
    version = probe.version
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    identifier = next(_identifiers) & 0xFFFF
    with _socket(probe, netns, socket.SOCK_RAW, protocol) as sock:
        loop = asyncio.get_running_loop()
        sock.connect((probe.target, 0))
        await loop.sock_sendall(sock, _echo_request(version, identifier, probe.payload))
        while not _is_reply(await loop.sock_recv(sock, 2048), version, identifier):
            continue
    return Answer(ok=True)


def _echo_request(version: int, identifier: int, payload: bytes) -> bytes:
    """ICMP echo (RFC 792) with its checksum; for ICMPv6 (RFC 4443) the kernel fills in the checksum."""
    bare = struct.pack("!BBHHH", _ECHO_REQUEST[version], 0, 0, identifier, 1) + payload
    return bare[:2] + struct.pack("!H", _checksum(bare)) + bare[4:]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _is_reply(packet: bytes, version: int, identifier: int) -> bool:
    """A raw IPv4 socket delivers the IP header as well (raw(7)), a raw IPv6 socket does not."""
    message = packet[(packet[0] & 0x0F) * 4 :] if version == 4 else packet
    kind, _code, _sum, found = struct.unpack_from("!BBHH", message)
    return bool(kind == _ECHO_REPLY[version] and found == identifier)


async def _http(probe: TrafficProbe, netns: Path | None) -> Answer:
    reader, writer = await _connect(probe, netns)
    try:
        if probe.kind == "https":
            await writer.start_tls(_unverified())
        host = f"[{probe.target}]" if ":" in probe.target else probe.target
        writer.write(f"GET {probe.path} HTTP/1.1\r\nHost: {host}:{probe.port}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = int(head.split(maxsplit=2)[1]) if head.startswith(b"HTTP/") else None
    error = "" if status is not None else "the answer is not HTTP"
    return Answer(ok=status is not None, error=error, status=status, body=body.decode(errors="replace"))


@functools.cache
def _unverified() -> ssl.SSLContext:
    """TLS with a server whose certificate nobody checks."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _tcp(probe: TrafficProbe, netns: Path | None) -> Answer:
    _, writer = await _connect(probe, netns)
    writer.close()
    return Answer(ok=True)


async def _udp(probe: TrafficProbe, netns: Path | None) -> Answer:
    with _socket(probe, netns, socket.SOCK_DGRAM) as sock:
        loop = asyncio.get_running_loop()
        sock.connect((probe.target, probe.port))
        await loop.sock_sendall(sock, probe.payload or b"?")
        return Answer(ok=True, body=(await loop.sock_recv(sock, 65536)).decode(errors="replace"))


async def _connect(probe: TrafficProbe, netns: Path | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = _socket(probe, netns, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (probe.target, probe.port))
        return await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise


def _socket(probe: TrafficProbe, netns: Path | None, kind: int, protocol: int = 0) -> socket.socket:
    family = socket.AF_INET if probe.version == 4 else socket.AF_INET6
    sock = namespaces.open_socket(netns, family, kind, protocol)
    try:
        sock.setblocking(False)
        for option in _WHOLE_PACKETS[probe.version] if probe.packet else ():
            sock.setsockopt(*option)
        if probe.bind:
            sock.bind((probe.bind, 0))
    except BaseException:
        sock.close()
        raise
    return sock
