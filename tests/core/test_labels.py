"""Labels: values that fit, and selectors."""

from __future__ import annotations

import pytest

from spiderpool.api.meta import LabelSelector, SelectorRequirement
from spiderpool.core.labels import label_value, matches

pytestmark = pytest.mark.unit


def test_long_names_become_digests_in_labels() -> None:
    assert label_value("n" * 63) == "n" * 63
    assert len(label_value("n" * 64)) == 63
    assert label_value("n" * 64) != label_value("n" * 65)


@pytest.mark.parametrize(
    ("operator", "values", "present", "other", "absent"),
    [
        ("In", ["a"], True, False, False),
        ("NotIn", ["a"], False, True, True),
        ("Exists", None, True, True, False),
        ("DoesNotExist", None, False, False, True),
        ("Gt", ["a"], False, False, False),
    ],
)
def test_selector_operators(operator: str, values: list[str] | None, present: bool, other: bool, absent: bool) -> None:
    selector = LabelSelector(matchExpressions=[SelectorRequirement("k", operator, values)])
    assert [matches(selector, each) for each in ({"k": "a"}, {"k": "b"}, {})] == [present, other, absent]


def test_all_requirements_must_hold() -> None:
    selector = LabelSelector({"a": "b"}, [SelectorRequirement("c", "Exists")])
    assert [matches(selector, each) for each in ({"a": "b", "c": ""}, {"a": "b"}, {"a": "x", "c": ""})] == [
        True,
        False,
        False,
    ]
    assert matches(LabelSelector(), {})
