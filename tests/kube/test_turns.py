"""Long loops and the turns of other tasks."""

from __future__ import annotations

import asyncio
import time

import pytest

from spiderpool.kube.turns import Turn, in_turns
from tests.support.turns import other_task

pytestmark = pytest.mark.unit


async def test_other_tasks_get_their_turns_between_the_items() -> None:
    taken = list[int]()

    def work(item: int) -> None:
        time.sleep(0.011)
        taken.append(item)

    async with other_task() as turns:
        async for item in in_turns(range(20)):
            work(item)
    assert taken == list(range(20))
    assert turns.taken >= 15


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
