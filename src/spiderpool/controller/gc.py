"""Garbage collection of addresses whose pods are gone without a CNI DEL.

It deletes SpiderIPs, or marks them as released, and asks nodes what their sandboxes hold (``accounts``); a failed or
stale read releases nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.spidernode import SpiderNode
from spiderpool.controller.accounts import READ_TIMEOUT, NodeAccounts, SilenceReport
from spiderpool.core.ipam.allocation import released
from spiderpool.core.ipam.evidence import AddressUse, NodeEvidence
from spiderpool.core.ipam.gc import (
    GCPolicy,
    ReleaseCandidate,
    ReleaseCause,
    Snapshot,
    find_candidates,
    is_alive,
    is_stable,
    past_grace,
    pod_key,
    pods_of,
    reported_addresses,
    silent_nodes,
    use_by_candidate,
)
from spiderpool.errors import is_bug
from spiderpool.kube.attempts import Attempts
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.owners import OwnerReader
from spiderpool.kube.turns import in_turns
from spiderpool.telemetry import COLLECT_FAILURES, COLLECTED, logger

SHORTEST_INTERVAL = 0.05
"""Seconds between two checks at least, whatever the settings say."""

T = TypeVar("T", bound=Object)

log = logger("collector")


@dataclass(frozen=True, slots=True)
class GCListers:
    """The caches in which candidates for release are found."""

    ips: Informer[SpiderIP]
    pods: Informer[Pod]
    nodes: Informer[Node]
    accounts: Informer[SpiderNode]
    pools: Informer[SpiderIPPool]


@dataclass(frozen=True, slots=True)
class GCTimings:
    """Seconds: between two checks of changed pods, between two full checks, and from candidate to release."""

    interval: float = 5.0
    full_interval: float = 600.0
    grace: float = 5.0
    node_grace: float = 60.0
    agent_grace: float = 30.0
    clock: Callable[[], float] = time.time
    """Returns the seconds since 1970."""

    @property
    def pause(self) -> float:
        """Seconds between two checks."""
        return max(self.interval, SHORTEST_INTERVAL)

    def graces(self) -> dict[ReleaseCause, float]:
        """Seconds for which each cause must persist before the address is released."""
        return {
            ReleaseCause.POD_GONE: self.agent_grace,
            ReleaseCause.NODE_GONE: self.node_grace,
            ReleaseCause.DELETION_OVERDUE: self.agent_grace,
            ReleaseCause.DUPLICATE: self.agent_grace,
            ReleaseCause.COOLDOWN_OVER: self.grace,
        }


@dataclass(slots=True)
class GCState:
    """What is remembered between checks. All of it can be lost: the next full check finds it again."""

    candidates: dict[str, ReleaseCandidate] = field(default_factory=dict)
    """By UID of the record."""
    pods_to_check: set[str] = field(default_factory=set)
    """Keys of pods whose records the next check looks at; the pods may be gone."""
    sticky: set[str] = field(default_factory=set)
    """UIDs of records whose owner still needs them, by a fresh read; checked again at the next full check."""
    unneeded: set[str] = field(default_factory=set)
    """UIDs of records that no owner needs, and that wait for their nodes; likewise."""


class ClusterGC:
    """Checks the records of pods that have changed, and at longer intervals all records.

    The caches only yield candidates. An address is released after its nodes have said that no sandbox has it, and a
    fresh read of its pod and of these nodes has confirmed the candidate, by a write whose precondition is the version
    of the record that was checked. An API error releases nothing.
    """

    def __init__(
        self, client: Client, listers: GCListers, recorder: Recorder, timings: GCTimings, policy: GCPolicy
    ) -> None:
        self._client = client
        self._listers = listers
        self._owners = OwnerReader(client)
        self._recorder = recorder
        self._timings = timings
        self._policy = policy
        self._accounts = NodeAccounts(client, listers.nodes, listers.accounts)
        self._silence = SilenceReport(recorder, listers.nodes)
        self._state = GCState()
        self._releases = Attempts(_failed)  # by UID of the record
        self._questions, self._fences = Attempts(_failed), Attempts(_failed)  # by node
        self._records_by_pod = listers.ips.index(pods_of)  # pod key → its records
        self._reporters = listers.pods.index(reported_addresses, lambda pod: pod.key)  # address → pods that report it
        self._records_by_node = listers.ips.index(lambda record: (record.spec.node,))

    async def run(self) -> None:
        """Check and release until cancelled: first all records, then those of pods that change."""
        self._listers.ips.subscribe(self._on_record, replay=False)
        self._listers.pods.subscribe(self._on_pod, replay=False)
        self._listers.nodes.subscribe(self._on_node, replay=False)
        try:
            await self._check_periodically()
        finally:
            self._silence.update({}, 0.0)  # the next leader counts what waits

    async def _check_periodically(self) -> None:
        pause, next_full = self._timings.pause, 0.0
        while True:
            now = asyncio.get_running_loop().time()
            if now >= next_full:
                next_full = now + max(self._timings.full_interval, pause)
                self._state.sticky.clear()
                self._state.unneeded.clear()
                self._state.pods_to_check.update(self._records_by_pod)  # the keys of all pods that have records
            try:
                await self._check(now)
            except Exception as error:
                _failed("all", error)
            await asyncio.sleep(pause)

    async def _check(self, now: float) -> None:
        """Update the candidates, release those that are due and unused, and ask the nodes that have not said so.

        A candidate dates from when it was found, after ``now``, the beginning of this check: this releases only what an
        earlier check has found. What fails waits for the next check, and keeps nothing else from being done.
        """
        await self._fences.on_each(self._accounts.disproved_fences(), self._accounts.lift_fence)
        keys = self._state.pods_to_check | {pod_key(candidate.record) for candidate in self._state.candidates.values()}
        self._state.pods_to_check = set()
        candidates: dict[str, ReleaseCandidate] = {}
        async for key in in_turns(keys):
            try:
                candidates |= self._look_at(key)
            except Exception:  # what one object makes go wrong must not keep the addresses of all others
                log.exception("records not checked", pod=key)
        self._state.candidates = candidates
        self._accounts.retain({node for candidate in candidates.values() for node in candidate.nodes})
        due = past_grace(self._state.candidates, now, self._timings.graces())
        unknown: list[ReleaseCandidate] = []

        async def judge(candidate: ReleaseCandidate) -> None:
            if await self._waits(candidate, now):
                unknown.append(candidate)

        is_complete = await self._releases.on_each({each.record.metadata.uid or "": each for each in due}, judge)
        await self._request_accounts(unknown)
        if is_complete:
            await self._report_silence(unknown, now)

    async def _waits(self, candidate: ReleaseCandidate, now: float) -> bool:
        """Whether a candidate waits for a word of its nodes. It is released here if they say that it is unused.

        One that its owner needs waits for nothing, whatever they say.
        """
        use, _ = use_by_candidate(candidate, self._accounts, self._policy, now)
        if use is AddressUse.FREE:
            await self._confirm_and_release(candidate)
        if use is not AddressUse.UNKNOWN:
            return False
        is_known = (candidate.record.metadata.uid or "") in self._state.unneeded
        return is_known or not await self._is_needed(candidate.record)

    async def _request_accounts(self, candidates: Iterable[ReleaseCandidate]) -> None:
        """Ask the nodes of candidates, each once for all of its candidates."""
        since: dict[str, float] = {}
        for candidate in candidates:
            for node in candidate.nodes:
                since[node] = max(candidate.since, since.get(node, 0.0))
        await self._questions.on_each({name: (name, last) for name, last in since.items()}, self._request)

    async def _request(self, question: tuple[str, float]) -> None:
        await self._accounts.request(*question)

    async def _report_silence(self, candidates: Iterable[ReleaseCandidate], now: float) -> None:
        waiting: dict[str, list[ReleaseCandidate]] = defaultdict(list)
        async for candidate in in_turns(candidates):
            for node in silent_nodes(candidate, self._accounts, self._policy, now):
                waiting[node].append(candidate)
        self._silence.update(waiting, now)

    def _look_at(self, key: str) -> dict[str, ReleaseCandidate]:
        """Candidates among the records of a pod, by their UID; the pod stays to be checked if time can make some."""
        records = self._records_to_check(key)  # before the pods: find_candidates() requires this order
        if not records:
            return {}
        found = find_candidates(records, self._snapshot(), self._state.candidates, asyncio.get_running_loop().time())
        if not is_stable(records, self._listers.pods.get(key)):
            self._state.pods_to_check.add(key)
        return found

    def _snapshot(self) -> Snapshot:
        listers = self._listers
        return Snapshot(
            listers.pods,
            listers.nodes,
            listers.accounts,
            listers.pools,
            self._reporters,
            self._timings.clock(),
            self._policy,
        )

    def _records_to_check(self, key: str) -> list[SpiderIP]:
        """Records of a pod, without those whose owner still needed them at the last fresh read."""
        records = self._records_by_pod.get(key)
        return [record for record in records if (record.metadata.uid or "") not in self._state.sticky]

    # --- Which events cause a check -------------------------------------------------------------------------------

    def _on_record(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for record in (old, new):
            if record is not None:
                self._check_soon(pod_key(record))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is not None and (old is None or new is None or _relevant(old) != _relevant(new)):
            self._check_soon(pod.key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and old.ready == new.ready:
            return
        name = new.name if new else old.name if old else ""
        for record in self._records_by_node.get(name):
            self._check_soon(pod_key(record))

    def _check_soon(self, key: str) -> None:
        """Have the next check look at all records of a pod."""
        self._state.pods_to_check.add(key)
        if self._state.sticky:
            self._state.sticky -= {record.metadata.uid or "" for record in self._records_by_pod.get(key)}

    # --- What becomes of a candidate ------------------------------------------------------------------------------

    async def _confirm_and_release(self, candidate: ReleaseCandidate) -> None:
        """Release the address unless, by fresh reads, its pod holds it or its owner still needs it."""
        record, uid = candidate.record, candidate.record.metadata.uid or ""
        self._state.candidates.pop(uid, None)
        self._state.pods_to_check.add(pod_key(record))  # whatever becomes of it, the next check looks at it afresh
        records, snapshot, nodes = await self._read_again(candidate)
        confirmed = find_candidates(records, snapshot, {uid: candidate}, now=0.0).get(uid)  # its grace period is over
        if confirmed is None or confirmed.cause is not candidate.cause or confirmed.nodes != candidate.nodes:
            return
        use, reason = use_by_candidate(confirmed, nodes, self._policy, asyncio.get_running_loop().time())
        if use is not AddressUse.FREE:
            return
        if confirmed.cause is not ReleaseCause.COOLDOWN_OVER and await self._is_needed(record):
            return
        with suppress(NotFound, Conflict):  # released or changed by another client: the next check sees how
            await self._release(record, confirmed, reason)

    async def _is_needed(self, record: SpiderIP) -> bool:
        """Whether the owner of a record still needs it, by a fresh read; then it is no candidate for some time."""
        needed = await self._owners.is_needed(record, timeout=READ_TIMEOUT)
        (self._state.sticky if needed else self._state.unneeded).add(record.metadata.uid or "")
        return needed

    async def _read_again(
        self, candidate: ReleaseCandidate
    ) -> tuple[Iterable[SpiderIP], Snapshot, Mapping[str, NodeEvidence]]:
        """The input of `find_candidates` and `use_by_candidate` for one candidate, with its pod and nodes read afresh.

        The record itself is not read again: its release names the version that was checked. The duplicate that the pod
        keeps is, since it may be gone. Pools and reported addresses are those of the caches.
        """
        record, duplicate = candidate.record, candidate.kept_duplicate
        kept = await self._read(SpiderIP, duplicate.name) if duplicate else None
        pod = None if record.spec.releasedAt else await self._read(Pod, record.spec.pod, record.spec.namespace)
        nodes = {name: await self._accounts.read(name) for name in candidate.nodes if name}
        snapshot = Snapshot(
            {pod.key: pod} if pod else {},
            {name: each.node for name, each in nodes.items() if each.node},
            {name: each.account for name, each in nodes.items() if each.account},
            self._listers.pools,
            self._reporters,
            self._timings.clock(),
            self._policy,
        )
        return (record, kept) if kept else (record,), snapshot, nodes

    async def _read(self, kind: type[T], name: str, namespace: str | None = None) -> T | None:
        """An object by a fresh read; None when it does not exist."""
        return await self._client.find(kind, name, namespace, timeout=READ_TIMEOUT)

    async def _release(self, record: SpiderIP, candidate: ReleaseCandidate, evidence: str) -> None:
        """Delete the record, or start its cooldown where its pool has one. Raises Conflict or NotFound."""
        pool = self._listers.pools.get(record.spec.pool)
        if candidate.cause is not ReleaseCause.COOLDOWN_OVER and pool is not None and pool.spec.cooldownSeconds:
            self._listers.ips.note(await self._client.replace(released(record, self._timings.clock())))
        else:
            meta = record.metadata
            await self._client.delete(SpiderIP, record.name, uid=meta.uid, resourceVersion=meta.resourceVersion)
        COLLECTED.inc()
        spec, reason = record.spec, "; ".join(filter(None, (candidate.reason, evidence)))
        self._recorder.event(record, event_reasons.COLLECTED, f"{spec.address} released: {reason}")
        log.info("address released", address=spec.address, pool=spec.pool, node=spec.node, reason=reason)


def _failed(what: str, error: Exception) -> None:
    COLLECT_FAILURES.inc()
    log.warning("addresses not collected", of=what, error=str(error), exc_info=is_bug(error))


def _relevant(pod: Pod) -> tuple[object, ...]:
    """The parts of a pod that decide whether its addresses may be released."""
    return pod.metadata.uid, is_alive(pod), pod.spec.nodeName, reported_addresses(pod)
