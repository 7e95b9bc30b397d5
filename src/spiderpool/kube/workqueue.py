"""A queue of object keys to reconcile: each key is queued at most once, and handled by one worker at a time."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from spiderpool.errors import SpiderpoolError
from spiderpool.telemetry import logger

FIRST_PAUSE, LAST_PAUSE = 0.2, 30.0
"""Seconds before a failed key is tried again: doubled with each failure, from the first to the last."""

MAX_DOUBLINGS = 10
"""Keeps the power below from overflowing for a key that never succeeds."""

MOST_AT_ONCE = 1000
"""Keys that are queued in one turn of the event loop."""

CLOCK_STEP = 0.001
"""Seconds by which a timer of the event loop may be early."""

log = logger("workqueue")


class Timers(Protocol):
    """The methods of an event loop that a queue uses; tests replace them."""

    def time(self) -> float:
        """Seconds of a monotonic clock."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call ``callback()`` at a time of the clock."""


async def resync(pause: float, queue_all: Callable[[], None]) -> None:
    """Call ``queue_all`` every ``pause`` seconds until cancelled, whatever it raises."""
    while True:
        await asyncio.sleep(pause)
        try:
            queue_all()
        except Exception:  # a bug here must not stop the reconcilers
            log.exception("not all are queued")


class WorkQueue:
    """Calls ``handler(key)`` for every added key; a key whose handler raises is retried after a growing pause.

    A key that is added while its handler runs is handled once more afterwards. Handlers must be idempotent.
    """

    def __init__(
        self,
        handler: Callable[[str], Awaitable[None]],
        name: str,
        *,
        first_pause: float = FIRST_PAUSE,
        last_pause: float = LAST_PAUSE,
        timers: Timers | None = None,
    ) -> None:
        """``timers`` None stands for the running event loop."""
        self._handler = handler
        self._name = name
        self._pauses = first_pause, last_pause
        self._timers = timers
        self._ready: asyncio.Queue[str] = asyncio.Queue()  # keys that a worker may take now
        self._waiting: dict[str, float] = {}  # waiting key → time from which it may be taken; 0: it is in _ready
        self._later: list[tuple[float, str]] = []  # heap of the times to come; those that `_waiting` lacks are outdated
        self._timer: asyncio.TimerHandle | None = None  # for the first of them: a timer for each key would cost more
        self._active: set[str] = set()  # keys whose handler runs
        self._again: dict[str, float] = {}  # active key that was added meanwhile → seconds to wait afterwards
        self._failures: dict[str, int] = {}  # key → failures in a row

    def add(self, key: str, after: float = 0.0) -> None:
        """Handle ``key`` after ``after`` seconds. For a key that waits already, the earlier time counts."""
        if key in self._active:
            self._again[key] = min(after, self._again.get(key, after))
        else:
            self._schedule(key, after)

    def __len__(self) -> int:
        """Keys that a worker may take now."""
        return self._ready.qsize()

    @property
    def pending(self) -> int:
        """Times that are kept for keys that wait for one; some may be outdated."""
        return len(self._later)

    async def run(self, workers: int = 1) -> None:
        """Handle keys with so many workers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    @property
    def _clock(self) -> Timers:
        return self._timers or asyncio.get_running_loop()

    def _schedule(self, key: str, after: float) -> None:
        """Queue a key now or later, unless it waits for an earlier time."""
        when = self._clock.time() + after if after > 0 else 0.0
        if self._waiting.get(key, math.inf) <= when:
            return
        self._waiting[key] = when
        if not when:
            self._ready.put_nowait(key)
            return
        heapq.heappush(self._later, (when, key))
        if len(self._later) > 2 * len(self._waiting) + MOST_AT_ONCE:
            self._later = [(when, key) for when, key in self._later if self._waiting.get(key) == when]
            heapq.heapify(self._later)
        if self._timer is None or self._timer.when() > when:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(self._later[0][0], self._on_time) if self._later else None

    def _on_time(self) -> None:
        """Queue the keys whose time has come: the rest of very many in the next turn of the event loop."""
        self._timer = None
        now = self._clock.time() + CLOCK_STEP
        for _ in range(MOST_AT_ONCE):
            if not self._later or self._later[0][0] > now:
                break
            when, key = heapq.heappop(self._later)
            if self._waiting.get(key) == when:
                self._waiting[key] = 0.0
                self._ready.put_nowait(key)
        self._set_timer()

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.pop(key, None)
            self._active.add(key)
            pause = await self._try(key)
            self._active.discard(key)
            again = self._again.pop(key, None)
            if pause or again is not None:
                self._schedule(key, self._next(pause, again))
            await asyncio.sleep(0)  # a handler that waits for nothing would block the loop for as many keys as wait

    async def _try(self, key: str) -> float:
        """Handle a key; returns the seconds before it must be retried, 0 when it need not be."""
        try:
            await self._handler(key)
        except SpiderpoolError as error:
            return self._failed(key, error)
        except Exception as error:  # a bug in one reconciler must not stop the others
            log.exception("reconciler failed", queue=self._name, key=key)
            return self._failed(key, error)
        self._failures.pop(key, None)
        return 0.0

    def _failed(self, key: str, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        first, last = self._pauses
        pause = min(first * 2.0 ** min(count - 1, MAX_DOUBLINGS), last)
        log.warning("will be tried again", queue=self._name, key=key, error=str(error), pause=pause)
        return pause

    def _next(self, pause: float, again: float | None) -> float:
        """Seconds until a key is handled again.

        A failed key that was added meanwhile waits as long as the first pause at least, and its own pause at most.
        """
        if again is None:
            return pause
        return min(max(again, self._pauses[0]), pause) if pause else again
