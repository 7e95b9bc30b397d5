"""The list of reasons of Events: complete, described on its page, and the only place that makes one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from scripts import generate_events
from scripts.generate_events import EmittedReason

pytestmark = pytest.mark.unit

SOURCES = generate_events.SOURCES
REASONS = generate_events.emitted()  # fails for a reason that no daemon emits


def by_name(each: EmittedReason) -> str:
    return each.reason.name


def test_the_page_is_up_to_date() -> None:
    assert generate_events.PAGE.read_text() == generate_events.page(), "run: python -m scripts.generate_events"


@pytest.mark.parametrize("each", REASONS, ids=by_name)
def test_a_reason_has_the_form_that_kubernetes_asks_for_and_the_name_of_its_variable(each: EmittedReason) -> None:
    assert re.fullmatch("[A-Z][A-Za-z]{2,}", each.reason.name)
    assert each.variable.replace("_", "").lower().endswith(each.reason.name.lower())


@pytest.mark.parametrize("each", REASONS, ids=by_name)
def test_a_reason_says_what_it_means_and_what_to_do(each: EmittedReason) -> None:
    reason = each.reason
    assert re.fullmatch(r"[A-Z`][^|\n]+\.", reason.meaning)
    assert re.fullmatch(r"[A-Z`][^|\n]+\.", reason.remedy)
    assert each.kinds
    assert (generate_events.ROOT / "docs" / reason.page.partition("#")[0]).is_file(), reason.page


def test_no_kind_has_a_reason_twice() -> None:
    found = [(each.reason.name, kind) for each in REASONS for kind in each.kinds]
    assert sorted({*found}) == sorted(found)


def test_a_daemon_emits_a_reason_for_all_kinds_that_its_row_names() -> None:
    """Two daemons that emit one reason each for a kind of its own need two: the page cannot tell them apart else."""
    shared = {each.reason.name: each.kinds for each in REASONS if len(each.daemons) > 1}
    assert {name: kinds for name, kinds in shared.items() if len(kinds) > 1} == {}


def test_only_the_list_makes_a_reason() -> None:
    """The types allow no text in the place of a reason; this is what they cannot say."""
    making = {path.relative_to(SOURCES) for path in SOURCES.rglob("*.py") if "EventReason(" in path.read_text()}
    assert making == {Path("api/event_reasons.py")}


def test_only_the_recorder_makes_an_event() -> None:
    making = {
        path.relative_to(SOURCES)
        for path in SOURCES.rglob("*.py")
        if re.search(r"(?<![.\w])(?<!class )Event\(", path.read_text())
    }
    assert making == {Path("kube/events.py")}


@pytest.mark.parametrize("folder", [*generate_events.DAEMONS, "cli"])
def test_no_reason_is_written_by_hand(folder: str) -> None:
    """Neither where Events are emitted nor where they are compared."""
    names = {each.reason.name for each in REASONS} - {"Terminating"}  # of conditions, too
    by_hand = [
        f"{path.relative_to(SOURCES)}:{node.lineno}: {node.value}"
        for path in (SOURCES / folder).rglob("*.py")
        if any(f'"{name}"' in path.read_text() for name in names)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert by_hand == []
