"""Connections to the API server: how many, for how long, and when they are given up."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import aiohttp

CONNECTIONS = 100
"""Connections at a time at most: one per watch, and one per request of the pods that are attached at once."""

IDLE_SECONDS = 300.0
"""Seconds for which an unused connection stays open: a pod after a quiet minute must not wait for a TLS handshake."""

DEAD_AFTER = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 30_000,
}
"""Socket options (tcp(7)) by which connections, watches too, break within 30 s when the path swallows packets: an API
server that lost its power, or a load balancer that dropped its state, closes no connection."""


class _Unanswered(aiohttp.ClientError):
    """A connection broke during a write."""


def open_session(tls: ssl.SSLContext, connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """A pool of connections, none of which is open yet; ``connector`` makes them, None: by TCP."""
    return aiohttp.ClientSession(
        connector=connector or _tcp_connector(tls),
        read_bufsize=1 << 20,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        middlewares=(_send_writes_once,),
    )


def _tcp_connector(tls: ssl.SSLContext) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket)


async def _send_writes_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending PUT and DELETE once more, as it does by itself when a reused connection breaks."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method == "GET":
            raise
        raise _Unanswered(str(error) or type(error).__name__) from error


def _socket(address_info: tuple[Any, ...]) -> socket.socket:
    """A socket for an entry of getaddrinfo(3), with the options of DEAD_AFTER."""
    family, kind, protocol, *_ = address_info
    connection = socket.socket(family, kind, protocol)
    for (level, option), value in DEAD_AFTER.items():
        connection.setsockopt(level, option, value)
    return connection
