"""Finds the address that a pod's sticky owner, or a pod of the same name, had before."""

from __future__ import annotations

from contextlib import suppress

from spiderpool.agent import record_store
from spiderpool.agent.pool_search import PoolSearch
from spiderpool.agent.record_store import ClusterReads, RecordStore
from spiderpool.agent.record_writes import CALL_TIMEOUT, Progress, RecordWrites
from spiderpool.agent.releases import CONFLICT_TRIES, PendingRelease
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam import allocation, inheritance, selection
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import ApiUnavailable, NotReady, Refused
from spiderpool.kube.client import Conflict, NotFound
from spiderpool.telemetry import logger

log = logger("ipam")


class Inheritance:
    """Takes over the records of sticky owners and of former pods, for the pods of one node."""

    def __init__(self, records: RecordStore, writes: RecordWrites, search: PoolSearch, reads: ClusterReads) -> None:
        self._records = records
        self._writes = writes
        self._search = search
        self._reads = reads

    async def inherit(self, request: AllocationRequest, progress: Progress) -> SpiderIP | None:
        """The address that the pod's sticky owner, or a pod of the same name, had before."""
        if request.owner is not None:
            return await self._inherit_from_owner(request, progress)
        for record in self._records.released():
            if not (inheritance.was_of(record, request) and allocation.is_acceptable(record, request)):
                continue
            if self._suits_as_seen(request, record) and not self._search.is_conflicting(record):
                with suppress(Conflict, NotFound):  # another pod was faster; look on
                    return await self._writes.take_over(request, record, progress)
        return None

    async def check_alone(self, request: AllocationRequest, created: SpiderIP, progress: Progress) -> None:
        """Refuse an address that was made for a sticky owner which another of its pods got one for meanwhile.

        Two pods of a machine may be attached at once, and of an ordinal after a deletion by force; each reads what the
        owner has before it makes a record. Raises NotReady, upon which the call is undone: the next one finds what the
        owner has.
        """
        if request.owner is None:
            return
        known = {record.name: record_store.holder_of(record) for record in (*(progress.owned or ()), created)}
        label = owner_label(request.owner, request.pod)
        for record in await self._records.of_owner(label, timeout=CALL_TIMEOUT):
            holder = record_store.holder_of(record)
            if inheritance.is_for(record, request) and holder is not None and holder != known.get(record.name):
                raise NotReady(f"{request} was given {record.spec.address} by another pod of its owner meanwhile")

    async def _inherit_from_owner(self, request: AllocationRequest, progress: Progress) -> SpiderIP | None:
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

    async def _first_that_suits(self, request: AllocationRequest, progress: Progress) -> SpiderIP | None:
        """Take over the owner's first record that suits the pod. Raises Conflict or NotFound.

        The others are outdated. None is released before the pod has another address. One whose pool does not exist, or
        whose node has no labels yet, is left alone, and keeps the pod from none that suits it. Raises Refused for it
        when no other one does. A machine that runs and moves takes along what it runs with, or nothing.
        """
        inherited: SpiderIP | None = None
        refusal: Refused | None = None
        outdated: list[PendingRelease] = []
        for record in await self._in_question(request, progress):
            try:
                reason = "its owner has another" if inherited else await self._why_unsuitable(request, record)
            except Refused as error:
                refusal = refusal or error
                continue
            if reason is None:
                inherited = await self._take_over_owned(request, record)
                if inherited is not record:
                    progress.inherited.add(record.name)
                continue
            address = record.spec.address
            log.info("address no longer suits its owner", address=address, asked=str(request), reason=reason)
            if request.migrating:  # the machine runs, whatever pod its record names
                progress.apart.add((request.interface, request.version))
            elif not record.spec.releasedAt:
                is_another = record.spec.podUID != request.pod_uid
                outdated.append(PendingRelease(record, keep_for_owner=False, spare_holder=is_another))
        if refusal is not None and inherited is None:
            raise refusal
        progress.outdated += outdated
        return inherited

    async def _in_question(self, request: AllocationRequest, progress: Progress) -> list[SpiderIP]:
        """The owner's records; of a machine that runs only the one with which it does. Raises as `_runs_elsewhere`."""
        records = inheritance.in_order(progress.owned or (), request)
        return [record for record in records if await self._runs_elsewhere(request, record)] or records

    async def _take_over_owned(self, request: AllocationRequest, record: SpiderIP) -> SpiderIP:
        """Make the requesting pod the holder of its owner's record, if it is not. Raises Conflict or NotFound.

        Not while a sandbox of the former pod may have the address, unless a machine moves from there: then Refused. Of
        a machine that moves, the former pod is noted, so that nobody gets the address before it has gone as well.
        """
        holder = (request.pod_uid, request.interface)
        if record_store.holder_of(record) == holder and record.spec.node == request.node:
            self._records.adopt(record)
            return record
        if record.spec.podUID == request.pod_uid or record.spec.releasedAt:
            return await self._writes.replace(request, record, record.spec.movedFrom or ())
        if not request.migrating:
            await self._reads.until_given_up(record, request)
            return await self._writes.replace(request, record)
        moved_from = (*await self._reads.still_moving(record), allocation.holder_before_move(record))
        return await self._writes.replace(request, record, moved_from)

    async def _runs_elsewhere(self, request: AllocationRequest, record: SpiderIP) -> bool:
        """Whether another pod of the owner has the address and still runs. Raises Refused unless it is migrating."""
        if not inheritance.may_run_elsewhere(record, request):
            return False
        if not await self._reads.is_held(record):
            return False
        if not request.migrating:
            raise inheritance.other_machine(record, request)
        return True

    async def _why_unsuitable(self, request: AllocationRequest, record: SpiderIP) -> str | None:
        """Why the address that an owner has does not fit its pod any more; None when it does.

        A pool that this node does not see may be that of another node, or about to be seen, so it is read. Raises
        Refused when it does not exist: it may be about to be created again, and a fixed address is not given up for
        that. Nor for labels of the node that come late.
        """
        if reason := inheritance.why_not_asked(request, record):
            return reason
        name = record.spec.pool
        pool = self._search.pool(name)
        if pool is None or inheritance.why_moving(request, record, pool):  # the cache may lack that it was taken back
            pool = await self._reads.pool(name)
        if pool is None:
            raise inheritance.missing_pool(request, record)
        if selection.fits_but_for_node_labels(request, pool):  # the cache may lack the Node, or labels set since
            return inheritance.why_labels_differ(request, record, pool, await self._reads.node(request.node))
        return inheritance.why_lost(request, record, pool, self._search.reserved(record))

    def _suits_as_seen(self, request: AllocationRequest, record: SpiderIP) -> bool:
        """Whether an address that the pod may have again, but need not, fits it by the pools that this node sees."""
        pool = self._search.pool(record.spec.pool)
        if pool is None:
            return False
        return inheritance.why_lost(request, record, pool, self._search.reserved(record)) is None
