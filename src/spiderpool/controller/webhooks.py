"""Admission webhooks: the rules of ``core.rules`` behind the API server's AdmissionReview v1."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.allocation import label_value
from spiderpool.core.rules import (
    FieldError,
    attachment_name,
    default_coordinator,
    default_ippool,
    default_multusconfig,
    validate_coordinator,
    validate_ippool,
    validate_multusconfig,
)
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, NotFound
from spiderpool.telemetry import logger

KINDS: tuple[type[Object], ...] = (SpiderIPPool, SpiderMultusConfig, SpiderCoordinator)

READ_TIMEOUT = 5.0
"""Seconds for one read while the API server waits for our answer."""

MAX_REVIEW = 16 << 20
"""Bytes of a review: two objects of the largest size that etcd takes, with room to spare."""

NULL = msgspec.Raw(b"null")

log = logger("webhooks")


class AdmissionRequest(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionRequest, in part."""

    uid: str
    operation: str
    name: str = ""
    object: msgspec.Raw = NULL
    oldObject: msgspec.Raw = NULL  # noqa: N815


class AdmissionReview(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionReview, as it comes in."""

    request: AdmissionRequest


Default = Callable[[Any, Any], Any]
Validate = Callable[[Any, Any], Awaitable[tuple[FieldError, ...]]]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hook:
    """The rules of one kind, each called with the new object and the old one or None."""

    kind: type[Object]
    default: Default
    validate: Validate


def path(verb: str, kind: Kind) -> str:
    """Where the API server asks us to ``mutate`` or ``validate`` a kind."""
    return f"/{verb}-{kind.group.replace('.', '-')}-{kind.version}-{kind.name.lower()}"


class Webhooks:
    """Answers AdmissionReviews. Other objects that a rule needs are read from the API server at that moment."""

    def __init__(self, client: Client, families: frozenset[int]) -> None:
        self._client = client
        self._families = families

    def application(self) -> web.Application:
        """The HTTP application that serves all paths."""
        application = web.Application(client_max_size=MAX_REVIEW)
        application.router.add_get("/webhook-health-check", _healthy)
        for hook in self._hooks():
            application.router.add_post(path("mutate", hook.kind.KIND), _handler(hook, _mutate))
            application.router.add_post(path("validate", hook.kind.KIND), _handler(hook, _validate))
        return application

    def _hooks(self) -> tuple[Hook, ...]:
        return (
            Hook(SpiderIPPool, lambda new, _: default_ippool(new), self._validate_ippool),
            Hook(SpiderMultusConfig, default_multusconfig, self._validate_multusconfig),
            Hook(SpiderCoordinator, lambda new, _: default_coordinator(new), _validate_coordinator),
        )

    async def _validate_ippool(self, new: SpiderIPPool, old: SpiderIPPool | None) -> tuple[FieldError, ...]:
        if old is not None and old.spec == new.spec:
            return ()
        pools = await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)
        holders = await self._holders(new) if old is not None else []
        others = [pool for pool in pools if pool.name != new.name]
        return validate_ippool(new, old, others, holders, self._families)

    async def _holders(self, pool: SpiderIPPool) -> list[SpiderIP]:
        labels = f"{IP_POOL_LABEL}={label_value(pool.name)}"
        holders = await self._client.list(SpiderIP, labels=labels, timeout=READ_TIMEOUT)
        return [holder for holder in holders if holder.spec.pool == pool.name]

    async def _validate_multusconfig(
        self, new: SpiderMultusConfig, old: SpiderMultusConfig | None
    ) -> tuple[FieldError, ...]:
        faults = validate_multusconfig(new, old)  # first, so that only a name that is one is asked for
        return faults or validate_multusconfig(new, old, await self._attachment(new))

    async def _attachment(self, config: SpiderMultusConfig) -> NetworkAttachmentDefinition | None:
        name, namespace = attachment_name(config), config.metadata.namespace
        try:
            return await self._client.get(NetworkAttachmentDefinition, name, namespace, timeout=READ_TIMEOUT)
        except NotFound:
            return None


async def _validate_coordinator(new: SpiderCoordinator, _: SpiderCoordinator | None) -> tuple[FieldError, ...]:
    return validate_coordinator(new)


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def _handler(
    hook: Hook, decide: Callable[[Hook, AdmissionRequest], Awaitable[Answer]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            review = msgspec.json.decode(await request.read(), type=AdmissionReview)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=f"not an AdmissionReview: {error}") from error
        answer = await decide(hook, review.request)
        return _response({"uid": review.request.uid, **answer})

    return handle


def _response(answer: Answer) -> web.Response:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
    return web.Response(body=msgspec.json.encode(review), content_type="application/json")


async def _mutate(hook: Hook, request: AdmissionRequest) -> Answer:
    """Defaults as a patch. What does not fit the type is left to the schema check that follows and names the field."""
    try:
        new, old = _objects(hook, request)
    except msgspec.ValidationError:
        return {"allowed": True}
    patch = list(json_patch(msgspec.to_builtins(new), msgspec.to_builtins(hook.default(new, old))))
    if not patch:
        return {"allowed": True}
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}


async def _validate(hook: Hook, request: AdmissionRequest) -> Answer:
    kind = hook.kind.KIND
    try:
        new, old = _objects(hook, request)
        faults = await hook.validate(new, old)
    except msgspec.ValidationError as error:
        return _refusal(422, "Invalid", f"{kind.name} {request.name} does not fit its schema: {error}")
    except SpiderpoolError as error:
        log.warning("admission could not be decided", kind=kind.name, name=request.name, error=str(error))
        return _refusal(503, "ServiceUnavailable", f"the rules could not be checked, try again: {error}")
    return _invalid(kind, request.name or new.name, faults) if faults else {"allowed": True}


def _objects(hook: Hook, request: AdmissionRequest) -> tuple[Any, Any]:
    """The new object, and the old one if there is one that can be read. Raises ValidationError."""
    new = msgspec.json.decode(request.object, type=hook.kind)
    try:
        return new, msgspec.json.decode(request.oldObject, type=hook.kind | None)
    except msgspec.ValidationError:
        return new, None


def _invalid(kind: Kind, name: str, faults: tuple[FieldError, ...]) -> Answer:
    causes = [{"reason": fault.kind, "message": fault.detail, "field": fault.path} for fault in faults]
    details = {"name": name, "group": kind.group, "kind": kind.name, "causes": causes}
    message = f"{kind.name} {name} is invalid: " + "; ".join(map(str, faults))
    return _refusal(422, "Invalid", message, details)


def _refusal(code: int, reason: str, message: str, details: Answer | None = None) -> Answer:
    status = {"status": "Failure", "code": code, "reason": reason, "message": message, "details": details or {}}
    return {"allowed": False, "status": status}


def json_patch(before: Any, after: Any, where: str = "") -> Iterator[dict[str, Any]]:
    """The operations (RFC 6902) that turn one document into the other, touching only what differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _object_patch(before, after, where)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from json_patch(old, new, f"{where}/{index}")
    elif before != after:
        yield {"op": "replace", "path": where, "value": after}


def _object_patch(before: dict[str, Any], after: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    for key in before | after:
        target = f"{where}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            yield {"op": "remove", "path": target}
        elif key not in before:
            yield {"op": "add", "path": target, "value": after[key]}
        else:
            yield from json_patch(before[key], after[key], target)
