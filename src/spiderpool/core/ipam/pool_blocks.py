"""Blocks of addresses by which pools are indexed: who else has an address is found without a look at every pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import usable

Block: TypeAlias = tuple[int, int]
"""Address family, and the address without its last eight bits."""

EVERYWHERE: Block = (0, 0)
"""Stands for pools that have very many blocks or are malformed."""
MOST_BLOCKS = 1024
"""Blocks under which one pool is filed at most."""


def blocks_of(pool: SpiderIPPool) -> list[Block]:
    """The blocks in which a pool has addresses: keys of an index of pools."""
    try:
        addresses = usable(pool)
    except ValueError:
        return [EVERYWHERE]
    found = list(islice(blocks_with(addresses), MOST_BLOCKS + 1))
    return found if len(found) <= MOST_BLOCKS else [EVERYWHERE]


def blocks_with(addresses: AddressSet) -> Iterator[Block]:
    """The blocks that hold addresses of a set, in order; a block may be named twice."""
    for first, last in addresses.intervals:
        for block in range(first >> 8, (last >> 8) + 1):
            yield addresses.version, block


def pools_near(filed: Callable[[Block], Iterable[SpiderIPPool]], addresses: AddressSet) -> Iterator[SpiderIPPool]:
    """Every pool that may have one of some addresses; ``filed`` returns the pools of a key of `blocks_of`."""
    seen: set[str] = set()
    for block in dict.fromkeys((EVERYWHERE, *blocks_with(addresses))):
        for pool in filed(block):
            if pool.name not in seen:
                seen.add(pool.name)
                yield pool
