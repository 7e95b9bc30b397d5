"""Lists in the answers of the OpenAPI, on one page or several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from spiderpool.cloud.provider import CloudUnavailable

PAGE = 100
"""Objects of one page, and names that one call may list."""
MAX_PAGES = 50
"""Pages of one answer; more of them mean that the cloud's tokens go in a circle."""

Json = dict[str, Any]
"""An object of an answer, or the parameters of a call, with the API's own keys."""
Call = Callable[[str, Json], Awaitable[Json]]
"""Calls an action with parameters."""


def objects(answer: Json, action: str, *path: str) -> list[Json]:
    """Returns the list at a path of an action's answer.

    Raises CloudUnavailable when the list is absent: the cloud answers with an empty list when there are no objects.
    """
    found: Any = answer
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise CloudUnavailable(f"the answer to {action} lacks {'.'.join(path)}")
    return found


async def all_objects(call: Call, action: str, parameters: Json, *path: str) -> list[Json]:
    """Returns the list at a path of an action's answer, from all pages. Raises CloudUnavailable when one is missing."""
    found: list[Json] = []
    sent = {**parameters, "MaxResults": PAGE}
    for _ in range(MAX_PAGES):
        answer = await call(action, sent)
        found += objects(answer, action, *path)
        if not answer.get("NextToken"):
            return found
        sent["NextToken"] = answer["NextToken"]
    raise CloudUnavailable(f"{action} did not come to an end after {MAX_PAGES} pages")
