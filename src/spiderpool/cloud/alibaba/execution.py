"""Carries out the steps of a plan: the parts that do not depend on the kind of balancer.

A subclass for each kind of balancer turns steps into calls of its API.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import assert_never

from spiderpool.cloud.provider import CloudError, CloudNotFound, Rejected
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    RemoveServers,
    SetBalancer,
    SetGroup,
    SetListener,
    SetWeights,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import BackendServer, ObservedLoadBalancer
from spiderpool.errors import raise_all

BalancerStep = CreateBalancer | SetBalancer | Unprotect | Tag | Untag | DeleteBalancer
GroupStep = CreateGroup | SetGroup | DeleteGroup
ServerStep = AddServers | SetWeights | RemoveServers
ListenerStep = CreateListener | SetListener | StartListener | DeleteListener


class Execution(ABC):
    """Carries out the steps of one plan, and remembers the identities of what it creates."""

    batch: int
    """Servers that one call may add, change or remove."""

    def __init__(self, observed: ObservedLoadBalancer | None) -> None:
        self.identity = observed.identity if observed else ""
        groups = observed.groups if observed else ()
        self.groups = {group.name: group.identity for group in groups}  # name → identity, also of groups made here
        self._refusals: list[CloudError] = []  # of single servers

    async def carry_out(self, steps: Sequence[Step]) -> str:
        """Carries out the steps in order, and returns the balancer's identity.

        Raises CloudError at the first refusal; refusals of single servers are raised together at the end.
        """
        for step in steps:
            await self._do(step)
        raise_all(self._refusals)
        return self.identity

    async def _do(self, step: Step) -> None:
        match step:
            case CreateBalancer() | SetBalancer() | Unprotect() | Tag() | Untag() | DeleteBalancer():
                await self.change_balancer(step)
            case CreateGroup() | SetGroup() | DeleteGroup():
                await self.change_group(step)
            case AddServers(group, servers) | SetWeights(group, servers) | RemoveServers(group, servers):
                kind = type(step)
                self._refusals += await send_servers(
                    lambda part: self.send_servers(kind, group, part), servers, self.batch
                )
            case CreateListener() | SetListener() | StartListener() | DeleteListener():
                await self.change_listener(step)
            case unknown:
                assert_never(unknown)

    @abstractmethod
    async def change_balancer(self, step: BalancerStep) -> None:
        """Carries out a step about the balancer itself. Deleting one that no longer exists is not an error."""

    @abstractmethod
    async def change_group(self, step: GroupStep) -> None:
        """Carries out a step about a server group. Deleting one that no longer exists is not an error."""

    @abstractmethod
    async def change_listener(self, step: ListenerStep) -> None:
        """Carries out a step about a listener. Deleting one that no longer exists is not an error."""

    @abstractmethod
    async def send_servers(self, kind: type[ServerStep], group: str, servers: list[BackendServer]) -> None:
        """Adds, changes or removes at most ``batch`` servers of a group. Raises CloudNotFound or Rejected for one."""


async def send_servers(
    send: Callable[[list[BackendServer]], Awaitable[None]], servers: Collection[BackendServer], size: int
) -> list[CloudError]:
    """Sends servers in order, at most ``size`` at a time; returns the refusals of single servers.

    One may exist no longer, or not have the address that its node reports. A batch that is refused for it is sent
    again, one server at a time, so that the others get in.
    """
    ordered, refusals = list(servers), list[CloudError]()
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        try:
            await send(part)
        except (CloudNotFound, Rejected) as error:
            refusals += await send_servers(send, part, 1) if len(part) > 1 else [error]
    return refusals
