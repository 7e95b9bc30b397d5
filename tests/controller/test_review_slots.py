"""Which review is handled next, where all come from the one address of an API server."""

from __future__ import annotations

import asyncio
import time

import pytest

from spiderpool.controller.review_slots import MOST_OVERTAKING, ReviewSlots, ReviewTenant

pytestmark = pytest.mark.unit


class Reviews:
    """Reviews that wait for slots, and end when they are told to."""

    def __init__(self, slots: ReviewSlots) -> None:
        self._slots = slots
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.handled: list[str] = []

    async def come(self, namespace: str, *names: str, address: str = "10.0.0.1", size: int = 1) -> None:
        for name in names:
            tenant = ReviewTenant(address, namespace)
            self._ends[name] = asyncio.Event()
            self._tasks.add(asyncio.create_task(self._handle(name, tenant, size)))
        await self._settle()

    async def _handle(self, name: str, tenant: ReviewTenant, size: int) -> None:
        async with self._slots.slot(tenant, size):
            self.handled.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await self._settle()

    async def _settle(self) -> None:
        """Let all tasks run that can: none of them waits for anything but each other."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_flood_of_one_namespace_leaves_slots_for_others() -> None:
    reviews = Reviews(ReviewSlots(4, 3, 100))
    await reviews.come("loud", *(f"loud-{number}" for number in range(50)))
    assert reviews.handled == ["loud-0", "loud-1", "loud-2"]
    await reviews.come("quiet", "quiet-0")
    assert reviews.handled[3:] == ["quiet-0"], "at once, though 47 came before it"
    await reviews.close()


async def test_floods_of_several_namespaces_leave_slots_for_others() -> None:
    reviews = Reviews(ReviewSlots(32, 24, 1000))
    for namespace in ("loud", "louder"):
        await reviews.come(namespace, *(f"{namespace}-{number}" for number in range(64)))
    assert len(reviews.handled) == 25, "the first slot of the second one is none of those that are shared"
    await reviews.come("quiet", "quiet-0")
    assert reviews.handled[25:] == ["quiet-0"], "at once"
    await reviews.end(*(f"loud-{number}" for number in range(8)))
    assert reviews.handled[26:] == [f"louder-{number}" for number in range(1, 7)], "the fewest first, 24 are shared"
    await reviews.close()


async def test_callers_that_go_leave_nothing_behind() -> None:
    slots = ReviewSlots(4, 3, 100)
    gone = Reviews(slots)
    for namespace in ("a", "b", "c"):
        await gone.come(namespace, *(f"{namespace}-{number}" for number in range(9)), size=10)
    await gone.close()
    reviews = Reviews(slots)
    await reviews.come("a", "large", size=100)
    await reviews.end("large")
    await reviews.come("a", "1", "2", "3", "4", size=10)
    assert reviews.handled == ["large", "1", "2", "3"]
    await reviews.close()


async def test_the_work_grows_with_the_number_that_wait_and_not_with_its_square() -> None:
    slots = ReviewSlots(32, 24, 16 << 20)

    async def handle() -> None:
        async with slots.slot(ReviewTenant("10.0.0.1", "loud"), 1000):
            await asyncio.sleep(0)

    begun = time.process_time()
    await asyncio.gather(*(handle() for _ in range(4000)))
    assert time.process_time() - begun < 2.0, "seconds of CPU"


async def test_the_namespace_with_the_fewest_is_next() -> None:
    reviews = Reviews(ReviewSlots(4, 4, 100))
    await reviews.come("loud", *(f"loud-{number}" for number in range(9)))
    await reviews.come("quiet", "quiet-0", "quiet-1", "quiet-2")
    await reviews.come("", "of-the-cluster")
    await reviews.end("loud-0", "loud-1")
    assert reviews.handled[4:] == ["quiet-0", "of-the-cluster"]
    await reviews.end("of-the-cluster")
    assert reviews.handled[6:] == ["quiet-1"]
    await reviews.close()


async def test_an_address_with_few_goes_before_whatever_namespaces_another_one_writes() -> None:
    reviews = Reviews(ReviewSlots(2, 2, 100))
    for number in range(9):
        await reviews.come(f"invented-{number}", f"forged-{number}", address="10.0.0.66")
    await reviews.come("shop", "real")
    await reviews.end("forged-0")
    assert reviews.handled[2:] == ["real"]
    await reviews.close()


async def test_bytes_are_bounded_but_for_one_review_alone() -> None:
    reviews = Reviews(ReviewSlots(9, 9, 10))
    await reviews.come("a", "large", size=50)
    await reviews.come("b", "small")
    assert reviews.handled == ["large"]
    await reviews.end("large")
    assert reviews.handled == ["large", "small"]
    await reviews.close()


async def test_small_ones_overtake_a_large_one_that_has_no_room_but_not_for_ever() -> None:
    reviews = Reviews(ReviewSlots(99, 99, 50))
    await reviews.come("a", "first", size=30)
    await reviews.come("b", "large", size=30)
    small = [f"small-{number}" for number in range(MOST_OVERTAKING + 2)]
    await reviews.come("c", *small)
    assert reviews.handled == ["first", *small[:MOST_OVERTAKING]]
    await reviews.end("first")
    assert reviews.handled[-3:] == ["large", *small[MOST_OVERTAKING:]]
    await reviews.close()
