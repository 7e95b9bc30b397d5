"""Long loops that leave the event loop its turns: a blocked loop renews no Lease and answers no probe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

LONGEST_TURN = 0.01
"""Seconds for which a long loop runs before the other tasks get their turn."""


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with turns for other tasks in between: what the loop's body reads may change from item to item."""
    clock = asyncio.get_running_loop().time
    end = clock() + LONGEST_TURN
    for item in items:
        yield item
        if clock() >= end:
            await asyncio.sleep(0)
            end = clock() + LONGEST_TURN
