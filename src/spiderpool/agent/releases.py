"""Releases SpiderIP records: at once if the API server answers, otherwise by retries in the background.

A release never touches a record that has another holder by now: every write names the version that was read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.record_store import ClusterReads, RecordStore, is_same_holding
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam import allocation
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Conflict, NotFound
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import RELEASE_FAILURES, RELEASES, logger

RELEASE_TIMEOUT = 2.0
"""Seconds that a DEL waits for one call to the API server; then the release goes on in the background."""

RETRY_PAUSE = 1.0
"""Seconds until a release that failed is tried again; the queue's own backoff comes after that."""
WORKERS = 4
"""Deferred releases that are carried out at a time."""

CONFLICT_TRIES = 3
"""Times that a record may change between our read and our write before we give up for now."""

log = logger("ipam")


@dataclass(frozen=True, slots=True)
class PendingRelease:
    """A record to be released."""

    record: SpiderIP
    keep_for_owner: bool = True
    """Leave the record as it is if its sticky owner still needs it."""
    cool: bool = True
    """Start the cooldown where the pool has one, rather than delete the record."""
    spare_holder: bool = False
    """The record is another pod's: leave it as it is if that pod still runs.

    If only its sandbox may, take the record from its owner, so that garbage collection judges it as any other.
    """


def after_del(record: SpiderIP, ungranted: Mapping[str, bool]) -> PendingRelease:
    """The release of what an interface holds at its DEL; ``ungranted`` are names of records that no ADD has granted.

    Of these no sandbox of the pod had the address, so that the owner does not keep it, which may have another one. It
    cools down only where the name says so, because of who had it before.
    """
    is_granted = record.name not in ungranted
    return PendingRelease(record, keep_for_owner=is_granted, cool=ungranted.get(record.name, is_granted))


class Releases:
    """The releases of one node.

    ``locks`` are held per pod UID, so that a release and an ADD of one pod never run at once; ``clock`` gives seconds
    since 1970.

    The calls of a DEL: `release_or_defer`, then `_release` (unless the owner needs the record), then
    `_end`, then `_unless_taken_over` (repeats while the record changes), then `_end_holding` (the write).
    """

    def __init__(
        self,
        records: RecordStore,
        pool: Callable[[str], SpiderIPPool | None],
        locks: KeyedLock,
        *,
        reads: ClusterReads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._pool = pool
        self._locks = locks
        self._reads = reads
        self._clock = clock
        self._pending: dict[str, PendingRelease] = {}  # record name → release that is not done yet
        self._unanswered: set[str] = set()  # record names with a pending release whose write was not answered
        self._queue = WorkQueue(self.retry, "release")

    async def run(self) -> None:
        """Carry out deferred releases until cancelled."""
        await self._queue.run(workers=WORKERS)

    async def release_or_defer(self, pending: PendingRelease) -> None:
        """Release a record now or, after any error, in the background. The caller holds the lock of the pod.

        Never fails, so a DEL succeeds while the API server is away. A restart of the agent forgets what is pending;
        then garbage collection releases the record.
        """
        name = pending.record.name
        pending = self._pending[name] = self._joined(pending)
        try:
            await self._release(pending)
        except SpiderpoolError as error:
            RELEASE_FAILURES.inc()
            log.warning("release put off", address=name, error=str(error))
            self._queue.add(name, after=RETRY_PAUSE)
        except asyncio.CancelledError:  # the DEL took too long; its release goes on without it
            self._queue.add(name, after=RETRY_PAUSE)
            raise

    def defer(self, pending: PendingRelease) -> None:
        """Release a record in the background. The caller need not hold the lock of the pod."""
        self._pending[pending.record.name] = self._joined(pending)
        self._queue.add(pending.record.name)

    def _joined(self, pending: PendingRelease) -> PendingRelease:
        """A release and the one that is pending for the same holding, since which no sandbox had the address."""
        former = self._pending.get(pending.record.name)
        if former is None or not is_same_holding(former.record, pending.record):
            return pending
        keep_for_owner = former.keep_for_owner and pending.keep_for_owner
        return replace(pending, keep_for_owner=keep_for_owner, cool=former.cool and pending.cool)

    def is_pending(self, record: SpiderIP) -> bool:
        """Whether the release of a record is not done yet; one for a former holder of the address does not count."""
        pending = self._pending.get(record.name)
        return pending is not None and is_same_holding(pending.record, record)

    async def withdraw(self, record: SpiderIP) -> bool:
        """Cancel the pending release of a record that its pod asks for again. Returns whether the pod still holds it.

        A write that was not answered may be done already, or late, when the pod relies on the record. So such a release
        is completed, and the pod has to get an address anew.
        """
        if not self.is_pending(record):
            return True
        pending = self._pending[record.name]
        if record.name in self._unanswered:
            return not await self._release(pending)
        self._forget(record.name)
        return True

    def supersede(self, record: SpiderIP) -> None:
        """Forget what is pending for an address that a pod has just been granted: it was about a former holding.

        Also when the same pod had it: one of its releases was done, but not answered. A late write for it names a
        version that is no more.
        """
        self._forget(record.name)

    async def _end_holding(self, record: SpiderIP, *, cool: bool) -> None:
        """Mark a record as released where its pool has a cooldown, else delete it. Raises Conflict or NotFound.

        One of another node becomes this node's before: an agent may end no others.
        """
        pool = (self._pool(record.spec.pool) or await self._reads.pool(record.spec.pool)) if cool else None
        self._unanswered.add(record.name)
        try:
            own = allocation.moved_to(record, self._records.node)
            if pool and not pool.terminating and pool.spec.cooldownSeconds:
                await self._records.replace(allocation.released(own, self._clock()), timeout=RELEASE_TIMEOUT)
            else:
                if record.spec.node != self._records.node:
                    record = await self._records.replace(own, timeout=RELEASE_TIMEOUT)
                await self._records.delete(record, timeout=RELEASE_TIMEOUT)
        except ApiRefusal:
            self._unanswered.discard(record.name)
            raise

    async def retry(self, name: str) -> None:
        """Carry out the pending release of a record, if there still is one. Raises what the API server answers."""
        pending = self._pending.get(name)
        if pending is None:
            return
        async with self._locks.held(pending.record.spec.podUID):
            if self._pending.get(name) is pending:  # neither done nor withdrawn while we waited for the lock
                await self._release(pending)

    async def _release(self, pending: PendingRelease) -> bool:
        """Release a record unless somebody needs it; whether nobody does. After an error the release stays pending.

        One whose write was not answered is completed, whoever needs it: it may be done already, or late.
        """
        is_wanted = pending.record.name not in self._unanswered and await self._is_wanted(pending)
        if not is_wanted:
            await self._end(pending)
        self._forget(pending.record.name)
        return not is_wanted

    async def _end(self, pending: PendingRelease) -> None:
        """End the holding of a record that nobody needs, or let garbage collection do it where a sandbox may run."""
        record = pending.record
        is_used = self._reads.why_not_given_up if pending.spare_holder else self._reads.why_not_moved
        reason = await is_used(record)
        if reason is None:
            await self._unless_taken_over(record, partial(self._end_holding, cool=pending.cool))
            RELEASES.inc()
        else:
            log.warning("left to garbage collection", address=record.spec.address, reason=reason)
            if not pending.keep_for_owner:  # which has another address
                await self._unless_taken_over(record, self._disown)

    async def _disown(self, record: SpiderIP) -> None:
        """Take a record from its owner; one of another node is not cached. Raises Conflict or NotFound."""
        is_cached = any(each.name == record.name for each in self._records.of_pod(record.spec.podUID))
        written = await self._records.replace(allocation.disowned(record), timeout=RELEASE_TIMEOUT)
        if not is_cached:
            self._records.forget(written)

    def _forget(self, name: str) -> None:
        self._pending.pop(name, None)
        self._unanswered.discard(name)

    async def _is_wanted(self, pending: PendingRelease) -> bool:
        """Whether the owner or the pod of a record needs it, as far as the release has to heed that."""
        record = pending.record
        if pending.keep_for_owner and record.spec.owner and await self._reads.is_needed(record):
            return True
        return pending.spare_holder and await self._reads.is_held(record)

    async def _unless_taken_over(self, record: SpiderIP, write: Callable[[SpiderIP], Awaitable[None]]) -> None:
        """Write to a record; read it again and retry while only its version has changed.

        Repeating is safe: a record with another holder is left alone.
        """
        for _ in range(CONFLICT_TRIES):
            try:
                return await write(record)
            except (Conflict, NotFound):
                found = await self._records.get(record.name, timeout=RELEASE_TIMEOUT)
                if found is None or not is_same_holding(found, record):
                    return self._update_cache(record, found)
                record = found
        raise ApiUnavailable(f"the record {record.name} changes under our hands; it will be tried again")

    def _update_cache(self, record: SpiderIP, found: SpiderIP | None) -> None:
        """Replace a cached record by what a read found under its name, if that belongs to this node."""
        if found and found.spec.node == record.spec.node:
            self._records.adopt(found)
        else:
            self._records.forget(record)
