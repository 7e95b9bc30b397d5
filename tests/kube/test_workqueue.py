"""The queue of keys: which key is handled when, by a clock that the tests move, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.errors import ApiUnavailable
from spiderpool.kube.workqueue import FIRST_PAUSE, LAST_PAUSE, MOST_AT_ONCE, WorkQueue, resync
from tests.support.eventually import eventually
from tests.support.turns import other_task

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


class Clock:
    """Time stands still until a test advances it; timers that become due are called in their order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, (), asyncio.get_running_loop())
        self.timers.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        """Let this time pass, and let the workers do what is due."""
        end = self.now + seconds
        await settle()
        while due := sorted(timer for timer in self.timers if timer.when() <= end and not timer.cancelled()):
            self.timers.remove(due[0])
            self.now = due[0].when()
            due[0]._run()
            await settle()
        self.now = end


async def settle() -> None:
    """Let every task run until it waits for something that only the test can bring."""
    for _ in range(20):
        await asyncio.sleep(0)


class Handler:
    """Notes what it was called with, and when; fails for each key as often as it is told."""

    def __init__(self, clock: Clock, failures: dict[str, int] | None = None) -> None:
        self.clock = clock
        self.calls: list[tuple[str, float]] = []
        self.failures = failures or {}
        self.entered: Callable[[str], None] = lambda _: None
        self.active: list[str] = []

    async def __call__(self, key: str) -> None:
        assert key not in self.active, "a key is handled by one worker at a time"
        self.active.append(key)
        self.calls.append((key, self.clock.now - 100))
        self.entered(key)
        await asyncio.sleep(0)
        self.active.remove(key)
        if self.failures.get(key):
            self.failures[key] -= 1
            raise ApiUnavailable("not yet")

    def times(self, key: str) -> list[float]:
        """Seconds from the beginning at which a key was handled, in milliseconds' precision."""
        return [round(time, 3) for called, time in self.calls if called == key]


@asynccontextmanager
async def running(handler: Handler, first: float = FIRST_PAUSE, last: float = LAST_PAUSE) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(handler, "test", first_pause=first, last_pause=last, timers=handler.clock)
    task = asyncio.create_task(queue.run(workers=2))
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_key_that_is_added_several_times_is_handled_once(clock: Clock) -> None:
    handler = Handler(clock)
    async with running(handler) as queue:
        for _ in range(3):
            queue.add("a")
        queue.add("b", after=2)
        await clock.advance(60)
    assert handler.calls == [("a", 0), ("b", 2)]


async def test_a_key_that_fails_is_retried_after_doubled_pauses(clock: Clock) -> None:
    handler = Handler(clock, {"a": 4})
    async with running(handler, first=1, last=3) as queue:
        queue.add("a")
        await clock.advance(60)
        assert handler.times("a") == [0, 1, 3, 6, 9]
        handler.failures["a"] = 1
        queue.add("a")
        await clock.advance(60)
    assert handler.times("a")[5:] == [60, 61], "a success ends the doubling"


async def test_a_bug_in_a_handler_is_a_failure_of_its_key_only(clock: Clock) -> None:
    handler = Handler(clock)

    def fail_once(key: str) -> None:
        if handler.times("a") == [0] and key == "a":
            handler.active.remove("a")
            raise RuntimeError("a bug")

    handler.entered = fail_once
    async with running(handler) as queue:
        queue.add("a")
        queue.add("b")
        await clock.advance(1)
    assert sorted(handler.calls) == [("a", 0), ("a", pytest.approx(FIRST_PAUSE)), ("b", 0)]


async def test_a_bug_does_not_stop_the_queueing_of_all() -> None:
    calls: list[int] = []
    enough = asyncio.Event()

    def queue_all() -> None:
        calls.append(1)
        if len(calls) == 3:
            enough.set()
        raise RuntimeError("a bug")

    task = asyncio.create_task(resync(0.001, queue_all))
    async with asyncio.timeout(5):
        await enough.wait()
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_of_two_times_the_earlier_counts(clock: Clock) -> None:
    handler = Handler(clock)
    async with running(handler) as queue:
        queue.add("a", after=60)
        queue.add("b", after=2)
        queue.add("b", after=60)
        queue.add("a", after=1)
        queue.add("c", after=60)
        queue.add("c")
        await clock.advance(200)
    assert handler.calls == [("c", 0), ("a", 1), ("b", 2)]


async def test_an_addition_ends_a_long_pause_after_failures(clock: Clock) -> None:
    handler = Handler(clock, {"a": 4})
    async with running(handler) as queue:
        queue.add("a")
        await clock.advance(1.5)  # the fourth failure was at 1.4, the next try would be at 3.0
        queue.add("a")
        await clock.advance(0)
    assert handler.times("a")[-1] == 1.5
    assert len(handler.calls) == 5


async def test_additions_while_a_key_is_handled_bring_it_back_once(clock: Clock) -> None:
    handler = Handler(clock)
    async with running(handler) as queue:

        def twice(key: str) -> None:
            if len(handler.calls) == 1:
                queue.add(key, after=60)
                queue.add(key, after=2)

        handler.entered = twice
        queue.add("a")
        await clock.advance(200)
    assert handler.calls == [("a", 0), ("a", 2)]


async def test_a_key_that_fails_and_adds_itself_waits_for_the_first_pause(clock: Clock) -> None:
    handler = Handler(clock, {"a": 1})
    async with running(handler) as queue:
        handler.entered = lambda key: queue.add(key) if len(handler.calls) == 1 else None
        queue.add("a")
        await clock.advance(60)
    assert handler.times("a") == [0, FIRST_PAUSE]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.floats(0, 5)), max_size=20))
async def test_every_added_key_is_handled_and_not_more_often_than_it_was_added(
    additions: list[tuple[str, float, float]],
) -> None:
    clock = Clock()
    handler = Handler(clock)
    async with running(handler) as queue:
        for key, after, pause in additions:
            queue.add(key, after)
            await clock.advance(pause)
        await clock.advance(5)
    for key in "abc":
        count = sum(added == key for added, _, _ in additions)
        times = [time for called, time in handler.calls if called == key]
        assert len(times) <= count
        assert bool(times) == bool(count)
    assert clock.timers == [timer for timer in clock.timers if timer.cancelled()], "nothing waits any more"


async def test_without_a_clock_the_event_loop_keeps_the_time() -> None:
    done = asyncio.Event()

    async def handle(_: str) -> None:
        done.set()

    queue = WorkQueue(handle, "test")
    task = asyncio.create_task(queue.run())
    queue.add("a", after=60)
    queue.add("a", after=0.01)
    await done.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_times_that_no_longer_count_are_not_kept_for_ever(clock: Clock) -> None:
    handler = Handler(clock)
    async with running(handler) as queue:
        for number in range(4 * MOST_AT_ONCE):
            queue.add("a", after=10_000 - number)
        assert queue.pending <= 2 * MOST_AT_ONCE


async def test_very_many_keys_that_are_due_at_one_moment_do_not_take_the_event_loop_at_once(clock: Clock) -> None:
    handler = Handler(clock)
    async with running(handler) as queue:
        for number in range(2 * MOST_AT_ONCE + 1):
            queue.add(str(number), after=1)
        clock.now += 1
        (timer,) = clock.timers
        timer._run()
        assert len(queue) == MOST_AT_ONCE
        clock.now -= 1
        await clock.advance(1)
        await eventually(lambda: len(handler.calls) == 2 * MOST_AT_ONCE + 1)


async def test_other_tasks_get_their_turns_between_keys_whose_handler_waits_for_nothing() -> None:
    seen: list[int] = []
    async with other_task() as turns:

        async def handler(_: str) -> None:
            seen.append(turns.taken)

        queue = WorkQueue(handler, "test")
        for number in range(100):
            queue.add(str(number))
        task = asyncio.create_task(queue.run(2))
        await eventually(lambda: len(seen) == 100)
        task.cancel()
    assert len(set(seen)) >= 50
