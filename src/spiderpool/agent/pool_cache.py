"""What this node believes of the pools: a guess, good enough to try with, of which addresses are free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, choose, hinted, is_exclusive, start_of, usable


class PoolCache:
    """One pool as this node believes it to be."""

    def __init__(self, pool: SpiderIPPool, node: str, reserved: AddressSet) -> None:
        self.addresses = usable(pool) - reserved
        self.exclusive = is_exclusive(pool, node)
        self.start = start_of(self.addresses, node, exclusive=self.exclusive)
        others = AddressSet(self.addresses.version) if self.exclusive else hinted(pool, self.addresses.version)
        self.free = self.addresses - others
        self.in_flight: set[int] = set()
        self.shunned: set[int] = set()
        self.ghosts: set[int] = set()
        self.released: list[SpiderIP] = []
        self.refresh: asyncio.Task[list[SpiderIP]] | None = None

    def next(self, mine: Collection[int]) -> int | None:
        """The next address worth a try; one that somebody outside the cluster uses only when nothing else is left.

        The search goes on behind the last one, so an address that was released rests while others are free.
        """

        def is_taken(address: int) -> bool:
            return address in self.in_flight or (address in mine and address not in self.ghosts)

        address = choose(self.free, lambda each: each in self.shunned or is_taken(each), self.start)
        if address is None and self.shunned:
            address = choose(self.free, is_taken, self.start)
        if address is not None:
            self.start = address + 1
        return address

    def read(self, records: Iterable[SpiderIP], mine: Collection[int]) -> None:
        """A fresh read tells what has a record; ours that it lacks are gone, though their event is still to come."""
        found = list(records)
        others = AddressSet.of_addresses(map(address_of, found), self.addresses.version)
        self.free = self.addresses - others
        self.released = sorted(
            (each for each in found if each.spec.releasedAt), key=lambda each: each.spec.releasedAt or ""
        )
        self.ghosts = {address for address in mine if address not in others}

    def lost(self, address: int) -> None:
        """Somebody else holds an address that looked free."""
        self.free -= AddressSet.of_addresses((address,), self.addresses.version)


class PoolCaches:
    """One shelf for each pool that was asked for. ``reserved`` tells by family what no pod may get."""

    def __init__(self, node: str, reserved: Callable[[int], AddressSet]) -> None:
        self._node = node
        self._reserved = reserved
        self._shelves: dict[str, tuple[SpiderIPPool, AddressSet, PoolCache]] = {}

    def known(self, pool: str) -> PoolCache | None:
        """The shelf of a pool that was asked for before."""
        found = self._shelves.get(pool)
        return found[2] if found else None

    def of(self, pool: SpiderIPPool) -> PoolCache:
        """The shelf of a pool, made anew when the pool, its status' hint or the reserved addresses have changed.

        Raises ValueError when the pool's ranges cannot be read.
        """
        reserved = self._reserved(6 if ":" in pool.spec.subnet else 4)
        known = self._shelves.get(pool.name)
        if known and known[0] is pool and known[1] is reserved:
            return known[2]
        shelf = PoolCache(pool, self._node, reserved)
        if known:
            shelf.in_flight, shelf.shunned, shelf.start = known[2].in_flight, known[2].shunned, known[2].start
        self._shelves[pool.name] = (pool, reserved, shelf)
        return shelf
