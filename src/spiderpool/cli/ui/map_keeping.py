"""Keeps the maps of all pools up to date, and tells browsers what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.address_state import AddressState, ListedAddresses
from spiderpool.cli.ui.documents import MapChangeDocument
from spiderpool.cli.ui.pool_map import (
    HolderIndex,
    MapInput,
    PoolMap,
    changes,
    pool_maps,
    sandboxed_by,
)
from spiderpool.cli.ui.streaming import EventStreams
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.telemetry import logger

SHORTEST = 0.3
"""Seconds between two looks at what has changed."""
SHARE = 4
"""A look is followed by so many times its own length without one: they cost a fifth of a processor at most."""
COOLDOWN_LOOK = 2.0
"""Seconds between two looks while addresses cool down, whose end no event says."""

MAPPED: frozenset[type[Object]] = frozenset({SpiderIPPool, SpiderIP, SpiderReservedIP, SpiderNode, Node})
"""Kinds from which maps are made."""

T = TypeVar("T", bound=Object)
V = TypeVar("V")

log = logger("ui")


class ComputedOnce(Generic[T, V]):
    """What is computed of objects of a kind without Namespaces, once for each object that has been read."""

    def __init__(self, compute: Callable[[T], V]) -> None:
        self._compute = compute
        self._known: dict[str, tuple[T, V]] = {}  # name → the object as it was read, and its value

    def of(self, obj: T) -> V:
        """The value of an object."""
        known = self._known.get(obj.name)
        if known is None or known[0] is not obj:
            known = self._known[obj.name] = (obj, self._compute(obj))
        return known[1]

    def keep(self, objects: Iterable[T]) -> None:
        """Forget all others: they have gone."""
        names = {each.name for each in objects}
        self._known = {name: known for name, known in self._known.items() if name in names}


class PageState(msgspec.Struct, frozen=True, rename="camel"):
    """How far what is shown may be trusted."""

    reading: dict[str, int]
    """Kinds whose first list is under way, and how many of their objects have arrived."""
    trouble: str | None
    """Why what is shown may be old."""
    left_out: list[str]
    """What may not be read, in sentences."""


class MapKeeper:
    """The maps of all pools. Each look that finds a change has a number, the revision."""

    def __init__(self, cluster: WatchedCluster, streams: EventStreams) -> None:
        self.maps: dict[str, PoolMap] = {}  # by pool, as the last look made them
        self.revision = 0
        self._cools = False  # whether an address of a map cools down
        self._cluster = cluster
        self._streams = streams
        self._sandboxed = ComputedOnce(sandboxed_by)
        self._addresses = ComputedOnce(ListedAddresses.of)
        self._state: PageState | None = None  # what browsers were told last of the state of the page
        self._holders = HolderIndex()  # follows the SpiderIPs that are watched
        cluster.informer(SpiderIP).subscribe(self._holders.note)

    @property
    def state(self) -> PageState:
        """What browsers are told of the state of the page itself."""
        return PageState(self._cluster.reading, self._cluster.trouble, self._cluster.left_out)

    async def run(self) -> None:
        """Look at every change until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._wait()
            begun = clock()
            try:
                await self.look()
            except Exception:  # a bug must not end the looks
                log.exception("maps not renewed")
            await asyncio.sleep(max(SHORTEST, SHARE * (clock() - begun)))

    async def _wait(self) -> None:
        """Wait for a change, or for the end of a cooldown."""
        try:
            async with asyncio.timeout(COOLDOWN_LOOK if self._cools or self._cluster.reading else None):
                await self._cluster.changed.wait()
        except TimeoutError:
            pass
        self._cluster.changed.clear()

    async def look(self) -> None:
        """Make all maps anew where they may be others, off the event loop, and publish what is different."""
        topics, self._cluster.topics = self._cluster.topics, set()
        if topics & MAPPED or self._cools:
            try:
                await self._make_maps()
            except Exception:  # what has changed is still to be shown
                self._cluster.topics |= topics
                self._cluster.changed.set()
                raise
        if topics:
            self._streams.publish("topics", sorted(each.KIND.name for each in topics))
        if self.state != self._state:
            self._state = self.state
            self._streams.publish("state", self._state)

    async def _make_maps(self) -> None:
        found = await asyncio.to_thread(pool_maps, self._objects(), datetime.now(UTC).timestamp())
        self._cools = any(each.counts[AddressState.COOLING] for each in found.values())
        self._publish_maps(found)

    def _objects(self) -> MapInput:
        pools, accounts = self._cluster.items(SpiderIPPool), self._cluster.items(SpiderNode)
        self._addresses.keep(pools)
        self._sandboxed.keep(accounts)
        return MapInput(
            pools,
            self._holders.copy(),
            self._cluster.items(SpiderReservedIP),
            accounts,
            self._cluster.items(Node),
            self._sandboxed.of,
            self._addresses.of,
        )

    def _publish_maps(self, found: Mapping[str, PoolMap]) -> None:
        former, self.maps = self.maps, dict(found)
        changed = {
            name: MapChangeDocument.of(new, changes(former[name], new) if name in former else None)
            for name, new in found.items()
            if former.get(name) != new
        }
        gone = [name for name in former if name not in found]
        if changed or gone:
            self.revision += 1
            self._streams.publish("maps", {"revision": self.revision, "changed": changed, "gone": gone})
