"""Types of annotations, and what a table says about annotations that have no effect. The tables are the clouds'."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.loadbalancer.annotations import (
    Annotation,
    AnnotationTable,
    BackendTypeAnnotation,
    Number,
    OneOf,
    ValueType,
    Words,
)

pytestmark = pytest.mark.unit

PATHS = Words("a path", r"/[a-z]*")
LIST = Words("a path", r"/[a-z]*", several=True)
OR_NONE = Words("a path", r"/[a-z]*", several=True, or_empty=True)
NUMBER = Number(1, 9, also=-1, unit="s")

TABLE = AnnotationTable(
    title="classic",
    prefix="new.example.com/",
    legacy_prefix="old.example.com/",
    backend_type=BackendTypeAnnotation("example.com/backends", "pods", "nodes"),
    known={"bandwidth": Annotation("bandwidth", ("one",), NUMBER, "5", "Mbit/s")},
    other_kinds={"zones": "network"},
    unsupported=frozenset({"weight"}),
    backend_suffixes=frozenset(),
)


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (OneOf(("Wrr", "rr")), " WRR ", "Wrr"),
        (NUMBER, " 07 ", "7"),
        (NUMBER, "-1", "-1"),
        (PATHS, " /a ", "/a"),
        (LIST, "/a , /b", "/a,/b"),
        (OR_NONE, "/a", "/a"),
        (OR_NONE, " ", ""),
    ],
)
def test_values_are_read_as_the_api_spells_them(type: ValueType, text: str, value: str) -> None:
    assert type.read(text) == value


@pytest.mark.parametrize(
    ("type", "text", "fault"),
    [
        (OneOf(("Wrr", "rr")), "wlc", "must be one of Wrr, rr"),
        (NUMBER, "0", "must be a whole number, 1–9 or -1 s"),
        (NUMBER, "many", "must be a whole number, 1–9 or -1 s"),
        (Number(1, 9), "10", "must be a whole number, 1–9"),
        (PATHS, "a", "must be a path"),
        (LIST, "/a,b", "must be a path with commas between them"),
        (OR_NONE, "/a,", "must be a path with commas between them, or empty"),
    ],
)
def test_other_values_are_refused(type: ValueType, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}$"):
        type.read(text)


@pytest.mark.parametrize(
    ("type", "text"),
    [(OneOf(("on", "off")), "on, off"), (NUMBER, "1–9 or -1 s"), (PATHS, "a path"), (LIST, "a path,…")],
)
def test_types_as_the_reference_prints_them(type: ValueType, text: str) -> None:
    assert str(type) == text


def test_the_newer_prefix_wins() -> None:
    annotations = {"old.example.com/a": "1", "old.example.com/b": "2", "new.example.com/b": "3", "c": "4"}
    assert TABLE.values(annotations) == {"a": "1", "b": "3"}


@pytest.mark.parametrize(
    ("suffix", "remark"),
    [
        ("zones", "it is for network load balancers, this one is a classic one"),
        ("weight", "it is not supported"),
        ("bandwith", "there is no such annotation; did you mean bandwidth?"),
        ("frobnicate", "there is no such annotation"),
    ],
)
def test_annotations_without_effect(suffix: str, remark: str) -> None:
    remarks = list(TABLE.remarks(["bandwidth", suffix]))
    assert remarks == [f"annotation new.example.com/{suffix} has no effect: {remark}"]
