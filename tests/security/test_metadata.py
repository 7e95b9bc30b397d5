"""Somebody answers in place of the metadata service when spiderpool-cloud reads the keys of its server's role."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spiderpool.cloud.alibaba.credentials import InstanceRole
from spiderpool.cloud.alibaba.metadata import MAX_ANSWER

pytestmark = pytest.mark.unit

ROLE = "/latest/meta-data/ram/security-credentials/"
TOKEN = "the-token"


class FalseService:
    """Gives a token, and answers the rest by a function; notes what it is asked for."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._answer = answer
        self.asked: list[str] = []  # paths

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        if request.method == "PUT":
            return web.Response(text=TOKEN)
        return await self._answer(request)

    async def keys(self) -> object:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        async with TestServer(app) as server:
            return await InstanceRole(str(server.make_url("")).rstrip("/")).keys()


async def test_the_token_goes_to_nobody_else() -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        if request.path != ROLE:
            return web.Response(text="")
        raise web.HTTPFound("/stolen")

    service = FalseService(redirect)
    assert await service.keys() is None
    assert "/stolen" not in service.asked


@pytest.mark.parametrize("role", ["../../../stolen", "..", "x?y", "/stolen", "x" * 65, "%2e%2e/stolen"])
async def test_the_name_of_a_role_leads_to_no_other_path(role: str) -> None:
    async def named(request: web.Request) -> web.StreamResponse:
        return web.Response(text=role if request.path == ROLE else "{}")

    service = FalseService(named)
    assert await service.keys() is None
    assert {*service.asked} == {"/latest/api/token", ROLE}


async def test_an_answer_without_end_takes_neither_memory_nor_time() -> None:
    whole, finished = 1000 * MAX_ANSWER, []

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(whole // MAX_ANSWER):
                await response.write(b"x" * MAX_ANSWER)
            finished.append(request.path)
        return response

    begin = time.monotonic()
    assert await FalseService(endless).keys() is None
    assert time.monotonic() - begin < 4
    assert finished == []


LASTING = '"Expiration": "2999-01-01T00:00:00Z"'
WITH_KEYS = '"AccessKeyId": "i", "AccessKeySecret": "s", "SecurityToken": "t"'


@pytest.mark.parametrize(
    "document",
    [
        *("[" * 60_000, "{}", '{"AccessKeyId": 1}', "\0", f"{{{LASTING}}}"),
        *(f'{{{WITH_KEYS}, "Expiration": "soon"}}', f'{{{WITH_KEYS}, {LASTING}, "Code": "Failed"}}'),
    ],
)
async def test_keys_that_are_none(document: str) -> None:
    async def given(request: web.Request) -> web.StreamResponse:
        return web.Response(text="role" if request.path == ROLE else document)

    assert await FalseService(given).keys() is None
