"""Kubernetes Events, as ``kubectl describe`` shows them, written in the background.

Events are a courtesy to users: losing one is logged and has no other consequence.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Generic, TypeVar

from spiderpool.api.core_v1 import Event, EventSource, reference
from spiderpool.api.event_reasons import EventReason
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.errors import is_bug
from spiderpool.kube.client import AlreadyExists, Client, NotFound
from spiderpool.telemetry import logger

QUEUE = 1_000
"""Events that may wait to be written."""
REMEMBERED = 4_096
"""Written events whose count can be raised; the least recently used one is forgotten first."""
AGAIN = 1800.0
"""Seconds after which what lasts is told again: kube-apiserver keeps an Event for an hour, and ``spiderpoolctl doctor``
tells what was told in the last hour."""
LONGEST_MESSAGE = 1024
"""Characters of a message, as events.k8s.io has it: it may repeat what users have written, and thousands are kept."""

log = logger("events")

T = TypeVar("T", bound=Object)
K = TypeVar("K", bound=Hashable)

Identity = tuple[str, str, str]  # UID or name of the object, reason, message


class Reminders(Generic[K]):
    """When each of the things that last was last told by an Event, so that it is told again. Times are seconds."""

    def __init__(self) -> None:
        self._noted: dict[K, float] = {}

    def due(self, key: K, now: float) -> bool:
        """Whether it has never been told, or not for AGAIN."""
        return now - self._noted.get(key, -math.inf) >= AGAIN

    def note(self, key: K, now: float) -> None:
        """Note that it was told: its Event waits to be written."""
        self._noted[key] = now

    def retain(self, keys: Collection[K]) -> None:
        """Forget all but these: when they come back, they are told at once."""
        self._noted = {key: at for key, at in self._noted.items() if key in keys}


class Recorder:
    """Records events without blocking the caller; a repeated event raises the count of the first one."""

    def __init__(
        self, client: Client, component: str, host: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        """``clock`` returns the seconds since 1970."""
        self._client = client
        self._clock = clock
        self._source = EventSource(component, host or None)
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE)  # recorded, not yet written
        self._known: OrderedDict[Identity, Event] = OrderedDict()  # written events, least recently used first

    def event(self, obj: T, reason: EventReason[T], message: str, *, name: str = "") -> bool:
        """Record an event about an object; dropped, with a log line and False, while QUEUE others wait.

        With a ``name`` it is written once, also by other processes, as long as the API server keeps it.
        """
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = Event(
            metadata=ObjectMeta(
                name=name,
                generateName=None if name else f"{obj.name}.",
                namespace=obj.metadata.namespace or "default",
            ),
            involvedObject=reference(obj),
            reason=reason.name,
            message=message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 1]}…",
            type=reason.type,
            count=1,
            firstTimestamp=now,
            lastTimestamp=now,
            source=self._source,
        )
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("event dropped, too many wait", object=obj.key, reason=reason.name, message=message)
            return False
        return True

    async def run(self) -> None:
        """Write recorded events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except Exception as error:
                facts = {"reason": event.reason, "message": event.message, "error": str(error)}
                log.warning("event not written", **facts, exc_info=is_bug(error))

    async def _write(self, event: Event) -> None:
        """Create an event, or raise the count of the same event that was written before."""
        if event.metadata.name:
            with suppress(AlreadyExists):
                await self._client.create(event)
            return
        identity = (event.involvedObject.uid or event.involvedObject.name or "", event.reason, event.message)
        known = self._known.get(identity)
        written = await self._repeat(known, event) if known else None
        self._known[identity] = written or await self._client.create(event)
        self._known.move_to_end(identity)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _repeat(self, known: Event, event: Event) -> Event | None:
        """Raise the count of a written event; None when the API server no longer has it."""
        body = {"count": (known.count or 1) + 1, "lastTimestamp": event.lastTimestamp}
        try:
            return await self._client.patch(Event, known.name, body, known.metadata.namespace)
        except NotFound:  # kube-apiserver deletes events after an hour (--event-ttl)
            return None
