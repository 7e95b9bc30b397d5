"""Words to the API server that a node keeps saying until they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import ApiRefusal, Forbidden

_DELAY = 0.5


async def retry(work: Callable[[], Awaitable[object]]) -> None:
    """Do it again as long as the API server is away, busy or not set up for us yet; only cancelling ends that.

    Any other refusal is final, and printed: what it was about is gone or another one.
    """
    while not await _heard(work):
        await asyncio.sleep(_DELAY)


async def _heard(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except (ApiUnavailable, ApiRefusal) as error:
        print(error.message, flush=True)
        return not isinstance(error, (ApiUnavailable, Forbidden))
    return True
