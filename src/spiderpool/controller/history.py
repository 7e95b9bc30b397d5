"""Writes the history of who held which address, in batches, from the SpiderIPs that the leader watches.

No ADD and no DEL waits for it, and nothing else of Spiderpool reads it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory, part_name
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam import history
from spiderpool.core.ipam.allocation import address_text
from spiderpool.errors import is_bug
from spiderpool.kube.client import AlreadyExists, Client, Conflict, NotFound
from spiderpool.kube.histories import parts, rows_in
from spiderpool.kube.informer import Informer
from spiderpool.kube.turns import Turn, in_turns
from spiderpool.telemetry import logger

MOST_WAITING = 50_000
"""Rows that wait to be written. What happens beyond is found later by a comparison, with less exact times."""
MOST_AHEAD = 16_384
"""Rows of a comparison that wait before it goes on."""
MOST_OBJECTS = 8
"""Objects that are written, and old ones that are deleted, at a time."""
MOST_PER_PART = 2
"""Writes that the rows of one object take: there may be room for a part of them in the newest one."""
PULSE = 600.0
"""Seconds after which an object is written without a new row, to say until when nothing was missed."""
LATENESS = 2
"""Seconds by which an event may be late: so much of the time before a write is not vouched for."""
TIMEOUT = 20.0
"""Seconds for each request: objects are large."""

log = logger("history")


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """How much is kept, and how often it is written."""

    objects: int
    interval: float
    """Seconds."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""


@dataclass(slots=True)
class Ring:
    """What is stored, as far as this leader knows."""

    rows: dict[int, int] = field(default_factory=dict)
    """Number of each object → its rows; the oldest first."""
    number: int = 1
    """Of the newest object."""
    version: str | None = None
    """Of the newest object; None: it is not made yet."""
    since: str = ""
    """Of the newest object."""
    text: str = ""
    """The rows of the newest object."""
    covered: int | None = None
    """Until when nothing was missed."""
    is_damaged: bool = False
    """Whether rows of the newest object cannot be read: no row is added to it."""

    def note(self, number: int, part: SpiderIPHistory, text: str, now: float) -> None:
        """Take note of an object that is stored, the newest so far.

        What a leader has vouched for whose clock was ahead says nothing: then the object before counts.
        """
        self.rows[number] = history.count_rows(text)
        self.number, self.version, self.since = number, part.metadata.resourceVersion, part.spec.since
        self.text, self.is_damaged = text, history.count_rows(text) != part.spec.rows
        covered = history.seconds(part.spec.covered)
        if covered is not None and covered <= now + history.TOLERANCE:
            self.covered = min(covered, int(now))

    def set_clock_back(self, now: float) -> None:
        """Vouch for nothing that is to come: our own clock may have been ahead."""
        if self.covered is not None:
            self.covered = min(self.covered, int(now))

    def turn_over(self) -> None:
        """Begin the next object."""
        self.number, self.version, self.since, self.text = self.number + 1, None, "", ""
        self.is_damaged = False


class HistoryWriter:
    """Follows the SpiderIPs and writes what happens to them, until cancelled."""

    def __init__(self, client: Client, ips: Informer[SpiderIP], pods: Informer[Pod], options: HistoryOptions) -> None:
        self._client = client
        self._ips = ips
        self._pods = pods
        self._options = options
        self._ring: Ring | None = None  # None: it has to be read
        self._lasting: dict[str, str] = {}  # address → tenure that lasts, by the rows that are written and that wait
        self._waiting: deque[str] = deque()  # rows to be written
        self._follows = False  # whether changes are followed, since something was read
        self._is_compared = False  # whether the rows say what the records say
        self._missed = 0  # changes for which there was no room
        self._complaint = ""  # the last failure, told once

    async def run(self) -> None:
        """Read what is stored, compare it with the records, and follow these until cancelled."""
        while True:
            try:
                await self._catch_up()
                await self._flush()
                self._complaint = ""
            except (AlreadyExists, Conflict, NotFound) as error:  # written by another leader, or before an answer came
                self._ring = None
                self._complain(error)
            except Exception as error:  # whatever goes wrong here must not end the controller
                self._complain(error)
            await asyncio.sleep(self._options.interval)

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complaint or is_bug(error):
            log.warning("history is not written", error=str(error), exc_info=is_bug(error), waiting=len(self._waiting))
        self._complaint = str(error)

    # --- What happens ---------------------------------------------------------------------------------------------

    def _on_record(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        now = int(self._options.clock())
        is_change = old is not None and new is not None and old.metadata.uid == new.metadata.uid
        former = self._present(old, 0)
        stored = former.body if former is not None else None  # where the comparison has not come to it yet
        for record in (old, new):
            if record is not None and record.defect() is None:
                address = address_text(record)
                self._look(self._lasting.get(address, stored), new, now if is_change else 0, (now, now))
                return

    def _present(self, record: SpiderIP | None, not_before: int) -> history.Tenure | None:
        if record is None:
            return None
        return history.present(record, self._pods.get(f"{record.spec.namespace}/{record.spec.pod}"), not_before)

    def _look(self, stored: str | None, record: SpiderIP | None, not_before: int, ended: tuple[int, int]) -> None:
        """Have written what has changed of an address; ``ended``: between when and when, if nothing is more exact."""
        end = partial(history.end_of, record=record, ended_after=ended[0], now=ended[1])
        for row in history.rows_of(stored, self._present(record, not_before), end):
            if len(self._waiting) >= MOST_WAITING:
                self._missed += 1
                self._is_compared = False
                return
            self._waiting.append(row)
            history.apply(self._lasting, row)

    # --- What is stored -------------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Read what is stored if that is needed, and compare it with the records, which may take some writes."""
        if self._ring is None:
            self._is_compared = False
            await self._read()
        assert self._ring is not None
        self._ring.set_clock_back(self._options.clock())
        if not self._is_compared and len(self._waiting) < MOST_AHEAD:
            await self._compare()

    async def _read(self) -> None:
        ring, lasting, known, turn = Ring(), dict[str, str](), set[str](), Turn()
        waiting = frozenset(self._waiting)  # more may come meanwhile
        async for number, part, text in parts(self._client, timeout=TIMEOUT):
            ring.note(number, part, text, self._options.clock())
            for row in text.split("\n") if text else ():
                history.apply(lasting, row)
                if row in waiting:
                    known.add(row)
                if turn.is_over():
                    await turn.next()
        if ring.is_damaged:
            ring.turn_over()
        self._waiting = deque(row for row in self._waiting if row not in known)
        for row in self._waiting:
            history.apply(lasting, row)
        self._ring, self._lasting = ring, lasting
        if not self._follows:
            self._ips.subscribe(self._on_record, replay=False)
            self._follows = True

    async def _compare(self) -> None:
        """Look at all addresses that somebody holds, by the rows or by the records."""
        assert self._ring is not None
        vouched, missed = self._ring.covered or 0, self._missed
        async for address in in_turns(list(self._lasting)):
            await self._compare_one(address, self._ips.get(object_name(address)), vouched)
        async for listed in in_turns(self._ips.items()):
            record = self._ips.get(listed.key)
            if record is not None and record.defect() is None:
                await self._compare_one(address_text(record), record, vouched)
        self._is_compared = self._missed == missed

    async def _compare_one(self, address: str, record: SpiderIP | None, vouched: int) -> None:
        ended = (vouched, int(self._options.clock()))
        self._look(self._lasting.get(address), record, vouched, ended)
        if len(self._waiting) >= MOST_AHEAD:
            await self._flush(caught_up=False)
            await asyncio.sleep(self._options.interval)

    async def _flush(self, *, caught_up: bool = True) -> None:
        """Write the rows that wait, as far as a few objects hold them, then delete the oldest objects."""
        assert self._ring is not None
        now = self._options.clock()
        for _ in range(MOST_OBJECTS):
            is_silent = caught_up and self._is_compared and now - (self._ring.covered or 0) >= PULSE
            if not self._waiting and not is_silent:
                break
            await self._write(self._ring, now, caught_up=caught_up)
        await self._trim(self._ring, now)

    async def _write(self, ring: Ring, now: float, *, caught_up: bool) -> None:
        """Add rows to the newest object, or begin one. Raises AlreadyExists, Conflict, NotFound."""
        text, count = history.fill(ring.text, self._waiting)
        if self._waiting and not count:
            ring.turn_over()
            text, count = history.fill("", self._waiting)
        is_all = caught_up and self._is_compared and count == len(self._waiting)
        covered = int(now) - LATENESS if is_all else ring.covered
        since = ring.since or history.moment(now)
        data = await asyncio.to_thread(history.pack, text)
        spec = IPHistorySpec(since, history.count_rows(text), data, history.moment(covered) if covered else None)
        part = SpiderIPHistory.numbered(ring.number, ring.version, spec)
        write = self._client.replace if ring.version else self._client.create
        stored = await write(part, timeout=TIMEOUT)
        for _ in range(count):
            self._waiting.popleft()
        ring.note(ring.number, stored, text, now)

    async def _trim(self, ring: Ring, now: float) -> None:
        """Delete the oldest objects beyond the limit; what they alone say of tenures that last is written again."""
        for number in list(ring.rows)[: max(len(ring.rows) - self._options.objects, 0)][:MOST_OBJECTS]:
            part = await self._client.find(SpiderIPHistory, part_name(number), timeout=TIMEOUT)
            if part is not None:
                carried = self._carried(ring, rows_in(part))
                self._waiting.extendleft(reversed(carried))
                for _ in range(MOST_PER_PART if carried else 0):
                    await self._write(ring, now, caught_up=False)
                with suppress(NotFound):
                    await self._client.delete(SpiderIPHistory, part.name, uid=part.metadata.uid, timeout=TIMEOUT)
            del ring.rows[number]

    def _carried(self, ring: Ring, text: str) -> list[str]:
        """Rows to be written again; none where such rows would fill more than half of all objects."""
        if 2 * len(self._lasting) > sum(ring.rows.values()):
            return []
        return history.still_needed(text, self._lasting)
