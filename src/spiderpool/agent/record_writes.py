"""The writes of the ADD path to records, and what is remembered of those whose answer was lost.

A write that was not answered may have been done, may still be done later, or never. Until that is known, the holder's
next ADD or DEL reads the record, and its next ADD sends the same create again: whichever of the two is carried out
first, the other is refused, and no holder gets two addresses. After a DEL `late_writes` goes on to read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from spiderpool.agent import record_store
from spiderpool.agent.record_store import Holder, RecordStore
from spiderpool.agent.releases import CONFLICT_TRIES, PendingRelease
from spiderpool.api.ip import FormerPod, SpiderIP
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.errors import ApiUnavailable, NotReady
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound
from spiderpool.telemetry import ALLOCATION_CONFLICTS

CALL_TIMEOUT = 10.0
"""Seconds for one call to the API server on the ADD path; the whole ADD has its own limit."""

MOST_UNANSWERED = 1_000
"""Holders of which writes without an answer are remembered; the oldest is forgotten first."""


@dataclass(slots=True)
class Progress:
    """What one call of `Allocator.allocate` has done so far."""

    taken: list[PendingRelease] = field(default_factory=list)
    """How to undo what was created or taken over, if a later request of the call fails."""
    early: list[SpiderIP] = field(default_factory=list)
    trace: list[Verdict] = field(default_factory=list)
    inherited: set[str] = field(default_factory=set)
    """Names of the owner's records of which this call has made the pod the holder."""
    owned: list[SpiderIP] | None = None
    """The records of the pod's sticky owner, read once for all requests of the call; None until they are read."""
    ended: list[SpiderIP] = field(default_factory=list)
    """What the pod held until this call completed a release that had begun: it gets these addresses again if it can."""
    outdated: list[PendingRelease] = field(default_factory=list)
    """Addresses that no longer suit the pod: released once the whole call has succeeded, when it has others."""
    apart: set[RequestKey] = field(default_factory=set)
    """Requests whose owner's address stays with another pod, so that they get an address that is the pod's alone."""


@dataclass(frozen=True, slots=True)
class UnansweredWrite:
    """A write that may have been done, or may still be."""

    record: SpiderIP
    """As a create has sent it; as it was before, when another pod held it."""
    is_owners: bool = False
    """Whether the pod's sticky owner had the record before, and keeps it whatever becomes of the write."""

    @property
    def creates(self) -> bool:
        """Whether it makes the record."""
        return not self.record.metadata.uid


class RecordWrites:
    """Creates records and takes them over, for the pods of one node."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._unanswered: dict[Holder, dict[str, UnansweredWrite]] = {}  # holder → name of the record → write
        self._lost: dict[Holder, dict[str, float]] = {}  # holder → name → when a create of it was last not answered

    async def create(self, record: SpiderIP, progress: Progress) -> SpiderIP | None:
        """Create a record; None when its address has one already that is not the same holder's."""
        holder = (record.spec.podUID, record.spec.interface)
        try:
            created = await self._records.create(record, timeout=CALL_TIMEOUT)
        except AlreadyExists:
            ALLOCATION_CONFLICTS.inc()
            return await self._recognise(record, holder, progress)
        except (ApiUnavailable, asyncio.CancelledError):
            self._remember(holder, UnansweredWrite(record))
            raise
        self._forget(holder, record.name)
        progress.taken.append(PendingRelease(created, keep_for_owner=False, cool=False))
        return created

    async def take_over(self, request: AllocationRequest, record: SpiderIP, progress: Progress) -> SpiderIP:
        """Take over a released record, whoever had it before. Raises Conflict or NotFound."""
        taken = await self._replace(request, UnansweredWrite(record), ())
        progress.taken.append(PendingRelease(taken, keep_for_owner=False))
        return taken

    async def replace(
        self, request: AllocationRequest, record: SpiderIP, moved_from: Iterable[FormerPod] = ()
    ) -> SpiderIP:
        """Make the requesting pod the holder of its sticky owner's record. Raises Conflict or NotFound.

        ``moved_from`` are pods of its virtual machine that may still have the address.
        """
        return await self._replace(request, UnansweredWrite(record, is_owners=True), moved_from)

    async def retain(self, record: SpiderIP, *, anew: bool) -> None:
        """Write a record that its pod is granted without the mark of a release, which then fails.

        ``anew``: also one without a mark; then every deletion fails that was sent before. Raises NotReady when it was
        faster, or ApiUnavailable; the next ADD gets what the pod holds by then.
        """
        change = allocation.renewed if anew else allocation.unmarked
        for _ in range(CONFLICT_TRIES):
            is_written = True
            try:
                found: SpiderIP | None = await self._records.replace(change(record), timeout=CALL_TIMEOUT)
            except (Conflict, NotFound):
                is_written = False
                found = await self._records.get(record.name, timeout=CALL_TIMEOUT)
            if found is None:
                self._records.forget(record)
            else:
                self._records.adopt(found)
            if found is None or not record_store.is_same_holding(found, record):
                raise NotReady(f"{record.spec.address} has just been released; the pod gets another one")
            if is_written or not (anew or found.marked):
                return
            record = found
        raise ApiUnavailable(f"the record {record.name} changes under our hands; it will be tried again")

    def unanswered_creates(self, holder: Holder) -> tuple[SpiderIP, ...]:
        """Records whose create was not answered, as they were sent."""
        return tuple(write.record for write in self._unanswered.get(holder, {}).values() if write.creates)

    def ungranted(self, holder: Holder) -> dict[str, bool]:
        """Names of the records that no ADD has granted, if the holder gets them, and whether they have to cool down.

        Their create, or take-over from somebody else, was not answered.
        """
        unanswered = self._unanswered.get(holder, {})
        return {name: not write.creates for name, write in unanswered.items() if not write.is_owners}

    def lost_creates(self, holder: Holder, since: float) -> frozenset[str]:
        """Names of the records whose create was not answered at a time of the event loop's clock, or later.

        It was sent as often as there were ADDs: when one is decided, another may still be carried out, if the record
        is deleted meanwhile.
        """
        return frozenset(name for name, at in self._lost.get(holder, {}).items() if at >= since)

    async def resolve(self, holder: Holder, timeout: float) -> None:
        """Read the records whose write was not answered, and cache those that the holder got.

        One that is as it was before the write stays in doubt: it may still be done. One that the holder got is
        remembered until it is granted or released.
        """
        for name, write in tuple(self._unanswered.get(holder, {}).items()):
            found = await self._records.get(name, timeout=timeout)
            has_got = found is not None and record_store.holder_of(found) == holder
            if _is_decided(write, found) and not (has_got and not write.is_owners):
                self._forget(holder, name)
            if found is not None and has_got:
                self._records.adopt(found)

    def granted(self, record: SpiderIP) -> None:
        """An ADD grants a record: whatever was in doubt about it, its holder has it now."""
        self._forget((record.spec.podUID, record.spec.interface), record.name)

    def is_unanswered(self, holder: Holder) -> bool:
        """Whether a write for a holder may still be carried out."""
        return holder in self._unanswered

    def forget_all(self, holder: Holder) -> None:
        """Remember nothing of a holder any more: what its writes may still do is left to garbage collection."""
        self._unanswered.pop(holder, None)
        self._lost.pop(holder, None)

    async def _recognise(self, record: SpiderIP, holder: Holder, progress: Progress) -> SpiderIP | None:
        """The record of an address that has one already, if a create of ours that was not answered has made it."""
        if record.name not in self._unanswered.get(holder, ()):
            return None
        found = await self._records.get(record.name, timeout=CALL_TIMEOUT)
        self._forget(holder, record.name)
        if found is None or record_store.holder_of(found) != holder:
            return None
        self._records.adopt(found)
        progress.taken.append(PendingRelease(found, keep_for_owner=False, cool=False))
        return found

    async def _replace(
        self, request: AllocationRequest, write: UnansweredWrite, moved_from: Iterable[FormerPod]
    ) -> SpiderIP:
        """Make the requesting pod the holder of a record; ``write`` is what is remembered when no answer comes."""
        holder, record = (request.pod_uid, request.interface), write.record
        try:
            taken = await self._replace_or_recognise(request, allocation.taken_over(record, request, moved_from))
        except (ApiUnavailable, asyncio.CancelledError):
            self._remember(holder, write)
            raise
        self._forget(holder, record.name)
        return taken

    async def _replace_or_recognise(self, request: AllocationRequest, wanted: SpiderIP) -> SpiderIP:
        """The record as replaced by us, also by a former call whose answer was lost.

        Such a write may be carried out late and then conflicts with ours, so a record that conflicts is read again.
        """
        try:
            return await self._records.replace(wanted, timeout=CALL_TIMEOUT)
        except Conflict:
            found = await self._records.get(wanted.name, timeout=CALL_TIMEOUT)
            if found is None or record_store.holder_of(found) != (request.pod_uid, request.interface):
                raise
            self._records.adopt(found)
            return found

    def _remember(self, holder: Holder, write: UnansweredWrite) -> None:
        name = write.record.name
        self._unanswered.setdefault(holder, {})[name] = write
        if write.creates:
            self._lost.setdefault(holder, {})[name] = asyncio.get_running_loop().time()
        # Of pods whose DEL never came: garbage collection finds their records.
        if len(self._unanswered) > MOST_UNANSWERED:
            self._unanswered.pop(next(iter(self._unanswered)))
        if len(self._lost) > MOST_UNANSWERED:
            self._lost.pop(next(iter(self._lost)))

    def _forget(self, holder: Holder, name: str) -> None:
        unanswered = self._unanswered.get(holder, {})
        unanswered.pop(name, None)
        if not unanswered:
            self._unanswered.pop(holder, None)


def _is_decided(write: UnansweredWrite, found: SpiderIP | None) -> bool:
    """Whether a write can no longer be carried out, by the record that a later read has found."""
    if write.creates:
        return found is not None
    return found is None or found.metadata.resourceVersion != write.record.metadata.resourceVersion
