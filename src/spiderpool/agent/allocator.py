"""Allocates addresses to the pods of this node: look, decide, commit.

The only lock between nodes is the API server. Whoever creates the SpiderIP of an address holds the address; whoever
replaces exactly the version of a record that was read takes the address over (resourceVersion precondition).

Theory of operation
===================

A holder is a pod UID and an interface. The states of one address, as this node sees them:

    free             no record, as far as we know                           (PoolCache.free)
    in flight        we sent a create and wait for the answer               (PoolCache.in_flight)
    in doubt         we sent a create or replace, and its answer was lost   (RecordWrites)
    held             its record names a holder                              (RecordStore)
    pending release  held, but a DEL wants it released                      (Releases)
    cooling          its record has releasedAt, in a pool with a cooldown   (RecordStore, PoolCache.cooling)
    stale            our cache has a record that a later read lacks: free   (PoolCache.stale)
    conflicting      somebody else uses it: tried last                      (PoolCache.conflicting)

    free ── ADD: create ──▶ in flight ── answer ──▶ held ── DEL ──▶ pending release ── delete ──▶ free
                               │                     ▲   ▲                │
                               └─ answer lost ──▶ in doubt │               └── cooldown ──▶ cooling ──▶ held or free
                                     (next ADD or DEL of    └──── replace by another pod ──────┘
                                      the holder reads it, and
                                      the ADD creates it again;
                                      LateWrites reads it for
                                      a while after the DEL)

Who moves an address:

- ADD (`allocate`): a pod first gets what it holds, then what its owner or its predecessor of the same name had
  (`Inheritance`), then a free address, then one whose cooldown is over, and last one that is still cooling
  (`PoolSearch`). What no longer suits it is released after all of its requests have been granted, not before.
- DEL (`release`) never fails. What the API server does not take now is released later (`Releases`). An ADD for the same
  holder withdraws the release if nothing of it was sent, else it completes it and creates the record again.
- Pods whose DEL came before they had ended: `release_soon` when they have. Without a DEL: garbage collection.

What a crash of this agent leaves:

- in flight, in doubt: at most a record of a pod that is about to be added again: the same holder is granted it again
  after the first list of records. If the pod is gone, garbage collection releases it.
- pending release: a record whose pod is gone; garbage collection releases it.
- cooling: nothing, since the time is in the record.
- stale, conflicting, free: guesses, made again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from spiderpool.agent import record_store
from spiderpool.agent.inheritance import Inheritance
from spiderpool.agent.late_writes import LateWrites
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.pool_search import PoolSearch
from spiderpool.agent.record_store import ClusterReads, RecordStore
from spiderpool.agent.record_writes import CALL_TIMEOUT, Progress, RecordWrites
from spiderpool.agent.releases import RELEASE_TIMEOUT, PendingRelease, Releases, after_del
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.allocation import family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.errors import SpiderpoolError
from spiderpool.telemetry import ALLOCATION_FAILURES, ALLOCATION_SECONDS, ALLOCATIONS, logger

log = logger("ipam")


@dataclass(frozen=True, slots=True)
class Allocation:
    """The outcome of one `allocate`: all requests are granted."""

    granted: Mapping[RequestKey, SpiderIP]
    """The record of every request."""
    created: tuple[SpiderIP, ...]
    """The records that this call created or took over; no owner of the pod had them."""
    inherited: frozenset[str]
    """Names of those of its owner that this call made the pod the holder of; the others were held before."""
    early: tuple[SpiderIP, ...]
    """Released records as they were when this call took them over before the end of their cooldown."""
    trace: tuple[Verdict, ...]
    """The verdict on every pool that was considered for a new address."""


class Allocator:
    """Allocates and releases the addresses of one node's pods; ``clock`` gives the seconds since 1970."""

    def __init__(
        self,
        records: RecordStore,
        pools: NodePools,
        *,
        reads: ClusterReads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._locks = KeyedLock()  # by pod UID: ADD, DEL and deferred releases of one pod run one at a time
        self._writes = RecordWrites(records)
        self._search = PoolSearch(records, self._writes, pools, clock)
        self._inheritance = Inheritance(records, self._writes, self._search, reads)
        self.releases = Releases(records, self._search.pool, self._locks, reads=reads, clock=clock)
        self._late = LateWrites(records, self._writes, self.releases, self._locks)

    async def run(self) -> None:
        """Carry out deferred releases until cancelled, and those of what is given after a DEL."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.releases.run())
            group.create_task(self._late.run())

    async def allocate(self, requests: Mapping[RequestKey, AllocationRequest]) -> Allocation:
        """Grant all requests of one pod, or none. What the pod holds already is granted again.

        Raises Refused with the verdict on every pool, or ApiUnavailable; repeating the call is safe after both.
        """
        ALLOCATIONS.inc()
        pod_uid = next(iter(requests.values())).pod_uid
        with ALLOCATION_SECONDS.time(), ALLOCATION_FAILURES.count_exceptions():
            async with self._locks.held(pod_uid):
                for interface, _ in requests:
                    self._late.leave((pod_uid, interface))
                return await self._all_or_none(requests)

    def give_back(self, allocation: Allocation) -> None:
        """Release in the background what a call has created or taken over for a pod that is gone by now.

        No owner keeps it.
        """
        for record in allocation.created:
            self.releases.defer(PendingRelease(record, keep_for_owner=False))

    async def retain(self, record: SpiderIP, *, anew: bool) -> None:
        """Make a release fail that has begun, of a record that its pod is granted without a write.

        Who releases it by hand marks it first, and asks this node then. A node that has seen the mark and answers that
        no sandbox has the address must not grant the record as it is: it would be deleted. Garbage collection marks
        nothing, since pods that are gone do not come back with the same UID; where they do, ``anew`` says so. Raises
        NotReady when it is deleted, or ApiUnavailable.
        """
        if record.marked or anew:
            async with self._locks.held(record.spec.podUID):
                await self._writes.retain(record, anew=anew)

    async def release(self, pod_uid: str, interface: str) -> None:
        """Release what an interface of a pod holds, unless its sticky owner still needs it.

        Never fails: what the API server does not take now is released later.
        """
        async with self._locks.held(pod_uid):
            self._late.follow((pod_uid, interface))
            ungranted = self._late.ungranted((pod_uid, interface))
            try:
                await self._writes.resolve((pod_uid, interface), RELEASE_TIMEOUT)
            except SpiderpoolError as error:
                log.warning("record in doubt not read", uid=pod_uid, error=str(error))
            ungranted |= self._late.ungranted((pod_uid, interface))
            for record in self._records.of(pod_uid, interface):
                await self.releases.release_or_defer(after_del(record, ungranted))

    async def release_conflicting(self, pod_uid: str) -> None:
        """Release all that a pod holds because somebody else uses it; try these addresses last.

        What a sticky owner needs stays, and what has a cooldown cools down: whoever uses it now may go away.
        """
        async with self._locks.held(pod_uid):
            for record in self._records.of_pod(pod_uid):
                self._search.mark_conflicting(record)
                await self.releases.release_or_defer(PendingRelease(record))

    def release_soon(self, pod_uid: str, interface: str) -> None:
        """Release what an interface of a pod that has ended holds, in the background."""
        self._late.follow((pod_uid, interface))
        ungranted = self._late.ungranted((pod_uid, interface))
        for record in self._records.of(pod_uid, interface):
            self.releases.defer(after_del(record, ungranted))

    def held(self, pod_uid: str) -> dict[RequestKey, SpiderIP]:
        """The records that a pod holds, by interface and family, as far as this node knows; none with a release due.

        Of several the one that was written first, as in `allocate`: a later one was not granted.
        """
        records = reversed(self._records.of_pod(pod_uid))
        kept = (record for record in records if not self.releases.is_pending(record))
        return {record_store.request_key(record): record for record in kept}

    def interfaces(self, pod_uid: str) -> tuple[str, ...]:
        """Interfaces of a pod that hold addresses, in the order in which they got them."""
        return tuple(dict.fromkeys(record.spec.interface for record in self._records.of_pod(pod_uid)))

    async def _all_or_none(self, requests: Mapping[RequestKey, AllocationRequest]) -> Allocation:
        progress = Progress()
        granted: dict[RequestKey, SpiderIP] = {}
        try:
            for key, request in requests.items():
                granted[key] = await self._grant(request, progress)
        except SpiderpoolError:
            await self._undo(progress)
            raise
        except BaseException:  # cancelled: there is no time to wait for the API server
            self._undo_later(progress)
            raise
        for outdated in progress.outdated:
            self.releases.defer(outdated)
        for record in granted.values():
            self._writes.granted(record)
        created = tuple(taken.record for taken in progress.taken)
        inherited = frozenset(progress.inherited)
        return Allocation(granted, created, inherited, tuple(progress.early), tuple(progress.trace))

    async def _undo(self, progress: Progress) -> None:
        """Release what a call has taken; the rest in the background where it is cancelled meanwhile."""
        try:
            while progress.taken:
                await self.releases.release_or_defer(progress.taken[0])
                progress.taken.pop(0)
        except asyncio.CancelledError:
            self._undo_later(progress)
            raise

    def _undo_later(self, progress: Progress) -> None:
        for taken in progress.taken:
            self.releases.defer(taken)

    async def _grant(self, request: AllocationRequest, progress: Progress) -> SpiderIP:
        record = await self._held_already(request, progress) or await self._inheritance.inherit(request, progress)
        if record is None and (request.interface, request.version) in progress.apart:
            request = replace(request, owner=None)
        if record is None:
            record = await self._search.claim(request, progress)
            await self._inheritance.check_alone(request, record, progress)
        self.releases.supersede(record)
        return record

    async def _held_already(self, request: AllocationRequest, progress: Progress) -> SpiderIP | None:
        """The record that the holder has, also by a write whose answer was lost; only the requested one if there is.

        Of several the one that was written first: a create that was carried out late has not been granted, and goes.
        """
        holder = (request.pod_uid, request.interface)
        ungranted = self._writes.ungranted(holder)
        await self._writes.resolve(holder, CALL_TIMEOUT)
        kept: SpiderIP | None = None
        unfit: list[SpiderIP] = []
        for record in self._records.of(*holder):
            if family(record) != request.version:
                continue
            if not allocation.is_acceptable(record, request):
                unfit.append(record)
            elif kept is not None:
                progress.outdated.append(PendingRelease(record, keep_for_owner=False, cool=False))
            elif await self.releases.withdraw(record):
                kept = record
            else:
                progress.ended.append(record)
                progress.owned = None  # it may be among them
        if kept is None:
            progress.outdated += (PendingRelease(record, keep_for_owner=False) for record in unfit)
        elif kept.name in ungranted:
            progress.taken.append(after_del(kept, ungranted))
            progress.owned = None  # of what was read for another family nothing was found unsuitable for this one
            await self._inheritance.check_alone(request, kept, progress)
        return kept
