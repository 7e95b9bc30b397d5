"""The objects of a pretend Kubernetes API server, and what it answers to requests for them. No transport, no time.

It follows the real server in what our clients rely on, for every kind given to it:

- get, list by page, and the history that watches read, with label and field selectors;
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

Stored objects are never changed: every write stores another one.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from operator import contains, eq, ne
from typing import Any

from spiderpool.api.meta import Kind, Scope

Body = dict[str, Any]
Key = tuple[str, str, str]  # plural of the kind, namespace or "", name
Matches = Callable[[Key, Body], bool]

VERBS = {"POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}


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

    def __init__(self, code: int, reason: str, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.cause = code, reason, message, cause

    def status(self) -> Body:
        """The answer as metav1.Status."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            **({"details": {"causes": [{"message": self.cause}]}} if self.cause else {}),
        }


def wall_clock() -> datetime:
    """The time, as the API server writes it."""
    return datetime.now(UTC)


def random_uid() -> str:
    """A UID for an object."""
    return str(uuid.uuid4())


@dataclass
class Store:
    """Objects and their history; every write has its own resource version."""

    clock: Callable[[], datetime] = wall_clock
    new_uid: Callable[[], str] = random_uid
    objects: dict[str, dict[Key, Body]] = field(default_factory=dict)
    """By plural of the kind."""
    version: int = 100
    history: list[Change] = field(default_factory=list)
    compacted: int = 0
    """Watches must not begin before this version."""
    disruption_budget: str = ""
    """Name of a PodDisruptionBudget that allows no eviction; empty: none does."""
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    """Called after every write."""

    def get(self, key: Key) -> Body | None:
        """The object of a key."""
        return self.objects.get(key[0], {}).get(key)

    def write(self, key: Key, new: Body | None) -> Body:
        """Store an object, or delete it (None); returns it with its version. Nothing happens without a change."""
        old = self.get(key)
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "generation": _generation(old, new)}}
        if old is not None and new is not None and _without_version(old) == _without_version(new):
            return old
        self.version += 1
        last = new if new is not None else old
        assert last is not None, f"{key} does not exist"
        last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        if new is None:
            del self.objects[key[0]][key]
        else:
            self.objects.setdefault(key[0], {})[key] = last
        change = Change(self.version, key, old, last if new is not None else None, last)
        self.history.append(change)
        for listener in self.listeners:
            listener(change)
        return last

    def put(self, kind: Kind, body: Body) -> Body:
        """Store an object as another client would, whatever was there."""
        metadata = body["metadata"]
        key = (kind.plural, metadata.get("namespace") or "", metadata["name"])
        return self.write(key, self.as_stored(kind, body, self.get(key)))

    def compact(self, version: int | None = None) -> None:
        """Forget the history up to a version, None: all of it. Watches from older versions are refused with 410."""
        version = self.version if version is None else version
        del self.history[: bisect_right(self.history, version, key=lambda change: change.version)]
        self.compacted = max(version, self.compacted)

    def since(self, version: int) -> list[Change]:
        """The history after a version. Raises Refusal (410) when it is forgotten."""
        if version < self.compacted:
            raise Refusal(410, "Expired", f"too old resource version: {version}")
        return self.history[bisect_right(self.history, version, key=lambda change: change.version) :]

    # Requests

    def answer(self, verb: str, target: Target, body: Body, query: Mapping[str, str]) -> Body:
        """The answer to a request of any verb but watch. Raises Refusal."""
        match verb:
            case "get":
                return self._existing(target)
            case "list":
                return self._list(target, query)
            case "create" if target.sub == "eviction":
                return self._evict(target, body)
            case "create":
                return self._create(target, body)
            case "replace":
                return self._replace(target, body)
            case "patch":
                return self._patch(target, body)
            case _:
                return self._delete(target, body)

    def as_stored(self, kind: Kind, body: Body, stored: Body | None) -> Body:
        """An object with the metadata that only the server writes; ``stored`` is what it replaces."""
        own = stored["metadata"] if stored else {"uid": self.new_uid(), "creationTimestamp": self._now()}
        metadata = {key: value for key, value in body["metadata"].items() if value is not None}
        for name in ("uid", "creationTimestamp", "deletionTimestamp", "resourceVersion"):
            if name in own:
                metadata[name] = own[name]
            elif stored is not None:
                metadata.pop(name, None)
        return {**body, "apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}

    def _existing(self, target: Target) -> Body:
        found = self.get(target.key)
        if found is None:
            raise Refusal(404, "NotFound", f'{target.kind.plural} "{target.name}" not found')
        return found

    def _list(self, target: Target, query: Mapping[str, str]) -> Body:
        version, begin = self.version, 0
        if int(query.get("resourceVersion") or 0) > version:
            raise Refusal(504, "Timeout", "Too large resource version")
        if rest := query.get("continue"):
            version, begin = map(int, rest.split("-"))
            if version < self.compacted:
                raise Refusal(410, "Expired", "The provided continue parameter is too old")
        matches = selector(target, query)
        items = [body for key, body in sorted(self.objects.get(target.kind.plural, {}).items()) if matches(key, body)]
        end = begin + int(query.get("limit", len(items)))
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
            metadata["name"] = f"{metadata['generateName']}{self.new_uid()[-5:]}"
        if target.kind.scope is Scope.NAMESPACED:
            metadata["namespace"] = target.namespace
        made = Target(target.kind, target.namespace, metadata.get("name", ""), "")
        if self.get(made.key) is not None:
            raise Refusal(409, "AlreadyExists", f'{target.kind.plural} "{made.name}" already exists')
        return self.write(made.key, self.as_stored(target.kind, body, None))

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
        return self._update(target, stored, merged(stored, patch))

    def _update(self, target: Target, stored: Body, body: Body) -> Body:
        if target.sub == "status":
            builtin = not target.kind.group  # in custom resources the metadata of a status is ignored
            body = {**stored, "status": body.get("status"), **({"metadata": body["metadata"]} if builtin else {})}
        elif target.kind.status:
            body = {**body, "status": stored.get("status")}
        body = self.as_stored(target.kind, {key: value for key, value in body.items() if value is not None}, stored)
        metadata = body["metadata"]
        ended = not metadata.get("deletionGracePeriodSeconds")  # a pod stays until its kubelet says that it has ended
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and ended:
            return self.write(target.key, None)
        return self.write(target.key, body)

    def _delete(self, target: Target, options: Body) -> Body:
        stored = self._existing(target)
        _check_preconditions(target, options.get("preconditions") or {}, stored)
        if not stored["metadata"].get("finalizers"):
            return self.write(target.key, None)
        metadata = {"deletionTimestamp": self._now(), **stored["metadata"]}
        return self.write(target.key, {**stored, "metadata": metadata})

    def _evict(self, target: Target, eviction: Body) -> Body:
        """End a pod, which stays until its kubelet says that it has ended. Raises Refusal (429) for a budget."""
        stored = self._existing(target)
        _check_preconditions(target, eviction.get("deleteOptions", {}).get("preconditions") or {}, stored)
        if self.disruption_budget:
            cause = f"The disruption budget {self.disruption_budget} needs 1 healthy pods and has 1 currently"
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise Refusal(429, "TooManyRequests", message, cause)
        ending = {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 30}
        return self.write(target.key, {**stored, "metadata": {**stored["metadata"], **ending}})

    def _now(self) -> str:
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def find_target(kinds: Mapping[str, Kind], path: str) -> Target | None:
    """What a path names; None for a path of discovery. ``kinds`` are by :func:`prefix`."""
    words = path.strip("/").split("/")
    begin = 2 if words[0] == "api" else 3
    group_version, words = "/".join(words[:begin]), words[begin:]
    namespace = ""
    if len(words) > 2 and words[0] == "namespaces":
        namespace, words = words[1], words[2:]
    kind = kinds.get(f"{group_version}/{words[0]}") if words else None
    if kind is None:
        return None
    name, sub, *_ = [*words[1:], "", ""]
    return Target(kind, namespace, name, sub)


def prefix(kind: Kind) -> str:
    """The path of all objects of a kind, without the leading slash."""
    return kind.path()


def discover(kinds: Mapping[str, Kind], path: str) -> Body:
    """The kinds of a group and version. Raises Refusal."""
    group_version = path.removeprefix("/apis/").removeprefix("/api/")
    found = [kind for kind in kinds.values() if kind.api_version == group_version]
    if not found:
        raise Refusal(404, "NotFound", f"the server could not find the requested resource {path}")
    resources = [
        {"name": kind.plural, "kind": kind.name, "namespaced": kind.scope is Scope.NAMESPACED} for kind in found
    ]
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}


def selector(target: Target, query: Mapping[str, str]) -> Matches:
    """Whether an object belongs to a list or watch."""
    labels = _requirements(query.get("labelSelector", ""))
    fields = _requirements(query.get("fieldSelector", ""))
    plural, namespace = target.kind.plural, target.namespace

    def matches(key: Key, body: Body) -> bool:
        if key[0] != plural or (namespace and key[1] != namespace):
            return False
        own = body["metadata"].get("labels") or {}
        return all(holds(own.get(name)) for name, holds in labels) and all(
            holds(_field(body, name)) for name, holds in fields
        )

    return matches


def event_type(change: Change, matches: Matches) -> str | None:
    """How a watch sees a change; None when it does not. Leaving the selector is a deletion, entering it an addition."""
    before = change.old is not None and matches(change.key, change.old)
    after = change.new is not None and matches(change.key, change.new)
    return {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((before, after))


@lru_cache
def _requirements(text: str) -> tuple[tuple[str, Callable[[str | None], bool]], ...]:
    """A selector: ``a=b``, ``a==b``, ``a!=b``, ``a in (b, c)``, ``a`` and ``!a``, separated by commas."""
    found: list[tuple[str, Callable[[str | None], bool]]] = []
    for part in filter(None, re.split(r",(?![^(]*\))", text)):
        if among := re.fullmatch(r"\s*(\S+) in \((.*)\)", part):
            found.append((among[1], partial(contains, {each.strip() for each in among[2].split(",")})))
            continue
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
    return tuple(found)


def _field(body: Body, path: str) -> str | None:
    value: Any = body
    for word in ("source", "component") if path == "source" else path.split("."):  # so it is for Events
        value = value.get(word) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _check_preconditions(target: Target, given: Mapping[str, Any], stored: Body) -> None:
    """Raise the refusal of a write that was meant for another version, or for another object of this name."""
    for name in ("uid", "resourceVersion"):
        if given.get(name) and given[name] != stored["metadata"].get(name):
            message = f'Operation cannot be fulfilled on {target.kind.plural} "{target.name}": {name} differs'
            raise Refusal(409, "Conflict", message)


def _generation(old: Body | None, new: Body) -> int:
    """The generation of an object that replaces an older version of it, if there is one."""
    if old is None or old["metadata"].get("uid") != new["metadata"].get("uid"):
        return 1
    known: int = old["metadata"].get("generation", 1)
    names = (old.keys() | new.keys()) - {"metadata", "status"}
    return known if all(old.get(name) == new.get(name) for name in names) else known + 1


def _without_version(body: Body) -> Body:
    return {**body, "metadata": {**body["metadata"], "resourceVersion": None}}


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch, carried out (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
