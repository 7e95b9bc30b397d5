"""Serves an aiohttp application for the lifetime of a context manager.

Knows nothing of network namespaces: a caller that serves inside one passes its own ``open_socket``.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from spiderpool_lab.certificates import Authority, KeyPair

SocketFactory = Callable[[int, int], socket.socket]
"""Opens a socket of a family and type, such as AF_INET and SOCK_STREAM."""

_BACKLOG = 128
_SHUTDOWN_TIMEOUT = 1.0
"""Seconds that open connections get to finish when the service ends."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a service listens. Port 0 takes any free port."""

    host: str = "127.0.0.1"
    port: int = 0
    open_socket: SocketFactory = socket.socket
    forwarders: tuple[str, ...] = ()
    """Further addresses by which clients reach it, which its certificate names too."""


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """Where a service is reached. ``ca`` is the PEM certificate to trust if the service uses TLS."""

    host: str
    port: int
    ca: bytes | None = None

    @property
    def authority(self) -> str:
        """``host:port``, as the endpoint setting of the vendor's clients takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self.ca is None else "https"

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"{self.scheme}://{self.authority}"


@asynccontextmanager
async def serve(
    app: web.Application, listen: ListenAddress, authority: Authority | None = None
) -> AsyncIterator[ServedEndpoint]:
    """Serve ``app`` by HTTP or, with an ``authority`` that signs the certificate, by HTTPS."""
    sock = _bound_socket(listen)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        context = None if authority is None else _tls_context(authority.server([listen.host, *listen.forwarders]))
        await web.SockSite(runner, sock, ssl_context=context, backlog=_BACKLOG).start()
        ca = None if authority is None else authority.pair.certificate
        yield ServedEndpoint(listen.host, sock.getsockname()[1], ca)
    finally:
        await runner.cleanup()
        sock.close()


def _bound_socket(listen: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ip_address(listen.host).version == 6 else socket.AF_INET
    sock = listen.open_socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listen.host, listen.port))
    except OSError:
        sock.close()
        raise
    return sock


def _tls_context(pair: KeyPair) -> ssl.SSLContext:
    """A TLS context for a server. The key passes through a temporary file, because ``ssl`` reads files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
