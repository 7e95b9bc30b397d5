"""Moves pods to other addresses: evicts one after the other, and waits until another pod serves in its place."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from spiderpool.api.applications import DaemonSet, ReplicaSet, StatefulSet, Workload
from spiderpool.api.core_v1 import Pod
from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import IP_NODE_LABEL, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.plan.pods import is_living
from spiderpool.cli.printing import Say
from spiderpool.cli.renumbering.holders import AddressHolder, EmptiedPart, HolderKind, held_records
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.report import left_text
from spiderpool.cli.renumbering.runs import PoolRun
from spiderpool.cli.renumbering.survey import survey
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.labels import label_value
from spiderpool.errors import ApiUnavailable, NotReady
from spiderpool.kube.client import Client, Conflict, Forbidden, NotFound
from spiderpool.kube.evictions import evict

POLL = 1.0
"""Seconds between two looks, and between two tries of an eviction that a PodDisruptionBudget forbids."""

CONTROLLERS: dict[str, type[Workload]] = {kind.KIND.name: kind for kind in (ReplicaSet, StatefulSet, DaemonSet)}
"""Controllers of pods that say how many they want."""


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


def why_incomplete(holder: AddressHolder, pods: Iterable[EvictablePod], wanted: int | None) -> str | None:
    """Why a holder is not to be evicted now: a pod of its controller is missing; None when none is.

    ``wanted`` are the pods that the controller wants; None: as many as there are. A pod that does not serve is missed
    by nobody.
    """
    mine = [pod for pod in pods if pod.controller and pod.controller.uid == holder.controller_uid]
    if ending := next((pod for pod in mine if pod.terminating), None):
        return f"pod {ending.key} has not ended yet"
    living = [pod for pod in mine if is_living(pod)]
    ready = sum(pod.ready for pod in living)
    needed = len(living) if wanted is None else wanted
    if not holder.ready or ready >= needed:
        return None
    return f"{ready} of {needed} pods of {holder.controller} serve"


@dataclass(frozen=True, slots=True)
class Mover:
    """Evicts pods; ``timeout`` bounds the seconds until one is evicted, and until another serves in its place."""

    cluster: Cluster
    parts: Collection[EmptiedPart]
    timeout: float
    runs: Collection[PoolRun]
    say: Say

    @property
    def client(self) -> Client:
        """That of the cluster."""
        return self.cluster.client

    async def until_gone(self, kind: HolderKind) -> None:
        """Wait until there is no holder of a kind that ends by itself; not longer than one move may take."""
        end, left = _now() + self.timeout, ""
        while True:
            with suppress(ApiUnavailable):
                holders = (await survey(self.cluster, self.parts)).holders
                left = next((each.pod for each in holders if each.kind is kind), "")
                if not left:
                    return
            if _now() >= end:
                self.say(f"pod {left} has not ended within {self.timeout:g} s")
                return
            await asyncio.sleep(POLL)
            await self._check()

    async def move_all(self, holders: Collection[AddressHolder]) -> bool:
        """Move pods one after the other; whether all were. One that may not be evicted now keeps no others waiting.

        Raises NotReady when an eviction did not help, or the move was taken back.
        """
        pending, said = list(holders), dict[str, str]()
        end = _now() + self.timeout
        while pending:
            before, said = len(pending), await self._round(pending, said)
            if len(pending) < before:
                end = _now() + self.timeout
            if pending and _now() >= end:
                for pod, why in said.items():
                    self.say(f"stopped: pod {pod} was not evicted within {self.timeout:g} s: {why}")
                return False
            if pending:
                await asyncio.sleep(POLL)
        return True

    async def _round(self, pending: list[AddressHolder], said: Mapping[str, str]) -> dict[str, str]:
        """Try each pod, as each may be under another budget; why one was not moved, by pod.

        Those that were moved are not pending any more.
        """
        reasons: dict[str, str] = {}
        for holder in tuple(pending):
            try:
                await self._check()
                why = await self.move(holder)
            except ApiUnavailable as error:
                why = error.message
            if why is None:
                pending.remove(holder)
                continue
            reasons[holder.pod] = why
            if said.get(holder.pod) != why:
                self.say(f"pod {holder.pod} waits: {why}")
        return reasons

    async def _check(self) -> None:
        """Raises MoveEnded when the move was taken back. No answer says nothing."""
        for run in self.runs:
            with suppress(ApiUnavailable):
                await run.check()

    async def move(self, holder: AddressHolder) -> str | None:
        """Evict one pod and wait; why it may not be evicted now. Raises NotReady when that did not help."""
        pods = await self._pods(holder)
        if why := why_incomplete(holder, pods, await self._wanted(holder)):
            return why
        known = {pod.metadata.uid or "" for pod in pods}
        if holder.uid not in known:
            self.say(f"pod {holder.pod} is gone already")
            return None
        if why := await self._evict(holder):
            return why
        self.say(f"pod {holder.pod} is evicted, which has {', '.join(holder.addresses)}")
        state = await self._until_moved(holder, known)
        if state.successor is None:
            self.say(f"pod {holder.pod} has ended, and its addresses are free")
            return None
        own = await self._records_of(state.successor)
        if held_records(self.parts, own):
            raise _stopped(holder, MoveState(MoveStage.RETURNED, state.successor))
        addresses = ", ".join(sorted(map(address_text, own)))
        self.say(f"pod {state.successor.key} serves in its place{', with ' if own else ''}{addresses}")
        return None

    async def _evict(self, holder: AddressHolder) -> str | None:
        """Evict a pod; why that may not be now. One that is gone, or not answered for, shows at the next look."""
        namespace, _, name = holder.pod.partition("/")
        pod = Pod(metadata=ObjectMeta(name=name, namespace=namespace, uid=holder.uid))
        try:
            await evict(self.client, pod, timeout=self.cluster.timeout)
        except (NotFound, Conflict, ApiUnavailable) as error:
            return error.message
        return None

    async def _wanted(self, holder: AddressHolder) -> int | None:
        """How many pods the controller of a holder wants; None where it does not say, or may not be read."""
        kind_name, _, name = (holder.controller or "").partition(" ")
        kind = CONTROLLERS.get(kind_name)
        if kind is None or holder.controller_uid is None:
            return None
        try:
            found = await self.client.find(kind, name, holder.namespace, timeout=self.cluster.timeout)
        except Forbidden:
            return None
        if found is None or found.metadata.uid != holder.controller_uid:
            return None
        return found.status.desiredNumberScheduled if kind is DaemonSet else found.spec.replicas

    async def _until_moved(self, holder: AddressHolder, known: Collection[str]) -> MoveState:
        end, state = _now() + self.timeout, MoveState(MoveStage.ENDING)
        while True:
            with suppress(ApiUnavailable):  # a pod is evicted already: what becomes of it is waited for
                state = move_state(holder, known, await self._pods(holder), await self._records(holder))
            if state.stage is MoveStage.MOVED:
                return state
            if state.stage is MoveStage.RETURNED or _now() >= end:
                raise _stopped(holder, state, self.timeout)
            await asyncio.sleep(POLL)
            await self._check()

    async def _pods(self, holder: AddressHolder) -> list[EvictablePod]:
        return await self.client.list(EvictablePod, holder.namespace, timeout=self.cluster.timeout)

    async def _records(self, holder: AddressHolder) -> list[SpiderIP]:
        reads = (
            self.client.find(SpiderIP, object_name(each), timeout=self.cluster.timeout) for each in holder.addresses
        )
        return [record for record in [await each for each in reads] if record is not None]

    async def _records_of(self, pod: EvictablePod) -> list[SpiderIP]:
        """The records that a pod has."""
        label = f"{IP_NODE_LABEL}={label_value(pod.spec.nodeName or '')}"
        near = await self.client.list(SpiderIP, labels=label, timeout=self.cluster.timeout)
        return [each for each in near if each.spec.podUID == pod.metadata.uid]


async def empty(
    cluster: Cluster, parts: Collection[EmptiedPart], options: MoveOptions, runs: Collection[PoolRun], say: Say
) -> bool:
    """Evict what may be evicted, one after the other, and tell what still holds an address; whether none does.

    Agents have learnt by then that nobody gets an address of the parts any more.
    """
    mover = Mover(cluster, parts, options.timeout, runs, say)
    is_whole = True
    try:
        if options.moves:
            await mover.until_gone(HolderKind.ENDING)
            is_whole = await mover.move_all(options.evicted((await survey(cluster, parts)).holders))
            await mover.until_gone(HolderKind.JOB)
        for run in runs:
            await run.check()
    except NotReady as error:
        say(f"stopped: {error.message}")
        is_whole = False
    left = (await survey(cluster, parts)).holders
    for holder in left:
        say(f"still held: {left_text(holder)}")
    return is_whole and not left


def _now() -> float:
    return asyncio.get_running_loop().time()


def _stopped(holder: AddressHolder, state: MoveState, timeout: float = 0.0) -> NotReady:
    pod = f" ({state.successor.key})" if state.successor else ""
    late = "" if state.stage is MoveStage.RETURNED else f" after {timeout:g} s"
    return NotReady(f"pod {holder.pod} was evicted, but{late} {state.stage}{pod}")
