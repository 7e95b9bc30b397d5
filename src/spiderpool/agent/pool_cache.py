"""A node's cache of each pool. Which addresses are free is only a guess: creating the SpiderIP decides.

The states of an address are described at the top of `allocator`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, choose, family, hinted, is_exclusive, start_of, usable
from spiderpool.core.labels import label_value


@dataclass(frozen=True, slots=True)
class NodePools:
    """How to look up the pools and reserved addresses that one node may use."""

    node: str
    usable: Callable[[], list[SpiderIPPool]]
    """Returns the pools of this node and the shared ones."""
    reserved: Callable[[int], AddressSet]
    """Returns the reserved addresses of a family, the same object until they change."""
    occupied: Callable[[int], Collection[int]] = lambda _: ()
    """Returns the addresses of a family that sandboxes of the node may use without a record."""


class PoolCache:
    """The cached state of one pool. Addresses are integers."""

    def __init__(self, pool: SpiderIPPool, node: str, reserved: AddressSet) -> None:
        self.pool = pool.name
        self.node = node
        self.addresses = usable(pool) - reserved
        self.exclusive = is_exclusive(pool, node)
        self.start = start_of(self.addresses, node, exclusive=self.exclusive)  # where the next search begins
        others = AddressSet(self.addresses.version) if self.exclusive else hinted(pool, self.addresses.version)
        self.free = self.addresses - others  # without a record, as far as known; `next` leaves out our own records
        self.in_flight: set[int] = set()  # being created by this agent right now
        self.conflicting: set[int] = set()  # used by something outside the cluster; tried last
        self.stale: set[int] = set()  # in our watch's cache, but missing from a later read: free
        self.cooling: list[SpiderIP] = []  # released records of any node in their cooldown, the oldest first
        self.labels: set[str | None] = {self.label}  # values of the pool's label under which its addresses have records
        self.refresh: asyncio.Task[None] | None = None  # the read of the pool's records, shared by waiters

    @property
    def label(self) -> str:
        """The value of the label that the pool's own records have, unless somebody edits it."""
        return label_value(self.pool)

    def next(self, own: Collection[int], tried: Collection[int] = ()) -> int | None:
        """The next address worth a try, or None; ``own`` are the addresses of this node's records.

        Those that the same call has ``tried`` in vain are left out. Conflicting addresses come last. The search
        continues behind the previous result, so that a released address rests while others are free.
        """

        def is_taken(address: int) -> bool:
            if address in self.in_flight or address in tried:
                return True
            return address in own and address not in self.stale

        address = choose(self.free, lambda each: each in self.conflicting or is_taken(each), self.start)
        if address is None and self.conflicting:
            address = choose(self.free, is_taken, self.start)
        if address is not None:
            self.start = address + 1
        return address

    def update(self, records: Iterable[SpiderIP], own: Collection[int]) -> None:
        """Take over a fresh read of the records under all labels of the pool; some may be of other pools.

        ``own`` are the addresses of this node's records before the read was sent: those that the read lacks have
        been deleted, although the watch has not delivered that yet.
        """
        found = [record for record in records if family(record) == self.addresses.version]
        others = AddressSet.of_addresses(map(address_of, found), self.addresses.version)
        self.free = self.addresses - others
        released = (record for record in found if record.spec.releasedAt and record.spec.pool == self.pool)
        self.cooling = sorted(released, key=lambda record: record.spec.releasedAt or "")
        self.stale = {address for address in own if address not in others}

    def learn_label(self, record: SpiderIP) -> None:
        """Also look under the label of a record that has an address of the pool.

        That happens where pools overlap, or somebody has edited labels. It is forgotten when nothing is found there.
        """
        self.labels.add((record.metadata.labels or {}).get(IP_POOL_LABEL))

    def forget_label(self, label: str | None, records: Iterable[SpiderIP]) -> None:
        """Look no more under another label if none of the ``records`` read there has an address of the pool."""
        mine = (each for each in records if family(each) == self.addresses.version)
        if label != self.label and not any(address_of(each) in self.addresses for each in mine):
            self.labels.discard(label)

    def exclude(self, address: int) -> None:
        """Remove an address that looked free and turned out to have a record.

        In a shared pool another node searches here, and would be one step ahead all the time: the search goes on at a
        place which each node finds for itself.
        """
        self.free -= AddressSet.of_addresses((address,), self.addresses.version)
        if not self.exclusive:
            self.start = start_of(self.free, f"{self.node} {address}", exclusive=False)


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    """A cache, and the objects that it was made from: with others it must be made again."""

    pool: SpiderIPPool
    reserved: AddressSet
    cache: PoolCache


class PoolCaches:
    """The caches of all pools that an ADD has tried."""

    def __init__(self, node: str, reserved: Callable[[int], AddressSet]) -> None:
        """``reserved`` returns the reserved addresses of a family, the same object until they change."""
        self._node = node
        self._reserved = reserved
        self._entries: dict[str, _CacheEntry] = {}  # pool name → its cache

    def known(self, pool: str) -> PoolCache | None:
        """The cache of a pool; None while no ADD has tried the pool."""
        entry = self._entries.get(pool)
        return entry.cache if entry else None

    def of(self, pool: SpiderIPPool) -> PoolCache:
        """The cache of a pool, made again when the pool, its status or the reserved addresses have changed.

        Raises ValueError when the pool's ranges cannot be parsed.
        """
        reserved = self._reserved(6 if ":" in pool.spec.subnet else 4)
        entry = self._entries.get(pool.name)
        if entry and entry.pool is pool and entry.reserved is reserved:
            return entry.cache
        cache = PoolCache(pool, self._node, reserved)
        if former := entry.cache if entry else None:
            cache.in_flight, cache.conflicting, cache.start = former.in_flight, former.conflicting, former.start
            cache.labels = former.labels
        self._entries[pool.name] = _CacheEntry(pool, reserved, cache)
        return cache
