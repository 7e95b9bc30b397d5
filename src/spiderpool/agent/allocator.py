"""Allocates addresses to the pods of this node: look, decide, commit.

The only lock between nodes is the API server. Whoever creates the SpiderIP of an address holds the address; whoever
replaces exactly the version of a record that was read takes the address over (resourceVersion precondition).

Theory of operation
===================

A holder is a pod UID and an interface. The states of one address, as this node sees them:

    free             no record, as far as we know                           (PoolCache.free)
    in flight        we sent a create and wait for the answer               (PoolCache.in_flight)
    in doubt         we sent a create or replace, and its answer was lost   (Allocator._unanswered)
    held             its record names a holder                              (RecordStore)
    pending release  held, but a DEL wants it released                      (Releases)
    cooling          its record has releasedAt, in a pool with a cooldown   (RecordStore, PoolCache.cooling)
    stale            our cache has a record that a later read lacks: free   (PoolCache.stale)
    conflicting      somebody else uses it: tried last                      (PoolCache.conflicting)

    free ── ADD: create ──▶ in flight ── answer ──▶ held ── DEL ──▶ pending release ── delete ──▶ free
                               │                     ▲   ▲                │
                               └─ answer lost ──▶ in doubt │               └── cooldown ──▶ cooling ──▶ held or free
                                        (next ADD or DEL    └──── replace by another pod ──────┘
                                         of the holder reads it)

Who moves an address:

- ADD (`allocate`): a pod first gets what it holds, then what its owner or its predecessor of the same name had, then a
  free address, then one whose cooldown is over, and last one that is still cooling.
- DEL (`release`) never fails. What the API server does not take now is released later (`Releases`). An ADD for the same
  holder withdraws the release.
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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from spiderpool.agent import record_store
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.pool_cache import NodePools, PoolCache, PoolCaches
from spiderpool.agent.record_store import ClusterReads, Holder, RecordStore
from spiderpool.agent.releases import CONFLICT_TRIES, RELEASE_TIMEOUT, PendingRelease, Releases
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import from_int, object_name, to_int
from spiderpool.core.ipam import allocation, selection
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.errors import ApiUnavailable, NotReady, Refused, SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound
from spiderpool.telemetry import (
    ALLOCATION_CONFLICTS,
    ALLOCATION_FAILURES,
    ALLOCATION_SECONDS,
    ALLOCATIONS,
    REFUSALS,
    logger,
)

CALL_TIMEOUT = 10.0
"""Seconds for one call to the API server on the ADD path; the whole ADD has its own limit."""

BLIND_TRIES = 4
"""Addresses in a row that may turn out to be taken before the records of the pool are read."""

log = logger("ipam")


@dataclass(frozen=True, slots=True)
class Allocation:
    """The outcome of one `allocate`: all requests are granted."""

    granted: Mapping[RequestKey, SpiderIP]
    """The record of every request."""
    created: tuple[SpiderIP, ...]
    """The records that this call created or took over; the others were held before."""
    early: tuple[SpiderIP, ...]
    """Released records as they were when this call took them over before the end of their cooldown."""
    trace: tuple[Verdict, ...]
    """The verdict on every pool that was considered for a new address."""


@dataclass(slots=True)
class _Progress:
    """What one call has done so far."""

    taken: list[PendingRelease] = field(default_factory=list)
    """How to undo what was created or taken over, if a later request of the call fails."""
    early: list[SpiderIP] = field(default_factory=list)
    trace: list[Verdict] = field(default_factory=list)
    owned: list[SpiderIP] | None = None
    """The records of the pod's sticky owner, read once for all requests of the call; None until they are read."""
    outdated: list[PendingRelease] = field(default_factory=list)
    """Addresses that no longer suit the pod: released once the whole call has succeeded, when it has others."""
    apart: set[RequestKey] = field(default_factory=set)
    """Requests whose owner's address stays with another pod, so that they get an address that is the pod's alone."""


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
        self._pools = pools.usable
        self._reads = reads
        self._clock = clock
        self._locks = KeyedLock()  # by pod UID: ADD, DEL and deferred releases of one pod run one at a time
        self._caches = PoolCaches(pools.node, pools.reserved)
        self._unanswered: dict[Holder, dict[str, SpiderIP]] = {}  # holder → name → record whose write was not answered
        self.releases = Releases(records, self._pool, self._locks, reads=reads, clock=clock)

    async def run(self) -> None:
        """Carry out deferred releases until cancelled."""
        await self.releases.run()

    async def allocate(self, requests: Mapping[RequestKey, AllocationRequest]) -> Allocation:
        """Grant all requests of one pod, or none. What the pod holds already is granted again.

        Raises Refused with the verdict on every pool, or ApiUnavailable; repeating the call is safe after both.
        """
        ALLOCATIONS.inc()
        pod_uid = next(iter(requests.values())).pod_uid
        with ALLOCATION_SECONDS.time(), ALLOCATION_FAILURES.count_exceptions():
            async with self._locks.held(pod_uid):
                return await self._all_or_none(requests)

    async def release(self, pod_uid: str, interface: str) -> None:
        """Release what an interface of a pod holds, unless its sticky owner still needs it.

        Never fails: what the API server does not take now is released later.
        """
        async with self._locks.held(pod_uid):
            try:
                await self._resolve_unanswered((pod_uid, interface), RELEASE_TIMEOUT)
            except SpiderpoolError as error:
                log.warning("record in doubt left to garbage collection", uid=pod_uid, error=str(error))
            self._unanswered.pop((pod_uid, interface), None)
            for record in self._records.of(pod_uid, interface):
                await self.releases.release_or_defer(PendingRelease(record))

    async def release_conflicting(self, pod_uid: str) -> None:
        """Release all that a pod holds because somebody else uses it; try these addresses last.

        What a sticky owner needs stays, and what has a cooldown cools down: whoever uses it now may go away.
        """
        async with self._locks.held(pod_uid):
            for record in self._records.of_pod(pod_uid):
                self._mark_conflicting(record)
                await self.releases.release_or_defer(PendingRelease(record))

    def release_soon(self, pod_uid: str, interface: str) -> None:
        """Release what an interface of a pod holds, in the background."""
        for record in self._records.of(pod_uid, interface):
            self.releases.defer(PendingRelease(record))

    def held(self, pod_uid: str) -> dict[RequestKey, SpiderIP]:
        """The records that a pod holds, by interface and family, as far as this node knows; none with a release due."""
        records = sorted(self._records.of_pod(pod_uid), key=lambda record: record.name, reverse=True)
        kept = (record for record in records if not self.releases.is_pending(record))
        return {record_store.request_key(record): record for record in kept}

    def interfaces(self, pod_uid: str) -> tuple[str, ...]:
        """Interfaces of a pod that hold addresses, in the order in which they got them."""
        return tuple(dict.fromkeys(record.spec.interface for record in self._records.of_pod(pod_uid)))

    async def _all_or_none(self, requests: Mapping[RequestKey, AllocationRequest]) -> Allocation:
        progress = _Progress()
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
        created = tuple(taken.record for taken in progress.taken)
        return Allocation(granted, created, tuple(progress.early), tuple(progress.trace))

    async def _undo(self, progress: _Progress) -> None:
        """Release what a call has taken; the rest in the background where it is cancelled meanwhile."""
        try:
            while progress.taken:
                await self.releases.release_or_defer(progress.taken[0])
                progress.taken.pop(0)
        except asyncio.CancelledError:
            self._undo_later(progress)
            raise

    def _undo_later(self, progress: _Progress) -> None:
        for taken in progress.taken:
            self.releases.defer(taken)

    async def _grant(self, request: AllocationRequest, progress: _Progress) -> SpiderIP:
        record = await self._held_already(request, progress) or await self._inherit(request, progress)
        if record is None and (request.interface, request.version) in progress.apart:
            request = replace(request, owner=None)
        return record or await self._claim(request, progress)

    # --- what the pod holds already

    async def _held_already(self, request: AllocationRequest, progress: _Progress) -> SpiderIP | None:
        """The record that the holder has, also by a write whose answer was lost; only the requested one if there is."""
        holder = (request.pod_uid, request.interface)
        await self._resolve_unanswered(holder, CALL_TIMEOUT)
        held = [record for record in self._records.of(*holder) if family(record) == request.version]
        for record in held:
            if allocation.is_acceptable(record, request) and await self.releases.withdraw(record):
                return record
        others = (record for record in held if not allocation.is_acceptable(record, request))
        progress.outdated += (PendingRelease(record, keep_for_owner=False) for record in others)
        return None

    async def _resolve_unanswered(self, holder: Holder, timeout: float) -> None:
        """Read the records whose write was not answered, and cache those that the holder got.

        One that is not there stays in doubt: its create may still be carried out.
        """
        for name, sent in tuple(self._unanswered.get(holder, {}).items()):
            found = await self._records.get(name, timeout=timeout)
            if found or sent.metadata.uid:
                self._forget_unanswered(holder, name)
            if found and record_store.holder_of(found) == holder:
                self._records.adopt(found)

    # --- what its owner or predecessor had

    async def _inherit(self, request: AllocationRequest, progress: _Progress) -> SpiderIP | None:
        """The address that the pod's sticky owner, or a pod of the same name, had before."""
        if request.owner is not None:
            return await self._inherit_from_owner(request, progress)
        for record in self._records.released():
            if not (_was_of(record, request) and allocation.is_acceptable(record, request)):
                continue
            if self._suits_as_seen(request, record) and not self._is_conflicting(record):
                with suppress(Conflict, NotFound):  # another pod was faster; look on
                    return await self._take_over(request, record, progress)
        return None

    async def _inherit_from_owner(self, request: AllocationRequest, progress: _Progress) -> SpiderIP | None:
        """The address that the pod's sticky owner had. Repeating is safe: each try reads the records before it writes.

        Not undone when a later request of the call fails: the record stays with the owner, whichever pod holds it.
        """
        assert request.owner is not None
        label = owner_label(request.owner, request.pod)
        for _ in range(CONFLICT_TRIES):
            if progress.owned is None:
                progress.owned = await self._records.of_owner(label, timeout=CALL_TIMEOUT)
            try:
                return await self._first_that_suits(request, progress)
            except (Conflict, NotFound):
                progress.owned = None
        raise ApiUnavailable(f"the record of {request} changes under our hands; it will be tried again")

    async def _first_that_suits(self, request: AllocationRequest, progress: _Progress) -> SpiderIP | None:
        """Take over the owner's first record that suits the pod. Raises Conflict or NotFound.

        The others are outdated. None is released before the pod has another address.
        """
        inherited: SpiderIP | None = None
        outdated: list[PendingRelease] = []
        for record in progress.owned or ():
            if not _is_for(record, request):
                continue
            runs_elsewhere = await self._runs_elsewhere(request, record)
            reason = "its owner has another" if inherited else await self._why_unsuitable(request, record)
            if reason is None:
                inherited = await self._take_over_owned(request, record)
                continue
            log.info("address does not suit", address=record.spec.address, reason=reason, wanted=str(request))
            if runs_elsewhere or request.migrating:  # the machine runs, whatever pod its record names
                progress.apart.add((request.interface, request.version))
            elif not record.spec.releasedAt:
                is_another = record.spec.podUID != request.pod_uid
                outdated.append(PendingRelease(record, keep_for_owner=False, spare_holder=is_another))
        progress.outdated += outdated
        return inherited

    async def _take_over_owned(self, request: AllocationRequest, record: SpiderIP) -> SpiderIP:
        """Make the requesting pod the holder of its owner's record, if it is not. Raises Conflict or NotFound."""
        holder = (request.pod_uid, request.interface)
        if record_store.holder_of(record) == holder and record.spec.node == request.node:
            self._records.adopt(record)
            return record
        return await self._replace(request, record)

    async def _runs_elsewhere(self, request: AllocationRequest, record: SpiderIP) -> bool:
        """Whether another pod of the owner, which still runs, has the address. Raises NotReady unless it is migrating.

        Only virtual machines have two pods at once; those of a StatefulSet's ordinal have the same name.
        """
        spec = record.spec
        if spec.releasedAt or spec.podUID == request.pod_uid or spec.pod == request.pod:
            return False
        if not await self._reads.is_held(record):
            return False
        if not request.migrating:
            raise NotReady(
                f"{request} gets {spec.address} when pod {spec.namespace}/{spec.pod}, which has it, has ended"
            )
        return True

    async def _why_unsuitable(self, request: AllocationRequest, record: SpiderIP) -> str | None:
        """Why the address that an owner has does not fit its pod any more; None when it does.

        A pool that this node does not see may be that of another node, or about to be seen, so it is read. Raises
        Refused when it does not exist: it may be about to be created again, and a fixed address is not given up for
        that.
        """
        if not allocation.is_acceptable(record, request):
            return f"is not {request.address}, which the pod asks for"
        name = record.spec.pool
        if not selection.may_be_candidate(request, name):
            return f"does not come from {request.source}"
        pool = self._pool(name) or await self._reads.pool(name)
        if pool is None:
            raise Refused(
                f"{request} keeps {record.spec.address} of pool {name}, which does not exist: create the pool again, "
                f"or delete SpiderIP {record.name} to give the address up"
            )
        return selection.why_unsuitable(request, pool)

    def _suits_as_seen(self, request: AllocationRequest, record: SpiderIP) -> bool:
        """Whether an address that the pod may have again, but need not, fits it by the pools that this node sees."""
        pool = self._pool(record.spec.pool)
        return pool is not None and selection.why_unsuitable(request, pool) is None

    # --- a new address

    async def _claim(self, request: AllocationRequest, progress: _Progress) -> SpiderIP:
        """An address from the first pool that has one. Raises Refused with the verdict on every pool."""
        chosen = selection.select(request, self._pools())
        trace = list(chosen.trace)
        record: SpiderIP | None = None
        for pool in chosen.pools:
            outcome = await self._claim_from(request, pool, progress)
            if isinstance(outcome, SpiderIP):
                record = outcome
                break
            trace.append(outcome)
        if record is None and request.address is None:
            record = await self._take_early(request, chosen.pools, progress)
        if record is None:
            REFUSALS.labels(allocation.main_reason(trace)).inc()
            raise allocation.refusal(request, trace)
        progress.trace += trace
        return record

    async def _claim_from(
        self, request: AllocationRequest, pool: SpiderIPPool, progress: _Progress
    ) -> SpiderIP | Verdict:
        """An address of a pool, or the verdict that says why it gave none."""
        try:
            cache = self._caches.of(pool)
        except ValueError as error:
            return allocation.unreadable(pool.name, error)
        if request.address is None:
            record = await self._claim_again(request, cache, progress)
            record = record or await self._claim_next(request, pool, cache, progress)
            return record or allocation.exhausted(pool.name, cache.addresses.size)
        address = to_int(request.address, request.version)
        if address not in cache.addresses:
            return allocation.elsewhere(pool.name, request.address)
        created = await self._create(allocation.new_record(request, pool, address), cache, progress)
        return created or await self._take_requested(request, pool, address, progress)

    async def _take_requested(
        self, request: AllocationRequest, pool: SpiderIPPool, address: int, progress: _Progress
    ) -> SpiderIP | Verdict:
        """The requested address that has a record: it may be the holder's own, or its cooldown may be over."""
        text = from_int(address, request.version)
        record = await self._records.get(object_name(text), timeout=CALL_TIMEOUT)
        if record is None:
            return allocation.occupied(pool.name, text)
        if record_store.holder_of(record) == (request.pod_uid, request.interface):
            self._records.adopt(record)
            return record
        if allocation.cooldown_is_over(record, pool, self._clock()):
            with suppress(Conflict, NotFound):  # another pod was faster
                return await self._take_over(request, record, progress)
        return allocation.occupied(pool.name, text, record.spec.releasedAt)

    async def _claim_again(self, request: AllocationRequest, cache: PoolCache, progress: _Progress) -> SpiderIP | None:
        """Create what a former call may have created: whichever create is carried out first, the other is refused."""
        for record in tuple(self._unanswered.get((request.pod_uid, request.interface), {}).values()):
            if record.spec.pool == cache.pool and address_of(record) in cache.addresses:
                created = await self._create(record, cache, progress)
                if created is not None:
                    return created
        return None

    async def _claim_next(
        self, request: AllocationRequest, pool: SpiderIPPool, cache: PoolCache, progress: _Progress
    ) -> SpiderIP | None:
        """A free address, or one whose cooldown is over; None when a fresh read shows neither.

        Trying again is safe: a create either succeeds or leaves everything as it was. No address is tried twice, so
        after one round the pool is exhausted.
        """
        tried: list[int] = []
        since_read, reads = 0, 0
        while True:
            address = cache.next(self._records.addresses(pool.name), tried)
            if address is None and reads and not since_read:
                return await self._take_cooled(request, pool, cache, progress)
            if address is None or since_read >= BLIND_TRIES:
                if reads and since_read:
                    await self._learn_label(cache, tried[-1])
                await self._read_pool(pool, cache)
                since_read, reads = 0, reads + 1
                continue
            created = await self._create(allocation.new_record(request, pool, address), cache, progress)
            if created:
                return created
            tried.append(address)
            since_read += 1

    async def _learn_label(self, cache: PoolCache, address: int) -> None:
        """Find out under which label an address has a record that a read of the pool did not show."""
        record = await self._records.get(object_name(from_int(address, cache.addresses.version)), timeout=CALL_TIMEOUT)
        if record is not None:
            cache.learn_label(record)

    async def _create(self, record: SpiderIP, cache: PoolCache, progress: _Progress) -> SpiderIP | None:
        """Create a record; None when its address has one already that is not the same holder's."""
        address, holder = address_of(record), (record.spec.podUID, record.spec.interface)
        cache.in_flight.add(address)
        try:
            created = await self._records.create(record, timeout=CALL_TIMEOUT)
        except AlreadyExists:
            ALLOCATION_CONFLICTS.inc()
            cache.exclude(address)
            return await self._recognise(record, holder, progress)
        except (ApiUnavailable, asyncio.CancelledError):
            self._remember_unanswered(holder, record)
            raise
        finally:
            cache.in_flight.discard(address)
        cache.stale.discard(address)
        self._forget_unanswered(holder, record.name)
        progress.taken.append(PendingRelease(created, keep_for_owner=False, cool=False))
        return created

    async def _recognise(self, record: SpiderIP, holder: Holder, progress: _Progress) -> SpiderIP | None:
        """The record of an address that has one already, if a create of ours that was not answered has made it."""
        if record.name not in self._unanswered.get(holder, ()):
            return None
        found = await self._records.get(record.name, timeout=CALL_TIMEOUT)
        self._forget_unanswered(holder, record.name)
        if found is None or record_store.holder_of(found) != holder:
            return None
        self._records.adopt(found)
        progress.taken.append(PendingRelease(found, keep_for_owner=False, cool=False))
        return found

    async def _read_pool(self, pool: SpiderIPPool, cache: PoolCache) -> None:
        """Read all records of a pool; calls that wait at the same time share one read."""
        if cache.refresh is None:
            cache.refresh = asyncio.create_task(self._read_labels(pool, cache))
            cache.refresh.add_done_callback(lambda _: setattr(cache, "refresh", None))
        await asyncio.shield(cache.refresh)

    async def _read_labels(self, pool: SpiderIPPool, cache: PoolCache) -> None:
        own = list(self._records.addresses(pool.name))
        found: list[SpiderIP] = []
        for label in tuple(cache.labels):
            records = await self._records.labelled(label, timeout=CALL_TIMEOUT)
            cache.forget_label(label, records)
            found += records
        cache.update(found, own)

    # --- an address in its cooldown

    async def _take_cooled(
        self, request: AllocationRequest, pool: SpiderIPPool, cache: PoolCache, progress: _Progress
    ) -> SpiderIP | None:
        """Take over a record whose cooldown is over, which the controller has not deleted yet."""
        now = self._clock()
        over = [record for record in cache.cooling if allocation.cooldown_is_over(record, pool, now)]
        taken = await self._take_any(request, cache, over, progress)
        return taken[1] if taken else None

    async def _take_early(
        self, request: AllocationRequest, pools: Iterable[SpiderIPPool], progress: _Progress
    ) -> SpiderIP | None:
        """Take over a record before its cooldown is over: the oldest of the first pool that has one."""
        for pool in pools:
            cache = self._caches.known(pool.name)
            if cache is None:
                continue
            cooling = sorted(cache.cooling, key=lambda record: address_of(record) in cache.conflicting)
            taken = await self._take_any(request, cache, cooling, progress)
            if taken is not None:
                before, record = taken
                progress.early.append(before)
                return record
        return None

    async def _take_any(
        self, request: AllocationRequest, cache: PoolCache, released: list[SpiderIP], progress: _Progress
    ) -> tuple[SpiderIP, SpiderIP] | None:
        """Take over the first record that no other pod takes meanwhile: (as it was, as it is now)."""
        for record in released:
            if record in cache.cooling:  # another call may have removed it while we waited for the API server
                cache.cooling.remove(record)
                with suppress(Conflict, NotFound):  # another pod was faster; try the next one
                    return record, await self._take_over(request, record, progress)
        return None

    async def _take_over(self, request: AllocationRequest, record: SpiderIP, progress: _Progress) -> SpiderIP:
        """Take over a released record. Raises Conflict or NotFound."""
        taken = await self._replace(request, record)
        progress.taken.append(PendingRelease(taken, keep_for_owner=False))
        return taken

    async def _replace(self, request: AllocationRequest, record: SpiderIP) -> SpiderIP:
        """Make the requesting pod the holder of a record. Raises Conflict or NotFound."""
        try:
            return await self._replace_or_recognise(request, record)
        except (ApiUnavailable, asyncio.CancelledError):
            self._remember_unanswered((request.pod_uid, request.interface), record)
            raise

    async def _replace_or_recognise(self, request: AllocationRequest, record: SpiderIP) -> SpiderIP:
        """The record as replaced by us, also by a former call whose answer was lost.

        Such a write may be carried out late and then conflicts with ours, so a record that conflicts is read again.
        """
        try:
            return await self._records.replace(allocation.taken_over(record, request), timeout=CALL_TIMEOUT)
        except Conflict:
            found = await self._records.get(record.name, timeout=CALL_TIMEOUT)
            if found is None or record_store.holder_of(found) != (request.pod_uid, request.interface):
                raise
            self._records.adopt(found)
            return found

    # --- what this node remembers of addresses

    def _remember_unanswered(self, holder: Holder, record: SpiderIP) -> None:
        """Remember a record whose write was not answered: the holder's next ADD or DEL reads it."""
        self._unanswered.setdefault(holder, {})[record.name] = record

    def _forget_unanswered(self, holder: Holder, name: str) -> None:
        """Forget a record whose write has turned out to be done, or never to be done any more."""
        unanswered = self._unanswered.get(holder, {})
        unanswered.pop(name, None)
        if not unanswered:
            self._unanswered.pop(holder, None)

    def _mark_conflicting(self, record: SpiderIP) -> None:
        pool = self._pool(record.spec.pool)
        if pool is not None:
            with suppress(ValueError):  # ranges that cannot be parsed give no address anyway
                self._caches.of(pool).conflicting.add(address_of(record))

    def _is_conflicting(self, record: SpiderIP) -> bool:
        cache = self._caches.known(record.spec.pool)
        return cache is not None and address_of(record) in cache.conflicting

    def _pool(self, name: str) -> SpiderIPPool | None:
        return next((pool for pool in self._pools() if pool.name == name), None)


def _is_for(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether a record of the sticky owner is for the interface and family of a request."""
    return record.spec.owner == request.owner and record_store.request_key(record) == (
        request.interface,
        request.version,
    )


def _was_of(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether a released record was held by a pod of the same name, for the same interface and family."""
    spec = record.spec
    return (spec.namespace, spec.pod, spec.interface, family(record)) == (
        request.namespace,
        request.pod,
        request.interface,
        request.version,
    )
