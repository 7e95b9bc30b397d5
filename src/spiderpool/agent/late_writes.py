"""Writes for an interface that may still be carried out after its DEL, since their answer was lost.

The API server gives a request up after a minute, so a create may be done long after the pod is gone, and the address
would be nobody's until garbage collection finds it. So the agent looks again for as long.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.record_store import Holder, RecordStore
from spiderpool.agent.record_writes import CALL_TIMEOUT, RecordWrites
from spiderpool.agent.releases import Releases, after_del
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

FIRST_PAUSE = 1.0
"""Seconds until the first look; each further pause is twice as long, but no look comes after PATIENCE."""
PATIENCE = 90.0
"""Seconds after a DEL in which its interface's writes may be carried out: a minute, and what a proxy holds them up."""

log = logger("ipam")


@dataclass(frozen=True, slots=True)
class EndedHolder:
    """A holder that had its DEL."""

    holder: Holder
    began: float
    """Time of the event loop's clock."""
    known: frozenset[str | None]
    """UIDs of the records that it held then: what it gets later by a create without an answer, no ADD has granted."""
    lost: frozenset[str]
    """Names of the records of such creates."""


class LateWrites:
    """Releases what holders get after their DEL. Its memory is bounded by that of :class:`RecordWrites`."""

    def __init__(self, records: RecordStore, writes: RecordWrites, releases: Releases, locks: KeyedLock) -> None:
        self._records = records
        self._writes = writes
        self._releases = releases
        self._locks = locks
        self._ended: dict[str, EndedHolder] = {}  # by key of the queue
        self._queue = WorkQueue(self._look, "late writes")

    async def run(self) -> None:
        """Look until cancelled."""
        await self._queue.run()

    def follow(self, holder: Holder) -> None:
        """Release what a holder gets from now on, if writes for it were not answered."""
        now = asyncio.get_running_loop().time()
        lost = self._writes.lost_creates(holder, now - PATIENCE)
        if not (lost or self._writes.is_unanswered(holder)):
            return
        before = self._ended.get(_key(holder))
        known = before.known if before else frozenset(record.metadata.uid for record in self._records.of(*holder))
        self._ended[_key(holder)] = EndedHolder(holder, now, known, lost)
        self._queue.add(_key(holder), FIRST_PAUSE)

    def ungranted(self, holder: Holder) -> dict[str, bool]:
        """Names of the records that no ADD has granted, if the holder has or gets them; as for `after_del`."""
        ungranted, ended = self._writes.ungranted(holder), self._ended.get(_key(holder))
        if ended is None:
            return ungranted
        unknown = (each for each in self._records.of(*holder) if each.metadata.uid not in ended.known)
        return ungranted | dict.fromkeys(ended.lost.intersection(each.name for each in unknown), False)

    def leave(self, holder: Holder) -> None:
        """Follow a holder no more, since it has another ADD; the caller holds the lock of the pod."""
        self._ended.pop(_key(holder), None)

    async def _look(self, key: str) -> None:
        ended = self._ended.get(key)
        if ended is None:
            return
        async with self._locks.held(ended.holder[0]):
            if self._ended.get(key) is ended:  # no ADD came while we waited for the lock
                await self._release(key, ended)

    async def _release(self, key: str, ended: EndedHolder) -> None:
        """Release what the holder has got; look again later while writes may be carried out. Raises ApiUnavailable."""
        ungranted = self.ungranted(ended.holder)
        await self._writes.resolve(ended.holder, CALL_TIMEOUT)
        ungranted |= self.ungranted(ended.holder)
        for record in self._records.of(*ended.holder):
            if record.metadata.uid in ended.known and record.name not in ungranted:
                continue  # the DEL has released it, or its owner keeps it
            log.warning("carried out after the DEL", address=record.spec.address, pod=record.spec.pod)
            await self._releases.release_or_defer(after_del(record, ungranted))
        age = asyncio.get_running_loop().time() - ended.began
        if (ended.lost or self._writes.is_unanswered(ended.holder)) and age < PATIENCE:
            self._queue.add(key, max(min(age, PATIENCE - age), FIRST_PAUSE))
        elif self._ended.get(key) is ended:  # else the pod's end has begun to follow it anew meanwhile
            self._writes.forget_all(ended.holder)
            del self._ended[key]


def _key(holder: Holder) -> str:
    return "/".join(holder)
