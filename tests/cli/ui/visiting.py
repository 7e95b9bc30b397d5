"""A visitor of the page: a browser's requests, one by one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from yarl import URL

from spiderpool.api.core_v1 import Event, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.ui.serving import PageServer
from spiderpool.kube.client import Client
from tests.support.eventually import eventually

KINDS = (
    *(SpiderIPPool, SpiderIP, SpiderReservedIP, SpiderNode, Node, SpiderServer, SpiderSubnet, SpiderIPQuota, Event),
    *(Pod, SpiderIPHistory),
)
"""Kinds that the page reads, but for those of its overview."""
TIMEOUT = aiohttp.ClientTimeout(total=20)


@dataclass
class Answer:
    """An answer to a visitor."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Any:
        """The text as JSON."""
        return json.loads(self.text)


@dataclass
class Visitor:
    """Sends requests as told, follows no redirection, and keeps the cookie of the session."""

    server: PageServer
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> URL:
        """The page without its token."""
        return URL(self.server.access.address).origin()

    async def send(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request; a header that is empty is left out."""
        given = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items() if value}
        url = self.base.join(URL(path, encoded=True))
        async with self.session.request(method, url, headers=given, allow_redirects=False) as response:
            return Answer(response.status, dict(response.headers), await response.text())

    async def enter(self) -> Self:
        """Exchange the token for a session."""
        answer = await self.send(str(URL(self.server.access.address).relative()))
        assert answer.status == 303, answer
        self.headers["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]
        return self

    async def read(self, path: str) -> Any:
        """The document of a path."""
        answer = await self.send(path)
        assert answer.status == 200, answer
        return answer.document

    @asynccontextmanager
    async def following(self) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """The events that the server sends."""
        url = self.base / "api" / "stream"
        async with self.session.get(url, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            yield _events(response.content)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in content:
        field_name, _, value = line.decode().rstrip("\n").partition(": ")
        if field_name == "event":
            name = value
        elif field_name == "data":
            yield name, json.loads(value)


@asynccontextmanager
async def visiting(client: Client, namespace: str | None = None) -> AsyncIterator[Visitor]:
    """A page of a cluster, and a visitor who has not entered."""
    server = PageServer(Cluster(client, 5.0), namespace)
    async with (
        server.listening(0),
        aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        yield Visitor(server, session)


async def settled(visitor: Visitor) -> None:
    """Wait until all lists have arrived, and maps are made of them."""

    async def is_settled() -> bool:
        return not visitor.server.watched.reading and not visitor.server.watched.changed.is_set()

    await eventually(is_settled, timeout=30.0)
    await visitor.server.keeper.look()
