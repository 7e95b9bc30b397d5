"""Each row of the pages about the cloud's own controller names what a test shows, and each test shows such a row."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from scripts import generate_annotations
from scripts.reference_cases import CASES

from spiderpool.core.cloud.alibaba.annotations import ANNOTATIONS, UNSUPPORTED
from spiderpool.core.cloud.alibaba.comparison import DIFFERENCES, FIELDS
from tests.cloud.alibaba.annotation_rows import ROWS

pytestmark = pytest.mark.unit
TESTS = Path(__file__).parents[4]
FOLDERS = ("core/cloud", "cloud/alibaba", "cloudcontroller")
MARK = "reference_case"
HOW = "a test that shows it is marked pytest.mark.reference_case(…), with this name"
ALL = [case for cases in CASES.values() for case in cases]


@cache
def shown() -> frozenset[str]:
    """What tests say that they show: the arguments of their marks, without those that are made at their import."""
    paths = (path for folder in FOLDERS for path in (TESTS / folder).rglob("test_*.py"))
    return frozenset(text for path in paths if MARK in (source := path.read_text()) for text in _marked(source))


def _marked(source: str) -> Iterator[str]:
    for call in (each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Call)):
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in (MARK, "shows"):
            constants = (each.value for each in call.args if isinstance(each, ast.Constant))
            yield from (value for value in constants if isinstance(value, str))


def test_each_row_has_a_test_and_each_test_a_row() -> None:
    found = shown()
    cases = {case.name for case in ALL}
    fields = {each.name for each in FIELDS}
    annotations = {each.suffix for each in ANNOTATIONS} | UNSUPPORTED.keys()
    different = {each.suffix for each in DIFFERENCES} | UNSUPPORTED.keys()
    assert sorted((cases | fields | different) - found) == [], HOW
    assert sorted(shown() - cases - fields - annotations) == [], "no page has such a row"


def test_each_annotation_of_each_kind_is_sent_in_a_test() -> None:
    rows = {(row.kind, row.suffix) for row in ROWS}
    wanted = {(kind, each.suffix) for each in ANNOTATIONS for kind in each.kinds}
    lacking = [(kind, suffix) for kind, suffix in wanted - rows if suffix not in shown()]
    assert sorted(lacking) == [], f"it is in tests/cloud/alibaba/annotation_rows.py, or {HOW}"
    assert sorted(rows - wanted) == []


def test_a_case_is_named_once() -> None:
    names = [case.name for case in ALL]
    assert sorted(names) == sorted({*names})
    assert {kind for case in ALL for kind in case.kinds.split()} == {"C", "N"}


def test_the_page_is_made_from_the_tables() -> None:
    page = generate_annotations.page(generate_annotations.CASES_PAGE)
    assert generate_annotations.CASES_PAGE.read_text() == page, "run: python -m scripts.generate_annotations"
