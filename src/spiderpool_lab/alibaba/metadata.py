"""The metadata service: what an instance reads about itself at http://100.100.100.200/latest/meta-data/.

The asking instance is told from the source address of the connection. What it is shown lags behind the account by
``account.delays.metadata`` seconds. The account's faults strike here too, under ``metadata:`` and the path.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from spiderpool_lab.alibaba.account import Account, RecordedCall
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.pages import page, pages
from spiderpool_lab.alibaba.resources import Instance
from spiderpool_lab.alibaba.serving import ServedEndpoint, serve
from spiderpool_lab.alibaba.tables import AccountTables, TableChange

ADDRESS = "100.100.100.200"
"""Where the real service is; a lab puts ours at the same address."""

TOKEN_HEADER = "X-aliyun-ecs-metadata-token"  # noqa: S105
TOKEN_TTL_HEADER = "X-aliyun-ecs-metadata-token-ttl-seconds"  # noqa: S105
TOKEN_TTL_MAX = 21600
TOKEN_PATH = "/latest/api/token"  # noqa: S105
DATA_PATH = "/latest/meta-data"
CREDENTIALS = "ram/security-credentials"
RENEWED_BEFORE = 1800.0
"""Seconds before their end at which the credentials of a role are replaced by new ones."""

Resolver = Callable[[str], str | None]
"""Which instance asks, by the source address of its connection."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of the hardened mode, good for one instance until a moment."""

    instance: str
    expires: float


class MetadataServer:
    """Serves the instances of one account. While ``hardened``, a call without a token is refused.

    ``resolve`` finds the asking instance; without it the ENI that has the source address does.
    """

    def __init__(self, account: Account, *, resolve: Resolver | None = None, hardened: bool = False) -> None:
        self.account = account
        self.hardened = hardened
        self._resolve = resolve or self._instance_with
        self._tokens: dict[str, _Token] = {}
        self._credentials: dict[str, CallerIdentity] = {}
        self._history: list[tuple[float, AccountTables]] = []

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, netns: Path | None = None
    ) -> AsyncIterator[ServedEndpoint]:
        """Serve for the length of a context, by plain HTTP as the real one does."""
        app = web.Application()
        app.router.add_put(TOKEN_PATH, self._give_token)
        app.router.add_get(DATA_PATH + "{path:.*}", self._read)
        self._history = [(float("-inf"), self.account.world.snapshot())]
        unsubscribe = self.account.subscribe(self._remember)
        try:
            async with serve(app, host, port, netns=netns) as endpoint:
                yield endpoint
        finally:
            unsubscribe()

    async def _give_token(self, request: web.Request) -> web.Response:
        instance = self._asking(request)
        ttl = request.headers.get(TOKEN_TTL_HEADER, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TOKEN_TTL_MAX:
            raise web.HTTPBadRequest(text=f"{TOKEN_TTL_HEADER} must be a number from 1 to {TOKEN_TTL_MAX}")
        token = secrets.token_urlsafe(40)
        self._tokens[token] = _Token(instance.identity, self.account.clock() + int(ttl))
        return web.Response(text=token)

    async def _read(self, request: web.Request) -> web.Response:
        self.account.settle()
        instance = self._asking(request)
        path = request.match_info["path"].strip("/")
        response = await self._struck(request, instance, path)
        if response is None:
            self._check_token(request, instance)
            response = self._answer(instance, path, self._visible())
        status = str(response.status)
        self.account.record(RecordedCall(f"metadata:{path}", instance.identity, status, self.account.clock()))
        return response

    def _answer(self, instance: Instance, path: str, world: AccountTables) -> web.Response:
        text = self._credentials_page(instance, path) if path.startswith(CREDENTIALS) else None
        text = text or page(pages(self.account.as_of(world), instance), path)
        return web.Response(status=404, text="not found") if text is None else web.Response(text=text)

    def _asking(self, request: web.Request) -> Instance:
        identity = self._resolve(request.remote or "")
        instance = self.account.world.instances.get(identity) if identity else None
        if instance is None:
            raise web.HTTPNotFound(text=f"no instance has the address {request.remote}")
        return instance

    def _instance_with(self, address: str) -> str | None:
        eni = self.account.eni_with(address)
        return eni.instance if eni else None

    def _check_token(self, request: web.Request, instance: Instance) -> None:
        sent = request.headers.get(TOKEN_HEADER)
        if sent is None and not self.hardened:
            return
        known = self._tokens.get(sent or "")
        if known is None or known.instance != instance.identity or known.expires <= self.account.clock():
            raise web.HTTPUnauthorized(text="the token is missing, wrong or too old")

    def _credentials_page(self, instance: Instance, path: str) -> str | None:
        """The name of the instance's role, or the credentials of that role."""
        if instance.role is None or instance.role not in self.account.roles:
            return None
        if path == CREDENTIALS:
            return instance.role
        return self._credentials_of(instance, instance.role) if path == f"{CREDENTIALS}/{instance.role}" else None

    def _credentials_of(self, instance: Instance, role: str) -> str:
        now = self.account.clock()
        held = self._credentials.get(instance.identity)
        if held is None or held.expires is None or held.expires - now < RENEWED_BEFORE:
            held = self._credentials[instance.identity] = self.account.issue(role)
        return json.dumps(
            {
                "AccessKeyId": held.key,
                "AccessKeySecret": held.secret,
                "SecurityToken": held.token,
                "Expiration": _moment(held.expires or now),
                "LastUpdated": _moment(now),
                "Code": "Success",
            }
        )

    async def _struck(self, request: web.Request, instance: Instance, path: str) -> web.Response | None:
        """The answer that a fault gives instead of ours, if one does."""
        for number, fault in self.account.faults.strike(f"metadata:{path}", reads=True):
            match fault.kind:
                case "delay":
                    await asyncio.sleep(fault.seconds)
                case "stale":
                    return self._answer(instance, path, self.account.remembered[number])
                case _:
                    return _faulty(fault, request)
        return None

    def _remember(self, change: TableChange) -> None:
        self._history.append((self.account.clock(), self.account.world.snapshot()))
        self._forget()

    def _forget(self) -> None:
        """Drop what is older than the state that is visible now."""
        limit = self.account.clock() - self.account.delays.metadata
        while len(self._history) > 1 and self._history[1][0] <= limit:
            self._history.pop(0)

    def _visible(self) -> AccountTables:
        self._forget()
        return self._history[0][1]


def _faulty(fault: Fault, request: web.Request) -> web.Response:
    """What a fault answers; a dropped connection hears nothing."""
    match fault.kind:
        case "throttle":
            return web.Response(status=429, text="too many requests")
        case "refuse":
            return web.Response(status=fault.status, text=fault.message)
        case "empty":
            return web.Response(text="")
        case _:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
