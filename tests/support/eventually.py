"""Waiting for what comes by itself: the only polling loop of the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

INTERVAL = 0.02
"""Seconds between two looks."""


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], what: str = "", *, timeout: float = 10.0, interval: float = INTERVAL
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T], what: str = "", *, timeout: float = 10.0, interval: float = INTERVAL
) -> T: ...
async def eventually(
    condition: Callable[[], T | Awaitable[T]], what: str = "", *, timeout: float = 10.0, interval: float = INTERVAL
) -> T:
    """Look until ``condition`` gives a true value, which is returned; it may be a coroutine function.

    ``what`` names in words what is waited for. Raises AssertionError after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        found: T = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        assert time.monotonic() < deadline, _too_late(condition, what, timeout)
        await asyncio.sleep(interval)


def wait_until(condition: Callable[[], T], what: str = "", *, timeout: float = 10.0, interval: float = INTERVAL) -> T:
    """As `eventually`, for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, _too_late(condition, what, timeout)
        time.sleep(interval)
    return found


def _too_late(condition: Callable[[], object], what: str, timeout: float) -> str:
    return f"not within {timeout:g} s: {what or getattr(condition, '__name__', condition)}"
