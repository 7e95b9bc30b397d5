"""Carries out the steps of a plan: the parts that do not depend on the kind of balancer.

A subclass for each kind of balancer turns steps into calls of its API.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from spiderpool.cloud.alibaba.source_lists import SourceLists
from spiderpool.cloud.provider import CloudError, CloudNotFound, QuotaExceeded, Rejected, StepsRefused
from spiderpool.cloud.step_runner import StepRunner
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    BalancerStep,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    CreateSourceList,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    DeleteSourceList,
    GroupStep,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetBalancer,
    SetGroup,
    SetListener,
    SetSourceList,
    SetWeights,
    SourceListStep,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import BackendServer, ObservedLoadBalancer

IN_A_ROW = 3
"""Servers one after the other that find no room, after which there is none: fewer may each be in too many groups."""


class Execution(ABC):
    """Carries out the steps of one plan, and remembers the identities of what it creates."""

    batch: int
    """Servers that one call may add, change or remove."""

    def __init__(self, observed: ObservedLoadBalancer | None, source_lists: SourceLists) -> None:
        self._observed = observed
        self._source_lists = source_lists
        self._lists = {each.name: each.identity for each in observed.source_lists} if observed else {}  # by name
        self.identity = observed.identity if observed else ""
        groups = observed.groups if observed else ()
        self.groups = {group.name: group.identity for group in groups}  # name → identity, also of groups made here
        self._present = Counter({group.name: len(group.servers) for group in groups})  # name of a group → its servers
        self._unplaced: dict[str, list[BackendServer]] = {}  # name of a group → servers that a quota has kept out
        self._stuck: set[str] = set()  # names of groups where no server got in for another
        self._refusals: list[CloudError] = []  # of single servers

    async def carry_out(self, steps: Sequence[Step]) -> str:
        """Carries out the steps, side by side where they do not depend on each other; returns the balancer's identity.

        Raises StepsRefused when some were refused, after all others have been carried out.
        """
        runner = StepRunner(steps, self._observed, self._do)
        await runner.run()
        refusals = [error for _, error in runner.refusals] + self._refusals
        if refusals:
            full = {
                step.group
                for step, error in runner.refusals
                if isinstance(step, AddServers) and isinstance(error, QuotaExceeded)
            }
            raise StepsRefused(refusals, full=full, stuck=full & self._stuck)
        return self.identity

    async def _do(self, step: Step) -> None:
        match step:
            case CreateBalancer() | SetBalancer() | Unprotect() | Tag() | Untag() | DeleteBalancer():
                await self.change_balancer(step)
            case CreateGroup() | SetGroup() | DeleteGroup():
                await self.change_group(step)
            case AddServers(group, servers):
                await self._add(group, self._unplaced.get(group, list(servers)))
            case RemoveServers(group) if group in self._unplaced:
                await self._exchange(step)
            case SetWeights(group, servers) | RemoveServers(group, servers):
                await self._send(type(step), group, servers)
            case CreateListener() | SetListener() | StartListener() | DeleteListener():
                await self.change_listener(step)
            case CreateSourceList() | SetSourceList() | DeleteSourceList():
                await self._change_source_list(step)
            case unknown:
                assert_never(unknown)

    async def _change_source_list(self, step: SourceListStep) -> None:
        match step:
            case CreateSourceList(model, sources):
                self._lists[sources.name] = await self._source_lists.create(model, sources)
            case SetSourceList(model, sources, added, removed):
                await self._source_lists.change(model.owner, sources, added, removed)
            case DeleteSourceList(_, identity):
                await self._source_lists.discard(identity)
            case unknown:
                assert_never(unknown)

    def by_identity(self, names: str) -> str:
        """Returns a text with the names of lists, and identities of others, as one with identities alone."""
        return ",".join(self._lists.get(name, name) for name in names.split(","))

    async def _add(self, group: str, servers: list[BackendServer]) -> None:
        """Adds servers to a group. Raises QuotaExceeded, and remembers those that found no room."""
        sent = await self._send(AddServers, group, servers)
        self._unplaced.pop(group, None)
        self._present[group] += sent.placed
        if sent.quota is not None:
            self._unplaced[group] = sent.unplaced
            raise sent.quota

    async def _exchange(self, step: RemoveServers) -> None:
        """Removes servers and adds those that wait for room, by halves: pods first, which may have gone.

        Perhaps they have not: the Service may only have chosen others. So one of them goes first, and where no server
        gets in for those that went, they come back, and the others stay. The last servers of the group stay in any
        case: nothing would answer until others are found well, if these get in at all. Those that are known to have
        gone answer nothing, and leave.
        """
        group, ordered = step.group, sorted(step.servers, key=lambda server: server.type == "instance")
        for part in filter(None, (ordered[:1], *halves(ordered[1:]))):
            if step.have_gone:
                await self._replace(group, part)
                continue
            if self._unplaced[group] and self._present[group] <= len(part):
                self._stuck.add(group)
                return
            if not await self._replace(group, part) and self._unplaced[group]:
                self._stuck.add(group)
                await self._put_back(group, part)
                return

    async def _put_back(self, group: str, servers: list[BackendServer]) -> None:
        """Adds servers again that were removed; says nothing of those that exist no longer."""
        sent = await send_servers(lambda part: self.send_servers(AddServers, group, part), servers, self.batch)
        self._present[group] += sent.placed

    async def _replace(self, group: str, gone: list[BackendServer]) -> int:
        """Removes servers, adds those that wait for room, and returns how many got in."""
        await self._send(RemoveServers, group, gone)
        sent = await self._send(AddServers, group, self._unplaced[group])
        self._unplaced[group] = sent.unplaced
        self._present[group] += sent.placed - len(gone)
        return sent.placed

    async def _send(self, kind: type[ServerStep], group: str, servers: Collection[BackendServer]) -> Shipment:
        """Sends servers, and notes the refusals of single ones. Raises the first of these when there is no other."""
        sent = await send_servers(lambda part: self.send_servers(kind, group, part), servers, self.batch)
        if sent.refusals and len(sent.refusals) == len(servers):
            first, *others = sent.refusals
            self._refusals += others
            raise first
        self._refusals += sent.refusals
        return sent

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


@dataclass(slots=True)
class Shipment:
    """What became of servers that were sent."""

    refusals: list[CloudError] = field(default_factory=list)
    """Of single servers."""
    unplaced: list[BackendServer] = field(default_factory=list)
    """Those that found no room."""
    quota: QuotaExceeded | None = None
    """The cloud's word about that."""
    placed: int = 0
    """How many were accepted."""


def halves(servers: list[BackendServer]) -> list[list[BackendServer]]:
    """Returns half of the servers, half of the rest, and so on to the last one."""
    half = (len(servers) + 1) // 2
    return [servers[:half], *halves(servers[half:])] if servers else []


async def send_servers(
    send: Callable[[list[BackendServer]], Awaitable[None]], servers: Collection[BackendServer], size: int
) -> Shipment:
    """Sends servers in order, at most ``size`` at a time; returns what was refused.

    One may exist no longer, or not have the address that its node reports. A batch that is refused for it is sent
    again, one server at a time, so that the others get in. One that exceeds a quota is sent again by halves, until
    some servers in a row have found no room.
    """
    ordered, sent, in_a_row = list(servers), Shipment(), 0
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    while batches:
        part = batches.pop(0)
        try:
            await send(part)
            sent.placed, in_a_row = sent.placed + len(part), 0
        except (CloudNotFound, Rejected) as error:
            if len(part) == 1:
                sent.refusals.append(error)
            batches[:0] = [[server] for server in part] if len(part) > 1 else []
        except QuotaExceeded as error:
            half = (len(part) + 1) // 2
            batches[:0] = [part[:half], part[half:]] if len(part) > 1 else []
            if len(part) == 1:
                sent.quota, in_a_row = error, in_a_row + 1
                sent.unplaced += part
            if in_a_row == IN_A_ROW:
                sent.unplaced += [server for batch in batches for server in batch]
                return sent
    return sent
