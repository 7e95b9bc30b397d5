"""Shared by the calls for both kinds of balancers: how one is found, tags, and values for comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import TypeVar

from spiderpool.cloud.alibaba.answers import Json, optional, required
from spiderpool.core.cloud.alibaba.naming import balancer_name, is_made_for_another, name_tag, own_tags
from spiderpool.core.cloud.loadbalancer.kinds import BalancerNaming
from spiderpool.core.cloud.loadbalancer.values import BackendServer, BalancerOwner, ServerGroup, Settings

PROTECTION_REASON = "managed.by.kubernetes"
"""Reason that the API requires for the modification protection."""

DEFAULT_WEIGHT = 100
"""Weight of a server where the answer leaves it out."""

AT_ONCE = 10
"""Reads of the parts of one balancer that are made at a time."""

T = TypeVar("T")


async def side_by_side(reads: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Returns the results of reads in their order, at most `AT_ONCE` of which run at a time; raises the first error."""
    running, listed = asyncio.Semaphore(AT_ONCE), [*reads]

    async def one(read: Coroutine[None, None, T]) -> T:
        async with running:
            return await read

    try:
        return list(await asyncio.gather(*map(one, listed)))
    except asyncio.CancelledError:
        for read in listed:
            read.close()  # those that have not begun, which Python would report as forgotten
        raise


def tag_list(tags: Settings) -> list[Json]:
    """Returns tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def identity_of(described: Json) -> str:
    """Returns the identity of a balancer."""
    return required(described, "LoadBalancerId")


def age_of(described: Json) -> tuple[str, str]:
    """Returns what sorts balancers, the oldest first."""
    return optional(described, "CreateTime"), identity_of(described)


async def made_for(
    described: Callable[[Json], Awaitable[list[Json]]],
    tags_of: Callable[[Json], Settings],
    owner: BalancerOwner,
    named: Callable[[str], Json],
) -> list[Json]:
    """Returns the balancers with the Service's tag, or else those with its name that were not made for another.

    Every Service may choose a name for its own. ``described`` lists the balancers that fit parameters, and ``named``
    returns the parameters for a name. Raises CloudError.
    """
    if found := await described({"Tag": tag_list(name_tag(owner))}):
        return found
    return [
        each for each in await described(named(balancer_name(owner))) if not is_made_for_another(tags_of(each), owner)
    ]


def oldest(
    found: Iterable[Json], tags_of: Callable[[Json], Settings], owner: BalancerOwner, without: Collection[str] = ()
) -> Json | None:
    """Returns the oldest of balancers, one of the owner's cluster if there is any; None: there are none.

    ``without``: identities of balancers that are passed over.
    """
    listed = [each for each in found if identity_of(each) not in without]
    own = [each for each in listed if own_tags(owner).items() <= tags_of(each).items()]
    return min(own or listed, key=age_of, default=None)


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
