"""The way of the API server to nodes and pods: an HTTP proxy that connects from the control plane's server in the VPC.

By ``python -m spiderpool_lab.egress --netns NAME --socket PATH`` it accepts ``CONNECT host:port`` (RFC 9110, section
9.3.6) on a Unix socket and connects in the named namespace. The API server calls that HTTPConnect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
from functools import partial
from pathlib import Path

from spiderpool_lab import namespaces
from spiderpool_lab.forward import CHUNK, CONNECT_TIMEOUT, ForwardAddress, splice
from spiderpool_lab.signals import stop_event

_REQUEST_TIMEOUT = 10.0
"""Seconds that a client has to send its request."""


def socket_of(netns: str) -> Path:
    """The socket of the lab with that namespace, in a folder with a short name: a socket's path has 107 characters."""
    return Path("/run") / f"{netns}.egress"


async def serve(path: Path, netns: Path | None) -> asyncio.Server:
    """Serve until the returned server is closed, connecting in a namespace or in our own. Raises OSError."""
    return await asyncio.start_unix_server(partial(_handle, netns), path, limit=CHUNK)


async def _handle(netns: Path | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection: read its request, answer, and copy both directions."""
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
        far_reader, far_writer = await _connected(netns, _target(head))
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as failure:
        await _refuse(writer, "400 Bad Request", failure)
    except OSError as failure:  # refused or, as a TimeoutError, unanswered
        await _refuse(writer, "502 Bad Gateway", failure)
    else:
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await splice((reader, writer), (far_reader, far_writer))
    finally:
        writer.close()


def _target(head: bytes) -> ForwardAddress:
    """The address that a request names. Raises ValueError if it is no CONNECT."""
    method, _, rest = head.partition(b"\r\n")[0].decode().partition(" ")
    if method != "CONNECT":
        raise ValueError(f"only CONNECT is served, not {method!r}")
    return ForwardAddress.parse(rest.partition(" ")[0])


async def _connected(netns: Path | None, to: ForwardAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to an IP address from a network namespace. Raises OSError."""
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    sock = namespaces.open_socket(netns, family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, tuple(to))
    except OSError:
        sock.close()
        raise
    return await asyncio.open_connection(sock=sock, limit=CHUNK)


async def _refuse(writer: asyncio.StreamWriter, status: str, failure: Exception) -> None:
    body = str(failure) or "not answered in time"
    with contextlib.suppress(OSError):  # the client has gone
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode())
        await writer.drain()


async def _run(path: Path, netns: Path | None) -> None:
    stopped = stop_event()
    server = await serve(path, netns)
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="An HTTP proxy that connects in a network namespace.")
    parser.add_argument("--netns", required=True, help="name of the namespace to connect in")
    parser.add_argument("--socket", required=True, type=Path, help="path of the Unix socket to listen on")
    options = parser.parse_args()
    asyncio.run(_run(options.socket, namespaces.path(options.netns)))


if __name__ == "__main__":
    main()
