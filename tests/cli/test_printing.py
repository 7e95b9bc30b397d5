"""Every format of an answer: for people at 80 columns, for programs, for other commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.printing import View, age, alerts, facts, object_reference, printable, printed, say, table

pytestmark = pytest.mark.unit

EVIL = "full\x1b]0;owned\x07\n\u202ereversed"


class Answer:
    def lines(self, view: View) -> Iterator[str]:
        yield from table(("NAME", "USED", "REASON"), [("blue", 3, EVIL), ("reddish", None, "none")], view)
        yield EVIL
        yield from alerts([EVIL], view)

    def document(self) -> Any:
        return {"items": [{"name": "blue", "reason": EVIL}]}

    def names(self) -> Iterator[str]:
        yield "spiderippool.spiderpool.spidernet.io/blue"


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_no_format_passes_control_characters_on(output: str) -> None:
    text = printed(Answer(), output, View())
    assert all(line.isprintable() for line in text.split("\n"))


def test_colours_are_the_only_control_characters() -> None:
    *lines, alert = printed(Answer(), "table", View(colour=True)).split("\n")
    assert all(line.isprintable() for line in lines)
    assert alert.startswith("\x1b[31m! full")
    assert alert.removeprefix("\x1b[31m").removesuffix("\x1b[0m").isprintable()


def test_programs_get_the_whole_answer() -> None:
    assert json.loads(printed(Answer(), "json", View())) == Answer().document()
    assert yaml.safe_load(printed(Answer(), "yaml", View())) == Answer().document()
    assert printed(Answer(), "name", View()) == "spiderippool.spiderpool.spidernet.io/blue"


def test_columns_are_aligned_and_what_is_not_known_is_a_dash() -> None:
    rows = [("blue", 3, "a"), ("reddish", 1000, "b"), ("x", None, None)]
    assert list(table(("NAME", "USED", "WHY"), rows, View())) == [
        "NAME     USED  WHY",
        "blue        3  a",
        "reddish  1000  b",
        "x           -  -",
    ]
    assert next(table(("NAME", "USED", "WHY"), rows, View(headers=False))) == "blue        3  a"


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 10**6), st.text(max_size=300)), max_size=5))
def test_a_table_fits_a_terminal(rows: list[tuple[str, int, str]]) -> None:
    unbroken = max((len(printable(word)) for *_, text in rows for word in text.split(" ")), default=0)
    shown = list(table(("NAME", "USED", "REASON"), rows, View(width=200)))
    assert all(line.isprintable() for line in shown)
    if unbroken < 40 and all(len(printable(name)) < 40 for name, *_ in rows):
        assert all(len(line) <= 200 for line in table(("NAME", "USED", "REASON"), rows, View(width=200)))


def test_the_last_column_is_wrapped_only_for_a_terminal() -> None:
    rows = [("blue", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen")]
    wrapped = list(table(("NAME", "WHY"), rows, View(width=40)))
    assert len(wrapped) > 2
    assert all(len(line) <= 40 for line in wrapped)
    assert all(line.startswith("      ") for line in wrapped[2:])
    assert len(list(table(("NAME", "WHY"), rows, View()))) == 2


def test_what_needs_attention_is_marked_with_and_without_colours() -> None:
    long = "the agent of node worker-1 has not answered " * 3
    shown = list(alerts([long], View(width=60)))
    assert shown[0].startswith("! the agent")
    assert len(shown) > 1
    assert all(len(line) <= 60 for line in shown)


def test_facts_leave_out_what_is_not_known() -> None:
    assert list(facts({"Pod": "a/b", "Owner": None, "Interface": "eth0"}, View())) == [
        "Pod:        a/b",
        "Interface:  eth0",
    ]


def test_a_terminal_that_has_gone_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    say(EVIL)
    assert capfd.readouterr().err == f"{printable(EVIL)}\n"
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), os.fdopen(writer, "w") as gone:  # its close tries once more
        monkeypatch.setattr(sys, "stderr", gone)
        say("evicted")
        with pytest.raises(BrokenPipeError):
            gone.flush()


class TestTerminals:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.delenv("COLUMNS", raising=False)

    def test_a_pipe_has_no_width_and_no_colours(self) -> None:
        assert View.of_output() == View()

    def test_columns_may_be_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        assert View.of_output(wide=True, headers=False) == View(True, False, 100)

    @pytest.mark.parametrize(("no_color", "colour"), [("", True), ("1", False)])
    def test_a_terminal_has_colours_unless_told_otherwise(
        self, monkeypatch: pytest.MonkeyPatch, no_color: str, colour: bool
    ) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("NO_COLOR", no_color)
        assert View.of_output().colour is colour


def test_names_are_those_of_kubectl() -> None:
    assert object_reference(SpiderIPPool, "blue") == "spiderippool.spiderpool.spidernet.io/blue"
    assert object_reference(Pod, "web") == "pod/web"


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-01-01T00:00:00Z", "0s"),
        ("2025-12-31T23:58:30Z", "90s"),
        ("2025-12-31T23:00:00Z", "60m"),
        ("2025-12-31T12:00:00Z", "12h"),
        ("2025-12-01T00:00:00.000000Z", "31d"),
        (None, None),
        ("yesterday", None),
        ("2025-12-31T12:00:00", None),
    ],
)
def test_ages(since: str | None, expected: str | None) -> None:
    assert age(since, datetime(2026, 1, 1, tzinfo=UTC)) == expected
