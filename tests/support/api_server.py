"""A pretend Kubernetes API server for tests: plain HTTP on loopback, objects in memory, faults on request.

It stands in for the far end, so that :class:`spiderpool.kube.client.Client` itself is under test::

    async with ApiServer(SpiderIP.KIND) as server, server.client() as client:
        await client.create(record)
        server.inject(Fault("replace", lose_answer=True))   # the write is done, and the connection then breaks
        with pytest.raises(ApiUnavailable):
            await client.replace(changed)
        assert server.stored(SpiderIP)["10.0.0.1"] == ...   # what is really there, without a request

What it answers is described in :mod:`tests.support.api_store`. It also watches, with bookmarks, and 410 for versions
from before :meth:`compact`.

Faults (:class:`Fault`) are used up in the order of :meth:`ApiServer.inject`, each by the next ``times`` requests of its
verb: ``get``, ``list``, ``watch``, ``create``, ``replace``, ``patch``, ``delete``, or ``*`` for any of them.
:meth:`ApiServer.hold_watches` keeps events back until :meth:`ApiServer.release_watches`, so that caches lag;
:meth:`ApiServer.cut_watches` breaks all watches. :attr:`ApiServer.requests` counts requests by verb.

Everything runs in the event loop of the test; in a test that drives a loop itself (a hypothesis state machine), call
:meth:`start` and :meth:`stop` from ``asyncio.Runner.run``.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import web

from spiderpool.api.meta import Kind, Object
from spiderpool.kube.client import Client
from tests.support.api_store import (
    VERBS,
    Body,
    Key,
    Refusal,
    Store,
    Target,
    discover,
    event_type,
    find_target,
    prefix,
    selector,
)
from tests.support.clients import client_of

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the next requests of a verb. Delay first, then one of the others, if any."""

    verb: str
    times: int = 1
    plural: str = ""
    """Of this kind alone; empty: of any."""
    delay: float = 0.0
    """Seconds before anything is done, also when the client has given up by then."""
    until: asyncio.Event | None = None
    """Before anything is done, wait for this too: for what has to happen meanwhile."""
    status: int = 0
    """Answer with this HTTP status and do nothing."""
    lose_answer: bool = False
    """Do what was requested, then break the connection instead of answering."""
    lose_request: bool = False
    """Break the connection and do nothing."""

    async def wait(self) -> None:
        """What comes before anything else."""
        await asyncio.sleep(self.delay)
        if self.until:
            await self.until.wait()


class ApiServer:
    """The server; see the top of this file."""

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = {prefix(kind): kind for kind in kinds}
        self._store = Store()
        self._store.listeners.append(lambda _: self._wake())
        self._faults: list[Fault] = []
        self._news = asyncio.Event()  # set and replaced at every change, to wake watches
        self._open = asyncio.Event()  # cleared while watches are held
        self._watches: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self.list_queries: list[tuple[str, dict[str, str]]] = []  # plural of the kind, and the query
        self.requests: Counter[str] = Counter()
        self.url = ""
        self.most_per_page = 500
        self.knows_nobody = False  # whether credentials are refused with 401, as a token that has expired

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._open.set()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Break all watches and stop listening."""
        self.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    def client(self) -> Client:
        """A client of this server; to be closed by the caller."""
        return client_of(self.url)

    # What a test does behind the back of the client

    def inject(self, *faults: Fault) -> None:
        """Let these faults happen, in this order."""
        self._faults += faults

    def forbid_evictions(self, budget: str) -> None:
        """Have a PodDisruptionBudget of this name allow no eviction; empty: none does any more."""
        self._store.disruption_budget = budget

    @property
    def has_no_faults(self) -> bool:
        """Whether all faults have begun to happen."""
        return not self._faults

    def clear_faults(self) -> None:
        """Forget the faults that have not happened."""
        self._faults.clear()

    def stored(self, kind: type[T]) -> dict[str, T]:
        """The objects of a kind as they are now, by ``namespace/name`` or name."""
        bodies = self._store.objects.get(kind.KIND.plural, {}).values()
        return {obj.key: obj for obj in (msgspec.convert(body, type=kind) for body in bodies)}

    def put(self, *objects: Object) -> None:
        """Store objects as another client would, whatever was there."""
        for obj in objects:
            self._store.put(obj.KIND, msgspec.to_builtins(obj))

    def remove(self, obj: Object) -> None:
        """Delete an object as another client would, without regard to finalizers."""
        self._store.write((obj.KIND.plural, obj.metadata.namespace or "", obj.name), None)

    def compact(self) -> None:
        """Forget the history: watches from older versions are refused with 410."""
        self._store.compact()

    def copied(self) -> dict[str, dict[Key, Body]]:
        """A copy of all objects, for `restore`."""
        return {plural: dict(objects) for plural, objects in self._store.objects.items()}

    def restore(self, copied: dict[str, dict[Key, Body]], *, bump: int) -> None:
        """Take the objects of a copy, raise the version and break all watches, as etcd is restored with its bump."""
        self._store.objects = copied
        self._store.version += bump
        self.compact()
        self.cut_watches()

    def hold_watches(self) -> None:
        """Keep all events back from now on."""
        self._open.clear()

    def release_watches(self) -> None:
        """Deliver the events that were kept back, and further ones at once."""
        self._open.set()

    def cut_watches(self) -> None:
        """Break the connections of all watches."""
        for task in self._watches:
            task.cancel()

    # Requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb = VERBS.get(request.method, "get")
        try:
            target = self._target(request.path)
            if target is None:
                return web.json_response(discover(self._kinds, request.path))
            if verb == "get" and not target.name:
                verb = "watch" if request.query.get("watch") == "true" else "list"
            self.requests[verb] += 1
            fault = self._next_fault(verb, target.kind.plural)
            content = await request.read()  # before the wait: the client may have given up after it
            await fault.wait()
            if fault.status:
                raise Refusal(fault.status, "Injected", f"injected status {fault.status}")
            if fault.lose_request:
                return _break(request)
            if verb == "watch":
                return await self._watch(request, target)
            if verb == "list":
                self.list_queries.append((target.kind.plural, dict(request.query)))
            body = json.loads(content or b"{}")
            answer = self._store.answer(verb, target, body, self._limited(request.query))
            return _break(request) if fault.lose_answer else web.json_response(answer)
        except Refusal as error:
            return web.json_response(error.status(), status=error.code)

    def _target(self, path: str) -> Target | None:
        if self.knows_nobody:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return find_target(self._kinds, path)

    def _next_fault(self, verb: str, plural: str) -> Fault:
        """The first fault that waits for this request, used once; without one, a fault that does nothing."""
        for place, fault in enumerate(self._faults):
            if fault.verb in (verb, "*") and fault.plural in (plural, ""):
                rest = replace(fault, times=fault.times - 1)
                self._faults[place : place + 1] = [rest] if rest.times else []
                return fault
        return Fault(verb)

    def _limited(self, query: Mapping[str, str]) -> dict[str, str]:
        limit = min(int(query.get("limit", self.most_per_page)), self.most_per_page)
        return {**query, "limit": str(limit)}

    # Watches

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.ensure_future(self._stream(response, request.query, target))
        self._watches.add(task)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "300"))):
                await asyncio.wait((task,))
        except TimeoutError:
            bookmark = {"kind": target.kind.name, "metadata": {"resourceVersion": str(self._store.version)}}
            await response.write(_event("BOOKMARK", bookmark))
        finally:
            self._watches.discard(task)
            task.cancel()
        return response

    async def _stream(self, response: web.StreamResponse, query: Mapping[str, str], target: Target) -> None:
        matches, version = selector(target, query), int(query.get("resourceVersion") or 0)
        try:
            self._store.since(version)
        except Refusal as refusal:
            await response.write(_event("ERROR", refusal.status()))
            return
        while True:
            news = self._news
            await self._open.wait()
            for change in [each for each in self._store.history if each.version > version]:
                version = change.version
                if (type_ := event_type(change, matches)) is not None:
                    await response.write(_event(type_, change.last))
            await news.wait()


def _event(type_: str, obj: Body) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def _break(request: web.Request) -> web.StreamResponse:
    """End the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)
