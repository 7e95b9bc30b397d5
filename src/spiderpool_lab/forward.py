"""A TCP forwarder that listens in one network namespace and connects from its own.

By ``python -m spiderpool_lab.forward --netns NAME --listen 198.18.0.1:6443 --to 127.0.0.1:PORT`` the nodes of a lab
reach the API server, which listens on the machine's loopback only. It prints a line when it listens, and ends on
SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from typing import NamedTuple

from spiderpool.errors import SpiderpoolError
from spiderpool_lab import namespaces
from spiderpool_lab.signals import stop_event

CHUNK = 65536
"""Bytes that are copied at a time."""
BACKLOG = 256
"""Connections that may wait to be accepted."""
CONNECT_TIMEOUT = 10.0
"""Seconds that the target has to accept a connection."""


class ForwardAddress(NamedTuple):
    """A host address and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ForwardAddress:
        """Read ``HOST:PORT`` or ``[HOST]:PORT``. Raises ValueError if it is neither."""
        host, colon, port = text.rpartition(":")
        if not (host and colon):
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host.strip("[]"), int(port))


def listen(address: ForwardAddress, netns: str | None = None) -> socket.socket:
    """A listening socket in a named network namespace, or in our own.

    Raises OSError if the address cannot be bound there.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    place = namespaces.path(netns) if netns else None
    return namespaces.call_in(place, lambda: socket.create_server(address, family=family, backlog=BACKLOG))


async def serve(listening: socket.socket, to: ForwardAddress) -> asyncio.Server:
    """Forward every connection that ``listening`` accepts to ``to``, until the returned server is closed."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _forward(reader, writer, to)
        finally:
            writer.close()

    return await asyncio.start_server(forward, sock=listening, limit=CHUNK)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: ForwardAddress) -> None:
    """Forward one connection until both directions have ended or either peer has reset it."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            far_reader, far_writer = await asyncio.open_connection(*to, limit=CHUNK)
    except OSError:  # refused or, as a TimeoutError, unanswered: the caller closes the client's connection
        return
    await splice((reader, writer), (far_reader, far_writer))


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(near: Connection, far: Connection) -> None:
    """Copy both directions between two connections, then close the far one; the near one is the caller's to close."""
    try:
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(near[0], far[1]))
            pumps.create_task(_pump(far[0], near[1]))
    except* OSError:
        pass  # a peer has reset the connection: both ends are closed below and by the caller
    finally:
        far[1].close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, then half-close the other connection (RFC 9293, section 3.6)."""
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


async def _run(listening: socket.socket, to: ForwardAddress) -> None:
    stopped = stop_event()
    server = await serve(listening, to)
    print(f"listening on {listening.getsockname()}, forwarding to {to.host}:{to.port}", flush=True)
    await stopped.wait()
    server.close()


def main() -> int:
    """Forward until SIGTERM or SIGINT. Returns 1 if it cannot listen."""
    parser = argparse.ArgumentParser(description="Forward TCP from a network namespace to our own.")
    parser.add_argument("--netns", help="name of the namespace to listen in; our own if not given")
    parser.add_argument("--listen", type=ForwardAddress.parse, required=True, metavar="HOST:PORT")
    parser.add_argument("--to", type=ForwardAddress.parse, required=True, metavar="HOST:PORT")
    options = parser.parse_args()
    try:
        listening = listen(options.listen, options.netns)
    except (OSError, SpiderpoolError) as failure:
        print(f"cannot listen on {options.listen} in {options.netns or 'our namespace'}: {failure}", file=sys.stderr)
        return 1
    asyncio.run(_run(listening, options.to))
    return 0


if __name__ == "__main__":
    sys.exit(main())
