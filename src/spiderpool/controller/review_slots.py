"""How many reviews are handled at once, and which is next: a flood of one tenant's objects keeps no other's waiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReviewTenant:
    """Whose review it is. All of a cluster may come from one address, that of its API server."""

    address: str
    namespace: str
    """Of the object; empty for one of the cluster."""


@dataclass(eq=False, slots=True)
class _Waiting:
    tenant: ReviewTenant
    size: int
    granted: asyncio.Future[None]


@dataclass(slots=True)
class _Counts:
    """What is handled, of each address and each tenant."""

    by_address: Counter[str]
    by_tenant: Counter[ReviewTenant]
    size: int


class ReviewSlots:
    """Bounds the reviews that are handled at once, in number and in bytes, and the number of one tenant.

    The next one is of the address that has the fewest of them, of its Namespaces that which has the fewest, and of
    these reviews the oldest.
    """

    def __init__(self, most: int, most_of_tenant: int, most_bytes: int) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._most_bytes = most_bytes
        self._waiting: list[_Waiting] = []
        self._handled: list[_Waiting] = []

    @asynccontextmanager
    async def slot(self, tenant: ReviewTenant, size: int) -> AsyncIterator[None]:
        """Wait for a slot, and have it while the context lasts."""
        waiting = _Waiting(tenant, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._grant()
        try:
            await waiting.granted
            yield
        finally:
            (self._waiting if waiting in self._waiting else self._handled).remove(waiting)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and (chosen := self._next()) is not None:
            self._waiting.remove(chosen)
            self._handled.append(chosen)
            if not chosen.granted.done():
                chosen.granted.set_result(None)

    def _next(self) -> _Waiting | None:
        counts = self._counts()
        allowed = [each for each in self._waiting if counts.by_tenant[each.tenant] < self._most_of_tenant]
        if not allowed:
            return None
        chosen = min(allowed, key=lambda each: (counts.by_address[each.tenant.address], counts.by_tenant[each.tenant]))
        fits = len(self._handled) < self._most and counts.size + chosen.size <= self._most_bytes
        return chosen if fits or not self._handled else None

    def _counts(self) -> _Counts:
        return _Counts(
            Counter(each.tenant.address for each in self._handled),
            Counter(each.tenant for each in self._handled),
            sum(each.size for each in self._handled),
        )
