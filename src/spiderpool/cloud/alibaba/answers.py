"""What the answers of the OpenAPI hold: lists, on one page or several, and the fields of their objects.

An answer that lacks what its action documents, or has it as something else, is unusable: CloudUnavailable is raised.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from spiderpool.cloud.provider import CloudUnavailable
from spiderpool.core.addresses import canonical

PAGE = 100
"""Objects of one page, and names that one call may list."""
MAX_PAGES = 50
"""Pages of one answer; more of them mean that the cloud's tokens go in a circle."""

Json = dict[str, Any]
"""An object of an answer, or the parameters of a call, with the API's own keys."""
Call = Callable[[str, Json], Awaitable[Json]]
"""Calls an action with parameters."""

_NUMBER = re.compile(r"[0-9]{1,10}")
_SHOWN = 80
"""Characters of an unusable value that an error shows."""


def objects(answer: Json, action: str, *path: str) -> list[Json]:
    """Returns the list of objects at a path of an action's answer.

    Raises CloudUnavailable when the list is absent: the cloud answers with an empty list when there are no objects.
    """
    found: Any = answer
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise CloudUnavailable(f"the answer to {action} lacks {'.'.join(path)}")
    return found


async def all_objects(call: Call, action: str, parameters: Json, *path: str) -> list[Json]:
    """Returns the list at a path of an action's answer, from all pages. Raises CloudUnavailable when one is missing."""
    found: list[Json] = []
    sent = {"MaxResults": PAGE, **parameters}
    for _ in range(MAX_PAGES):
        answer = await call(action, sent)
        found += objects(answer, action, *path)
        if not answer.get("NextToken"):
            return found
        sent["NextToken"] = answer["NextToken"]
    raise CloudUnavailable(f"{action} did not come to an end after {MAX_PAGES} pages")


def required(described: Json, name: str) -> str:
    """Returns a text that an object must have. Raises CloudUnavailable."""
    if text := optional(described, name):
        return text
    raise _unusable(name, described.get(name), "a text")


def optional(described: Json, name: str) -> str:
    """Returns a text of an object, empty where it has none. Raises CloudUnavailable for anything but a text."""
    value = described.get(name, "")
    if value is None or isinstance(value, str):
        return value or ""
    raise _unusable(name, value, "a text")


def number(described: Json, name: str, default: int | None = None) -> int:
    """Returns a number of an object, which may be written as a text. Raises CloudUnavailable without a default."""
    value = described.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _unusable(name, value, "a number")


def part(described: Json, *path: str) -> Json:
    """Returns the object at a path within another, empty where there is none. Raises CloudUnavailable."""
    for name in path:
        value = described.get(name)
        if value is not None and not isinstance(value, dict):
            raise _unusable(name, value, "an object")
        described = value or {}
    return described


def parts(described: Json, *path: str) -> list[Json]:
    """Returns the list of objects at a path within another, empty where there is none. Raises CloudUnavailable."""
    *inner, name = path
    value = part(described, *inner).get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _unusable(name, value, "a list of objects")
    return list(value)


def texts(described: Json, name: str) -> list[str]:
    """Returns a list of texts of an object, empty where it has none. Raises CloudUnavailable."""
    value = described.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _unusable(name, value, "a list of texts")
    return list(value)


def address(text: str) -> str:
    """Returns an address in canonical text; the cloud writes IPv6 in more than one way. Raises CloudUnavailable."""
    try:
        return canonical(text)
    except ValueError as error:
        raise CloudUnavailable(f"an answer of the cloud has {text[:_SHOWN]!r} for an address: {error}") from error


def _unusable(name: str, value: object, wanted: str) -> CloudUnavailable:
    return CloudUnavailable(f"an answer of the cloud has {str(value)[:_SHOWN]!r} for {name}, which is not {wanted}")
