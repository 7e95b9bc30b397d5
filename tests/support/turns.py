"""Another task of the event loop, which tells whether it gets its turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """How many turns the other task has had."""

    taken = 0

    async def run(self) -> None:
        """Take every turn until cancelled."""
        while True:
            self.taken += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def other_task() -> AsyncIterator[Turns]:
    """A task that takes every turn it gets."""
    turns = Turns()
    task = asyncio.create_task(turns.run())
    try:
        yield turns
    finally:
        task.cancel()
