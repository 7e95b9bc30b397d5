"""A pretend Kubernetes API server for tests: plain HTTP on loopback, objects in memory, faults on request.

It stands in for the far end, so that :class:`spiderpool.kube.client.Client` itself is under test::

    async with ApiServer(SpiderIP.KIND) as server, server.client() as client:
        await client.create(record)
        server.inject(Fault("replace", lose_answer=True))   # the write is done, and the connection then breaks
        with pytest.raises(ApiUnavailable):
            await client.replace(changed)
        assert server.stored(SpiderIP)["10.0.0.1"] == ...   # what is really there, without a request

What it speaks, for every kind given to it:

- get, list by page, and watch, with label and field selectors, bookmarks, and 410 for versions from before
  :meth:`compact`;
- create (409 AlreadyExists, ``generateName``);
- replace (409 Conflict on another resourceVersion or UID, 422 without a resourceVersion);
- merge patch (409 on another resourceVersion, 422 on another UID), and the ``status`` subresource;
- delete with preconditions;
- finalizers: a deleted object stays, with a deletionTimestamp, until its last finalizer is removed;
- ``metadata.generation``, which grows with every change of anything but metadata and status;
- a write that changes nothing keeps the resourceVersion; resource versions grow over all kinds together;
- discovery of the kinds of a group and version.

A page of a list shows the objects as they are when it is read, not as they were at the first page.
It has no schemas, defaults, admission, authorization, server-side apply or garbage collection.

Faults (:class:`Fault`) are used up in the order of :meth:`ApiServer.inject`, each by the next ``times`` requests of its
verb: ``get``, ``list``, ``watch``, ``create``, ``replace``, ``patch``, ``delete``, or ``*`` for any of them.
:meth:`ApiServer.hold_watches` keeps events back until :meth:`ApiServer.release_watches`, so that caches lag;
:meth:`ApiServer.cut_watches` breaks all watches. :attr:`ApiServer.requests` counts requests by verb.

Everything runs in the event loop of the test; in a test that drives a loop itself (a hypothesis state machine), call
:meth:`start` and :meth:`stop` from ``asyncio.Runner.run``.
"""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from operator import eq, ne
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import web

from spiderpool.api.meta import Kind, Object, Scope
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess

T = TypeVar("T", bound=Object)
Body = dict[str, Any]
Key = tuple[str, str, str]  # plural of the kind, namespace or "", name

VERBS = {"POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the next requests of a verb. Delay first, then one of the others, if any."""

    verb: str
    times: int = 1
    delay: float = 0.0
    """Seconds before anything is done."""
    status: int = 0
    """Answer with this HTTP status and do nothing."""
    lose_answer: bool = False
    """Do what was requested, then break the connection instead of answering."""
    lose_request: bool = False
    """Break the connection and do nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the history that watches read."""

    version: int
    key: Key
    old: Body | None
    new: Body | None
    """None when the object was deleted."""
    last: Body
    """The object with the version of this change."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    kind: Kind
    namespace: str
    name: str
    sub: str

    @property
    def key(self) -> Key:
        """The key of the object."""
        return self.kind.plural, self.namespace, self.name


class Refusal(Exception):
    """An answer of status 400 or more."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self) -> Body:
        """The answer as metav1.Status."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
        }


@dataclass
class Store:
    """Objects and their history; every write has its own resource version."""

    objects: dict[Key, Body] = field(default_factory=dict)
    version: int = 100
    history: list[Change] = field(default_factory=list)
    compacted: int = 0
    """Watches must not begin before this version."""

    def write(self, key: Key, new: Body | None) -> Body:
        """Store an object, or delete it (None); returns it with its version. Nothing happens without a change."""
        old = self.objects.get(key)
        if new is not None:
            new["metadata"]["generation"] = _generation(old, new)
        if old is not None and new is not None and _without_version(old) == _without_version(new):
            return old
        self.version += 1
        last = copy.deepcopy(new if new is not None else old)
        assert last is not None, f"{key} does not exist"
        last["metadata"]["resourceVersion"] = str(self.version)
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = last
        self.history.append(Change(self.version, key, old, last if new is not None else None, last))
        return last


class ApiServer:
    """The server; see the top of this file."""

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = kinds
        self._store = Store()
        self._faults: list[Fault] = []
        self._news = asyncio.Event()  # set and replaced at every change, to wake watches
        self._open = asyncio.Event()  # cleared while watches are held
        self._watches: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self.list_queries: list[dict[str, str]] = []
        self.requests: Counter[str] = Counter()
        self.url = ""
        self.most_per_page = 500

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
        return Client(ClusterAccess(self.url, ssl.create_default_context(), ClientCredentials()))

    # What a test does behind the back of the client

    def inject(self, *faults: Fault) -> None:
        """Let these faults happen, in this order."""
        self._faults += faults

    def clear_faults(self) -> None:
        """Forget the faults that have not happened."""
        self._faults.clear()

    def stored(self, kind: type[T]) -> dict[str, T]:
        """The objects of a kind as they are now, by ``namespace/name`` or name."""
        bodies = (body for key, body in self._store.objects.items() if key[0] == kind.KIND.plural)
        return {obj.key: obj for obj in (msgspec.convert(body, type=kind) for body in bodies)}

    def put(self, *objects: Object) -> None:
        """Store objects as another client would, whatever was there."""
        for obj in objects:
            body = msgspec.to_builtins(obj)
            key = (obj.KIND.plural, obj.metadata.namespace or "", obj.name)
            stored = self._store.objects.get(key)
            self._store.write(key, _as_stored(obj.KIND, body, stored))
        self._wake()

    def remove(self, obj: Object) -> None:
        """Delete an object as another client would, without regard to finalizers."""
        self._store.write((obj.KIND.plural, obj.metadata.namespace or "", obj.name), None)
        self._wake()

    def compact(self) -> None:
        """Forget the history: watches from older versions are refused with 410."""
        self._store.history.clear()
        self._store.compacted = self._store.version

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
                return web.json_response(self._discover(request.path))
            if verb == "get" and not target.name:
                verb = "watch" if request.query.get("watch") == "true" else "list"
            self.requests[verb] += 1
            fault = self._next_fault(verb)
            await asyncio.sleep(fault.delay)
            if fault.status:
                raise Refusal(fault.status, "Injected", f"injected status {fault.status}")
            if fault.lose_request:
                return _break(request)
            if verb == "watch":
                return await self._watch(request, target)
            answer = self._answer(verb, target, await request.read(), request.query)
            return _break(request) if fault.lose_answer else web.json_response(answer)
        except Refusal as error:
            return web.json_response(error.status(), status=error.code)

    def _next_fault(self, verb: str) -> Fault:
        """The first fault that waits for this verb, used once; without one, a fault that does nothing."""
        for place, fault in enumerate(self._faults):
            if fault.verb in (verb, "*"):
                rest = replace(fault, times=fault.times - 1)
                self._faults[place : place + 1] = [rest] if rest.times else []
                return fault
        return Fault(verb)

    def _target(self, path: str) -> Target | None:
        """What a path names; None for a path of discovery."""
        for kind in self._kinds:
            prefix = f"/apis/{kind.group}/{kind.version}/" if kind.group else f"/api/{kind.version}/"
            if not path.startswith(prefix):
                continue
            words, namespace = path.removeprefix(prefix).split("/"), ""
            if words[0] == "namespaces" and len(words) > 2:
                namespace, words = words[1], words[2:]
            if words[0] == kind.plural:
                name, sub, *_ = [*words[1:], "", ""]
                return Target(kind, namespace, name, sub)
        return None

    def _discover(self, path: str) -> Body:
        group_version = path.removeprefix("/apis/").removeprefix("/api/")
        found = [kind for kind in self._kinds if kind.api_version == group_version]
        if not found:
            raise Refusal(404, "NotFound", f"the server could not find the requested resource {path}")
        resources = [
            {"name": kind.plural, "kind": kind.name, "namespaced": kind.scope is Scope.NAMESPACED} for kind in found
        ]
        return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}

    def _answer(self, verb: str, target: Target, content: bytes, query: Mapping[str, str]) -> Body:
        match verb:
            case "get":
                return self._existing(target)
            case "list":
                return self._list(target, query)
            case "create":
                return self._create(target, json.loads(content))
            case "replace":
                return self._replace(target, json.loads(content))
            case "patch":
                return self._patch(target, json.loads(content))
            case _:
                return self._delete(target, json.loads(content or b"{}"))

    def _existing(self, target: Target) -> Body:
        if target.key not in self._store.objects:
            raise Refusal(404, "NotFound", f'{target.kind.plural} "{target.name}" not found')
        return self._store.objects[target.key]

    def _list(self, target: Target, query: Mapping[str, str]) -> Body:
        version, begin = self._store.version, 0
        self.list_queries.append(dict(query))
        if int(query.get("resourceVersion") or 0) > version:
            raise Refusal(504, "Timeout", "Too large resource version")
        if rest := query.get("continue"):
            version, begin = map(int, rest.split("-"))
            if version < self._store.compacted:
                raise Refusal(410, "Expired", "The provided continue parameter is too old")
        matches = _selector(target, query)
        items = [body for key, body in sorted(self._store.objects.items()) if matches(key, body)]
        end = begin + min(int(query.get("limit", len(items))), self.most_per_page)
        return {
            "kind": f"{target.kind.name}List",
            "apiVersion": target.kind.api_version,
            "metadata": {
                "resourceVersion": str(version),
                **({"continue": f"{version}-{end}"} if end < len(items) else {}),
            },
            "items": items[begin:end],
        }

    def _create(self, target: Target, body: Body) -> Body:
        metadata = body.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            raise Refusal(500, "InternalError", "resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{uuid.uuid4().hex[:5]}"
        if target.kind.scope is Scope.NAMESPACED:
            metadata["namespace"] = target.namespace
        made = Target(target.kind, target.namespace, metadata.get("name", ""), "")
        if made.key in self._store.objects:
            raise Refusal(409, "AlreadyExists", f'{target.kind.plural} "{made.name}" already exists')
        return self._write(made, _as_stored(target.kind, body, None))

    def _replace(self, target: Target, body: Body) -> Body:
        stored = self._existing(target)
        if not body["metadata"].get("resourceVersion"):
            raise Refusal(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        _check_preconditions(target, body["metadata"], stored)
        return self._update(target, stored, body)

    def _patch(self, target: Target, patch: Body) -> Body:
        stored = self._existing(target)
        metadata = patch.get("metadata") or {}
        if metadata.get("uid") and metadata["uid"] != stored["metadata"]["uid"]:
            raise Refusal(422, "Invalid", f"metadata.uid: Invalid value: {metadata['uid']}: field is immutable")
        _check_preconditions(target, metadata, stored)
        return self._update(target, stored, _merged(stored, patch))

    def _update(self, target: Target, stored: Body, body: Body) -> Body:
        if target.sub == "status":
            body = {**stored, "status": body.get("status")}
        elif target.kind.status:
            body = {**body, "status": stored.get("status")}
        body = _as_stored(target.kind, {key: value for key, value in body.items() if value is not None}, stored)
        metadata = body["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self._write(target, None)
        return self._write(target, body)

    def _delete(self, target: Target, options: Body) -> Body:
        stored = self._existing(target)
        _check_preconditions(target, options.get("preconditions") or {}, stored)
        if not stored["metadata"].get("finalizers"):
            return self._write(target, None)
        body = copy.deepcopy(stored)
        body["metadata"].setdefault("deletionTimestamp", _now())
        return self._write(target, body)

    def _write(self, target: Target, body: Body | None) -> Body:
        made = self._store.write(target.key, body)
        self._wake()
        return made

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
        matches, version = _selector(target, query), int(query.get("resourceVersion") or 0)
        if version < self._store.compacted:
            await response.write(
                _event("ERROR", Refusal(410, "Expired", f"too old resource version: {version}").status())
            )
            return
        while True:
            news = self._news
            await self._open.wait()
            for change in [change for change in self._store.history if change.version > version]:
                version = change.version
                if (type_ := _event_type(change, matches)) is not None:
                    await response.write(_event(type_, change.last))
            await news.wait()


Matches = Callable[[Key, Body], bool]


def _selector(target: Target, query: Mapping[str, str]) -> Matches:
    """Whether an object belongs to a list or watch."""
    labels = _requirements(query.get("labelSelector", ""))
    fields = _requirements(query.get("fieldSelector", ""))

    def matches(key: Key, body: Body) -> bool:
        if key[0] != target.kind.plural or (target.namespace and key[1] != target.namespace):
            return False
        own = body["metadata"].get("labels") or {}
        return all(holds(own.get(name)) for name, holds in labels) and all(
            holds(_field(body, name)) for name, holds in fields
        )

    return matches


def _requirements(text: str) -> list[tuple[str, Callable[[str | None], bool]]]:
    """A selector: ``a=b``, ``a==b``, ``a!=b``, ``a`` and ``!a``, separated by commas."""
    found: list[tuple[str, Callable[[str | None], bool]]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        value = value.removeprefix("=")
        if equals and name.endswith("!"):
            found.append((name[:-1], partial(ne, value)))
        elif equals:
            found.append((name, partial(eq, value)))
        elif part.startswith("!"):
            found.append((part[1:], lambda own: own is None))
        else:
            found.append((part, lambda own: own is not None))
    return found


def _field(body: Body, path: str) -> str | None:
    value: Any = body
    for word in path.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _event_type(change: Change, matches: Matches) -> str | None:
    """How a watch sees a change; None when it does not. Leaving the selector is a deletion, entering it an addition."""
    before = change.old is not None and matches(change.key, change.old)
    after = change.new is not None and matches(change.key, change.new)
    return {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((before, after))


def _event(type_: str, obj: Body) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def _break(request: web.Request) -> web.StreamResponse:
    """End the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


def _check_preconditions(target: Target, given: Mapping[str, Any], stored: Body) -> None:
    """Raise the refusal of a write that was meant for another version, or for another object of this name."""
    for name in ("uid", "resourceVersion"):
        if given.get(name) and given[name] != stored["metadata"].get(name):
            message = f'Operation cannot be fulfilled on {target.kind.plural} "{target.name}": {name} differs'
            raise Refusal(409, "Conflict", message)


def _as_stored(kind: Kind, body: Body, stored: Body | None) -> Body:
    """An object with the metadata that only the server writes; ``stored`` is what it replaces."""
    own = stored["metadata"] if stored else {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
    metadata = {key: value for key, value in body["metadata"].items() if value is not None}
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "resourceVersion"):
        if name in own:
            metadata[name] = own[name]
        elif stored is not None:
            metadata.pop(name, None)
    return {**body, "apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def _generation(old: Body | None, new: Body) -> int:
    """The generation of an object that replaces an older version of it, if there is one."""
    if old is None or old["metadata"].get("uid") != new["metadata"].get("uid"):
        return 1
    specs = ({key: value for key, value in body.items() if key not in ("metadata", "status")} for body in (old, new))
    known: int = old["metadata"].get("generation", 1)
    return known if eq(*specs) else known + 1


def _without_version(body: Body) -> Body:
    return {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}}


def _merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch, carried out (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
