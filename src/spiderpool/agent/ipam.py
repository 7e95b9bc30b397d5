"""Addresses for the pods of this node: look, decide, commit.

The only lock is the API server: whoever creates the SpiderIP holds the address, and whoever replaces the very
version of a record that was seen takes the address over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.pool_cache import PoolCache, PoolCaches
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.ipam.allocation import (
    address_of,
    cooldown_is_over,
    elsewhere,
    exhausted,
    family,
    main_reason,
    occupied,
    record,
    refusal,
    released,
    taken_over,
    unreadable,
)
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict, select, suits
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import (
    ALLOCATION_CONFLICTS,
    ALLOCATION_FAILURES,
    ALLOCATION_SECONDS,
    ALLOCATIONS,
    REFUSALS,
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

CONFLICT_TRIES = 3
"""Times that a record may change under our hands before we give up for now."""

Identity = tuple[str, str]

log = logger("ipam")


class RecordStore(Protocol):
    """What the allocator asks of the store of SpiderIPs."""

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Known records that one pod's interface holds."""

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Known records that a pod holds, in the order in which they were written."""

    def released(self) -> list[SpiderIP]:
        """Known records that nobody holds and that wait for the end of a cooldown."""

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that are known to have a record of this node."""

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Claim; AlreadyExists if taken; ApiUnavailable if the outcome is unknown."""

    async def replace(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Change the version that was seen; Conflict or NotFound if it is no more."""

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Release the version that was seen; Conflict if it is another by now."""

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        """A fresh read."""

    def adopt(self, record: SpiderIP) -> None:
        """Know a record that a fresh read found."""

    def forget(self, record: SpiderIP) -> None:
        """Know no longer a record that a fresh read missed."""

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        """A fresh read of the records that stay with an owner."""

    async def of_pool(self, pool: str, *, timeout: float) -> list[SpiderIP]:
        """A fresh read of the records of a pool."""


@dataclass(frozen=True, slots=True)
class PendingRelease:
    """A record to be released: perhaps not, if its owner wants it; perhaps later, if its pool has a cooldown."""

    record: SpiderIP
    ask_owner: bool = True
    cool: bool = True


@dataclass(slots=True)
class Allocation:
    """What was done for one call."""

    trace: list[Verdict] = field(default_factory=list)
    made: list[PendingRelease] = field(default_factory=list)
    """What this call took, as it is to be undone if the call fails."""
    early: list[SpiderIP] = field(default_factory=list)
    """Taken before their cooldown was over, since nothing else was free."""
    left: list[SpiderIP] | None = None
    """What the owner has, once it was read."""


class Allocator:
    """Gives and takes back the addresses of one node. Calls for one pod go one at a time.

    ``reserved`` tells by family what no pod may get, ``keeps`` whether the owner of a record still wants it
    though its pod is gone, ``clock`` the seconds since 1970.
    """

    def __init__(
        self,
        records: RecordStore,
        pools: Callable[[], list[SpiderIPPool]],
        node: str,
        *,
        reserved: Callable[[int], AddressSet],
        keeps: Callable[[SpiderIP], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._pools = pools
        self._node = node
        self._keeps = keeps
        self._clock = clock
        self._locks = KeyedLock()
        self._shelves = PoolCaches(node, reserved)
        self._doubts: dict[Identity, list[str]] = {}
        self._doomed: dict[str, PendingRelease] = {}
        self._queue = WorkQueue(self._release_later, "release")

    async def run(self) -> None:
        """Carry out releases that had to be put off, until cancelled."""
        await self._queue.run(workers=4)

    async def allocate(self, *asks: AllocationRequest) -> Allocation:
        """Addresses for all asks of one pod, or for none: what the pod holds already counts.

        Raises Refused with the verdict on every pool, or ApiUnavailable; then asking again is safe.
        """
        ALLOCATIONS.inc()
        with ALLOCATION_SECONDS.time(), ALLOCATION_FAILURES.count_exceptions():
            async with self._locks.held(asks[0].pod_uid):
                return await self._all_or_none(asks)

    async def release(self, pod_uid: str, interface: str) -> None:
        """Give back what a pod's interface holds, unless its owner still wants it.

        Never fails: what the API server does not take now is put off.
        """
        async with self._locks.held(pod_uid):
            with suppress(SpiderpoolError):  # what stays in doubt is found by the collection of addresses
                await self._settle_doubts((pod_uid, interface), RELEASE_TIMEOUT)
            for held in self._records.of(pod_uid, interface):
                await self._give_back(PendingRelease(held))

    async def release_conflicting(self, pod_uid: str) -> None:
        """Give back all that a pod holds because somebody outside the cluster uses it; shun it from now on."""
        async with self._locks.held(pod_uid):
            for held in self._records.of_pod(pod_uid):
                self._shun(held)
                await self._give_back(PendingRelease(held, ask_owner=False, cool=False))

    def release_soon(self, pod_uid: str) -> None:
        """Give back what all interfaces of a pod hold, without waiting for it."""
        for held in self._records.of_pod(pod_uid):
            self._put_off(PendingRelease(held))

    def holds(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """The records that a pod's interface holds, as far as this node knows; IPv4 first."""
        return sorted(self._records.of(pod_uid, interface), key=family)

    def interfaces(self, pod_uid: str) -> tuple[str, ...]:
        """Interfaces of a pod that hold addresses, in the order in which they got them."""
        return tuple(dict.fromkeys(held.spec.interface for held in self._records.of_pod(pod_uid)))

    async def _all_or_none(self, asks: Iterable[AllocationRequest]) -> Allocation:
        work = Allocation()
        try:
            for ask in asks:
                if not (await self._held(ask) or await self._inherit(ask, work)):
                    await self._claim(ask, work)
        except SpiderpoolError:
            for made in work.made:
                await self._give_back(made)
            raise
        except BaseException:  # cancelled: there is no time to wait
            for made in work.made:
                self._put_off(made)
            raise
        return work

    async def _held(self, ask: AllocationRequest) -> bool:
        """Whether this identity holds an address already, also by a claim whose answer got lost."""
        identity = (ask.pod_uid, ask.interface)
        await self._settle_doubts(identity, CALL_TIMEOUT)
        for held in self._records.of(*identity):
            if family(held) == ask.version and await self._still_there(held):
                return True
        return False

    async def _settle_doubts(self, identity: Identity, timeout: float) -> None:
        """Find out what became of claims whose answers got lost."""
        for name in self._doubts.get(identity, ()):
            found = await self._records.get(name, timeout=timeout)
            if found and _identity(found) == identity:
                self._records.adopt(found)
        self._doubts.pop(identity, None)

    async def _still_there(self, held: SpiderIP) -> bool:
        """Whether a record that we know exists: one whose release was put off may be gone, so it is read afresh."""
        if held.name not in self._doomed:
            return True
        found = await self._records.get(held.name, timeout=CALL_TIMEOUT)
        self._doomed.pop(held.name, None)
        if found and _holder(found) == _holder(held):
            self._records.adopt(found)
            return True
        self._forget(held, found)
        return False

    async def _inherit(self, ask: AllocationRequest, work: Allocation) -> bool:
        """Whether the pod gets the address that its owner, or a pod of its name, had before."""
        if ask.owner is not None:
            return await self._inherit_from_owner(ask, work)
        for held in self._records.released():
            if _was_of(held, ask) and suits(ask, held.spec.pool, self._pools()):
                with suppress(Conflict, NotFound):
                    await self._take_over(ask, held, work)
                    return True
        return False

    async def _inherit_from_owner(self, ask: AllocationRequest, work: Allocation) -> bool:
        assert ask.owner is not None
        for _ in range(CONFLICT_TRIES):
            if work.left is None:
                work.left = await self._records.of_owner(owner_label(ask.owner, ask.pod), timeout=CALL_TIMEOUT)
            try:
                return await self._first_that_suits(ask, [held for held in work.left if _is_for(held, ask)])
            except (Conflict, NotFound):
                work.left = None
        raise ApiUnavailable(f"the record of {ask} changes under our hands; it will be tried again")

    async def _first_that_suits(self, ask: AllocationRequest, left: list[SpiderIP]) -> bool:
        """Take over the first record whose pool still suits the pod, and release those that suit it no more."""
        inherited = False
        for held in left:
            if inherited or not suits(ask, held.spec.pool, self._pools()):
                if not held.spec.releasedAt:
                    await self._end(held, cool=True)
                    log.info("address no longer suits its owner", address=held.spec.address, asked=str(ask))
            elif _identity(held) == (ask.pod_uid, ask.interface) and held.spec.node == ask.node:
                self._records.adopt(held)
                inherited = True
            else:
                await self._replace(ask, held)
                inherited = True
        return inherited

    async def _claim(self, ask: AllocationRequest, work: Allocation) -> None:
        selection = select(ask, self._pools())
        trace = list(selection.trace)
        for pool in selection.pools:
            try:
                shelf = self._shelves.of(pool)
            except ValueError as error:
                trace.append(unreadable(pool.name, error))
                continue
            if dropped := await self._take_of(ask, pool, shelf, work):
                trace.append(dropped)
            else:
                break
        else:
            if ask.address or not await self._take_early(ask, selection.pools, work):
                REFUSALS.labels(main_reason(trace)).inc()
                raise refusal(ask, trace)
        work.trace += trace

    async def _take_of(
        self, ask: AllocationRequest, pool: SpiderIPPool, shelf: PoolCache, work: Allocation
    ) -> Verdict | None:
        """Take an address of a pool; the verdict on the pool where that fails."""
        if ask.address is None:
            taken = await self._take(ask, pool, shelf, work)
            return None if taken else exhausted(pool.name, shelf.addresses.size)
        address = to_int(ask.address, ask.version)
        if address not in shelf.addresses:
            return elsewhere(pool.name, ask.address)
        made = await self._try(ask, pool, shelf, address)
        if made is None:
            return occupied(pool.name, ask.address)
        work.made.append(PendingRelease(made, ask_owner=False, cool=False))
        return None

    async def _take(self, ask: AllocationRequest, pool: SpiderIPPool, shelf: PoolCache, work: Allocation) -> bool:
        """Take one address of a pool; False when a fresh read shows that all are in use."""
        tries = fresh = 0
        while True:
            address = shelf.next(self._records.addresses(pool.name))
            if address is None or tries >= BLIND_TRIES:
                if address is None and fresh:
                    return await self._take_cooled(ask, pool, shelf, work)
                await self._refresh(pool, shelf)
                tries, fresh = 0, 1
                continue
            made = await self._try(ask, pool, shelf, address)
            if made:
                work.made.append(PendingRelease(made, ask_owner=False, cool=False))
                return True
            tries, fresh = tries + 1, 0

    async def _try(self, ask: AllocationRequest, pool: SpiderIPPool, shelf: PoolCache, address: int) -> SpiderIP | None:
        wanted = record(ask, pool, address)
        shelf.in_flight.add(address)
        try:
            made = await self._records.create(wanted, timeout=CALL_TIMEOUT)
        except AlreadyExists:
            ALLOCATION_CONFLICTS.inc()
            shelf.lost(address)
            return None
        except (ApiUnavailable, asyncio.CancelledError):
            self._doubt(ask, wanted.name)
            raise
        finally:
            shelf.in_flight.discard(address)
        shelf.ghosts.discard(address)
        return made

    async def _take_cooled(
        self, ask: AllocationRequest, pool: SpiderIPPool, shelf: PoolCache, work: Allocation
    ) -> bool:
        """Take over a record whose cooldown is over."""
        now = self._clock()
        over = [held for held in shelf.released if cooldown_is_over(held, pool, now)]
        return await self._take_any(ask, shelf, over, work) is not None

    async def _take_early(self, ask: AllocationRequest, pools: Iterable[SpiderIPPool], work: Allocation) -> bool:
        """Take over a record before its cooldown is over, in each pool the one that has waited longest."""
        for pool in pools:
            shelf = self._shelves.known(pool.name)
            taken = await self._take_any(ask, shelf, list(shelf.released), work) if shelf else None
            if taken is not None:
                work.early.append(taken)
                return True
        return False

    async def _take_any(
        self, ask: AllocationRequest, shelf: PoolCache, waiting: list[SpiderIP], work: Allocation
    ) -> SpiderIP | None:
        """Take over the first that nobody else takes meanwhile; returned as it was before."""
        for held in waiting:
            if held in shelf.released:
                shelf.released.remove(held)
                with suppress(Conflict, NotFound):
                    await self._take_over(ask, held, work)
                    return held
        return None

    async def _take_over(self, ask: AllocationRequest, held: SpiderIP, work: Allocation) -> None:
        """Take over a released record. Raises Conflict or NotFound."""
        work.made.append(PendingRelease(await self._replace(ask, held), ask_owner=False))

    async def _replace(self, ask: AllocationRequest, held: SpiderIP) -> SpiderIP:
        """Make a record the asking pod's. Raises Conflict or NotFound."""
        try:
            return await self._records.replace(taken_over(held, ask), timeout=CALL_TIMEOUT)
        except (ApiUnavailable, asyncio.CancelledError):
            self._doubt(ask, held.name)
            raise

    def _doubt(self, ask: AllocationRequest, name: str) -> None:
        """Remember a claim whose outcome is unknown."""
        self._doubts.setdefault((ask.pod_uid, ask.interface), []).append(name)

    async def _refresh(self, pool: SpiderIPPool, shelf: PoolCache) -> None:
        """Read what anybody holds of a pool; all who wait at the same time share one read."""
        if shelf.refresh is None:
            shelf.refresh = asyncio.create_task(self._records.of_pool(pool.name, timeout=CALL_TIMEOUT))
            shelf.refresh.add_done_callback(lambda _: setattr(shelf, "refresh", None))
        mine = list(self._records.addresses(pool.name))
        shelf.read(await asyncio.shield(shelf.refresh), mine)

    async def _give_back(self, doomed: PendingRelease) -> None:
        self._doomed[doomed.record.name] = doomed
        try:
            await self._release(doomed)
        except SpiderpoolError as error:
            RELEASE_FAILURES.inc()
            log.warning("release put off", address=doomed.record.name, error=str(error))
            self._queue.add(doomed.record.name, after=1.0)

    def _put_off(self, doomed: PendingRelease) -> None:
        self._doomed[doomed.record.name] = doomed
        self._queue.add(doomed.record.name)

    async def _release(self, doomed: PendingRelease) -> None:
        """Release a record, or keep it for its owner. A record that has another holder by now is not touched."""
        held = doomed.record
        if not (doomed.ask_owner and held.spec.owner and await self._keeps(held)):
            await self._end_what_is_ours(held, cool=doomed.cool)
            RELEASES.inc()
        self._doomed.pop(held.name, None)

    async def _end_what_is_ours(self, held: SpiderIP, *, cool: bool) -> None:
        for _ in range(CONFLICT_TRIES):
            try:
                return await self._end(held, cool=cool)
            except (Conflict, NotFound):
                found = await self._records.get(held.name, timeout=RELEASE_TIMEOUT)
                if found is None or _holder(found) != _holder(held):
                    return self._forget(held, found)
                held = found
        raise ApiUnavailable(f"the record {held.name} changes under our hands; it will be tried again")

    async def _end(self, held: SpiderIP, *, cool: bool) -> None:
        """Mark a record as released where its pool has a cooldown, else delete it. Raises Conflict or NotFound."""
        pool = self._pool(held)
        if cool and pool and not pool.terminating and pool.spec.cooldownSeconds:
            await self._records.replace(released(held, self._clock()), timeout=RELEASE_TIMEOUT)
        else:
            await self._records.delete(held, timeout=RELEASE_TIMEOUT)

    def _shun(self, held: SpiderIP) -> None:
        pool = self._pool(held)
        if pool is not None:
            with suppress(ValueError):
                self._shelves.of(pool).shunned.add(address_of(held))

    def _pool(self, held: SpiderIP) -> SpiderIPPool | None:
        return next((pool for pool in self._pools() if pool.name == held.spec.pool), None)

    def _forget(self, held: SpiderIP, found: SpiderIP | None) -> None:
        """Know no longer what we held, but know what a fresh read found in its place."""
        if found and found.spec.node == self._node:
            self._records.adopt(found)
        else:
            self._records.forget(held)

    async def _release_later(self, name: str) -> None:
        doomed = self._doomed.get(name)
        if doomed is None:
            return
        async with self._locks.held(doomed.record.spec.podUID):
            if self._doomed.get(name) is doomed:
                await self._release(doomed)


def _identity(held: SpiderIP) -> Identity | None:
    """Who holds a record: nobody once it is released."""
    return None if held.spec.releasedAt else (held.spec.podUID, held.spec.interface)


def _holder(held: SpiderIP) -> tuple[str | None, Identity | None]:
    return held.metadata.uid, _identity(held)


def _is_for(held: SpiderIP, ask: AllocationRequest) -> bool:
    return held.spec.owner == ask.owner and (held.spec.interface, family(held)) == (ask.interface, ask.version)


def _was_of(held: SpiderIP, ask: AllocationRequest) -> bool:
    """Whether a released record was held by a pod of the same name, for the same interface and family."""
    spec = held.spec
    return (spec.namespace, spec.pod, spec.interface, family(held)) == (
        ask.namespace,
        ask.pod,
        ask.interface,
        ask.version,
    )
