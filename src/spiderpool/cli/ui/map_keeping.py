"""Keeps the maps of all pools up to date, and tells browsers what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.ui.documents import change_document
from spiderpool.cli.ui.pool_map import (
    AddressState,
    HolderIndex,
    MapInput,
    PoolMap,
    Sandboxed,
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

log = logger("ui")


class MapKeeper:
    """The maps of all pools. Each look that finds a change has a number, the revision."""

    def __init__(self, cluster: WatchedCluster, streams: EventStreams) -> None:
        self.maps: dict[str, PoolMap] = {}
        self.revision = 0
        self._cluster = cluster
        self._streams = streams
        self._sandboxed: dict[str, tuple[SpiderNode, tuple[Sandboxed, ...]]] = {}
        self._state: dict[str, Any] = {}
        self._holders = HolderIndex()
        cluster.informer(SpiderIP).subscribe(self._holders.note)

    @property
    def state(self) -> dict[str, Any]:
        """What browsers are told of the state of the page itself."""
        return {
            "reading": self._cluster.reading,
            "trouble": self._cluster.trouble,
            "leftOut": self._cluster.left_out,
        }

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
        cools = any(each.state is AddressState.COOLING for found in self.maps.values() for each in found.pieces)
        try:
            async with asyncio.timeout(COOLDOWN_LOOK if cools or self._cluster.reading else None):
                await self._cluster.changed.wait()
        except TimeoutError:
            pass
        self._cluster.changed.clear()

    async def look(self) -> None:
        """Make all maps anew, off the event loop, and publish what is different."""
        topics, self._cluster.topics = self._cluster.topics, set()
        now = datetime.now(UTC).timestamp()
        objects = self._objects()
        found = await asyncio.to_thread(pool_maps, objects, now)
        self._publish_maps(found)
        if topics:
            self._streams.publish("topics", sorted(each.KIND.name for each in topics))
        if self.state != self._state:
            self._state = self.state
            self._streams.publish("state", self._state)

    def _objects(self) -> MapInput:
        cluster = self._cluster
        return MapInput(
            cluster.items(SpiderIPPool),
            (),
            cluster.items(SpiderReservedIP),
            cluster.items(SpiderNode),
            cluster.items(Node),
            self._sandboxed_by,
            self._holders.copy(),
        )

    def _sandboxed_by(self, account: SpiderNode) -> tuple[Sandboxed, ...]:
        known = self._sandboxed.get(account.name)
        if known is None or known[0] is not account:
            known = self._sandboxed[account.name] = (account, sandboxed_by(account))
        return known[1]

    def _publish_maps(self, found: Mapping[str, PoolMap]) -> None:
        former, self.maps = self.maps, dict(found)
        changed = {
            name: change_document(new, changes(former[name], new) if name in former else [])
            for name, new in found.items()
            if former.get(name) != new
        }
        gone = [name for name in former if name not in found]
        if changed or gone:
            self.revision += 1
            for name in changed.keys() - former.keys():
                changed[name].pop("pieces")
            self._streams.publish("maps", {"revision": self.revision, "changed": changed, "gone": gone})
