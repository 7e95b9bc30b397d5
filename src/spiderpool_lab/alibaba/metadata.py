"""The metadata service: what an instance reads about itself at http://100.100.100.200/latest/meta-data/.

The source address of a connection identifies the instance. Changes of the account become visible after
``account.delays.metadata`` seconds. Faults of the account apply here too; their action is ``metadata:`` and the path.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from spiderpool_lab.alibaba.account import Account, RecordedCall
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.pages import page, pages
from spiderpool_lab.alibaba.resources import Instance
from spiderpool_lab.alibaba.serving import ListenAddress, ServedEndpoint, SocketFactory, serve
from spiderpool_lab.alibaba.tables import AccountTables, TableChange

ADDRESS = "100.100.100.200"
"""Address of the real service. The lab serves at the same address."""

TOKEN_HEADER = "X-aliyun-ecs-metadata-token"  # noqa: S105
TOKEN_TTL_HEADER = "X-aliyun-ecs-metadata-token-ttl-seconds"  # noqa: S105
TOKEN_TTL_MAX = 21600
"""Seconds that a token may be valid at most."""
TOKEN_PATH = "/latest/api/token"  # noqa: S105
DATA_PATH = "/latest/meta-data"
CREDENTIALS = "ram/security-credentials"
RENEW_BEFORE = 1800.0
"""Seconds before the expiry of a role's credentials from which on the service hands out new ones."""

Resolver = Callable[[str], str | None]
"""Finds the ID of an instance by the source address of its connection."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A session token of the security-hardened mode, valid for one instance."""

    instance: str
    expires: float


class MetadataServer:
    """Serves the instances of an account. In ``hardened`` mode, a request without a session token is refused.

    ``resolve`` finds the calling instance. The default is the instance whose ENI has the source address.
    """

    def __init__(self, account: Account, *, resolve: Resolver | None = None, hardened: bool = False) -> None:
        self.account = account
        self.hardened = hardened
        self._resolve = resolve or self._instance_with
        self._tokens: dict[str, _Token] = {}  # token → its validity
        self._credentials: dict[str, CallerIdentity] = {}  # instance ID → credentials handed out last
        self._history: list[tuple[float, AccountTables]] = []  # (time of change, state), oldest first

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, open_socket: SocketFactory = socket.socket
    ) -> AsyncIterator[ServedEndpoint]:
        """Serve by plain HTTP, as the real service does."""
        app = web.Application()
        app.router.add_put(TOKEN_PATH, self._put_token)
        app.router.add_get(DATA_PATH + "{path:.*}", self._read)
        self._history = [(float("-inf"), self.account.tables.snapshot())]
        unsubscribe = self.account.subscribe(self._record_change)
        try:
            async with serve(app, ListenAddress(host, port, open_socket)) as endpoint:
                yield endpoint
        finally:
            unsubscribe()

    async def _put_token(self, request: web.Request) -> web.Response:
        instance = self._caller(request)
        ttl = request.headers.get(TOKEN_TTL_HEADER, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TOKEN_TTL_MAX:
            raise web.HTTPBadRequest(text=f"{TOKEN_TTL_HEADER} must be a number from 1 to {TOKEN_TTL_MAX}")
        token = secrets.token_urlsafe(40)
        self._tokens[token] = _Token(instance.identity, self.account.clock() + int(ttl))
        return web.Response(text=token)

    async def _read(self, request: web.Request) -> web.Response:
        self.account.run_due()
        instance = self._caller(request)
        path = request.match_info["path"].strip("/")
        response = await self._faulty_response(request, instance, path)
        if response is None:
            self._check_token(request, instance)
            response = self._answer(instance, path, self._visible())
        status = str(response.status)
        self.account.record(RecordedCall(f"metadata:{path}", instance.identity, status, self.account.clock()))
        return response

    def _answer(self, instance: Instance, path: str, tables: AccountTables) -> web.Response:
        text = self._credentials_page(instance, path) if path.startswith(CREDENTIALS) else None
        text = text or page(pages(self.account.with_tables(tables), instance), path)
        return web.Response(status=404, text="not found") if text is None else web.Response(text=text)

    def _caller(self, request: web.Request) -> Instance:
        identity = self._resolve(request.remote or "")
        instance = self.account.tables.instances.get(identity) if identity else None
        if instance is None:
            raise web.HTTPNotFound(text=f"no instance has the address {request.remote}")
        return instance

    def _instance_with(self, address: str) -> str | None:
        eni = self.account.eni_with_address(address)
        return eni.instance if eni else None

    def _check_token(self, request: web.Request, instance: Instance) -> None:
        sent = request.headers.get(TOKEN_HEADER)
        if sent is None and not self.hardened:
            return
        token = self._tokens.get(sent or "")
        if token is None or token.instance != instance.identity or token.expires <= self.account.clock():
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
        credentials = self._credentials.get(instance.identity)
        if credentials is None or credentials.expires is None or credentials.expires - now < RENEW_BEFORE:
            credentials = self._credentials[instance.identity] = self.account.issue_credentials(role)
        return json.dumps(
            {
                "AccessKeyId": credentials.key,
                "AccessKeySecret": credentials.secret,
                "SecurityToken": credentials.token,
                "Expiration": _timestamp(credentials.expires or now),
                "LastUpdated": _timestamp(now),
                "Code": "Success",
            }
        )

    async def _faulty_response(self, request: web.Request, instance: Instance, path: str) -> web.Response | None:
        """The response of the first fault that applies, or None if the request is answered normally."""
        for number, fault in self.account.faults.triggered(f"metadata:{path}", is_read=True):
            match fault.kind:
                case "delay":
                    await asyncio.sleep(fault.seconds)
                case "stale":
                    return self._answer(instance, path, self.account.snapshots[number])
                case _:
                    return _response_of(fault, request)
        return None

    def _record_change(self, change: TableChange) -> None:
        self._history.append((self.account.clock(), self.account.tables.snapshot()))
        self._prune_history()

    def _prune_history(self) -> None:
        """Drop states that are older than the visible state."""
        limit = self.account.clock() - self.account.delays.metadata
        while len(self._history) > 1 and self._history[1][0] <= limit:
            self._history.pop(0)

    def _visible(self) -> AccountTables:
        self._prune_history()
        return self._history[0][1]


def _response_of(fault: Fault, request: web.Request) -> web.Response:
    """The response of a fault; ``drop`` and ``lose`` abort the connection."""
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
            return web.Response(status=503)  # aiohttp needs a response; the aborted connection never carries it


def _timestamp(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
