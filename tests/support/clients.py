"""Clients of an API server that a test stands in for."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache

from aiohttp import web
from aiohttp.test_utils import TestServer

from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess


@cache
def _any_server() -> ssl.SSLContext:
    """What clients of plain HTTP have and do not use."""
    return ssl.create_default_context()


def client_of(url: str) -> Client:
    """A client without credentials; to be closed by the caller."""
    return Client(ClusterAccess(url, _any_server(), ClientCredentials()))


@asynccontextmanager
async def answered_by(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Client]:
    """A client of a server that answers every request by a function."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server, client_of(f"http://{server.host}:{server.port}") as client:
        yield client
