"""`connectivity test`: its answer, as a table for people, as values for programs, and as JUnit XML for pipelines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree  # it writes alone here, and reads nothing

from spiderpool.api.core_v1 import Node
from spiderpool.cli.connectivity.judgement import ConnectivityRow, verdict
from spiderpool.cli.connectivity.matrix import TITLES, Topic
from spiderpool.cli.printing import Cell, View, alerts, object_reference, plain, printable, sentence, table

SHOWN_FAILURES = 30
"""Failed questions that the table has; `wide` has all."""
COLUMNS = ("SOURCE", "TARGET", "QUESTION", "ANSWER")


@dataclass(frozen=True, slots=True)
class ConnectivityReport:
    """What became of all questions."""

    rows: tuple[ConnectivityRow, ...]
    nodes: tuple[str, ...]
    """The nodes that took part."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What keeps the answer from being whole, such as nodes that could not take part."""

    @property
    def failed(self) -> bool:
        """Whether something needs attention."""
        return bool(self.problems) or any(not each.ok for each in self.rows)

    def lines(self, view: View) -> Iterator[str]:
        """The verdict, what failed, what passed (each question by itself only if `wide`), what to look at."""
        yield from sentence(verdict(self.rows), view)
        yield ""
        failed = [each for each in self.rows if not each.ok]
        shown = failed if view.wide else failed[:SHOWN_FAILURES]
        passed = [each for each in self.rows if each.ok]
        rows = [*map(_of_row, shown), *(map(_of_row, passed) if view.wide else _summarised(passed))]
        yield from table(COLUMNS, rows, view)
        if len(shown) < len(failed):
            yield f"… and {len(failed) - len(shown)} more failures: -o wide"
        yield from self._more(failed, view)

    def _more(self, failed: Iterable[ConnectivityRow], view: View) -> Iterator[str]:
        remedies: dict[str, dict[str, None]] = defaultdict(dict)
        for each in failed:
            remedies[each.remedy][TITLES[each.topic]] = None
        texts = [f"{', '.join(about)}: look at {remedy}" for remedy, about in remedies.items() if remedy]
        for text in (*texts, *self.problems):
            yield ""
            yield from alerts([text], view)
        for text in self.notes:
            yield ""
            yield from sentence(f"Note: {text}", view)

    def document(self) -> Any:
        """All of it."""
        return {"verdict": verdict(self.rows), "failed": self.failed, **plain(self)}

    def names(self) -> Iterable[str]:
        """The nodes that took part."""
        return (object_reference(Node, each) for each in self.nodes)


def _of_row(row: ConnectivityRow) -> tuple[Cell, ...]:
    answer = row.answer if row.milliseconds is None or row.answer else f"ok, {row.milliseconds:g} ms"
    return row.source, row.target, f"{row.question} ({row.kind})", answer


def _summarised(rows: Iterable[ConnectivityRow]) -> Iterator[tuple[Cell, ...]]:
    """One row for all questions of a topic and family; measurements are shown one by one."""
    groups: dict[str, list[ConnectivityRow]] = defaultdict(list)
    for each in rows:
        if each.topic is Topic.PERFORMANCE:
            groups[f"{each.question} {each.source} {each.target}"].append(each)
        else:
            groups[each.question].append(each)
    for group in groups.values():
        yield _of_row(group[0]) if len(group) == 1 else _of_group(group)


def _of_group(group: list[ConnectivityRow]) -> tuple[Cell, ...]:
    times = [each.milliseconds for each in group if each.milliseconds is not None]
    sources, targets = {each.source for each in group}, {each.target for each in group}
    spread = f", {min(times):g} to {max(times):g} ms" if times else ""
    return _counted(sources), _counted(targets), group[0].question, f"{len(group)} ok{spread}"


def _counted(names: set[str]) -> str:
    return next(iter(names)) if len(names) == 1 else f"{len(names)}"


def junit(report: ConnectivityReport) -> str:
    """The answer as JUnit XML: one test case for each question, its topic as the class."""
    failures = sum(not each.ok for each in report.rows)
    counts = {"tests": str(len(report.rows)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "spiderpoolctl connectivity test", **counts})
    for row in report.rows:
        name = printable(f"{row.source} → {row.target} ({row.kind})")
        seconds = f"{(row.milliseconds or 0) / 1000:.4f}"
        class_name = row.topic.value + (f".IPv{row.family}" if row.family else "")
        case = ElementTree.SubElement(suite, "testcase", {"classname": class_name, "name": name, "time": seconds})
        if not row.ok:
            failure = ElementTree.SubElement(case, "failure", {"message": printable(row.answer)})
            failure.text = printable(f"look at {row.remedy}") if row.remedy else None
    if report.problems:
        ElementTree.SubElement(suite, "system-err").text = "\n".join(map(printable, report.problems))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
