"""Waiting for what comes by itself: the only polling loop of the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, overload

T = TypeVar("T")

INTERVAL, LONGEST_INTERVAL, GROWTH = 0.02, 0.25, 1.2
"""Seconds between the first two looks, between two at most, and the growth: a look may cost as much as a program."""
SLACK = 2.5
"""How many times as long as its timeout a wait may take: timeouts are those of a machine that does nothing else.

What must come within a bound is asserted by `asyncio.timeout` around the wait.
"""


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

    ``what`` names in words what is waited for. Raises AssertionError after `SLACK` times ``timeout`` seconds.
    """
    deadline = time.monotonic() + SLACK * timeout
    for pause in _pauses(interval):
        answer = condition()
        found: T = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        assert time.monotonic() < deadline, _too_late(condition, what, timeout)
        await asyncio.sleep(pause)
    raise AssertionError("pauses have no end")


def wait_until(condition: Callable[[], T], what: str = "", *, timeout: float = 10.0, interval: float = INTERVAL) -> T:
    """As `eventually`, for tests without an event loop."""
    deadline = time.monotonic() + SLACK * timeout
    for pause in _pauses(interval):
        if found := condition():
            return found
        assert time.monotonic() < deadline, _too_late(condition, what, timeout)
        time.sleep(pause)
    raise AssertionError("there is always another pause")


def _pauses(first: float) -> Iterator[float]:
    """Seconds between looks, without end."""
    pause = first
    while True:
        yield pause
        pause = max(first, min(GROWTH * pause, LONGEST_INTERVAL))


def _too_late(condition: Callable[[], object], what: str, timeout: float) -> str:
    return f"not within {SLACK:g} × {timeout:g} s: {what or getattr(condition, '__name__', condition)}"
