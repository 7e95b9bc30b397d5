"""Connections to the API server in memory: real HTTP, whose bytes may be late, lost, or stuck behind a partition.

`Connector` takes the place of the connector of aiohttp, so everything above it is the product's.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from random import Random
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler

from tests.simulation.loop import PROCESS, Process

BROKEN_AFTER = 30.0
"""Seconds after which connections break when the path swallows packets: by the socket options of `kube.client`."""

REQUESTS: ContextVar[Requests | None] = ContextVar("requests", default=None)
"""The counter of the call that is being served."""


class Requests:
    """How many requests a call has sent to the API server."""

    def __init__(self) -> None:
        self.count = 0


class Server(Protocol):
    """The far end of connections."""

    listening: bool

    def request(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        """A request has arrived."""

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""


class Link:
    """The way from one machine to the API server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.connections: dict[Connection, None] = {}
        self._cuts = 0
        self._waiting: list[asyncio.Future[None]] = []

    def cut(self) -> None:
        """Swallow all packets from now on."""
        self.up = False
        self._cuts += 1
        asyncio.get_running_loop().call_later(BROKEN_AFTER, self._expire, self._cuts)

    def heal(self) -> None:
        """Let packets pass again: what was on its way arrives."""
        self.up = True
        self._cuts += 1
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        for connection in list(self.connections):
            connection.flush()

    async def passable(self) -> None:
        """Wait until packets pass."""
        while not self.up:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def drop(self, process: Process | None = None) -> None:
        """The connections of a process end with it; None: those of all processes, since the server is gone."""
        for connection in list(self.connections):
            if process is None or connection.process is process:
                connection.cut()

    def _expire(self, cut: int) -> None:
        if cut == self._cuts:
            for connection in list(self.connections):
                connection.cut(errno.ETIMEDOUT)


class Connection(asyncio.Transport):
    """The client's end of one connection."""

    def __init__(self, link: Link, server: Server, protocol: ResponseHandler, delay: Callable[[], float]) -> None:
        super().__init__()
        self.link = link
        self.process = PROCESS.get()
        self.watching: Any = None
        self._server = server
        self._protocol = protocol
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._context.run(REQUESTS.set, None)
        self._received = bytearray()  # by the server, of a request that is not complete
        self._leaving: list[tuple[bytes, Requests | None]] = []  # written while no packet passes
        self._arriving: deque[bytes] = deque()
        self._held = 0  # arrivals that wait, since no packet passes or the client reads no more
        self._paused = False
        self._closing = False
        link.connections[self] = None

    # --- the client's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if self.link.up:
            self._send(bytes(data), REQUESTS.get())
        else:
            self._leaving.append((bytes(data), REQUESTS.get()))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.flush()

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    # --- the server's side

    def deliver(self, data: bytes, delay: float) -> None:
        """Send bytes to the client; they arrive in order."""
        if not self._closing:
            self._arriving.append(data)
            self._loop.call_later(delay, self._arrive, context=self._context)

    def cut(self, code: int = errno.ECONNRESET) -> None:
        """Break the connection."""
        self._end(OSError(code, os.strerror(code)))

    def flush(self) -> None:
        """Let go on what was held."""
        held, self._held = self._held, 0
        for _ in range(held):
            self._loop.call_soon(self._arrive, context=self._context)
        leaving, self._leaving = self._leaving, []
        for data, requests in leaving:
            self._send(data, requests)

    def _arrive(self) -> None:
        if self._closing or not self._arriving:
            return
        if self._paused or not self.link.up:
            self._held += 1
        else:
            self._protocol.data_received(self._arriving.popleft())

    def _send(self, data: bytes, requests: Requests | None) -> None:
        received = self._received
        received += data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            head = bytes(received[:end])
            size = _content_length(head)
            if len(received) < end + 4 + size:
                return
            body = bytes(received[end + 4 : end + 4 + size])
            del received[: end + 4 + size]
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            if requests is not None:
                requests.count += 1
            self._server.request(self, method, path, body)

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            del self.link.connections[self]
            self._server.closed(self)
            self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)


class Connector(aiohttp.BaseConnector):
    """Makes the connections of one client."""

    def __init__(self, link: Link, server: Server, random: Random) -> None:
        super().__init__(keepalive_timeout=None)  # aiohttp measures it by the real clock
        self._link = link
        self._server = server
        self._random = random

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        await asyncio.sleep(self._random.uniform(0.0002, 0.001))
        await self._link.passable()
        if not self._server.listening:
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(errno.ECONNREFUSED, "connection refused"))
        protocol = self._factory()
        connection = Connection(self._link, self._server, protocol, self._random.random)
        protocol.connection_made(connection)
        return protocol


def _content_length(head: bytes) -> int:
    place = head.lower().find(b"\r\ncontent-length:")
    if place < 0:
        return 0
    return int(head[place + 17 :].split(b"\r\n", 1)[0])
