"""Long loops and the turns of other tasks."""

from __future__ import annotations

import asyncio
import time

import pytest

from spiderpool.kube.turns import Turn, in_turns

pytestmark = pytest.mark.unit


async def test_other_tasks_get_their_turns_between_the_items() -> None:
    turns, taken = 0, list[int]()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def work(item: int) -> None:
        time.sleep(0.011)
        taken.append(item)

    task = asyncio.create_task(other())
    async for item in in_turns(range(20)):
        work(item)
    task.cancel()
    assert taken == list(range(20))
    assert turns >= 15


async def test_a_short_loop_is_not_interrupted() -> None:
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    assert [item async for item in in_turns(range(3))] == [0, 1, 2]
    assert not turns


async def test_a_turn_ends_after_its_time_and_the_next_one_begins_anew() -> None:
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    turn = Turn()
    assert not turn.is_over()
    await asyncio.sleep(0.02)
    assert turn.is_over()
    await turn.next()
    assert not turn.is_over()
    assert turns
