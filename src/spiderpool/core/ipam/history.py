"""The history of who held which address: what is written when a holder changes, and what the rows say.

A tenure is an interface of a pod that has an address. Its beginning is one row, and its end another one that says all
of it again, so that each can be read without the other.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.core.addresses import canonical

BEGUN, ENDED = "+", "-"
"""What a row begins with."""
FIELDS = 8
"""Of a tenure in a row: all of `Tenure` but its end."""
MOST_TEXT = 262_144
"""Bytes of rows in one object: what does not compress is a third longer as base64, a quarter of what etcd takes."""
EXACTNESS = 300
"""Seconds within which changes of a pool are counted together."""
MOST_CHARACTERS = 253
"""Of one field, as the names of Kubernetes; what is longer is cut."""
TOLERANCE = 10
"""Seconds by which the clocks of two machines may differ, and by which an event may be late."""
LATEST = 253_402_300_799
"""The last second that a time of the API can name."""


class Tenure(msgspec.Struct, frozen=True, gc=False):
    """An interface of a pod that has or had an address. Times are seconds since 1970."""

    address: str
    pool: str
    node: str
    namespace: str
    pod: str
    pod_uid: str
    interface: str
    begun: int
    ended_after: int | None = None
    """It had not ended then; None: it lasts."""
    ended_by: int | None = None
    """It had ended then. The same as the former, unless nobody was there to see it."""

    @property
    def lasts(self) -> bool:
        """Whether it has no end."""
        return self.ended_by is None

    @property
    def body(self) -> str:
        """What identifies it, as it is in its rows."""
        texts = (self.address, self.pool, self.node, self.namespace, self.pod, self.pod_uid, self.interface)
        return "\t".join((*map(_clean, texts), str(self.begun)))

    def covers(self, moment: float) -> bool | None:
        """Whether the pod had the address then; None where it may have."""
        if moment < self.begun:
            return False
        if self.ended_after is None or self.ended_by is None or moment < self.ended_after:
            return True
        return None if moment < self.ended_by else False


def seconds(moment: str | None) -> int | None:
    """A time of the API (RFC 3339) as seconds since 1970; None for what is no time."""
    try:
        found = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp())


def moment(at: float) -> str:
    """The same the other way round."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- What is written --------------------------------------------------------------------------------------------------


def present(record: SpiderIP | None, pod: Pod | None, not_before: int) -> Tenure | None:
    """The tenure that a record stands for; None where nobody has the address, or where the record is of none.

    ``pod`` is that of the record's name. A record may be older than its present holder, and a pod's next sandbox
    younger than the pod: so neither it, nor its pod, nor ``not_before`` is later than the beginning.
    """
    if record is None or record.spec.releasedAt is not None or record.defect() is not None:
        return None
    spec = record.spec
    born = pod.metadata.creationTimestamp if pod is not None and pod.metadata.uid == spec.podUID else None
    begun = max(seconds(record.metadata.creationTimestamp) or 0, seconds(born) or 0, not_before)
    address = canonical(spec.address.partition("/")[0])
    return Tenure(address, spec.pool, spec.node, spec.namespace, spec.pod, spec.podUID, spec.interface, begun)


def is_same_holder(body: str, tenure: Tenure) -> bool:
    """Whether a tenure as it is stored is this one, whenever this one is thought to have begun."""
    return body.rpartition("\t")[0] == tenure.body.rpartition("\t")[0]


def end_of(body: str, record: SpiderIP | None, ended_after: int, now: int) -> str:
    """The row for the end of a stored tenure, whose address has this record now.

    It had not ended at ``ended_after``. A record that cools down says when it was released: by the clock of its node,
    or by whoever has taken over an agent, so it is believed only where it fits to what the controller has seen.
    """
    begun = int(body.rpartition("\t")[2])
    released = _released_at(body, record)
    is_credible = released is not None and ended_after - TOLERANCE <= released <= now
    first, last = (released, released) if released is not None and is_credible else (ended_after, now)
    first = max(first, begun)
    return f"{ENDED}{body}\t{first}\t{max(last, first)}"


def _released_at(body: str, record: SpiderIP | None) -> int | None:
    """When the holder released its address, by a record that may be that of another holder."""
    if record is None or body.split("\t")[5] != _clean(record.spec.podUID):
        return None
    return seconds(record.spec.releasedAt)


def rows_of(stored: str | None, tenure: Tenure | None, end: Callable[[str], str]) -> list[str]:
    """What is to be written where ``stored`` lasts by the rows so far, and ``tenure`` by the records."""
    if stored is not None and tenure is not None and is_same_holder(stored, tenure):
        return []
    return [*([end(stored)] if stored else []), *([BEGUN + tenure.body] if tenure else [])]


def apply(lasting: dict[str, str], row: str) -> None:
    """Note a row in the tenures that last, by address; one that nobody can read is none."""
    if _tenure(row) is None:
        return
    body = _body(row)
    address = body.partition("\t")[0]
    if row.startswith(BEGUN):
        lasting[address] = body
    elif lasting.get(address) == body:
        del lasting[address]


def still_needed(text: str, lasting: dict[str, str]) -> list[str]:
    """The rows of an object without which tenures that last would be in no row."""
    rows = (row for row in text.split("\n") if row.startswith(BEGUN))
    return [row for row in rows if lasting.get(row[1:].partition("\t")[0]) == row[1:]]


def fill(text: str, rows: Iterable[str]) -> tuple[str, int]:
    """Rows added to the text of an object as long as there is room, and how many."""
    parts, size, count = [text] if text else [], len(text.encode()), 0
    for row in rows:
        size += len(row.encode()) + 1
        if size > MOST_TEXT:
            break
        parts.append(row)
        count += 1
    return "\n".join(parts), count


def count_rows(text: str) -> int:
    """The number of rows in a text."""
    return text.count("\n") + 1 if text else 0


def pack(text: str) -> str:
    """The text of an object as its ``data``."""
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unpack(data: str) -> str:
    """The text of an object's ``data``. Raises ValueError for what is none, or is longer than what we write."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(data, validate=True), MOST_TEXT + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > MOST_TEXT or not reader.eof:
        raise ValueError("it is cut off, or longer than the rows of one object may be")
    return content.decode()


def _body(row: str) -> str:
    """The part of a row that identifies its tenure."""
    return row[1:] if row.startswith(BEGUN) else row[1:].rsplit("\t", 2)[0]


def _clean(text: str) -> str:
    """A text without what separates fields and rows, of a length that a name may have."""
    return text[:MOST_CHARACTERS] if text.isprintable() else "?".join(text[:MOST_CHARACTERS].split())


# --- What is read -----------------------------------------------------------------------------------------------------


def read(texts: Iterable[str], wanted: Callable[[Tenure], bool] = lambda _: True) -> list[Tenure]:
    """The tenures of all rows, from texts in their order; the earliest first. Rows that nobody can read are left out.

    Two leaders may both have seen a tenure: its first beginning counts, and its more exact end. Where the next tenure
    of an address has begun, one without an end has ended by then.
    """
    found: dict[str, Tenure] = {}
    for tenure in _rows(texts):
        if wanted(tenure):
            known = found.get(tenure.body)
            found[tenure.body] = tenure if known is None else _more_exact(known, tenure)
    return _with_ends(found.values())


def _rows(texts: Iterable[str]) -> Iterator[Tenure]:
    rows = (_tenure(row) for text in texts for row in text.split("\n"))
    return (tenure for tenure in rows if tenure is not None)


def _tenure(row: str) -> Tenure | None:
    """What a row says; None where nobody can read it: it has no address, or a time that is none."""
    fields = row[1:].split("\t")
    try:
        times = [int(each) for each in fields[FIELDS - 1 :]]
        if row[:1] != (BEGUN if len(times) == 1 else ENDED) or len(times) not in (1, 3):
            return None
        if canonical(fields[0]) != fields[0] or min(times) < 0 or max(times) > LATEST:
            return None
    except ValueError:
        return None
    return Tenure(*fields[: FIELDS - 1], *times)  # type: ignore[arg-type]


def _more_exact(one: Tenure, other: Tenure) -> Tenure:
    if one.ended_by is None or other.ended_by is None:
        return other if one.ended_by is None else one
    return min(one, other, key=lambda each: (each.ended_by or 0) - (each.ended_after or 0))


def _with_ends(tenures: Iterable[Tenure]) -> list[Tenure]:
    result: list[Tenure] = []
    last: dict[str, int] = {}  # address → place of its last tenure in the result
    for tenure in sorted(tenures, key=_order):
        place = last.get(tenure.address)
        former = result[place] if place is not None else None
        if former is not None and place is not None and _is_one(former, tenure):
            result[place] = _joined(former, tenure)
            continue
        if former is not None and place is not None and former.lasts:
            result[place] = _ended(former, former.begun, tenure.begun)
        last[tenure.address] = len(result)
        result.append(tenure)
    return result


def _is_one(former: Tenure, tenure: Tenure) -> bool:
    """Whether two tenures of an address are one, which two leaders thought to have begun at different times."""
    is_over = former.ended_by is not None and former.ended_by < tenure.begun
    return not is_over and is_same_holder(former.body, tenure)


def _joined(former: Tenure, tenure: Tenure) -> Tenure:
    is_later = former.ended_by is not None and former.ended_by <= tenure.begun
    end = tenure if is_later else _more_exact(former, tenure)
    return msgspec.structs.replace(former, ended_after=end.ended_after, ended_by=end.ended_by)


def _order(tenure: Tenure) -> tuple[int, float]:
    """Sort key: by the beginning, then by the end."""
    return tenure.begun, math.inf if tenure.ended_by is None else tenure.ended_by


def _ended(tenure: Tenure, after: int, by: int) -> Tenure:
    """A tenure with an end: not before it began, and not before what it had not ended at."""
    after = max(after, tenure.begun)
    return msgspec.structs.replace(tenure, ended_after=after, ended_by=max(by, after))


class PoolChanges:
    """How many addresses of each pool were taken and given back, and when, from the texts of a history one by one.

    What two leaders have both seen counts once where they agree on its beginning. Far less is kept than by `read`.
    """

    def __init__(self) -> None:
        self._by_pool: dict[str, Counter[int]] = defaultdict(Counter)  # pool → number of an EXACTNESS → change
        self._counted: set[int] = set()  # hashes of beginnings and ends

    def add(self, text: str) -> None:
        """Count the rows of a text."""
        for row in text.split("\n"):
            body = _body(row)
            fields = body.split("\t")
            try:
                pool, begun = fields[1], int(fields[FIELDS - 1])
                ended = None if row.startswith(BEGUN) else int(row.rpartition("\t")[2])
            except (IndexError, ValueError):
                continue
            self._count(pool, begun, 1, body)
            if ended is not None:
                self._count(pool, ended, -1, ENDED + body)

    def _count(self, pool: str, at: int, change: int, what: str) -> None:
        if (digest := hash(what)) not in self._counted:
            self._counted.add(digest)
            self._by_pool[pool][at // EXACTNESS] += change

    def by_pool(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Each pool, with the times of its changes and how large they are; some may be none at all."""
        for pool, changes in self._by_pool.items():
            yield pool, [(place * EXACTNESS, change) for place, change in changes.items()]


def with_records(
    tenures: Sequence[Tenure], present_now: Iterable[Tenure], looked_for: Collection[str], covered: int, now: int
) -> list[Tenure]:
    """The tenures of the rows, brought up to date by the records that exist now: rows are some seconds late.

    One that lasts by the rows, and whose address was ``looked_for`` without finding it, has ended since ``covered``.
    """
    current = {each.address: each for each in present_now}
    result = []
    for tenure in tenures:
        known = current.get(tenure.address)
        if known is not None and tenure.lasts and is_same_holder(tenure.body, known):
            del current[tenure.address]
            result.append(tenure)
        elif tenure.lasts and tenure.address in looked_for:
            result.append(_ended(tenure, covered, now))
        else:
            result.append(tenure)
    return sorted((*result, *current.values()), key=_order)
