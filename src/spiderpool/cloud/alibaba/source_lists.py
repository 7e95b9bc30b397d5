"""Lists of the clients that Services admit: the parts that do not depend on what the cloud calls them.

A subclass for each kind of balancer has the calls. A list is found by the tags that it gets when it is made. So one
that a crash has left behind is used or deleted, and none is made twice.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from spiderpool.cloud.alibaba.answers import Json
from spiderpool.cloud.alibaba.clb_answers import tags_of
from spiderpool.cloud.alibaba.common import side_by_side
from spiderpool.cloud.alibaba.error_codes import keys_are_wrong
from spiderpool.cloud.provider import (
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    NotPermitted,
    QuotaExceeded,
    Throttled,
)
from spiderpool.core.cloud.alibaba.naming import own_tags
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, source_list_name
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.source_lists import with_names
from spiderpool.core.cloud.loadbalancer.source_ranges import by_clients, by_use
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, ObservedLoadBalancer, SourceList
from spiderpool.telemetry import logger

PAUSE = 300.0
"""Seconds for which no list is looked for that nothing speaks of, after the cloud has not said which there are."""

log = logger("cloud")


@dataclass(frozen=True, slots=True)
class ListUse:
    """What a balancer says about lists before these are looked at."""

    is_any: bool = False
    """Whether it, or a listener of it, admits clients by some list."""
    is_ours: bool = False
    """Whether that is a part of the Service's."""
    is_leaving: bool = False
    """Whether it is looked at to be taken from the Service."""

    def permits(self, error: CloudError) -> bool:
        """Whether lists may remain unknown: nobody would miss one, or it takes a policy of a former version."""
        if isinstance(error, NotPermitted):
            return not (self.is_leaving and self.is_ours)
        return not (self.is_leaving or self.is_any)


LEAVING = ListUse(is_leaving=True)
"""Of a balancer that is gone, and whose lists go after it."""


class SourceLists(ABC):
    """Finds, makes, changes and deletes the lists of one kind of balancer. Every call raises CloudError."""

    kind: BalancerKind
    batch: int
    """Entries that one call may add or remove."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[SourceList, ...]] = {}  # UID of a Service → its lists when they were last looked at
        self._next_look = 0.0  # by the monotonic clock: till then no list is looked for that nothing speaks of

    async def seen_at(
        self, balancer: ObservedLoadBalancer, owner: BalancerOwner, *, is_leaving: bool
    ) -> ObservedLoadBalancer:
        """Returns a balancer with the lists of a Service, whose names take the place of their identities in settings.

        Raises CloudError as `look` does.
        """
        naming, parameter = self.kind.naming, self.kind.source_lists.parameter
        has_ours = naming.is_named_after(balancer, owner)
        using = [each for each in balancer.listeners if each.settings.get(parameter)]
        of_balancer = bool(balancer.settings.get(parameter))
        is_any = of_balancer or bool(using)
        is_ours = any(naming.is_part_of(each.description, owner) for each in using) or (has_ours and is_any)
        lists = await self.look(owner, ListUse(is_any, is_ours, is_leaving))
        names = {each.identity: each.name for each in lists}
        found = balancer.listeners
        listeners = (replace(each, settings=with_names(each.settings, parameter, names)) for each in found)
        return replace(
            balancer,
            settings=with_names(balancer.settings, parameter, names),
            listeners=tuple(listeners),
            source_lists=lists,
        )

    async def look(self, owner: BalancerOwner, use: ListUse) -> tuple[SourceList, ...]:
        """Returns the lists that were made for a Service.

        The oldest has the name by which the Service wants it, others have their identities for names. Those of a
        balancer that uses none are looked for once, for what a crash has left behind. Where no answer comes, or the
        policy lacks the actions, those that were seen last are returned. Raises CloudError where none were, and it
        matters.
        """
        former = self._seen.get(owner.uid)
        is_needed = use.is_any or use.is_leaving or former
        if not is_needed and (former is not None or time.monotonic() < self._next_look):
            return ()
        try:
            found = await self._named(owner)
        except (NotPermitted, CloudUnavailable, Throttled) as error:
            if keys_are_wrong(error.cloud_code) or not (former or use.permits(error)):
                raise
            log.warning("lists of admitted clients are not looked at", kind=self.kind.name, error=error.message)
            self._next_look = time.monotonic() + PAUSE
            return former or ()
        self._seen[owner.uid] = found
        if use.is_leaving:
            del self._seen[owner.uid]  # the Service may be gone after this
        return found

    async def create(self, model: LoadBalancerModel, wanted: SourceList) -> str:
        """Makes a list with all its entries, unless there is one, which is changed; returns its identity."""
        self._seen.pop(model.owner.uid, None)  # an answer may be lost
        found = await self._named(model.owner)
        present = found[0] if found else replace(wanted, entries=frozenset(), identity=await self.make(model, wanted))
        added, removed = wanted.entries - present.entries - present.others, present.entries - wanted.entries
        await self.change(model.owner, replace(wanted, identity=present.identity), added, removed)
        return present.identity

    async def change(
        self, owner: BalancerOwner, wanted: SourceList, added: frozenset[str], removed: frozenset[str]
    ) -> None:
        """Adds entries, then removes others; where a quota leaves too little room, in turn."""
        waiting, leaving = await self._fill(owner, wanted.identity, by_clients(added)), by_use(removed, wanted.entries)
        if any(map(self._is_barrier, waiting)):
            staying = by_clients(wanted.entries - added)
            waiting, leaving = await self._shut(owner, wanted.identity, waiting, leaving, staying)
        # What keeps clients out stays until the end, as does one entry until another one is there where none means all.
        is_last = wanted.entries == frozenset(waiting)
        kept = [each for each in leaving if self._is_barrier(each)] or (leaving[-1:] if is_last else [])
        leaving = [each for each in leaving if each not in kept]
        while waiting:  # each time as few clients as possible are shut out, and not for longer than two calls
            size = min(self.batch, len(waiting), len(leaving))
            await self._send(self.remove, owner, wanted.identity, leaving[:size])
            await self.add(owner, wanted.identity, waiting[: size or self.batch])
            leaving, waiting = leaving[size:], waiting[size or self.batch :]
            if kept and not self._is_barrier(kept[0]):
                leaving, kept = leaving + kept, []
        await self._send(self.remove, owner, wanted.identity, leaving + kept)

    async def _shut(
        self, owner: BalancerOwner, identity: str, waiting: list[str], leaving: list[str], staying: list[str]
    ) -> tuple[list[str], list[str]]:
        """Adds what is to keep clients out, and removes what has done so; returns what still waits, and what leaves.

        Others make room for it, also those that stay, which then wait.
        """
        added, former = (list(filter(self._is_barrier, entries)) for entries in (waiting, leaving))
        others, leaving = ([each for each in entries if not self._is_barrier(each)] for entries in (waiting, leaving))
        admitting = [each for each in staying if not self._is_barrier(each)]
        gone, leaving = leaving[: len(added)], leaving[len(added) :]
        returning = admitting[: len(added) - len(gone)]
        await self._send(self.remove, owner, identity, gone + returning)
        await self._send(self.add, owner, identity, added)
        await self._send(self.remove, owner, identity, former)
        return await self._fill(owner, identity, by_clients(others + returning)), leaving

    def _is_barrier(self, entry: str) -> bool:
        """Whether an entry keeps out all clients that no other one admits."""
        barrier = self.kind.source_lists.barrier
        return bool(barrier) and entry.startswith(barrier)

    async def _fill(self, owner: BalancerOwner, identity: str, entries: list[str]) -> list[str]:
        """Adds as many entries as a quota leaves room for; returns the others."""
        size = min(self.batch, len(entries))
        while entries and size:
            try:
                await self.add(owner, identity, entries[:size])
            except QuotaExceeded:
                size //= 2
            else:
                entries = entries[size:]
        return entries

    async def discard(self, identity: str) -> None:
        """Deletes a list, and forgets it; none is not an error. Raises CloudConflict while something uses it."""
        with suppress(CloudNotFound):
            await self.delete(identity)
        gone = [uid for uid, lists in self._seen.items() if any(each.identity == identity for each in lists)]
        for uid in gone:
            del self._seen[uid]

    async def _named(self, owner: BalancerOwner) -> tuple[SourceList, ...]:
        name = source_list_name(self.kind, owner)
        read = await side_by_side(self._read(owner, identity) for identity in await self.listed(owner))
        found = [each for each in read if each is not None]
        return tuple(replace(each, name=each.identity if place else name) for place, each in enumerate(found))

    async def _read(self, owner: BalancerOwner, identity: str) -> SourceList | None:
        with suppress(CloudNotFound):  # a list of lists may be behind
            ours, others = await self.entries(owner, identity)
            return SourceList(identity, ours, identity, others)
        return None

    async def _send(
        self,
        call: Callable[[BalancerOwner, str, list[str]], Awaitable[None]],
        owner: BalancerOwner,
        identity: str,
        entries: list[str],
    ) -> None:
        for start in range(0, len(entries), self.batch):
            await call(owner, identity, entries[start : start + self.batch])

    @abstractmethod
    async def listed(self, owner: BalancerOwner) -> Sequence[str]:
        """Returns the identities of the lists with the Service's tags, the oldest first."""

    @abstractmethod
    async def entries(self, owner: BalancerOwner, identity: str) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the entries of a list that are ours, and others that are as ours. Raises CloudNotFound."""

    @abstractmethod
    async def make(self, model: LoadBalancerModel, wanted: SourceList) -> str:
        """Makes a list without entries, and returns its identity."""

    @abstractmethod
    async def add(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Adds at most ``batch`` entries; those that are there already stay."""

    @abstractmethod
    async def remove(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Removes at most ``batch`` entries; those that are gone already count as removed."""

    @abstractmethod
    async def delete(self, identity: str) -> None:
        """Deletes a list. Raises CloudNotFound when there is none, CloudConflict while something uses it."""


def is_of(described: Json, owner: BalancerOwner) -> bool:
    """Whether the tags of a described list say that it was made for a Service."""
    return own_tags(owner).items() <= tags_of(described).items()
