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
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.allocation import address_of, choose, family, is_exclusive, start_of, usable
from spiderpool.core.labels import label_value

SHORT_READ = 1.0
"""Seconds up to which a read of a pool's records costs too little to be spared: some thousands of them."""
BELIEF, LONGEST_BELIEF = 10, 30.0
"""For how many times its duration a longer read is believed, and for how many seconds at most."""


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
    exhausted_quota: Callable[[str], str | None] = lambda _: None
    """Returns the name of a quota of which a Namespace has nothing left."""


class PoolCache:
    """The cached state of one pool. Addresses are integers.

    What others hold is known from the hint in the pool's status, which is late, and from our own reads and lost
    creates. What these have shown since the last hint is kept until the next one, which was computed after that.
    """

    def __init__(self, pool: SpiderIPPool, node: str, reserved: AddressSet) -> None:
        """Raises ValueError when the pool's ranges cannot be parsed."""
        self.pool = pool.name
        self.node = node
        self.in_flight: set[int] = set()  # being created by this agent right now
        self.conflicting: set[int] = set()  # used by something outside the cluster; tried last
        self.stale: set[int] = set()  # in our watch's cache, but missing from a later read: free
        self.cooling: list[SpiderIP] = []  # released records of any node in their cooldown, the oldest first
        self.labels: set[str | None] = {self.label}  # values of the pool's label under which its addresses have records
        self.refresh: asyncio.Task[None] | None = None  # the read of the pool's records, shared by waiters
        self._hint: object = None  # the hint that `_others` was made from
        self._own: frozenset[int] = frozenset()  # addresses of this node's records at the last read
        self._read_lasts = 0.0  # time of the event loop until which the last read is believed
        self._others = self._learnt = AddressSet(_version(pool))  # in use by others; what of it we found out ourselves
        self.renew(pool, reserved)
        self.start = start_of(self.addresses, node, exclusive=self.exclusive)  # where the next search begins

    def renew(self, pool: SpiderIPPool, reserved: AddressSet) -> None:
        """Take over a change of the pool, its status or the reserved addresses. Raises ValueError."""
        self.addresses = usable(pool) - reserved
        self.exclusive = is_exclusive(pool, self.node)
        hint = None if self.exclusive else hints.key(pool)
        if self.exclusive:
            self._others = self._learnt = AddressSet(self.addresses.version)  # our own records say all
        elif hint not in (None, self._hint):
            self._others = hints.read(pool, self.addresses.version) | self._learnt
            self._learnt = AddressSet(self.addresses.version)
        self._hint = hint or self._hint
        self.free = self.addresses - self._others  # without others' record, as far as known; `next` leaves out ours

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
        own_key = (self.node, self.pool)
        ours = {address_of(each) for each in found if (each.spec.node, each.spec.pool) == own_key}
        everybody = set(map(address_of, found))
        self._others = self._learnt = AddressSet.of_addresses(everybody - ours, self.addresses.version)
        self.free = self.addresses - self._others
        released = (record for record in found if record.spec.releasedAt and record.spec.pool == self.pool)
        self.cooling = sorted(released, key=lambda record: record.spec.releasedAt or "")
        self.stale = {address for address in own if address not in everybody}
        self._own = frozenset(own)

    def believe(self, began: float, now: float) -> None:
        """Believe a read from ``began`` to ``now`` (times of one clock) for as long as its cost asks for.

        Else a pool that is full would be read by every ADD on every node.
        """
        if now - began >= SHORT_READ:
            self._read_lasts = now + min(BELIEF * (now - began), LONGEST_BELIEF)

    def is_known(self, own: Collection[int], now: float) -> bool:
        """Whether the last read may still say that the pool is full; not if this node has given one back since."""
        return now < self._read_lasts and self._own.issubset(own)

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
        taken = AddressSet.of_addresses((address,), self.addresses.version)
        self._others |= taken
        self._learnt |= taken
        self.free -= taken
        if not self.exclusive:
            self.start = start_of(self.free, f"{self.node} {address}", exclusive=False)


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    """A cache, and the objects that it was made from: with others it must be renewed."""

    pool: SpiderIPPool
    reserved: AddressSet
    cache: PoolCache


class PoolCaches:
    """The caches of all pools that an ADD has tried."""

    def __init__(self, pools: NodePools) -> None:
        self._pools = pools
        self._entries: dict[str, _CacheEntry] = {}  # pool name → its cache

    def known(self, pool: str) -> PoolCache | None:
        """The cache of a pool; None while no ADD has tried the pool."""
        entry = self._entries.get(pool)
        return entry.cache if entry else None

    def of(self, pool: SpiderIPPool) -> PoolCache:
        """The cache of a pool, renewed when the pool, its status or the reserved addresses have changed.

        Raises ValueError when the pool's ranges cannot be parsed.
        """
        reserved = self._pools.reserved(_version(pool))
        entry = self._entries.get(pool.name)
        if entry and entry.pool is pool and entry.reserved is reserved:
            return entry.cache
        if entry and entry.pool.metadata.uid == pool.metadata.uid:
            cache = entry.cache
            cache.renew(pool, reserved)
        else:
            cache = PoolCache(pool, self._pools.node, reserved)
            present = {each.name for each in self._pools.usable()}
            self._entries = {name: each for name, each in self._entries.items() if name in present}
        self._entries[pool.name] = _CacheEntry(pool, reserved, cache)
        return cache


def _version(pool: SpiderIPPool) -> int:
    return 6 if ":" in pool.spec.subnet else 4
