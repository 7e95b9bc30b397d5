"""Admission webhooks: the rules of ``core.rules`` and ``core.injection`` behind AdmissionReview v1."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Pod
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.admission.coordinator import default_coordinator, validate_coordinator
from spiderpool.core.admission.faults import FieldError
from spiderpool.core.admission.ippool import default_ippool, ippool_kept_by, validate_ippool
from spiderpool.core.admission.multusconfig import attachment_name, default_multusconfig, validate_multusconfig
from spiderpool.core.admission.pod_injection import (
    CannotInject,
    NewPod,
    selector_of,
    wish,
    with_networks,
    with_nic_resources,
)
from spiderpool.core.admission.reservedip import default_reservedip, validate_reservedip
from spiderpool.core.admission.subnet import default_subnet, subnet_kept_by, validate_subnet
from spiderpool.core.labels import label_value
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, NotFound
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

READ_TIMEOUT = 5.0
"""Seconds for one read while the API server waits for our answer."""
POD_READ_TIMEOUT = 1.5
"""As above, for a new pod: all reads together stay below the time after which it is admitted without us."""

MAX_REVIEW = 16 << 20
"""Bytes of a review: two objects of the largest size that etcd takes, with room to spare."""

NULL = msgspec.Raw(b"null")

log = logger("webhooks")


class UserInfo(msgspec.Struct):
    """authentication.k8s.io/v1 UserInfo, in part."""

    username: str = ""


class AdmissionRequest(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionRequest, in part."""

    uid: str
    operation: str
    name: str = ""
    namespace: str = ""
    userInfo: UserInfo = msgspec.field(default_factory=UserInfo)  # noqa: N815
    object: msgspec.Raw = NULL
    oldObject: msgspec.Raw = NULL  # noqa: N815


class AdmissionReview(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionReview, as it comes in."""

    request: AdmissionRequest


Answer = dict[str, Any]
ALLOWED: Answer = {"allowed": True}


@dataclass(frozen=True, slots=True)
class AdmissionChange:
    """A new object, or an object as it was and as it is to be."""

    new: Any
    old: Any
    trusted: bool
    """Whether one of our own accounts asks."""
    warnings: list[str] = field(default_factory=list)
    """What kubectl shall tell the user, beside the answer."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The rules of one kind."""

    kind: type[Object]
    default: Callable[[AdmissionChange], Awaitable[Any]]
    validate: Callable[[AdmissionChange], Awaitable[tuple[FieldError, ...]]]
    kept_by: Callable[[Any], Awaitable[str | None]] | None = None
    """Why an object may not be deleted."""


Decide = Callable[[AdmissionRequest], Awaitable[Answer]]


def kinds(settings: ControllerSettings) -> tuple[type[Object], ...]:
    """The kinds whose objects are admitted by us."""
    subnet = (SpiderSubnet,) if settings.common.enable_spider_subnet else ()
    return (SpiderIPPool, *subnet, SpiderReservedIP, SpiderMultusConfig, SpiderCoordinator)


def guarded_kinds(settings: ControllerSettings) -> tuple[type[Object], ...]:
    """The kinds whose objects may refuse to be deleted."""
    return tuple(kind for kind in kinds(settings) if kind in (SpiderIPPool, SpiderSubnet)) * settings.protect_used


def path(verb: str, kind: Kind) -> str:
    """Where the API server asks us to ``mutate`` or ``validate`` a kind."""
    return f"/{verb}-{kind.group.replace('.', '-')}-{kind.version}-{kind.name.lower()}"


class Webhooks:
    """Answers AdmissionReviews. Other objects that a rule needs are read from the API server at that moment."""

    def __init__(self, client: Client, families: frozenset[int], settings: ControllerSettings | None = None) -> None:
        self._client = client
        self._families = families
        self._settings = settings or ControllerSettings()
        self._our_accounts = f"system:serviceaccount:{self._settings.common.namespace}:spiderpool-"

    def application(self) -> web.Application:
        """The HTTP application that serves all paths."""
        application = web.Application(client_max_size=MAX_REVIEW)
        application.router.add_get("/webhook-health-check", _healthy)
        for hook in self._hooks():
            application.router.add_post(path("mutate", hook.kind.KIND), _handler(self._mutator(hook)))
            application.router.add_post(path("validate", hook.kind.KIND), _handler(self._validator(hook)))
        if self._settings.pod_inject.enabled:
            application.router.add_post(path("mutate", Pod.KIND), _handler(self._mutate_pod))
        return application

    def _hooks(self) -> list[Hook]:
        hooks = (
            Hook(SpiderIPPool, self._default_ippool, self._validate_ippool, self._ippool_kept_by),
            Hook(SpiderSubnet, _of_new(default_subnet), self._validate_subnet, self._subnet_kept_by),
            Hook(SpiderReservedIP, _of_new(default_reservedip), self._validate_reservedip),
            Hook(SpiderMultusConfig, _default_multusconfig, self._validate_multusconfig),
            Hook(SpiderCoordinator, _of_new(default_coordinator), _validate_coordinator),
        )
        return [hook for hook in hooks if hook.kind in kinds(self._settings)]

    # --- the kinds of our own

    async def _default_ippool(self, change: AdmissionChange) -> SpiderIPPool:
        pool = default_ippool(change.new)
        if not self._settings.common.enable_spider_subnet or pool.terminating:
            return pool
        try:
            return default_ippool(change.new, await self._client.list(SpiderSubnet, timeout=READ_TIMEOUT))
        except SpiderpoolError as error:
            change.warnings.append(f"the SpiderSubnets could not be read, the pool gets nothing from one yet: {error}")
            return pool

    async def _validate_ippool(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        new, old = change.new, change.old
        if old is not None and old.spec == new.spec:
            return ()
        pools = await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)
        holders = await self._holders(new) if old is not None else []
        others = [pool for pool in pools if pool.name != new.name]
        subnets = await self._subnets()
        return validate_ippool(new, old, others, holders, self._families, subnets, trusted=change.trusted)

    async def _subnets(self) -> list[SpiderSubnet] | None:
        enabled = self._settings.common.enable_spider_subnet
        return await self._client.list(SpiderSubnet, timeout=READ_TIMEOUT) if enabled else None

    async def _holders(self, pool: SpiderIPPool) -> list[SpiderIP]:
        labels = f"{IP_POOL_LABEL}={label_value(pool.name)}"
        holders = await self._client.list(SpiderIP, labels=labels, timeout=READ_TIMEOUT)
        return [holder for holder in holders if holder.spec.pool == pool.name]

    async def _ippool_kept_by(self, pool: SpiderIPPool) -> str | None:
        return ippool_kept_by(pool, await self._holders(pool))

    async def _validate_subnet(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        new, old = change.new, change.old
        if old is not None and old.spec == new.spec:
            return ()
        others = [each for each in await self._subnets() or () if each.name != new.name]
        pools = await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)
        return validate_subnet(new, old, others, pools, self._families)

    async def _subnet_kept_by(self, subnet: SpiderSubnet) -> str | None:
        return subnet_kept_by(subnet, await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT))

    async def _validate_reservedip(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        return validate_reservedip(change.new, change.old, self._families)

    async def _validate_multusconfig(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        new, old = change.new, change.old
        faults = validate_multusconfig(new, old)  # first, so that only a name that is one is asked for
        return faults or validate_multusconfig(new, old, await self._attachment(new))

    async def _attachment(self, config: SpiderMultusConfig) -> NetworkAttachmentDefinition | None:
        name, namespace = attachment_name(config), config.metadata.namespace
        try:
            return await self._client.get(NetworkAttachmentDefinition, name, namespace, timeout=READ_TIMEOUT)
        except NotFound:
            return None

    # --- answers

    def _mutator(self, hook: Hook) -> Decide:
        async def mutate(request: AdmissionRequest) -> Answer:
            """Defaults. What does not fit the type is left to the schema check that follows and names the field."""
            try:
                change = self._change(hook, request)
            except msgspec.ValidationError:
                return ALLOWED
            return _patched(change.new, await hook.default(change), change.warnings)

        return mutate

    def _validator(self, hook: Hook) -> Decide:
        kind = hook.kind.KIND

        async def validate(request: AdmissionRequest) -> Answer:
            try:
                if request.operation == "DELETE":
                    return await _removal(hook, request)
                change = self._change(hook, request)
                faults = await hook.validate(change)
            except msgspec.ValidationError as error:
                return _refusal(422, "Invalid", f"{kind.name} {request.name} does not fit its schema: {error}")
            except SpiderpoolError as error:
                log.warning("admission could not be decided", kind=kind.name, name=request.name, error=str(error))
                return _refusal(503, "ServiceUnavailable", f"the rules could not be checked, try again: {error}")
            return _invalid(kind, request.name or change.new.name, faults) if faults else ALLOWED

        return validate

    def _change(self, hook: Hook, request: AdmissionRequest) -> AdmissionChange:
        """The new object, and the old one if there is one that can be read. Raises ValidationError."""
        new = msgspec.json.decode(request.object, type=hook.kind)
        trusted = request.userInfo.username.startswith(self._our_accounts)
        try:
            return AdmissionChange(new, msgspec.json.decode(request.oldObject, type=hook.kind | None), trusted)
        except msgspec.ValidationError:
            return AdmissionChange(new, None, trusted)

    # --- pods

    async def _mutate_pod(self, request: AdmissionRequest) -> Answer:
        """Networks and resources for a new pod. It is denied for what it asks for itself, never for what we lack."""
        try:
            pod = msgspec.json.decode(request.object, type=NewPod)
            if pod.spec.hostNetwork or not self._settings.pod_inject.covers(request.namespace):
                return ALLOWED
            return _patched(pod, await self._injected(pod, request.namespace))
        except CannotInject as error:
            return _refusal(403, "Forbidden", error.message)
        except Exception as error:  # a pod must not wait for us to be repaired
            log.exception("pod admitted unchanged", namespace=request.namespace, name=request.name)
            return {**ALLOWED, "warnings": [f"spiderpool injected nothing into the pod: {error}"]}

    async def _injected(self, pod: NewPod, namespace: str) -> NewPod:
        asked = wish(pod.metadata.annotations or {}) or wish(await self._annotations(namespace))
        if asked and asked.value:
            pod = with_networks(pod, namespace, asked, await self._configs(selector_of(asked)))
        if self._settings.pod_inject.enis:
            pod = with_nic_resources(pod, namespace, self._settings.common.namespace, await self._configs())
        return pod

    async def _annotations(self, namespace: str) -> dict[str, str]:
        found = await self._client.get(Namespace, namespace, timeout=POD_READ_TIMEOUT)
        return found.metadata.annotations or {}

    async def _configs(self, labels: str | None = None) -> list[SpiderMultusConfig]:
        return await self._client.list(SpiderMultusConfig, labels=labels, timeout=POD_READ_TIMEOUT)


def _of_new(default: Callable[[Any], Any]) -> Callable[[AdmissionChange], Awaitable[Any]]:
    async def of_new(change: AdmissionChange) -> Any:
        return default(change.new)

    return of_new


async def _default_multusconfig(change: AdmissionChange) -> SpiderMultusConfig:
    return default_multusconfig(change.new, change.old)


async def _validate_coordinator(change: AdmissionChange) -> tuple[FieldError, ...]:
    return validate_coordinator(change.new)


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def _handler(decide: Decide) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            review = msgspec.json.decode(await request.read(), type=AdmissionReview)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=f"not an AdmissionReview: {error}") from error
        return _response({"uid": review.request.uid, **await decide(review.request)})

    return handle


def _response(answer: Answer) -> web.Response:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
    return web.Response(body=msgspec.json.encode(review), content_type="application/json")


def _patched(before: Object, after: Object, warnings: list[str] | None = None) -> Answer:
    """Allowed, with the difference as a patch."""
    answer = {**ALLOWED, **({"warnings": warnings} if warnings else {})}
    patch = list(json_patch(msgspec.to_builtins(before), msgspec.to_builtins(after)))
    if not patch:
        return answer
    return {**answer, "patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}


async def _removal(hook: Hook, request: AdmissionRequest) -> Answer:
    if hook.kept_by is None:
        return ALLOWED
    reason = await hook.kept_by(msgspec.json.decode(request.oldObject, type=hook.kind))
    kind = hook.kind.KIND.name
    return _refusal(403, "Forbidden", f"{kind} {request.name} cannot be deleted: {reason}") if reason else ALLOWED


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
