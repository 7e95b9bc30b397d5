"""Moves pods to other addresses: evicts one after the other, and waits until another pod serves in its place."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from spiderpool.api.core_v1 import Pod
from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import IP_NODE_LABEL, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.plan.pods import is_living
from spiderpool.cli.renumbering.holders import AddressHolder, EmptiedPart, HolderKind, held_records
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.labels import label_value
from spiderpool.errors import NotReady
from spiderpool.kube.client import Client, Conflict, NotFound, TooManyRequests
from spiderpool.kube.evictions import evict

REQUEST_TIMEOUT = 10.0
"""Seconds for each request."""
POLL = 1.0
"""Seconds between two looks, and between two tries of an eviction that a PodDisruptionBudget forbids."""


class MoveStage(enum.StrEnum):
    """How far the move of one pod is."""

    ENDING = "the pod has not ended yet"
    MISSING = "nobody has made another pod in its place"
    NOT_READY = "the pod in its place is not ready"
    HELD = "its addresses are not released yet"
    RETURNED = "the pod in its place has an address of those that are to be empty: its agent is of an older version"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class MoveState:
    """How far the move of one pod is, and which pod is in its place."""

    stage: MoveStage
    successor: EvictablePod | None = None


def move_state(
    holder: AddressHolder, known: Collection[str], pods: Iterable[EvictablePod], records: Iterable[SpiderIP]
) -> MoveState:
    """How far the move of a holder is.

    ``known`` are the UIDs of the pods that were there before, ``pods`` those of its Namespace, ``records`` those that
    its addresses have now.
    """
    there = list(pods)
    held_by = {record.spec.podUID for record in records if record.spec.releasedAt is None}
    if any(pod.metadata.uid == holder.uid for pod in there):
        return MoveState(MoveStage.ENDING)
    released = MoveStage.HELD if holder.uid in held_by else MoveStage.MOVED
    if holder.controller_uid is None:
        return MoveState(released)
    mine = [pod for pod in there if pod.controller and pod.controller.uid == holder.controller_uid and is_living(pod)]
    new = [pod for pod in mine if pod.metadata.uid not in known]
    if back := next((pod for pod in new if pod.metadata.uid in held_by), None):
        return MoveState(MoveStage.RETURNED, back)
    ready = next((pod for pod in new if pod.ready), None)
    if ready is None:
        return MoveState(MoveStage.NOT_READY, new[0]) if new else MoveState(MoveStage.MISSING)
    return MoveState(released, ready)


def chosen(holders: Iterable[AddressHolder], *, unmanaged: bool) -> list[AddressHolder]:
    """The holders that are evicted: never static pods, machines, or pods that would get no other address."""
    kinds = {HolderKind.MANAGED, *([HolderKind.UNMANAGED] if unmanaged else [])}
    return [each for each in holders if each.kind in kinds]


@dataclass(frozen=True, slots=True)
class Mover:
    """Evicts pods; ``timeout`` bounds the seconds until one is evicted, and until another serves in its place."""

    client: Client
    parts: Collection[EmptiedPart]
    timeout: float
    say: Callable[[str], None]

    async def move(self, holder: AddressHolder) -> None:
        """Evict one pod and wait. Raises NotReady when that takes too long, or did not help."""
        known = {pod.metadata.uid or "" for pod in await self._pods(holder)}
        if not await self._evict(holder):
            self.say(f"pod {holder.pod} is gone already")
            return
        self.say(f"pod {holder.pod} is evicted, which has {', '.join(holder.addresses)}")
        state = await self._until_moved(holder, known)
        if state.successor is None:
            self.say(f"pod {holder.pod} has ended, and its addresses are free")
            return
        own = await self._records_of(state.successor)
        if held_records(self.parts, own):
            raise _stopped(holder, MoveState(MoveStage.RETURNED, state.successor))
        addresses = ", ".join(sorted(map(address_text, own)))
        self.say(f"pod {state.successor.key} serves in its place{', with ' if own else ''}{addresses}")

    async def _evict(self, holder: AddressHolder) -> bool:
        """Evict a pod as soon as budgets allow it; whether it was there. Raises NotReady."""
        namespace, _, name = holder.pod.partition("/")
        pod, said = Pod(metadata=ObjectMeta(name=name, namespace=namespace, uid=holder.uid)), ""
        end = asyncio.get_running_loop().time() + self.timeout
        while True:
            try:
                await evict(self.client, pod, timeout=REQUEST_TIMEOUT)
            except (NotFound, Conflict):
                return False
            except TooManyRequests as error:
                if asyncio.get_running_loop().time() >= end:
                    raise NotReady(
                        f"pod {holder.pod} was not evicted within {self.timeout:g} s: {error.message}"
                    ) from error
                if error.message != said:
                    said = error.message
                    self.say(f"pod {holder.pod} waits: {said}")
            else:
                return True
            await asyncio.sleep(POLL)

    async def _until_moved(self, holder: AddressHolder, known: Collection[str]) -> MoveState:
        end = asyncio.get_running_loop().time() + self.timeout
        while True:
            state = move_state(holder, known, await self._pods(holder), await self._records(holder))
            if state.stage is MoveStage.MOVED:
                return state
            if state.stage is MoveStage.RETURNED or asyncio.get_running_loop().time() >= end:
                raise _stopped(holder, state, self.timeout)
            await asyncio.sleep(POLL)

    async def _pods(self, holder: AddressHolder) -> list[EvictablePod]:
        return await self.client.list(EvictablePod, holder.namespace, timeout=REQUEST_TIMEOUT)

    async def _records(self, holder: AddressHolder) -> list[SpiderIP]:
        reads = (self.client.find(SpiderIP, object_name(each), timeout=REQUEST_TIMEOUT) for each in holder.addresses)
        return [record for record in [await each for each in reads] if record is not None]

    async def _records_of(self, pod: EvictablePod) -> list[SpiderIP]:
        """The records that a pod has."""
        label = f"{IP_NODE_LABEL}={label_value(pod.spec.nodeName or '')}"
        near = await self.client.list(SpiderIP, labels=label, timeout=REQUEST_TIMEOUT)
        return [each for each in near if each.spec.podUID == pod.metadata.uid]


def _stopped(holder: AddressHolder, state: MoveState, timeout: float = 0.0) -> NotReady:
    pod = f" ({state.successor.key})" if state.successor else ""
    late = "" if state.stage is MoveStage.RETURNED else f" after {timeout:g} s"
    return NotReady(f"pod {holder.pod} was evicted, but{late} {state.stage}{pod}")
