"""Connections to the API server, on loopback; that only reads are repeated is tested with the records."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spiderpool.kube import connections
from spiderpool.kube.connections import DEAD_AFTER, open_session

pytestmark = pytest.mark.unit


async def test_a_connection_breaks_when_its_path_swallows_packets_and_is_kept_otherwise() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(0.05)  # as long as the answer is not complete, it tells its connection
        await response.write(request.headers["Accept-Encoding"].encode())
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    ports = set()
    async with TestServer(application) as server, open_session(ssl.create_default_context()) as session:
        for _ in range(3):
            async with session.get(server.make_url("/")) as response:
                assert response.connection is not None
                assert response.connection.transport is not None
                connection = response.connection.transport.get_extra_info("socket")
                assert {option: connection.getsockopt(*option) for option in DEAD_AFTER} == DEAD_AFTER
                ports.add(connection.getsockname())
                assert await response.text() == "identity"
    assert len(ports) == 1


async def test_requests_beyond_the_most_connections_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 2)
    running = most = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return web.Response()

    application = web.Application()
    application.router.add_get("/", answer)
    async with TestServer(application) as server, open_session(ssl.create_default_context()) as session:

        async def get() -> int:
            async with session.get(server.make_url("/")) as response:
                return response.status

        assert await asyncio.gather(*(get() for _ in range(6))) == [200] * 6
    assert most == 2
