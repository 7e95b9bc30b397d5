"""The servers that stand in for a pod's containers, one per container port, in the pod's network namespace.

A namespace of None is that of this process: the node's, for a pod on the host network.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from spiderpool_lab import namespaces

Protocol = Literal["TCP", "UDP"]
_REQUEST_TIMEOUT = 10.0
"""Seconds that a client has to send its request."""
_ADDRESS = 16  # bytes of an IPv6 address, the first field of in6_pktinfo (RFC 3542)
_PACKET_INFO_SPACE = socket.CMSG_SPACE(_ADDRESS + 4)


class PodIdentity(msgspec.Struct, frozen=True):
    """The pod (``namespace/name``) and its node, which a server reports to its clients."""

    pod: str
    node: str

    def answer(self, client: str, forwarded_for: str = "") -> bytes:
        """The answer to a client: JSON with the pod, the node and the client's address as the server sees it.

        ``forwarded_for`` is the client that a proxy names.
        """
        answer = {"pod": self.pod, "node": self.node, "client": client.removeprefix("::ffff:")}
        return json.dumps({**answer, "forwardedFor": forwarded_for} if forwarded_for else answer).encode()


@asynccontextmanager
async def serving(
    netns: Path | None, ports: Iterable[tuple[Protocol, int]], identity: PodIdentity
) -> AsyncIterator[None]:
    """Serve HTTP on the TCP ports, and answer any datagram on the UDP ports, while the context lasts."""
    async with AsyncExitStack() as stack:
        for protocol, port in ports:
            serve = _serve_tcp if protocol == "TCP" else _serve_udp
            stack.callback((await serve(netns, port, identity)).close)
        yield


async def _serve_tcp(netns: Path | None, port: int, identity: PodIdentity) -> asyncio.Server:
    sock = _bound(netns, socket.SOCK_STREAM, port)
    return await asyncio.start_server(partial(_respond, identity), sock=sock)


async def _respond(identity: PodIdentity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
            client = writer.get_extra_info("peername")[0]
            writer.write(_response(head, identity.answer(client, _forwarded_for(head))))
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return  # the client has gone or sent no request: no answer can reach it
    finally:
        writer.close()


def _forwarded_for(head: bytes) -> str:
    """The client in X-Forwarded-For; empty without that header."""
    lines = (line.partition(b":") for line in head.splitlines())
    return next((value.strip().decode() for name, _, value in lines if name.lower() == b"x-forwarded-for"), "")


def _response(head: bytes, body: bytes) -> bytes:
    known = head.startswith((b"GET ", b"HEAD "))
    status = b"200 OK" if known else b"405 Method Not Allowed"
    headers = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + headers + (b"" if head.startswith(b"HEAD ") else body)


class _Responder:
    """Answers every datagram from the address that it was sent to (RFC 3542, section 6), not the first of the pod."""

    def __init__(self, identity: PodIdentity, sock: socket.socket) -> None:
        self._identity = identity
        self._sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(sock, self._respond)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _respond(self) -> None:
        """Answer all datagrams that have arrived, because a busy event loop may call this late."""
        with suppress(BlockingIOError):
            while True:
                _, ancillary, _, client = self._sock.recvmsg(2048, _PACKET_INFO_SPACE)
                source = [(level, kind, data[:_ADDRESS] + bytes(4)) for level, kind, data in ancillary]
                with suppress(OSError):  # no route to the client, which sees no answer
                    self._sock.sendmsg([self._identity.answer(client[0])], source, 0, client)


async def _serve_udp(netns: Path | None, port: int, identity: PodIdentity) -> _Responder:
    return _Responder(identity, _bound(netns, socket.SOCK_DGRAM, port))


def _bound(netns: Path | None, kind: int, port: int) -> socket.socket:
    """A socket on a port of all addresses of both families."""
    sock = namespaces.open_socket(netns, socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock
