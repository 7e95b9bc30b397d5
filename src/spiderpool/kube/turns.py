"""Long loops that leave the event loop its turns: a blocked loop renews no Lease and answers no probe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

LONGEST_TURN = 0.004
"""Seconds for which a long loop runs before the other tasks get their turn: there may be a dozen long loops."""


class Turn:
    """The turn of a long loop that looks at the clock itself: cheaper than `in_turns` for very many small items."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + LONGEST_TURN

    def is_over(self) -> bool:
        """Whether the other tasks should have their turn."""
        return self._clock() >= self._end

    async def next(self) -> None:
        """Give the other tasks their turn."""
        await asyncio.sleep(0)
        self._end = self._clock() + LONGEST_TURN


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with turns for other tasks in between: what the loop's body reads may change from item to item."""
    turn = Turn()
    for item in items:
        yield item
        if turn.is_over():
            await turn.next()
