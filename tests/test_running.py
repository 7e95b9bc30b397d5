"""The tests' own runner of tasks hides nothing that ends one of them."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.running import running

pytestmark = pytest.mark.unit


async def forever() -> None:
    await asyncio.Event().wait()


async def defective() -> None:
    raise ZeroDivisionError


async def test_tasks_end_with_the_context() -> None:
    async with running(forever(), forever()) as tasks:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
    assert [task.cancelled() for task in tasks] == [True] * 3


async def test_what_a_task_raised_is_raised_at_the_end() -> None:
    with pytest.raises(ExceptionGroup, match="beside the test") as raised:
        async with running(defective(), forever()):
            await asyncio.sleep(0)
    assert [type(each) for each in raised.value.exceptions] == [ZeroDivisionError]
