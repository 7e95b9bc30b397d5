"""Which review is handled next, where all come from the one address of an API server."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.controller.review_slots import ReviewSlots, ReviewTenant

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
