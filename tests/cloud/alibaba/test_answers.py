"""Lists in answers, on one page or several."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cloud.alibaba.answers import MAX_PAGES, all_objects, objects
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
