"""Admission webhooks: the rules of ``core.admission`` for each kind, as answers to reviews.

Reads the objects that a rule needs, but decides nothing itself. Our own kinds fail closed: without an answer the API
server refuses the change. Pods fail open: a pod is admitted unchanged when we cannot answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.decoding import LONGEST_OBJECT, decode
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.pod_webhook import PodWebhook
from spiderpool.controller.reviews import (
    ALLOWED,
    MAX_VALUES,
    AdmissionRequest,
    Answer,
    Decide,
    invalid,
    patched,
    refused,
)
from spiderpool.core.admission.coordinator import default_coordinator, validate_coordinator
from spiderpool.core.admission.faults import Fault, FieldError
from spiderpool.core.admission.ippool import PoolContext, default_ippool, validate_ippool, why_ippool_in_use
from spiderpool.core.admission.multusconfig import default_multusconfig, validate_multusconfig
from spiderpool.core.admission.reservedip import default_reservedip, validate_reservedip
from spiderpool.core.admission.subnet import default_subnet, validate_subnet, why_subnet_in_use
from spiderpool.core.admission.warnings import (
    ObjectName,
    coordinator_warnings,
    ippool_warnings,
    multusconfig_warnings,
    names_in,
    removed_coordinator_warnings,
    subnet_warnings,
)
from spiderpool.core.cloud.instances import described, devices_of, reported_devices
from spiderpool.core.labels import label_value
from spiderpool.core.network.multusconfig import attachment_name
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, NotFound
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)

READ_TIMEOUT = 5.0
"""Seconds for one read; the API server waits for our answer meanwhile."""
WARN_TIMEOUT = 2.0
"""Seconds for all that is read for warnings: an object is not refused because they take long."""
MAX_NAMES = 20
"""Objects named by a pool that are looked for, at most."""

log = logger("webhooks")


TOO_LARGE = (FieldError(Fault.FORBIDDEN, "spec", None, f"more than {MAX_VALUES} values; make several objects of it"),)


@dataclass(frozen=True, slots=True)
class AdmissionChange:
    """The creation or the change of an object."""

    new: Any
    old: Any
    """The object before the change; None for a creation, and for an object that does not fit its type."""
    trusted: bool
    """Whether one of our own service accounts makes the change."""
    warnings: list[str] = field(default_factory=list)
    """Texts for the user, which kubectl prints; the default functions add them."""

    @property
    def is_of_spec(self) -> bool:
        """Whether it is one of the spec, and not of metadata or status alone."""
        return self.old is None or self.old.spec != self.new.spec

    @property
    def is_too_large(self) -> bool:
        """Whether it writes more values than can be checked. What is stored already is not asked."""
        return self.is_of_spec and _count(msgspec.to_builtins(self.new.spec)) > MAX_VALUES


@dataclass(frozen=True, slots=True)
class Hook:
    """The rules of one kind, as functions that read the other objects which they need."""

    kind: type[Object]
    default: Callable[[AdmissionChange], Awaitable[Any]]
    validate: Callable[[AdmissionChange], Awaitable[tuple[FieldError, ...]]]
    why_in_use: Callable[[Any], Awaitable[str | None]] | None = None
    """Why an object cannot be deleted; None for a kind that can always be deleted."""
    warn: Callable[[AdmissionChange], Awaitable[Iterable[str]]] | None = None
    """What of a valid object has no effect."""


def kinds(settings: ControllerSettings) -> tuple[type[Object], ...]:
    """The kinds that have admission webhooks."""
    subnet = (SpiderSubnet,) if settings.common.enable_spider_subnet else ()
    return (SpiderIPPool, *subnet, SpiderReservedIP, SpiderMultusConfig, SpiderCoordinator)


def guarded_kinds(settings: ControllerSettings) -> tuple[type[Object], ...]:
    """The kinds whose objects cannot be deleted while they are in use, where the settings want that."""
    if not settings.protect_used:
        return ()
    return tuple(kind for kind in kinds(settings) if kind in (SpiderIPPool, SpiderSubnet))


def webhook_path(verb: str, kind: Kind) -> str:
    """HTTP path of the webhook that shall ``mutate`` or ``validate`` a kind."""
    return f"/{verb}-{kind.group.replace('.', '-')}-{kind.version}-{kind.name.lower()}"


class Webhooks:
    """Answers AdmissionReviews. Reads other objects that a rule needs from the API server, never from a cache."""

    def __init__(self, client: Client, families: frozenset[int], settings: ControllerSettings | None = None) -> None:
        self._client = client
        self._families = families
        self._settings = settings or ControllerSettings()
        self._pods = PodWebhook(client, self._settings)
        self._trusted_prefix = f"system:serviceaccount:{self._settings.common.namespace}:spiderpool-"

    def by_path(self) -> dict[str, Decide]:
        """What decides a review, by the path that the API server calls."""
        pods = {webhook_path("mutate", Pod.KIND): self._pods.mutate} if self._settings.changes_pods else {}
        return {
            **{webhook_path("mutate", hook.kind.KIND): self._mutator(hook) for hook in self._hooks()},
            **{webhook_path("validate", hook.kind.KIND): self._validator(hook) for hook in self._hooks()},
            **pods,
        }

    def _hooks(self) -> list[Hook]:
        hooks = (
            Hook(
                SpiderIPPool, self._default_ippool, self._validate_ippool, self._why_ippool_in_use, self._warn_of_ippool
            ),
            Hook(
                SpiderSubnet, _from_new(default_subnet), self._validate_subnet, self._why_subnet_in_use, _warn_of_subnet
            ),
            Hook(SpiderReservedIP, _from_new(default_reservedip), self._validate_reservedip),
            Hook(
                SpiderMultusConfig,
                _default_multusconfig,
                self._validate_multusconfig,
                warn=self._warn_of_multusconfig,
            ),
            Hook(
                SpiderCoordinator,
                _from_new(default_coordinator),
                _validate_coordinator,
                warn=self._warn_of_coordinator,
            ),
        )
        return [hook for hook in hooks if hook.kind in kinds(self._settings)]

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
        if not change.is_of_spec:
            return ()
        pools = await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)
        context = PoolContext(
            others=[pool for pool in pools if pool.name != new.name],
            records=await self._records_of(new) if old is not None else (),
            subnets=await self._subnets(),
            families=self._families,
            trusted=change.trusted,
        )
        return validate_ippool(new, old, context)

    async def _subnets(self) -> list[SpiderSubnet] | None:
        """All SpiderSubnets; None when the feature is switched off."""
        enabled = self._settings.common.enable_spider_subnet
        return await self._client.list(SpiderSubnet, timeout=READ_TIMEOUT) if enabled else None

    async def _records_of(self, pool: SpiderIPPool) -> list[SpiderIP]:
        labels = f"{IP_POOL_LABEL}={label_value(pool.name)}"
        records = await self._client.list(SpiderIP, labels=labels, timeout=READ_TIMEOUT)
        return [record for record in records if record.spec.pool == pool.name]  # a label may hold only a digest

    async def _why_ippool_in_use(self, pool: SpiderIPPool) -> str | None:
        return why_ippool_in_use(pool, await self._records_of(pool))

    async def _validate_subnet(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        new, old = change.new, change.old
        if not change.is_of_spec:
            return ()
        others = [subnet for subnet in await self._subnets() or () if subnet.name != new.name]
        pools = await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)
        return validate_subnet(new, old, others, pools, self._families)

    async def _why_subnet_in_use(self, subnet: SpiderSubnet) -> str | None:
        return why_subnet_in_use(subnet, await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT))

    async def _validate_reservedip(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        return validate_reservedip(change.new, change.old, self._families)

    async def _validate_multusconfig(self, change: AdmissionChange) -> tuple[FieldError, ...]:
        new, old = change.new, change.old
        faults = validate_multusconfig(new, old)  # first: the name is read only when it is valid
        return faults or validate_multusconfig(new, old, await self._attachment(new))

    async def _attachment(self, config: SpiderMultusConfig) -> NetworkAttachmentDefinition | None:
        name, namespace = attachment_name(config), config.metadata.namespace
        return await self._client.find(NetworkAttachmentDefinition, name, namespace, timeout=READ_TIMEOUT)

    # --- Warnings

    async def _warn_of_ippool(self, change: AdmissionChange) -> Iterable[str]:
        named = list(names_in(change.new, self._settings.common.namespace))
        looked_for = named[:MAX_NAMES]
        found = await asyncio.gather(*(self._exists(each) for each in looked_for))
        missing = (each for each, exists in zip(looked_for, found, strict=True) if not exists)
        return (*ippool_warnings(change.new), *map(str, missing))

    async def _exists(self, named: ObjectName) -> bool:
        return await self._client.find(named.kind, named.name, named.namespace, timeout=READ_TIMEOUT) is not None

    async def _warn_of_multusconfig(self, change: AdmissionChange) -> Iterable[str]:
        pools = [pool.name for pool in await self._client.list(SpiderIPPool, timeout=READ_TIMEOUT)]
        nodes = await self._client.list(Node, timeout=READ_TIMEOUT)
        servers: list[SpiderServer] = []
        with suppress(NotFound):  # Helm adds no CRDs in an update
            servers = await self._client.list(SpiderServer, timeout=READ_TIMEOUT)
        return multusconfig_warnings(change.new, pools, reported_devices(map(devices_of, described(nodes, servers))))

    async def _warn_of_coordinator(self, change: AdmissionChange) -> Iterable[str]:
        others = await self._client.list(SpiderCoordinator, timeout=READ_TIMEOUT)
        return coordinator_warnings(change.new, [each.name for each in others])

    # --- Answers

    def _mutator(self, hook: Hook) -> Decide:
        async def mutate(request: AdmissionRequest) -> Answer:
            """Sets defaults. An object that does not fit its type stays as it is: the schema check names the field."""
            try:
                change = self._change(hook, request)
            except msgspec.DecodeError:
                return ALLOWED
            if change.is_too_large:  # as the validation tells
                return ALLOWED
            return patched(change.new, await hook.default(change), change.warnings)

        return mutate

    def _validator(self, hook: Hook) -> Decide:
        kind = hook.kind.KIND

        async def validate(request: AdmissionRequest) -> Answer:
            try:
                if request.operation == "DELETE":
                    return await _delete_answer(hook, request)
                change = self._change(hook, request)
                faults = TOO_LARGE if change.is_too_large else await hook.validate(change)
            except msgspec.DecodeError as error:
                return refused(422, "Invalid", f"{kind.name} {request.name} does not fit its schema: {error}")
            except SpiderpoolError as error:
                log.warning("admission could not be decided", kind=kind.name, name=request.name, error=str(error))
                return refused(503, "ServiceUnavailable", f"the rules could not be checked, try again: {error}")
            return invalid(kind, request.name or change.new.name, faults) if faults else await _accepted(hook, change)

        return validate

    def _change(self, hook: Hook, request: AdmissionRequest) -> AdmissionChange:
        """The change in a request. Raises ValidationError when the new object does not fit its type."""
        new = decode(request.object, hook.kind, longest=LONGEST_OBJECT)
        trusted = request.userInfo.username.startswith(self._trusted_prefix)
        try:
            return AdmissionChange(new, decode(request.oldObject, hook.kind | None, longest=LONGEST_OBJECT), trusted)
        except msgspec.DecodeError:  # stored before the type was stricter; it must be possible to correct it
            return AdmissionChange(new, None, trusted)


def _count(value: object) -> int:
    """How many values there are in a JSON value, itself among them."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return 1 + sum(map(_count, inner))


def _from_new(default: Callable[[Any], Any]) -> Callable[[AdmissionChange], Awaitable[Any]]:
    """A default function of :class:`Hook` that needs the new object alone."""

    async def from_new(change: AdmissionChange) -> Any:
        return default(change.new)

    return from_new


async def _default_multusconfig(change: AdmissionChange) -> SpiderMultusConfig:
    if change.is_of_spec and not change.trusted:
        change.warnings.extend(removed_coordinator_warnings(change.new))
    return default_multusconfig(change.new, change.old)


async def _validate_coordinator(change: AdmissionChange) -> tuple[FieldError, ...]:
    return validate_coordinator(change.new)


async def _warn_of_subnet(change: AdmissionChange) -> Iterable[str]:
    return subnet_warnings(change.new)


async def _accepted(hook: Hook, change: AdmissionChange) -> Answer:
    """Allows a valid object. Only its author is warned, and not of what was so before."""
    if hook.warn is None or change.trusted or not change.is_of_spec:
        return ALLOWED
    try:
        async with asyncio.timeout(WARN_TIMEOUT):
            warnings = [*await hook.warn(change)]
    except (SpiderpoolError, TimeoutError) as error:
        warnings = [f"whether all of it has an effect could not be checked: {str(error) or 'no answer in time'}"]
    return {**ALLOWED, "warnings": warnings} if warnings else ALLOWED


async def _delete_answer(hook: Hook, request: AdmissionRequest) -> Answer:
    if hook.why_in_use is None:
        return ALLOWED
    reason = await hook.why_in_use(decode(request.oldObject, hook.kind, longest=LONGEST_OBJECT))
    kind = hook.kind.KIND.name
    return refused(403, "Forbidden", f"{kind} {request.name} cannot be deleted: {reason}") if reason else ALLOWED
