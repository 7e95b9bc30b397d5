"""What calls for both kinds of balancers have in common: servers in batches, tags, values as they are compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from spiderpool.cloud.provider import CloudNotFound
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Settings

PROTECTION_REASON = "managed.by.kubernetes"

Json = dict[str, Any]


async def send_servers(
    send: Callable[[list[BackendServer]], Awaitable[None]], servers: Collection[BackendServer], size: int
) -> list[CloudNotFound]:
    """Send servers in order, at most ``size`` at a time; what the cloud says of those that no longer exist.

    Such a server must not keep the others out: a batch that is refused for one is sent again, one by one.
    """
    ordered, lost = list(servers), list[CloudNotFound]()
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        try:
            await send(part)
        except CloudNotFound as error:
            lost += await send_servers(send, part, 1) if len(part) > 1 else [error]
    return lost


def tag_list(tags: Settings) -> list[Json]:
    """Tags as they are sent."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def text(value: object) -> str:
    """A value of an answer as it is compared: booleans in lower case, nothing as the empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
