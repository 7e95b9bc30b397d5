"""The queue of keys: when each is worked on, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from spiderpool.errors import ApiUnavailable
from spiderpool.kube.workqueue import FIRST_PAUSE, WorkQueue

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


class Handler:
    """Notes what it was called with; fails for each key as often as it is told."""

    def __init__(self, **failures: int) -> None:
        self.calls: list[str] = []
        self.times: list[float] = []
        self.failures = failures
        self.entered: Callable[[str], None] = lambda _: None

    async def __call__(self, key: str) -> None:
        self.calls.append(key)
        self.times.append(asyncio.get_running_loop().time())
        self.entered(key)
        await asyncio.sleep(0)
        if self.failures.get(key):
            self.failures[key] -= 1
            raise ApiUnavailable("not yet")

    async def until(self, *calls: str) -> None:
        async with asyncio.timeout(10):
            while sorted(self.calls) != sorted(calls):
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(handler: Handler) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(handler, "test")
    task = asyncio.create_task(queue.run(workers=2))
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_key_waits_once_and_comes_back_when_it_fails() -> None:
    handler = Handler(a=1)
    async with running(handler) as queue:
        for _ in range(3):
            queue.add("a")
        queue.add("b", after=0.02)
        await handler.until("a", "a", "b")
        await asyncio.sleep(FIRST_PAUSE + 0.1)
    assert sorted(handler.calls) == ["a", "a", "b"]


async def test_news_pull_a_waiting_key_forward_but_never_put_it_back() -> None:
    handler = Handler()
    async with running(handler) as queue:
        queue.add("a", after=60)
        queue.add("b", after=0.02)
        queue.add("b", after=60)
        queue.add("a")
        await handler.until("a", "b")
        await asyncio.sleep(0.05)
    assert sorted(handler.calls) == ["a", "b"]


async def test_news_end_a_long_pause_after_failures() -> None:
    handler = Handler(a=4)
    async with running(handler) as queue:
        queue.add("a")
        await handler.until("a", "a", "a", "a")  # the next pause would be eight times the first
        failed = handler.times[-1]
        queue.add("a")
        await handler.until("a", "a", "a", "a", "a")
    assert handler.times[-1] - failed < 4 * FIRST_PAUSE


async def test_news_while_a_key_is_in_work_bring_it_back_once() -> None:
    handler = Handler()
    async with running(handler) as queue:

        def twice(key: str) -> None:
            if len(handler.calls) == 1:
                queue.add(key, after=60)
                queue.add(key)

        handler.entered = twice
        queue.add("a")
        await handler.until("a", "a")
        await asyncio.sleep(0.05)
    assert handler.calls == ["a", "a"]


async def test_a_key_that_fails_and_makes_news_of_itself_keeps_a_pause() -> None:
    handler = Handler(a=1)
    async with running(handler) as queue:
        handler.entered = lambda key: queue.add(key) if len(handler.calls) == 1 else None
        queue.add("a")
        await handler.until("a", "a")
    assert handler.times[1] - handler.times[0] >= FIRST_PAUSE * 0.9


async def test_pauses_are_the_queues_own() -> None:
    handler = Handler(a=3)
    queue = WorkQueue(handler, "test", first_pause=0.01, last_pause=0.02)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await handler.until("a", "a", "a", "a")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
