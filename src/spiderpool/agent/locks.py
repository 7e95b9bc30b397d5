"""Locks by key. A lock exists only while a task holds it or waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class KeyedLock:
    """One holder at a time for each key; different keys are independent."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}  # key → lock, while it has users
        self._users: dict[Hashable, int] = {}  # key → tasks that hold the lock or wait for it

    def is_held(self, key: Hashable) -> bool:
        """Whether a task holds the lock of a key or waits for it."""
        return key in self._users

    @asynccontextmanager
    async def held(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock of a key. The caller's own timeout limits the wait."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
