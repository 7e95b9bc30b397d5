"""Lists in answers, on one page or several, and the fields of their objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spiderpool.cloud.alibaba.answers import (
    MAX_PAGES,
    address,
    all_objects,
    number,
    objects,
    optional,
    part,
    parts,
    required,
    texts,
)
from spiderpool.cloud.provider import CloudUnavailable

pytestmark = pytest.mark.unit


def test_an_absent_list_is_not_an_empty_one() -> None:
    assert objects({"A": {"B": []}}, "List", "A", "B") == []
    lacking: list[dict[str, Any]] = [{}, {"A": None}, {"A": {}}, {"A": {"B": None}}, {"A": []}]
    for answer in lacking:
        with pytest.raises(CloudUnavailable, match=r"answer to List lacks A\.B"):
            objects(answer, "List", "A", "B")


async def test_all_pages_are_read_by_their_tokens() -> None:
    sent: list[dict[str, Any]] = []
    answers = iter([{"L": [{"n": 1}], "NextToken": "t"}, {"L": [{"n": 2}], "NextToken": ""}])

    async def call(_: str, parameters: dict[str, Any]) -> dict[str, Any]:
        sent.append(dict(parameters))
        return next(answers)

    assert await all_objects(call, "List", {"Of": "x"}, "L") == [{"n": 1}, {"n": 2}]
    assert sent == [{"Of": "x", "MaxResults": 100}, {"Of": "x", "MaxResults": 100, "NextToken": "t"}]


async def test_tokens_that_go_in_a_circle_come_to_an_end() -> None:
    async def call(_: str, __: dict[str, Any]) -> dict[str, Any]:
        return {"L": [], "NextToken": "again"}

    with pytest.raises(CloudUnavailable, match=f"after {MAX_PAGES} pages"):
        await all_objects(call, "List", {}, "L")


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (lambda described: required(described, "A"), [{}, {"A": None}, {"A": ""}, {"A": 1}, {"A": []}]),
        (lambda described: optional(described, "A"), [{"A": 1}, {"A": {}}, {"A": True}]),
        (lambda described: number(described, "A"), [{}, {"A": "x"}, {"A": "-1"}, {"A": -1}, {"A": True}, {"A": 0.5}]),
        (lambda described: number(described, "A", 1), [{"A": "²"}, {"A": "9" * 5000}, {"A": []}]),
        (lambda described: part(described, "A", "B"), [{"A": 1}, {"A": {"B": []}}]),
        (lambda described: parts(described, "A", "B"), [{"A": {"B": {}}}, {"A": {"B": ["x"]}}, {"A": []}]),
        (lambda described: texts(described, "A"), [{"A": "x"}, {"A": [1]}, {"A": {}}]),
    ],
)
def test_a_field_of_another_kind_is_no_answer(
    read: Callable[[dict[str, Any]], object], wrong: list[dict[str, Any]]
) -> None:
    for described in wrong:
        with pytest.raises(CloudUnavailable, match=r"an answer of the cloud has .* for [AB], which is not a"):
            read(described)


def test_fields() -> None:
    described: dict[str, Any] = {"A": "a", "N": 7, "T": "08", "P": {"Q": [{"A": "b"}]}, "L": ["x"], "Null": None}
    assert (required(described, "A"), optional(described, "Null"), optional(described, "Absent")) == ("a", "", "")
    assert (number(described, "N"), number(described, "T"), number(described, "Null", 3)) == (7, 8, 3)
    assert (part(described, "P"), part(described, "Null", "Q")) == ({"Q": [{"A": "b"}]}, {})
    assert (parts(described, "P", "Q"), parts(described, "Null", "Q")) == ([{"A": "b"}], [])
    assert (texts(described, "L"), texts(described, "Null")) == (["x"], [])


def test_addresses_are_canonical() -> None:
    assert address("FD00:0::0009") == "fd00::9"
    with pytest.raises(CloudUnavailable, match=r"'10\.0\.0' for an address"):
        address("10.0.0")


def test_a_list_of_something_else_is_none() -> None:
    with pytest.raises(CloudUnavailable, match="lacks A"):
        objects({"A": ["x"]}, "List", "A")
