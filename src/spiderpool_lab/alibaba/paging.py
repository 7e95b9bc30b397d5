"""The two ways in which the OpenAPI cuts long lists: a token that continues, or a page number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from spiderpool_lab.alibaba import refusals
from spiderpool_lab.alibaba.parameters import Parameters

T = TypeVar("T")


def by_token(
    items: Sequence[T], parameters: Parameters, *, default: int = 20, least: int = 1, most: int = 100
) -> tuple[Sequence[T], str]:
    """One page and the token of the next, which is empty at the end. A smaller page than ``least`` is raised to it."""
    size = max(least, parameters.number("MaxResults", default, 1, most))
    start = _start(parameters.text("NextToken"))
    end = start + size
    return items[start:end], f"t{end}" if end < len(items) else ""


def by_number(
    items: Sequence[T], parameters: Parameters, *, default: int = 10, most: int = 50
) -> tuple[Sequence[T], dict[str, Any]]:
    """One page, and the numbers that the answer carries beside it."""
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
