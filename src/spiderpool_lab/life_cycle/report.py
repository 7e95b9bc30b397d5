"""What came of the cases, as a table and as a page of the docs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from spiderpool_lab.product.checkout import ROOT, Commit

PAGE = ROOT / "docs" / "reference" / "life-cycle.md"

_HEAD = """# Life cycle

What a cluster's owner does with helm, and what happens to nodes and to the cluster's store, on nodes with a kubelet and
containerd, while a Job makes pods without a pause and a client on the internet sends a request every 50 ms, on a
connection of its own, to a node port of an application. One that is not answered within 3 s is late, and after 15 s
lost. Requests are numbered and the application's pods log them: a lost one that a pod has logged lost its answer, and
the others never arrived. `make life-cycle` plays it; with `WRITE=1` it writes this page. After each case the
application's pods have the addresses that they had, no address is in two pods, and records and kernels agree.

An ADD that fails is repeated by the kubelet: failed ones only delay pods that start. Two nodes have one agent each, and
both are replaced at once, as `updateStrategy` allows.

A case fails if more requests are late or lost than it allows: none, unless its outcome gives a reason.

| case | requests | late | lost | of these had arrived | failed ADDs | seconds | outcome |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What came of one case: requests of the client, ADDs that failed, and ``faults`` in words.

    Of the ``lost`` requests a server had logged ``unanswered``.
    """

    name: str
    title: str
    requests: int
    late: int
    lost: int
    unanswered: int
    failed_adds: int
    seconds: float
    faults: tuple[str, ...] = ()
    loses: str = ""
    """Why requests may be lost."""
    skipped: str = ""
    """Why it was not played."""
    notes: tuple[str, ...] = ()
    """What was seen, and is no fault."""

    @property
    def passed(self) -> bool:
        """Whether all was as it has to be."""
        return not self.faults

    @property
    def losses(self) -> str:
        """What was lost, in words."""
        back = f" ({self.unanswered} on the way back)" if self.lost else ""
        return f"{self.requests} requests, {self.late} late, {self.lost} lost{back}"

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures, and the outcome."""
        if self.skipped:
            outcome = self.skipped
        elif self.passed:
            outcome = "; ".join(
                (f"pass: {self.loses}" if self.late + self.lost and self.loses else "pass", *self.notes)
            )
        else:
            outcome = f"fail: {' '.join('; '.join(self.faults).split())}"
        numbers = (self.requests, self.late, self.lost, self.unanswered, self.failed_adds, round(self.seconds))
        return (*map(str, numbers), outcome)


def page(outcomes: Iterable[CaseOutcome], versions: str) -> str:
    """The page: a row for each case."""
    rows = [f"| {each.title} (`{each.name}`) | {' | '.join(each.cells)} |\n" for each in outcomes]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{_HEAD}{''.join(rows)}\nPlayed on {day} with commit {Commit.current().revision[:12]}: {versions}\n"


def table(outcomes: Iterable[CaseOutcome]) -> Table:
    """The outcomes for a terminal."""
    shown = Table(
        "case", "requests", "late", "lost", "had arrived", "failed ADDs", "seconds", "outcome", title="Life cycle"
    )
    for each in outcomes:
        shown.add_row(each.name, *each.cells)
    return shown
