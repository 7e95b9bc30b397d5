"""Serving an aiohttp application for the length of a context, on any address of any network namespace."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web

from spiderpool_lab import namespaces
from spiderpool_lab.certificates import Authority, KeyPair

_BACKLOG = 128
_PATIENCE = 1.0
"""Seconds that open connections get when the service ends."""


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """Where a service is. ``ca`` is the PEM certificate to trust if it speaks TLS."""

    host: str
    port: int
    ca: bytes | None = None

    @property
    def authority(self) -> str:
        """``host:port``, as a client's endpoint setting wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self.ca is None else "https"

    @property
    def url(self) -> str:
        """Base URL without a slash at the end."""
        return f"{self.scheme}://{self.authority}"


@asynccontextmanager
async def serve(
    app: web.Application,
    host: str,
    port: int = 0,
    *,
    netns: Path | None = None,
    authority: Authority | None = None,
    names: tuple[str, ...] = (),
) -> AsyncIterator[ServedEndpoint]:
    """Serve ``app``; port 0 takes any free one. With an ``authority``, by TLS for ``host`` and the other ``names``."""
    sock = _listen(host, port, netns)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_PATIENCE)
    await runner.setup()
    try:
        context = None if authority is None else _context(authority.server([host, *names]))
        await web.SockSite(runner, sock, ssl_context=context, backlog=_BACKLOG).start()
        yield ServedEndpoint(host, sock.getsockname()[1], None if authority is None else authority.pair.certificate)
    finally:
        await runner.cleanup()
        sock.close()


def _listen(host: str, port: int, netns: Path | None) -> socket.socket:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    sock = namespaces.open_socket(netns, family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _context(pair: KeyPair) -> ssl.SSLContext:
    """A server's context; ssl reads certificates from files alone, so they are there for a moment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
