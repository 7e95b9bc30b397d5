"""The two paging styles of the API: MaxResults with NextToken, and PageNumber with PageSize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from spiderpool_lab.alibaba import refusals
from spiderpool_lab.alibaba.parameters import Parameters

T = TypeVar("T")


def by_token(
    items: Sequence[T], parameters: Parameters, *, default: int = 20, least: int = 1, most: int = 100
) -> tuple[Sequence[T], str]:
    """A page and the token of the next page, empty on the last one. MaxResults below ``least`` counts as ``least``."""
    size = max(least, parameters.number("MaxResults", default, 1, most))
    start = _start(parameters.text("NextToken"))
    end = start + size
    return items[start:end], f"t{end}" if end < len(items) else ""


def by_number(
    items: Sequence[T], parameters: Parameters, *, default: int = 10, most: int = 50
) -> tuple[Sequence[T], dict[str, Any]]:
    """A page, and the paging fields of the answer."""
    number = parameters.number("PageNumber", 1, 1)
    size = parameters.number("PageSize", default, 1, most)
    page = items[(number - 1) * size : number * size]
    return page, {"PageNumber": number, "PageSize": size, "TotalCount": len(items)}


def _start(token: str) -> int:
    if not token:
        return 0
    if not (token.startswith("t") and token[1:].isdigit()):
        raise refusals.invalid("NextToken", "is not one that was handed out")
    return int(token[1:])
