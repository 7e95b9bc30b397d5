"""Finds an address for a pod that has none: a free one, one whose cooldown is over, and last one that is cooling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from spiderpool.agent import record_store
from spiderpool.agent.pool_cache import NodePools, PoolCache, PoolCaches
from spiderpool.agent.record_store import RecordStore
from spiderpool.agent.record_writes import CALL_TIMEOUT, Progress, RecordWrites
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet, from_int, object_name, to_int
from spiderpool.core.ipam import allocation, quota, selection
from spiderpool.core.ipam.allocation import address_of
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.kube.client import Conflict, NotFound
from spiderpool.telemetry import REFUSALS

BLIND_TRIES = 4
"""Addresses in a row that may turn out to be taken before the records of the pool are read."""

CONFLICT_SECONDS = 600.0
"""Seconds for which an address that somebody else uses is tried last."""


class PoolSearch:
    """Searches the pools of one node; ``clock`` gives the seconds since 1970."""

    def __init__(
        self, records: RecordStore, writes: RecordWrites, pools: NodePools, clock: Callable[[], float]
    ) -> None:
        self._records = records
        self._writes = writes
        self._usable = pools.usable
        self._reserved = pools.reserved
        self._occupied = pools.occupied
        self._exhausted_quota = pools.exhausted_quota
        self._caches = PoolCaches(pools)
        self._clock = clock

    async def claim(self, request: AllocationRequest, progress: Progress) -> SpiderIP:
        """An address from the first pool that has one. Raises Refused with the verdict on every pool.

        Or with the quota of which the Namespace has nothing left.
        """
        if quota.counts(request) and (exhausted := self._exhausted_quota(request.namespace)):
            REFUSALS.labels("quota").inc()
            raise allocation.quota_refusal(request, exhausted)
        chosen = selection.select(request, self._usable())
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
        self, request: AllocationRequest, pool: SpiderIPPool, progress: Progress
    ) -> SpiderIP | Verdict:
        """An address of a pool, or the verdict that says why it gave none."""
        try:
            cache = self._caches.of(pool)
        except ValueError as error:
            return allocation.unreadable(pool.name, error)
        if request.address is None:
            record = await self._claim_again(request, pool, cache, progress)
            record = record or await self._claim_next(request, pool, cache, progress)
            return record or allocation.exhausted(pool.name, cache.addresses.size)
        address = to_int(request.address, request.version)
        if address not in cache.addresses:
            return allocation.elsewhere(pool.name, request.address)
        if address in self._occupied(request.version):
            return allocation.occupied(pool.name, request.address)
        created = await self._create(allocation.new_record(request, pool, address), cache, progress)
        return created or await self._take_requested(request, pool, address, progress)

    async def _take_requested(
        self, request: AllocationRequest, pool: SpiderIPPool, address: int, progress: Progress
    ) -> SpiderIP | Verdict:
        """The requested address that has a record: it may be the holder's own, or its cooldown may be over."""
        text = from_int(address, request.version)
        record = await self._records.get(object_name(text), timeout=CALL_TIMEOUT)
        if record is None:
            return allocation.occupied(pool.name, text)
        if record_store.holder_of(record) == (request.pod_uid, request.interface):
            self._records.adopt(record)
            return record
        is_of_pool = record.spec.pool == pool.name  # another pool may have the address, too, with its own cooldown
        if is_of_pool and allocation.cooldown_is_over(record, pool, self._clock()):
            with suppress(Conflict, NotFound):  # another pod was faster
                return await self._writes.take_over(request, record, progress)
        return allocation.occupied(pool.name, text, record.spec.releasedAt)

    async def _claim_again(
        self, request: AllocationRequest, pool: SpiderIPPool, cache: PoolCache, progress: Progress
    ) -> SpiderIP | None:
        """Create what a former call may have created: whichever create is carried out first, the other is refused.

        Or else what the pod held before.
        """
        sent = self._writes.unanswered_creates((request.pod_uid, request.interface))
        for record in (*sent, *progress.ended):
            address = address_of(record)
            if record.spec.pool != cache.pool or address not in cache.addresses or address in cache.conflicting:
                continue
            again = record if record in sent else allocation.new_record(request, pool, address)
            created = await self._create(again, cache, progress)
            if created is not None:
                return created
        return None

    async def _claim_next(
        self, request: AllocationRequest, pool: SpiderIPPool, cache: PoolCache, progress: Progress
    ) -> SpiderIP | None:
        """A free address, or one whose cooldown is over; None when a fresh read shows neither.

        Trying again is safe: a create either succeeds or leaves everything as it was. No address is tried twice, so
        after one round the pool is exhausted.
        """
        tried: list[int] = []
        since_read, reads = 0, 0
        while True:
            if tried:  # while it was, addresses may have been excluded
                self._renew(pool.name)
            own, occupied = self._records.addresses(pool.name), self._occupied(request.version)
            address = cache.next(own, {*tried, *occupied} if occupied else tried)
            if address is None and not since_read and (reads or cache.is_known(own, _now())):
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

    def _renew(self, name: str) -> None:
        """Have the cache of a pool follow the pool, while it exists."""
        if pool := self.pool(name):
            with suppress(ValueError):  # ranges that cannot be parsed: the next ADD says so
                self._caches.of(pool)

    async def _learn_label(self, cache: PoolCache, address: int) -> None:
        """Find out under which label an address has a record that a read of the pool did not show."""
        record = await self._records.get(object_name(from_int(address, cache.addresses.version)), timeout=CALL_TIMEOUT)
        if record is not None:
            cache.learn_label(record)

    async def _create(self, record: SpiderIP, cache: PoolCache, progress: Progress) -> SpiderIP | None:
        """Create a record; None when its address has one already that is not the same holder's."""
        address = address_of(record)
        cache.in_flight.add(address)
        try:
            created = await self._writes.create(record, progress)
        finally:
            cache.in_flight.discard(address)
        if created is None:
            cache.exclude(address)
        else:
            cache.stale.discard(address)
        return created

    async def _read_pool(self, pool: SpiderIPPool, cache: PoolCache) -> None:
        """Read all records of a pool; calls that wait at the same time share one read."""
        if cache.refresh is None:
            cache.refresh = asyncio.create_task(self._read_labels(pool, cache))
            cache.refresh.add_done_callback(lambda _: setattr(cache, "refresh", None))
        await asyncio.shield(cache.refresh)

    async def _read_labels(self, pool: SpiderIPPool, cache: PoolCache) -> None:
        own, began = list(self._records.addresses(pool.name)), _now()
        found: list[SpiderIP] = []
        for label in tuple(cache.labels):
            records = await self._records.labelled(label, timeout=CALL_TIMEOUT)
            cache.forget_label(label, records)
            found += records
        cache.update(found, own)
        cache.believe(began, _now())

    # --- an address in its cooldown

    async def _take_cooled(
        self, request: AllocationRequest, pool: SpiderIPPool, cache: PoolCache, progress: Progress
    ) -> SpiderIP | None:
        """Take over a record whose cooldown is over, which the controller has not deleted yet."""
        now = self._clock()
        over = [record for record in cache.cooling if allocation.cooldown_is_over(record, pool, now)]
        taken = await self._take_any(request, cache, over, progress)
        return taken[1] if taken else None

    async def _take_early(
        self, request: AllocationRequest, pools: Iterable[SpiderIPPool], progress: Progress
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
        self, request: AllocationRequest, cache: PoolCache, released: list[SpiderIP], progress: Progress
    ) -> tuple[SpiderIP, SpiderIP] | None:
        """Take over the first record that no other pod takes meanwhile: (as it was, as it is now)."""
        for record in released:
            if address_of(record) not in cache.addresses:  # excluded or reserved since it was released
                continue
            if address_of(record) in self._occupied(request.version):
                continue
            if record in cache.cooling:  # another call may have removed it while we waited for the API server
                cache.cooling.remove(record)
                with suppress(Conflict, NotFound):  # another pod was faster; try the next one
                    return record, await self._writes.take_over(request, record, progress)
        return None

    # --- addresses that somebody else uses

    def mark_conflicting(self, record: SpiderIP) -> None:
        """Try an address last for a while, since somebody else uses it, who may go away."""
        pool = self.pool(record.spec.pool)
        if pool is not None:
            with suppress(ValueError):  # ranges that cannot be parsed give no address anyway
                conflicting, address = self._caches.of(pool).conflicting, address_of(record)
                conflicting.add(address)
                asyncio.get_running_loop().call_later(CONFLICT_SECONDS, conflicting.discard, address)

    def is_conflicting(self, record: SpiderIP) -> bool:
        """Whether somebody outside the cluster was seen to use an address."""
        cache = self._caches.known(record.spec.pool)
        return cache is not None and address_of(record) in cache.conflicting

    def reserved(self, record: SpiderIP) -> AddressSet:
        """The reserved addresses of the family of a record."""
        return self._reserved(allocation.family(record))

    def pool(self, name: str) -> SpiderIPPool | None:
        """A pool that this node may use; None for another one."""
        return next((pool for pool in self._usable() if pool.name == name), None)


def _now() -> float:
    return asyncio.get_running_loop().time()
