"""How many reviews are handled at once, and which is next: a flood of one tenant's objects keeps no other's waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

MOST_OVERTAKING = 16
"""Reviews that are handled before one whose turn it is, since it is larger than the bytes that are left, and they are
not: more might leave it waiting for ever."""


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
    number: int
    """Lower than those of all that came later."""
    granted: asyncio.Future[None]
    overtaken: int = 0


class ReviewSlots:
    """Bounds the reviews that are handled at once, in number and in bytes.

    Tenants that have a slot already share ``most_shared`` of ``most``; the others are for those that have none. The
    next review is of the address that has the fewest slots, of its Namespaces that which has the fewest, and of these
    reviews the oldest.
    """

    def __init__(self, most: int, most_shared: int, most_bytes: int) -> None:
        self._most = most
        self._most_shared = most_shared
        self._most_bytes = most_bytes
        self._numbers = count()
        self._lines: dict[ReviewTenant, deque[_Waiting]] = {}  # the oldest first; none is empty
        self._handled = 0
        self._handled_bytes = 0
        self._of_address: Counter[str] = Counter()  # how many of them are handled, without zeros
        self._of_tenant: Counter[ReviewTenant] = Counter()

    @asynccontextmanager
    async def slot(self, tenant: ReviewTenant, size: int) -> AsyncIterator[None]:
        """Wait for a slot, and have it while the context lasts."""
        waiting = _Waiting(tenant, size, next(self._numbers), asyncio.get_running_loop().create_future())
        self._lines.setdefault(tenant, deque()).append(waiting)
        self._grant()
        try:
            await waiting.granted
            yield
        finally:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self._count(waiting, -1)
            else:
                self._leave_line(waiting)
            self._grant()

    def _grant(self) -> None:
        while (chosen := self._next()) is not None:
            self._leave_line(chosen)
            if not chosen.granted.done():  # its caller has gone otherwise
                self._count(chosen, 1)
                chosen.granted.set_result(None)

    def _leave_line(self, waiting: _Waiting) -> None:
        line = self._lines.get(waiting.tenant)
        if line and waiting in line:
            line.remove(waiting)
            if not line:
                del self._lines[waiting.tenant]

    def _count(self, waiting: _Waiting, change: int) -> None:
        self._handled += change
        self._handled_bytes += change * waiting.size
        self._of_address[waiting.tenant.address] += change
        self._of_tenant[waiting.tenant] += change
        if change < 0:
            self._of_address, self._of_tenant = +self._of_address, +self._of_tenant

    def _next(self) -> _Waiting | None:
        if self._handled >= self._most:
            return None
        shares = self._handled < self._most_shared
        heads = [line[0] for tenant, line in self._lines.items() if shares or tenant not in self._of_tenant]
        if not heads:
            return None
        first = min(heads, key=self._turn)
        if self._fits(first):
            return first
        smaller = [each for each in heads if self._fits(each)]
        if not smaller or first.overtaken >= MOST_OVERTAKING:
            return None
        first.overtaken += 1
        return min(smaller, key=self._turn)

    def _turn(self, waiting: _Waiting) -> tuple[int, int, int]:
        return self._of_address[waiting.tenant.address], self._of_tenant[waiting.tenant], waiting.number

    def _fits(self, waiting: _Waiting) -> bool:
        return not self._handled or self._handled_bytes + waiting.size <= self._most_bytes
