"""Conditions of our kinds, by the API conventions of Kubernetes: ``Ready`` on all, ``Terminating`` on those that wait.

SpiderIPs and SpiderEndpoints have none: what they say is so as soon as they exist, and they are written with each pod.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from spiderpool.api.meta import Condition, Object
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer

T = TypeVar("T", bound=Object)

READY = "Ready"
TERMINATING = "Terminating"
"""Only there, and True, while an object that is being deleted is still in use."""


def ready(message: str) -> Condition:
    """The object does what its spec says."""
    return Condition(READY, "True", "InForce", message)


def not_ready(reason: str, message: str) -> Condition:
    """The object does not do what its spec says."""
    return Condition(READY, "False", reason, message)


def terminating(message: str) -> tuple[Condition, ...]:
    """The object is being deleted, and waits for what uses it; the message names the users."""
    return not_ready("Terminating", "it is being deleted"), Condition(TERMINATING, "True", "InUse", message)


@dataclass(frozen=True, slots=True)
class StatusTimings:
    """When the statuses of a kind are written, and by which clock their conditions are dated."""

    debounce: float
    """Seconds between a change and the status that has it: changes that come together are written together."""
    clock: Callable[[], float] = time.time
    """Returns the seconds since 1970."""

    def now(self) -> datetime:
        """The time for `dated`."""
        return datetime.fromtimestamp(self.clock(), UTC)


def dated(
    conditions: Iterable[Condition], obj: Object, former: Sequence[Condition] | None, now: datetime
) -> list[Condition]:
    """The conditions of an object at ``now``; each has been so since its status changed last."""
    before = {condition.type: condition for condition in former or ()}
    return [_dated(condition, obj, before.get(condition.type), now) for condition in conditions]


def _dated(condition: Condition, obj: Object, former: Condition | None, now: datetime) -> Condition:
    same = former is not None and former.status == condition.status
    since = former.lastTransitionTime if former and same else None
    return replace(
        condition,
        lastTransitionTime=since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        observedGeneration=obj.metadata.generation,
    )


def waiting(conditions: Iterable[Condition] | None) -> Condition | None:
    """The condition of an object that is being deleted and still in use."""
    return next((each for each in conditions or () if each.type == TERMINATING), None)


async def write(
    client: Client, cache: Informer[T], obj: T, former: Sequence[Condition] | None, condition: Condition
) -> None:
    """Write the only condition of a cached object, from now on, if it differs; one that is gone needs none."""
    conditions = dated([condition], obj, former, datetime.now(UTC))
    if conditions == [*(former or ())]:
        return
    body = {"status": {"conditions": msgspec.to_builtins(conditions)}}
    with suppress(NotFound):  # gone, or the API server has a CRD of an earlier version, without a status
        cache.note(await client.patch(type(obj), obj.name, body, obj.metadata.namespace, sub="status"))
