"""Reads and writes JUnit files of Kubernetes' tests, and writes the page that reports on them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from spiderpool_lab.conformance_tests import Plan, cause_outside, subject

Status = Literal["passed", "failed", "skipped"]
_PREFIX = "[It] "
"""What Ginkgo writes before the name of a test."""
_TESTED = "tested"
"""The property of a test in a file of ours that says of which tree its outcome is."""
INTRODUCTION = """\
# Kubernetes' own tests

Written by `make conformance`, which runs Kubernetes' end-to-end tests that judge a network against real nodes of the
lab. [How to run it](../usage/conformance.md).
"""


@dataclass(frozen=True, slots=True)
class E2EOutcome:
    """How a test ended. ``message`` is the first line of why it failed or skipped itself.

    ``tested`` names the tree that was tested by day and commit: a report is completed by several runs.
    """

    name: str
    status: Status
    seconds: float
    message: str = ""
    tested: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What a report is about. ``command`` is what repeats it."""

    version: str
    command: str
    plan: Plan
    outcomes: Sequence[E2EOutcome]


def read_junit(text: str) -> list[E2EOutcome]:
    """The tests that were run, or skipped themselves, by a JUnit file of Ginkgo. Raises ValueError if it is none."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # written by a program of ours
    except ElementTree.ParseError as error:
        raise ValueError(f"no JUnit file: {error}") from error
    found = (_outcome(case) for case in root.iter("testcase") if case.get("name", "").startswith(_PREFIX))
    return [outcome for outcome in found if outcome]


def _outcome(case: ElementTree.Element) -> E2EOutcome | None:
    name, status = case.get("name", "").removeprefix(_PREFIX).rstrip(), case.get("status", "")
    seconds, tested = float(case.get("time", "0")), case.find(f"properties/property[@name='{_TESTED}']")
    outcome = partial(E2EOutcome, name, seconds=seconds, tested="" if tested is None else tested.get("value", ""))
    skipped = case.find("skipped")
    if skipped is not None:
        reason = _first_line(skipped.get("message", ""))
        filtered_out = reason in ("skipped", "")
        return None if filtered_out else outcome(status="skipped", message=reason.removeprefix("skipped - "))
    if status == "passed":
        return outcome(status="passed")
    fault = case.find("failure")
    fault = case.find("error") if fault is None else fault
    message = "" if fault is None else fault.get("message") or fault.text or ""  # Kubernetes writes no attribute
    return outcome(status="failed", message=_first_line(message) or status)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]


def junit(outcomes: Iterable[E2EOutcome]) -> str:
    """One JUnit file with all outcomes, which :func:`read_junit` reads."""
    cases = [*outcomes]
    count = Counter(case.status for case in cases)
    counts = {"tests": len(cases), "failures": count["failed"], "skipped": count["skipped"], "errors": 0}
    attributes = {"name": "Kubernetes e2e suite", **{key: str(number) for key, number in counts.items()}}
    suite = ElementTree.Element("testsuite", attributes)
    for case in cases:
        attributes = {"name": f"{_PREFIX}{case.name}", "classname": subject(case.name), "status": case.status}
        element = ElementTree.SubElement(suite, "testcase", {**attributes, "time": f"{case.seconds:.3f}"})
        if case.tested:
            properties = ElementTree.SubElement(element, "properties")
            ElementTree.SubElement(properties, "property", name=_TESTED, value=case.tested)
        if case.status != "passed":
            kind = "failure" if case.status == "failed" else "skipped"
            ElementTree.SubElement(element, kind, message=case.message)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def failures(outcomes: Iterable[E2EOutcome]) -> list[E2EOutcome]:
    """The tests that failed, and whose cause is neither the lab nor a documented difference."""
    return [outcome for outcome in outcomes if outcome.status == "failed" and not cause_outside(outcome.name)]


def section(run: Run) -> str:
    """The part of the page about one version of Kubernetes."""
    count = Counter(outcome.status for outcome in run.outcomes)
    total = len(run.plan.run) + len(run.plan.left_out)
    not_run = [name for name in run.plan.run if name not in {outcome.name for outcome in run.outcomes}]
    parts = [
        _heading(run.version),
        f"`{run.command}`: {'; '.join(sorted({outcome.tested or 'not recorded when' for outcome in run.outcomes}))}",
        f"`e2e.test` has {run.plan.available} tests, of which {total} judge a network. {len(run.outcomes)} were run: "
        f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped themselves. "
        f"{len(not_run)} have not been run yet, {len(run.plan.left_out)} are left out.",
        _counts(run),
        _failed(run.outcomes),
        _reasons("Skipped themselves", {case.name: case.message for case in run.outcomes if case.status == "skipped"}),
        _reasons("Not run yet", dict.fromkeys(not_run, "the run was ended before")),
        _reasons("Left out", run.plan.left_out),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _heading(version: str) -> str:
    return f"## Kubernetes {version}"


def _counts(run: Run) -> str:
    by_subject: dict[str, Counter[str]] = {}
    for outcome in run.outcomes:
        by_subject.setdefault(subject(outcome.name), Counter())[outcome.status] += 1
    for name in run.plan.left_out:
        by_subject.setdefault(subject(name), Counter())["left out"] += 1
    columns = ("passed", "failed", "skipped", "left out")
    rows = [
        f"| {name} | " + " | ".join(str(counts[column]) for column in columns) + " |"
        for name, counts in sorted(by_subject.items())
    ]
    return "\n".join(["| tests | passed | failed | skipped | left out |", "|---|---|---|---|---|", *rows])


def _failed(outcomes: Sequence[E2EOutcome]) -> str:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not failed:
        return ""
    rows = [f"| {_cell(case.name)} | {_cell(cause_outside(case.name) or case.message)} |" for case in failed]
    return "\n".join(["### Failed", "", "| test | cause |", "|---|---|", *rows])


def _reasons(title: str, reasons: dict[str, str]) -> str:
    """A list of tests under each reason."""
    if not reasons:
        return ""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    parts = [
        "\n".join([f"{reason[:1].upper()}{reason[1:]} ({len(names)}):", "", *(f"- {name}" for name in names)])
        for reason, names in grouped.items()
    ]
    return "\n\n".join([f"### {title}", *parts])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def updated(page: str, version: str, new_section: str) -> str:
    """The page with the section of a version replaced or added; newer versions come first."""
    start, *sections = page.split("\n## ")
    kept = {text.partition("\n")[0]: f"## {text}" for text in sections}
    kept[_heading(version).removeprefix("## ")] = new_section
    ordered = [kept[heading].strip() for heading in sorted(kept, reverse=True)]
    return "\n\n".join([(start if page else INTRODUCTION).strip(), *ordered]) + "\n"
