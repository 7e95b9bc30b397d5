"""What was seen when stories were played: kept in files for real and fast nodes, and shown as a page of the docs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from rich.table import Table

from spiderpool_lab.cluster import SOURCE_TREE
from spiderpool_lab.stories.contract import Trace, differences
from spiderpool_lab.stories.story import Story

FOLDER = SOURCE_TREE / "tests" / "lab" / "data" / "stories"
PAGE = SOURCE_TREE / "docs" / "reference" / "stories.md"

_HEAD = """# Stories

What happens to pods, nodes and daemons in a cluster, played on nodes with containerd and a kubelet (real) and on nodes
with the [lab](../usage/lab.md)'s stand-in for both (fast). After each story no address has been given to two pods at
once, none is lost, and every pod has the addresses of its records: by the SpiderIPs, the network namespaces of all
nodes, and the recorded CNI calls. `make stories` plays them on fast nodes, `make stories NODES=real` on real ones; with
`WRITE=1` it writes this page.

A call that failed is marked with `!`. Each pod that ends has two or more late DELs, with neither namespace nor result;
those that come after the end of a story are not counted.

| story | nodes | calls | outcome | seconds |
|---|---|---|---|---|
"""


class StoryOutcome(msgspec.Struct, frozen=True):
    """What came of one story: ``faults`` in words, none if all was well, its CNI calls and the seconds it took."""

    story: str
    title: str
    seconds: float
    faults: list[str]
    calls: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether all was as it has to be."""
        return not self.faults


class Report(msgspec.Struct, frozen=True):
    """What was seen on nodes of one kind, by story."""

    versions: str = ""
    outcomes: dict[str, StoryOutcome] = {}
    traces: dict[str, Trace] = {}


def file_of(kind: str) -> Path:
    """The file for real or fast nodes."""
    return FOLDER / f"{kind}.json"


def load(kind: str) -> Report:
    """What was seen last on nodes of a kind; nothing if there is no file."""
    file = file_of(kind)
    return msgspec.json.decode(file.read_bytes(), type=Report) if file.exists() else Report()


def store(kind: str, report: Report) -> None:
    """Keep what was seen; stories that were not played now stay as they were."""
    before = load(kind)
    outcomes, traces = {**before.outcomes, **report.outcomes}, {**before.traces, **report.traces}
    merged = Report(report.versions, outcomes, traces)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file_of(kind).write_bytes(msgspec.json.format(msgspec.json.encode(merged, order="sorted"), indent=1) + b"\n")


def unlike(real: Report, fast: Report, stories: Iterable[Story]) -> dict[str, list[str]]:
    """Story → what fast nodes did unlike real ones, of those whose calls are the same in every run."""
    both = (story.name for story in stories if story.steady and story.name in real.traces and story.name in fast.traces)
    found = {name: differences(real.traces[name], fast.traces[name]) for name in both}
    return {name: faults for name, faults in found.items() if faults}


def page(stories: Mapping[str, Story], reports: Mapping[str, Report]) -> str:
    """The page: a row for each story and kind of nodes."""
    rows = [_row(story, kind, report) for story in stories.values() for kind, report in reports.items()]
    return _HEAD + "\n".join(filter(None, rows)) + "\n" + _versions(reports)


def _versions(reports: Mapping[str, Report]) -> str:
    lines = [f"- {kind}: {report.versions}" for kind, report in reports.items() if report.versions]
    return "\nLast played with\n\n" + "\n".join(lines) + "\n"


def _row(story: Story, kind: str, report: Report) -> str:
    if kind == "fast" and story.real_only:
        return f"| {story.title} (`{story.name}`) | fast | | not played: {story.real_only} | |"
    outcome = report.outcomes.get(story.name)
    if outcome is None:
        return f"| {story.title} (`{story.name}`) | {kind} | | not played yet | |"
    cells = (f"{story.title} (`{story.name}`)", kind, counted(outcome), verdict(outcome), f"{outcome.seconds:.0f}")
    return f"| {' | '.join(cells)} |"


def counted(outcome: StoryOutcome) -> str:
    """The calls of an outcome in words."""
    return ", ".join(f"{count} {command}" for command, count in sorted(outcome.calls.items())) or "none"


def verdict(outcome: StoryOutcome) -> str:
    """Whether it passed, and if not, why."""
    return "pass" if outcome.passed else f"fail: {'; '.join(outcome.faults)}"


def table(outcomes: Iterable[StoryOutcome], kind: str) -> Table:
    """The outcomes for a terminal."""
    shown = Table("story", "calls", "outcome", "seconds", title=f"Stories on {kind} nodes", title_justify="left")
    for outcome in outcomes:
        shown.add_row(outcome.story, counted(outcome), verdict(outcome), f"{outcome.seconds:.0f}")
    return shown
