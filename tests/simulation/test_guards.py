"""The guards of the product are where `make simulate GUARDS=1` takes them out, and what it does with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.guards import GUARDS
from tests.simulation.guards.__main__ import PAGE
from tests.simulation.guards.guard import Guard
from tests.simulation.guards.page import Outcome, page
from tests.simulation.teeth import ROOT

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_can_be_taken_out(guard: Guard, tmp_path: Path) -> None:
    path = tmp_path / "spiderpool" / guard.file
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / "src" / "spiderpool" / guard.file).read_text())
    guard.take_out(tmp_path)
    compile(path.read_text(), str(path), "exec")
    assert all((ROOT / "tests" / each).is_file() for each in guard.tests.split())


def test_a_name_is_that_of_one_guard() -> None:
    assert [name for name, count in Counter(each.name for each in GUARDS).items() if count > 1] == []


@pytest.mark.parametrize("text", ["", "x\nx\n"])
def test_a_guard_that_has_changed_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "spiderpool").mkdir()
    (tmp_path / "spiderpool" / "a.py").write_text(text)
    with pytest.raises(ValueError, match=r"guard g: a\.py has its text"):
        Guard("g", "it", "a.py", "x", "y", "").take_out(tmp_path)


def test_the_page_has_every_guard() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    expected = [line for line in page([Outcome(each) for each in GUARDS], 0).splitlines() if line.startswith("| `")]
    assert [row.rsplit(" | ", 1)[0] for row in rows] == [row.rsplit(" | ", 1)[0] for row in expected]


def test_the_page_says_who_has_noticed_what() -> None:
    guard = Guard("a_guard", "it is lost", "a.py", "x", "y", "", survives="another one is behind it")
    text = page([Outcome(guard, "test"), Outcome(guard, violation="leak"), Outcome(guard)], 20_000)
    assert "3 guards: 1 noticed by unit tests, 1 by the simulation, 1 by nothing." in text
    assert text.count("| `a.py`: a guard | it is lost | ") == 3
    assert "| nothing: another one is behind it |" in text
