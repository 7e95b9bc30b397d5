"""The counter of failed calls, by which a measurement is told from a series of refusals."""

from __future__ import annotations

import asyncio

import pytest
from bench.limit import measure

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("count", "parallel"), [(64, 1), (64, 32), (64, 64)])
@pytest.mark.parametrize("failing", [0, 1, 2, 63, 64])
async def test_each_failed_call_is_counted(count: int, parallel: int, failing: int) -> None:
    running = most = 0

    async def call(index: int) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return index >= failing

    figures = await measure(call, count, parallel)
    assert (figures.failed, most) == (failing, parallel)
    assert figures.rate > 0
    assert figures.median >= 0.001
