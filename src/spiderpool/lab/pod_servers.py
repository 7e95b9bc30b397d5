"""What stands in for a pod's containers: a small server on every container port, in the pod's namespace."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from spiderpool.lab import namespaces

Protocol = Literal["TCP", "UDP"]
_REQUEST_TIMEOUT = 10.0


class Identity(msgspec.Struct, frozen=True):
    """Who answers: the pod (``namespace/name``) and its node."""

    pod: str
    node: str

    def answer(self, client: str) -> bytes:
        """What is sent to a client: JSON with the pod, the node and the client's address as seen here."""
        return json.dumps({"pod": self.pod, "node": self.node, "client": client.removeprefix("::ffff:")}).encode()


@asynccontextmanager
async def serving(netns: Path, ports: Iterable[tuple[Protocol, int]], identity: Identity) -> AsyncIterator[None]:
    """Serve HTTP on the TCP ports, and answer any datagram on the UDP ports, while the context lasts."""
    async with AsyncExitStack() as stack:
        for protocol, port in ports:
            serve = _serve_tcp if protocol == "TCP" else _serve_udp
            stack.callback((await serve(netns, port, identity)).close)
        yield


async def _serve_tcp(netns: Path, port: int, identity: Identity) -> asyncio.Server:
    sock = _bound(netns, socket.SOCK_STREAM, port)
    return await asyncio.start_server(partial(_respond, identity), sock=sock)


async def _respond(identity: Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head, identity.answer(writer.get_extra_info("peername")[0])))
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return  # the client's affair
    finally:
        writer.close()


def _response(head: bytes, body: bytes) -> bytes:
    known = head.startswith((b"GET ", b"HEAD "))
    status = b"200 OK" if known else b"405 Method Not Allowed"
    headers = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + headers + (b"" if head.startswith(b"HEAD ") else body)


class _Responder(asyncio.DatagramProtocol):
    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._transport.sendto(self._identity.answer(addr[0]), addr)


async def _serve_udp(netns: Path, port: int, identity: Identity) -> asyncio.DatagramTransport:
    sock = _bound(netns, socket.SOCK_DGRAM, port)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Responder(identity), sock=sock)
    return transport


def _bound(netns: Path, kind: int, port: int) -> socket.socket:
    """A socket on a port of every address of both families."""
    sock = namespaces.open_socket(netns, socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock
