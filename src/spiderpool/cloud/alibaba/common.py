"""Shared by the calls for both kinds of balancers: batches of servers, tags, and values for comparison."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from spiderpool.cloud.provider import CloudNotFound
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Settings

PROTECTION_REASON = "managed.by.kubernetes"
"""Reason that the API requires for the modification protection."""

Json = dict[str, Any]


async def send_servers(
    send: Callable[[list[BackendServer]], Awaitable[None]], servers: Collection[BackendServer], size: int
) -> list[CloudNotFound]:
    """Sends servers in order, at most ``size`` at a time; returns the errors for servers that no longer exist.

    A batch that is refused for one such server is sent again, one server at a time, so that the others get in.
    """
    ordered, lost = list(servers), list[CloudNotFound]()
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        try:
            await send(part)
        except CloudNotFound as error:
            lost += await send_servers(send, part, 1) if len(part) > 1 else [error]
    return lost


def lost_servers(errors: Sequence[CloudNotFound]) -> CloudNotFound:
    """Returns one error for servers that no longer exist: the first one, with the others as details."""
    first, *others = errors
    details = "; ".join(error.message for error in others)
    return CloudNotFound(first.message, cloud_code=first.cloud_code, details=details) if others else first


def tag_list(tags: Settings) -> list[Json]:
    """Returns tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def text(value: object) -> str:
    """Returns a value of an answer as text for comparison: booleans in lower case, null as the empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
