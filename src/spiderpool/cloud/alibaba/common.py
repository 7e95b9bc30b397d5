"""Shared by the calls for both kinds of balancers: tags, and values for comparison."""

from __future__ import annotations

from spiderpool.cloud.alibaba.answers import Json
from spiderpool.core.cloud.loadbalancer.values import Settings

PROTECTION_REASON = "managed.by.kubernetes"
"""Reason that the API requires for the modification protection."""


def tag_list(tags: Settings) -> list[Json]:
    """Returns tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def text(value: object) -> str:
    """Returns a value of an answer as text for comparison: booleans in lower case, null as the empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
