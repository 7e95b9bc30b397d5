"""Locks by key: one holder at a time, and nothing left when nobody wants them."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.locks import KeyedLock

pytestmark = pytest.mark.unit


async def test_holders_of_one_key_wait_for_each_other_and_other_keys_do_not() -> None:
    locks, order = KeyedLock(), []

    async def work(key: str, name: str) -> None:
        async with locks.held(key):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(work("a", "first"), work("a", "second"), work("b", "other"))
    first, second = order.index("first ends"), order.index("second begins")
    assert first < second
    assert order.index("other begins") < first
    assert not locks.is_held("a")


async def test_a_cancelled_waiter_leaves_nothing() -> None:
    locks = KeyedLock()
    async with locks.held("a"):
        waiter = asyncio.ensure_future(locks.held("a").__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert locks.is_held("a")
    assert not locks.is_held("a")
