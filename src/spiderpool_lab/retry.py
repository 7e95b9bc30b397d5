"""Repeats requests of the kubelet stand-in to the API server until they succeed or are refused for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import ApiRefusal, Forbidden

_DELAY = 0.5
"""Seconds between two attempts."""


async def retry(work: Callable[[], Awaitable[object]]) -> None:
    """Repeat ``work`` while the API server does not answer, or forbids it because our roles are not set up yet.

    Repeating is safe: ``work`` is idempotent. Any other refusal is printed and final, since its object is gone or is
    another one. Without a final answer only cancelling ends it.
    """
    while not await _has_final_answer(work):
        await asyncio.sleep(_DELAY)


async def _has_final_answer(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except (ApiUnavailable, ApiRefusal) as error:
        print(error.message, flush=True)
        return not isinstance(error, (ApiUnavailable, Forbidden))
    return True
