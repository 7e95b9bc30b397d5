"""Lists of the clients that Services admit: the parts that do not depend on what the cloud calls them.

A subclass for each kind of balancer has the calls. A list is found by the tags that it gets when it is made. So one
that a crash has left behind is used or deleted, and none is made twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from spiderpool.cloud.alibaba.answers import Json, optional, parts, required
from spiderpool.cloud.alibaba.common import side_by_side
from spiderpool.cloud.alibaba.error_codes import keys_are_wrong
from spiderpool.cloud.provider import CloudNotFound, NotPermitted, QuotaExceeded
from spiderpool.core.cloud.alibaba.naming import own_tags
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, source_list_name
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, SourceList
from spiderpool.telemetry import logger

log = logger("cloud")


class SourceLists(ABC):
    """Finds, makes, changes and deletes the lists of one kind of balancer. Every call raises CloudError."""

    kind: BalancerKind
    batch: int
    """Entries that one call may add or remove."""

    def __init__(self) -> None:
        self._may_look = True  # false: the policy is that of an older version

    async def look(self, owner: BalancerOwner) -> tuple[SourceList, ...]:
        """Returns the lists that were made for a Service; none where the policy lacks the actions.

        The oldest has the name by which the Service wants it, others have their identities for names.
        """
        if not self._may_look:
            return ()
        try:
            return await self._named(owner)
        except NotPermitted as error:  # making a list reports it
            if keys_are_wrong(error.cloud_code):
                raise
            log.warning("lists of admitted clients are not looked at", kind=self.kind.name, error=error.message)
            self._may_look = False
            return ()

    async def create(self, model: LoadBalancerModel, wanted: SourceList) -> str:
        """Makes a list with all its entries, unless there is one, which is changed; returns its identity."""
        found = await self._named(model.owner)
        self._may_look = True
        present = found[0] if found else replace(wanted, entries=frozenset(), identity=await self.make(model, wanted))
        added, removed = wanted.entries - present.entries, present.entries - wanted.entries
        await self.change(model.owner, replace(wanted, identity=present.identity), added, removed)
        return present.identity

    async def change(
        self, owner: BalancerOwner, wanted: SourceList, added: frozenset[str], removed: frozenset[str]
    ) -> None:
        """Adds entries, then removes others; at a quota those first, but for one: without any, all are admitted."""
        stays = wanted.entries != added
        leaving = sorted(removed)
        room, last = (leaving, []) if stays else (leaving[1:], leaving[:1])
        try:
            await self._send(self.add, owner, wanted.identity, sorted(added))
        except QuotaExceeded:
            if not room:
                raise
            await self._send(self.remove, owner, wanted.identity, room)
            await self._send(self.add, owner, wanted.identity, sorted(added))
            leaving = last
        await self._send(self.remove, owner, wanted.identity, leaving)

    async def _named(self, owner: BalancerOwner) -> tuple[SourceList, ...]:
        name = source_list_name(self.kind, owner)
        read = await side_by_side(self._read(owner, identity) for identity in await self.listed(owner))
        found = [each for each in read if each is not None]
        return tuple(replace(each, name=each.identity if place else name) for place, each in enumerate(found))

    async def _read(self, owner: BalancerOwner, identity: str) -> SourceList | None:
        with suppress(CloudNotFound):  # a list of lists may be behind
            return SourceList(identity, await self.entries(owner, identity), identity)
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
    async def entries(self, owner: BalancerOwner, identity: str) -> frozenset[str]:
        """Returns the entries of a list that are ours. Raises CloudNotFound when there is none."""

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
    tags = {required(tag, "TagKey"): optional(tag, "TagValue") for tag in parts(described, "Tags", "Tag")}
    return own_tags(owner).items() <= tags.items()
