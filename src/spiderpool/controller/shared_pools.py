"""The pools of several nodes: whether each has a free address, and how often nodes are told when that changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.allocation import pools_of
from spiderpool.core.ipam.node_capacity import FreeAddresses
from spiderpool.kube.informer import Informer

WRITES_PER_SECOND = 100
"""Writes that a change which concerns all nodes makes at most: they tell how long a shared pool that is full, or full
no more, has to stay so before it is said again."""
SHARED_DEBOUNCE = 1.0
"""Seconds from a change in a pool of several nodes until it is looked at."""
LARGE = 2_000
"""Records of a pool from which on they are counted in another thread."""


class SharedPools:
    """The pools that are not of one node alone, and whether each has a free address, as far as it has been told."""

    def __init__(
        self, nodes: Informer[Node], ips: Informer[SpiderIP], count: Callable[[SpiderIPPool], FreeAddresses]
    ) -> None:
        self._nodes = nodes
        self._records = ips.index(pools_of)
        self._count = count
        self._not_before: dict[str, float] = {}  # pool → loop time until which what was told of it rests
        self._has_free: dict[str, bool] = {}  # pool → whether it had a free address when nodes were told of it last
        self.pools: dict[str, SpiderIPPool] = {}  # by name; followed by `follow`

    def has_free(self, pool: SpiderIPPool) -> bool:
        """Whether a shared pool had a free address when it was looked at last; one that is new may have."""
        return self._has_free.get(pool.name, True)

    def follow(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> bool:
        """Take note of a change of a pool; whether it concerns nodes that share the pool."""
        for pool in (old, new):
            if pool is not None:
                self.pools.pop(pool.name, None)
        if new is not None and sole_node(new) is None:
            self.pools[new.name] = new
        elif old is not None:
            self._has_free.pop(old.name, None)
            self._not_before.pop(old.name, None)
        is_news = old is None or new is None or (old.spec, old.terminating) != (new.spec, new.terminating)
        return is_news and any(pool is not None and sole_node(pool) is None for pool in (old, new))

    async def look(self, name: str) -> tuple[bool, float | None]:
        """Whether something else is to be told of a shared pool now, and in how many seconds to look again."""
        pool = self.pools.get(name)
        if pool is None:
            return False, None
        is_large = len(self._records.get(name)) > LARGE
        found = await asyncio.to_thread(self._count, pool) if is_large else self._count(pool)
        again = max(found.more_at - time.time(), SHARED_DEBOUNCE) if found.more_at and not found.count else None
        if (found.count > 0) == self.has_free(pool):
            return False, again
        now = asyncio.get_running_loop().time()
        if (rest := self._not_before.get(name, 0.0) - now) > 0:
            return False, rest
        self._has_free[name] = found.count > 0
        self._not_before[name] = now + len(self._nodes.items()) / WRITES_PER_SECOND
        return True, again


def sole_node(pool: SpiderIPPool) -> str | None:
    """The node of a pool that is of one node alone."""
    names = pool.spec.nodeName or ()
    return names[0] if len(names) == 1 else None
