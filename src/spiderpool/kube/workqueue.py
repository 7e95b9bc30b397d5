"""A queue of keys to reconcile: each key at most once in the queue and at most once in work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spiderpool.errors import SpiderpoolError
from spiderpool.telemetry import logger

FIRST_PAUSE, LAST_PAUSE = 0.2, 30.0
"""Seconds before a failed key is tried again: doubled each time."""

log = logger("workqueue")


class WorkQueue:
    """Calls ``handler(key)`` for every added key; a key that fails comes back after a growing pause.

    A key that is added while in work is worked on once more afterwards.
    """

    def __init__(
        self,
        handler: Callable[[str], Awaitable[None]],
        name: str,
        *,
        first_pause: float = FIRST_PAUSE,
        last_pause: float = LAST_PAUSE,
    ) -> None:
        self._handler = handler
        self._name = name
        self._pauses = first_pause, last_pause
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: dict[str, asyncio.TimerHandle | None] = {}
        """Keys that wait: with a timer, or (None) in the queue already."""
        self._working: set[str] = set()
        self._again: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def add(self, key: str, after: float = 0.0) -> None:
        """Work on ``key``, not before ``after`` seconds. Of two times that a key is to wait, the shorter counts."""
        if key in self._working:
            self._again[key] = min(after, self._again.get(key, after))
        elif key not in self._waiting or self._waits_longer(key, after):
            self._schedule(key, after)

    async def run(self, workers: int = 1) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    def _waits_longer(self, key: str, after: float) -> bool:
        timer = self._waiting[key]
        return timer is not None and timer.when() > asyncio.get_running_loop().time() + after

    def _schedule(self, key: str, after: float) -> None:
        before = self._waiting.get(key)
        if before is not None:
            before.cancel()
        timer = asyncio.get_running_loop().call_later(after, self._due, key) if after > 0 else None
        self._waiting[key] = timer
        if timer is None:
            self._ready.put_nowait(key)

    def _due(self, key: str) -> None:
        self._waiting[key] = None
        self._ready.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.pop(key, None)
            self._working.add(key)
            pause = await self._try(key)
            self._working.discard(key)
            again = self._again.pop(key, None)
            if pause or again is not None:
                self._schedule(key, self._next(pause, again))

    async def _try(self, key: str) -> float:
        """Handle a key; the pause before it must be tried again, 0 when it need not."""
        try:
            await self._handler(key)
        except SpiderpoolError as error:
            return self._failed(key, error)
        except Exception as error:  # a bug in one reconciler must not end the others
            log.exception("reconciler failed", queue=self._name, key=key)
            return self._failed(key, error)
        self._failures.pop(key, None)
        return 0.0

    def _failed(self, key: str, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        first, last = self._pauses
        pause = min(first * 2.0 ** min(count - 1, 10), last)
        log.warning("will be tried again", queue=self._name, key=key, error=str(error), pause=pause)
        return pause

    def _next(self, pause: float, again: float | None) -> float:
        """Seconds until a key's next turn: news make a failed key's pause shorter, but for the first."""
        if again is None:
            return pause
        return min(max(again, self._pauses[0]), pause) if pause else again
