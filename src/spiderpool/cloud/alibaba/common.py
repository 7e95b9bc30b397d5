"""Shared by the calls for both kinds of balancers: tags, and values for comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from spiderpool.cloud.alibaba.answers import Json
from spiderpool.core.cloud.alibaba.naming import is_made_for_another
from spiderpool.core.cloud.loadbalancer.kinds import BalancerNaming
from spiderpool.core.cloud.loadbalancer.values import BackendServer, BalancerOwner, ServerGroup, Settings

PROTECTION_REASON = "managed.by.kubernetes"
"""Reason that the API requires for the modification protection."""

AT_ONCE = 10
"""Reads of the parts of one balancer that are made at a time."""

T = TypeVar("T")


async def side_by_side(reads: Iterable[Awaitable[T]]) -> list[T]:
    """Returns the results of reads in their order, at most `AT_ONCE` of which run at a time; raises the first error."""
    running = asyncio.Semaphore(AT_ONCE)

    async def one(read: Awaitable[T]) -> T:
        async with running:
            return await read

    return list(await asyncio.gather(*map(one, reads)))


def tag_list(tags: Settings) -> list[Json]:
    """Returns tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def unless_made_for_another(
    found: Iterable[Json], tags_of: Callable[[Json], Settings], owner: BalancerOwner
) -> list[Json]:
    """Returns balancers that were found by their name, which every Service may choose for its own."""
    return [each for each in found if not is_made_for_another(tags_of(each), owner)]


def lent_group(
    identity: str, servers: Iterable[BackendServer], owner: BalancerOwner, naming: BalancerNaming
) -> ServerGroup:
    """Returns a user's server group: as its servers, those that are described as the Service's."""
    listed = frozenset(servers)
    ours = frozenset(server for server in listed if naming.is_part_of(server.description, owner))
    others = frozenset(server.key for server in listed - ours)
    return ServerGroup(identity, servers=ours, identity=identity, is_lent=True, others=others)


def text(value: object) -> str:
    """Returns a value of an answer as text for comparison: booleans in lower case, null as the empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
