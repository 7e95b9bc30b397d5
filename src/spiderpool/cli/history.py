"""`history` and `who --at`: who held which address when, by the rows of the controller and the records of now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import IP_NODE_LABEL, SpiderIP
from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.api.meta import Object
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import Cell, View, age, alerts, facts, object_reference, plain, sentence, table
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam import history
from spiderpool.core.ipam.history import Tenure, moment
from spiderpool.core.labels import label_value
from spiderpool.kube.histories import parts

SILENCE = 900
"""Seconds without a write after which nobody seems to write: without changes there is one in ten minutes."""
MOST_LOOKED_FOR = 64
"""Records of a pod that are looked for one by one."""
NO_HISTORY = (
    "there is no history: no controller that writes one has led yet, or its SPIDERPOOL_HISTORY_OBJECTS is 0, "
    "or something keeps it from writing, which its log says"
)

UNREADABLE = (
    "the history may not be read, or is unknown to this cluster: only what is held now is told, and nothing says who "
    "held it before"
)


@dataclass(frozen=True, slots=True)
class HistorySubject:
    """Whose history is asked for."""

    kind: type[Object]
    name: str
    needle: str
    """A part of each of its rows."""
    wanted: Callable[[Tenure], bool]

    @classmethod
    def address(cls, address: str) -> HistorySubject:
        """That of an address, in canonical text."""
        return cls(SpiderIP, address, f"{address}\t", lambda each: each.address == address)

    @classmethod
    def pod(cls, namespace: str, name: str) -> HistorySubject:
        """That of all pods of a name."""
        key, needle = f"{namespace}/{name}", f"\t{namespace}\t{name}\t"
        return cls(Pod, key, needle, lambda each: (each.namespace, each.pod) == (namespace, name))

    @classmethod
    def node(cls, name: str) -> HistorySubject:
        """That of the pods of a node."""
        return cls(Node, name, f"\t{name}\t", lambda each: each.node == name)


def is_silent(covered: int, now: datetime) -> bool:
    """Whether nobody seems to write."""
    return now.timestamp() - covered > SILENCE


@dataclass(slots=True)
class StoredHistory:
    """What is stored of a subject."""

    texts: list[str] = field(default_factory=list)
    since: int | None = None
    """From when on all tenures are stored; None: nothing is."""
    covered: int = 0
    """Until when nothing was missed, when it was written last."""


@dataclass(frozen=True, slots=True)
class SubjectHistory:
    """All that is known of a subject."""

    subject: HistorySubject
    tenures: tuple[Tenure, ...]
    since: int | None
    covered: int
    is_readable: bool = True

    def problems(self, now: datetime) -> Iterator[str]:
        """Why something may be missing."""
        if not self.is_readable:
            yield UNREADABLE
        elif self.since is None:
            yield NO_HISTORY
        elif is_silent(self.covered, now):
            yield (
                f"nothing has been written since {moment(self.covered)}, so what began and ended since then is "
                "missing: see the log of the leading spiderpool-controller"
            )


async def look_back(cluster: Cluster, subject: HistorySubject, now: datetime) -> SubjectHistory:
    """The history of a subject, brought up to date by the records. Raises ApiUnavailable."""
    reading = read_stored(cluster, lambda text: subject.needle in text, now)
    stored = await cluster.seen(reading, SpiderIPHistory, "SpiderIPHistory objects")
    stored = stored or StoredHistory()
    tenures = history.read(stored.texts, subject.wanted)
    lasting = [each.address for each in tenures if each.lasts]
    records = await _records(cluster, subject, lasting)
    looked_for: Collection[str] = () if SpiderIP in cluster.unseen else lasting[:MOST_LOOKED_FOR]
    if subject.kind is Node and SpiderIP not in cluster.unseen:
        looked_for = lasting
    present = [history.present(each, None, stored.covered) for each in records]
    known = history.with_records(
        tenures,
        filter(subject.wanted, filter(None, present)),
        frozenset(looked_for),
        stored.covered,
        int(now.timestamp()),
    )
    is_readable = SpiderIPHistory not in cluster.unseen
    return SubjectHistory(subject, tuple(known), stored.since, stored.covered, is_readable)


async def read_stored(cluster: Cluster, pick: Callable[[str], bool], now: datetime) -> StoredHistory:
    """What is stored, of the rows only the texts that ``pick`` wants to keep. Raises SpiderpoolError.

    Until when nothing was missed is said by the newest part that says it; a leader whose clock was ahead may have
    written what is to come.
    """
    found = StoredHistory()
    async for _, part, text in parts(cluster.client, timeout=cluster.timeout):
        if found.since is None:
            found.since = history.seconds(part.spec.since)
        found.covered = min(history.seconds(part.spec.covered) or found.covered, int(now.timestamp()))
        if pick(text):
            found.texts.append(text)
    return found


async def _records(cluster: Cluster, subject: HistorySubject, lasting: Sequence[str]) -> list[SpiderIP | None]:
    """The records that the subject has now, and those of addresses that it has by the rows."""
    if subject.kind is SpiderIP:
        return [await cluster.find(SpiderIP, object_name(subject.name))]
    if subject.kind is Node:
        return [*(await _of_node(cluster, subject.name))]
    namespace, _, name = subject.name.partition("/")
    pod = await cluster.find(Pod, name, namespace)
    there = await _of_node(cluster, pod.spec.nodeName) if pod is not None and pod.spec.nodeName else []
    known = {each.name for each in there}
    missing = [object_name(each) for each in lasting[:MOST_LOOKED_FOR] if object_name(each) not in known]
    return [*there, *[await cluster.find(SpiderIP, each) for each in missing]]


async def _of_node(cluster: Cluster, node: str) -> list[SpiderIP]:
    return list(await cluster.list(SpiderIP, labels=f"{IP_NODE_LABEL}={label_value(node)}") or ())


# --- What is printed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TenureView:
    """A tenure in words; None stands for what is not over."""

    address: str
    pod: str
    pod_uid: str
    node: str
    interface: str
    pool: str
    begun: str
    ended_after: str | None
    ended_by: str | None

    @classmethod
    def of(cls, tenure: Tenure) -> TenureView:
        """That of a tenure."""
        after, by = tenure.ended_after, tenure.ended_by
        return cls(
            tenure.address,
            f"{tenure.namespace}/{tenure.pod}",
            tenure.pod_uid,
            tenure.node,
            tenure.interface,
            tenure.pool,
            moment(tenure.begun),
            None if after is None else moment(after),
            None if by is None else moment(by),
        )

    @property
    def until(self) -> str:
        """When it ended."""
        if self.ended_by is None:
            return "now"
        is_exact = self.ended_after == self.ended_by
        return self.ended_by if is_exact else f"between {self.ended_after} and {self.ended_by}"


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """The tenures of a subject, the earliest first."""

    kind: str
    name: str
    since: str | None
    covered: str | None
    items: tuple[TenureView, ...]
    problems: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """One table, and from when on it is complete."""
        hidden = {SpiderIP.KIND.name: "address", Pod.KIND.name: "pod", Node.KIND.name: "node"}[self.kind]
        names = [each for each in ("address", "pod", "node", "interface") if each != hidden]
        names += ["pool", "pod_uid"] if view.wide else []
        titles = [*(name.replace("_", " ").upper() for name in names), "FROM", "UNTIL"]
        rows: list[Sequence[Cell]] = [
            [*(getattr(each, name) for name in names), each.begun, each.until] for each in self.items
        ]
        if rows:
            yield from table(titles, rows, view)
            yield ""
        if self.since:
            nothing = "" if rows else "nothing is known of it; "
            yield from sentence(f"{nothing}the history begins at {self.since}", view)
        yield from alerts(self.problems, view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The records of the addresses that are still held."""
        return [object_reference(SpiderIP, object_name(each.address)) for each in self.items if not each.ended_by]


def history_table(found: SubjectHistory, since: datetime | None, now: datetime) -> HistoryTable:
    """What is printed of a history; ``since`` leaves out what was over by then."""
    start = since.timestamp() if since is not None else 0
    items = (TenureView.of(each) for each in found.tenures if each.ended_by is None or each.ended_by >= start)
    return HistoryTable(
        found.subject.kind.KIND.name,
        found.subject.name,
        None if found.since is None else moment(found.since),
        moment(found.covered) if found.covered else None,
        tuple(items),
        tuple(found.problems(now)),
    )


@dataclass(frozen=True, slots=True)
class MomentAnswer:
    """Who had an address at a time; None stands for what does not apply."""

    address: str
    at: str
    age: str | None
    state: str
    holders: tuple[TenureView, ...]
    """The one who had it, or those who may have had it."""
    before: TenureView | None
    """Who had it last before, where nobody had it."""
    after: TenureView | None
    """Who had it next, where nobody had it."""
    problems: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """Facts, and who may have had it where nobody knows exactly."""
        only = self.holders[0] if len(self.holders) == 1 else None
        before, after = self.before, self.after
        yield from facts(
            {
                "Address": self.address,
                "At": f"{self.at} ({self.age} ago)",
                "State": self.state,
                "Pod": only.pod if only else None,
                "Pod UID": only.pod_uid if only and view.wide else None,
                "Node": only.node if only else None,
                "Interface": only.interface if only else None,
                "Pool": only.pool if only else None,
                "From": only.begun if only else None,
                "Until": only.until if only else None,
                "Before": f"{before.pod} on {before.node}, until {before.until}" if before else None,
                "After": f"{after.pod} on {after.node}, from {after.begun}" if after else None,
            },
            view,
        )
        if len(self.holders) > 1:
            rows = [(each.pod, each.node, each.interface, each.begun, each.until) for each in self.holders]
            yield ""
            yield from table(("POD", "NODE", "INTERFACE", "FROM", "UNTIL"), rows, view)
        if self.problems:
            yield ""
        yield from alerts(self.problems, view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The pods, which may be gone."""
        return (object_reference(Pod, each.pod) for each in self.holders)


def answer_at(found: SubjectHistory, at: datetime, now: datetime) -> MomentAnswer:
    """Who had an address at a time."""
    when = at.timestamp()
    covers = [(each, each.covers(when)) for each in found.tenures]
    holders = [each for each, covered in covers if covered is not False]
    is_known = found.since is not None and when >= found.since
    problems = list(found.problems(now))
    if not is_known and not holders and found.since is not None:
        problems.append(f"the history begins at {moment(found.since)}, later than that")
    free = is_known and not holders
    earlier = [each for each in found.tenures if free and each.ended_by is not None and each.ended_by <= when]
    later = [each for each in found.tenures if free and each.begun > when]
    return MomentAnswer(
        found.subject.name,
        moment(when),
        age(moment(when), now),
        _state([covered for _, covered in covers if covered is not False], is_known=is_known),
        tuple(map(TenureView.of, holders)),
        TenureView.of(earlier[-1]) if earlier else None,
        TenureView.of(later[0]) if later else None,
        tuple(problems),
    )


def _state(covers: Sequence[bool | None], *, is_known: bool) -> str:
    if True in covers:
        return "held"
    if covers:
        return "may have been held"
    return "held by nobody" if is_known else "not known"
