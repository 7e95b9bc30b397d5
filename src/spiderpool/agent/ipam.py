"""Addresses for the pods of this node: look, decide, commit.

The only lock is the API server: whoever creates the SpiderIP holds the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from spiderpool.agent.locks import KeyedLock
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.allocation import (
    Grant,
    choose,
    exhausted,
    grant,
    hinted,
    is_exclusive,
    record,
    refusal,
    start_of,
    usable,
)
from spiderpool.core.selection import Ask, Verdict, select
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import AlreadyExists
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import (
    ALLOCATION_CONFLICTS,
    ALLOCATION_FAILURES,
    ALLOCATION_SECONDS,
    ALLOCATIONS,
    RELEASE_FAILURES,
    RELEASES,
    logger,
)

CALL_TIMEOUT = 10.0
"""Seconds for one call to the API server on the way of an ADD; the whole ADD has its own limit."""

RELEASE_TIMEOUT = 2.0
"""Seconds that a DEL waits for the API server before the release is put off."""

BLIND_TRIES = 4
"""Claims in a row that may meet somebody else's record before the pool's records are read afresh."""

Identity = tuple[str, str]

log = logger("ipam")


class Records(Protocol):
    """What the allocator asks of the store of SpiderIPs."""

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Known records of one pod's interface."""

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Known records of a pod."""

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that this node is known to hold."""

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Claim; AlreadyExists if taken; ApiUnavailable if the outcome is unknown."""

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Release by UID."""

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        """A fresh read."""

    def adopt(self, record: SpiderIP) -> None:
        """Know a record that a fresh read found."""

    def forget(self, record: SpiderIP) -> None:
        """Know no longer a record that a fresh read missed."""

    async def in_use(self, pool: str, version: int, *, timeout: float) -> AddressSet:
        """A fresh read of what anybody holds of a pool."""


class Shelf:
    """What this node believes of one pool: a guess that is good enough to try with."""

    def __init__(self, pool: SpiderIPPool, node: str) -> None:
        self.addresses = usable(pool)
        self.exclusive = is_exclusive(pool, node)
        self.start = start_of(self.addresses, node, exclusive=self.exclusive)
        self.others = AddressSet(self.addresses.version) if self.exclusive else hinted(pool, self.addresses.version)
        self.in_flight: set[int] = set()
        self.ghosts: set[int] = set()
        self.refresh: asyncio.Task[AddressSet] | None = None

    def taken(self, mine: Collection[int]) -> AddressSet:
        """Addresses that are not worth a try."""
        known = [address for address in mine if address not in self.ghosts]
        return self.others | AddressSet.of_addresses([*known, *self.in_flight], self.addresses.version)

    def read(self, others: AddressSet, mine: Collection[int]) -> None:
        """A fresh read tells what anybody holds; ours that it lacks are gone, though their event is still to come."""
        self.others = others
        self.ghosts = {address for address in mine if address not in others}

    def lost(self, address: int) -> None:
        """Somebody else holds an address that looked free."""
        self.others |= AddressSet.of_addresses([address], self.addresses.version)


class Allocator:
    """Gives and takes back the addresses of one node. Calls for one pod's interface go one at a time."""

    def __init__(self, records: Records, pools: Callable[[], list[SpiderIPPool]], node: str) -> None:
        self._records = records
        self._pools = pools
        self._node = node
        self._locks = KeyedLock()
        self._shelves: dict[str, tuple[SpiderIPPool, Shelf]] = {}
        self._doubts: dict[Identity, list[str]] = {}
        self._doomed: dict[str, SpiderIP] = {}
        self._queue = WorkQueue(self._release_later, "release")

    async def run(self) -> None:
        """Carry out releases that had to be put off, until cancelled."""
        await self._queue.run(workers=4)

    async def allocate(self, ask: Ask, *, clean_gateway: bool = False) -> Grant:
        """The address that this pod's interface holds, or a new one.

        Raises Refused with the verdict on every pool, or ApiUnavailable; then asking again is safe.
        """
        ALLOCATIONS.inc()
        with ALLOCATION_SECONDS.time(), ALLOCATION_FAILURES.count_exceptions():
            async with self._locks.held((ask.pod_uid, ask.interface)):
                held = await self._held(ask) or await self._claim(ask)
                pool = next((pool for pool in self._pools() if pool.name == held.spec.pool), None)
                return grant(held, pool, clean_gateway=clean_gateway)

    async def release(self, pod_uid: str, interface: str) -> None:
        """Give back what a pod's interface holds. Never fails: what the API server does not take now is put off."""
        async with self._locks.held((pod_uid, interface)):
            for held in self._records.of(pod_uid, interface):
                self._doomed[held.name] = held
                try:
                    await self._release(held)
                except ApiUnavailable as error:
                    RELEASE_FAILURES.inc()
                    log.warning("release put off", address=held.name, error=str(error))
                    self._queue.add(held.name, after=1.0)

    def release_soon(self, pod_uid: str) -> None:
        """Give back what all interfaces of a pod hold, without waiting for it."""
        for held in self._records.of_pod(pod_uid):
            self._doomed[held.name] = held
            self._queue.add(held.name)

    def holds(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """The records of a pod's interface that this node knows."""
        return self._records.of(pod_uid, interface)

    async def _held(self, ask: Ask) -> SpiderIP | None:
        """What this identity holds already, also by a claim whose answer got lost."""
        identity = (ask.pod_uid, ask.interface)
        for name in self._doubts.get(identity, ()):
            found = await self._records.get(name, timeout=CALL_TIMEOUT)
            if found and (found.spec.podUID, found.spec.interface) == identity:
                self._records.adopt(found)
        self._doubts.pop(identity, None)
        for held in self._records.of(*identity):
            if await self._still_there(held):
                return held
        return None

    async def _still_there(self, held: SpiderIP) -> bool:
        """Whether a record that we know exists: one whose release was put off may be gone, so it is read afresh."""
        if held.name not in self._doomed:
            return True
        found = await self._records.get(held.name, timeout=CALL_TIMEOUT)
        self._doomed.pop(held.name, None)
        if found and found.metadata.uid == held.metadata.uid:
            return True
        self._records.forget(held)
        return False

    async def _claim(self, ask: Ask) -> SpiderIP:
        selection = select(ask, self._pools())
        full: list[Verdict] = []
        for pool in selection.pools:
            shelf = self._shelf(pool)
            held = await self._take(ask, pool, shelf)
            if held:
                return held
            full.append(exhausted(pool.name, shelf.addresses.size))
        raise refusal(ask, [*selection.trace, *full])

    async def _take(self, ask: Ask, pool: SpiderIPPool, shelf: Shelf) -> SpiderIP | None:
        """One address of a pool; None when a fresh read shows that all are in use."""
        tries = fresh = 0
        while True:
            taken = shelf.taken(self._records.addresses(pool.name))
            address = choose(shelf.addresses, taken, shelf.start)
            if address is None or tries >= BLIND_TRIES:
                if address is None and fresh:
                    return None
                await self._refresh(pool, shelf)
                tries, fresh = 0, 1
                continue
            held = await self._try(ask, pool, shelf, address)
            if held:
                return held
            tries, fresh = tries + 1, 0

    async def _try(self, ask: Ask, pool: SpiderIPPool, shelf: Shelf, address: int) -> SpiderIP | None:
        wanted = record(ask, pool, address)
        shelf.in_flight.add(address)
        try:
            made = await self._records.create(wanted, timeout=CALL_TIMEOUT)
        except AlreadyExists:
            ALLOCATION_CONFLICTS.inc()
            shelf.lost(address)
            return None
        except (ApiUnavailable, asyncio.CancelledError):
            self._doubts.setdefault((ask.pod_uid, ask.interface), []).append(wanted.name)
            raise
        finally:
            shelf.in_flight.discard(address)
        shelf.ghosts.discard(address)
        return made

    async def _refresh(self, pool: SpiderIPPool, shelf: Shelf) -> None:
        """Read what anybody holds of a pool; all who wait at the same time share one read."""
        if shelf.refresh is None:
            shelf.refresh = asyncio.create_task(
                self._records.in_use(pool.name, shelf.addresses.version, timeout=CALL_TIMEOUT)
            )
            shelf.refresh.add_done_callback(lambda _: setattr(shelf, "refresh", None))
        mine = list(self._records.addresses(pool.name))
        shelf.read(await asyncio.shield(shelf.refresh), mine)

    def _shelf(self, pool: SpiderIPPool) -> Shelf:
        """The shelf of a pool, made anew when the pool or what its status hints has changed."""
        known = self._shelves.get(pool.name)
        if known and known[0] is pool:
            return known[1]
        shelf = Shelf(pool, self._node)
        if known:
            shelf.in_flight = known[1].in_flight
        self._shelves[pool.name] = (pool, shelf)
        return shelf

    async def _release(self, held: SpiderIP) -> None:
        await self._records.delete(held, timeout=RELEASE_TIMEOUT)
        self._doomed.pop(held.name, None)
        RELEASES.inc()

    async def _release_later(self, name: str) -> None:
        held = self._doomed.get(name)
        if held is None:
            return
        async with self._locks.held((held.spec.podUID, held.spec.interface)):
            if self._doomed.get(name) is held:
                await self._release(held)
