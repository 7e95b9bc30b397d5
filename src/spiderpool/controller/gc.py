"""Collection of addresses whose pods are gone without having been detached."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.core.ipam.allocation import released
from spiderpool.core.ipam.gc import (
    GCPolicy,
    ReleaseCandidate,
    ReleaseCause,
    Snapshot,
    find_candidates,
    is_alive,
    is_ready,
    is_stable,
    past_grace,
    pod_key,
    reported_addresses,
)
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.owners import OwnerReader
from spiderpool.telemetry import COLLECT_FAILURES, COLLECTED, logger

SHORTEST = 0.05
"""Seconds between two looks at least, whatever the settings say."""
READ_TIMEOUT = 10.0

T = TypeVar("T", bound=Object)

log = logger("collector")


@dataclass(frozen=True, slots=True)
class GCListers:
    """The local copies that raise doubts."""

    ips: Informer[SpiderIP]
    pods: Informer[Pod]
    nodes: Informer[Node]
    pools: Informer[SpiderIPPool]


@dataclass(frozen=True, slots=True)
class GCTimings:
    """Seconds: between two looks at suspects, between two at everything, and what must lie between two doubts."""

    interval: float = 5.0
    full_interval: float = 600.0
    grace: float = 5.0
    node_grace: float = 60.0

    def graces(self) -> dict[ReleaseCause, float]:
        """The grace of each cause."""
        return {cause: self.node_grace if cause is ReleaseCause.NODE_GONE else self.grace for cause in ReleaseCause}


@dataclass(slots=True)
class GCState:
    """What we have seen so far: all of it can be lost, and is found again."""

    doubts: dict[str, ReleaseCandidate] = field(default_factory=dict)
    pods: set[str] = field(default_factory=set)
    """Keys of pods to whose records something has happened."""
    kept: set[str] = field(default_factory=set)
    """UIDs of records whose owner wants them, as a fresh read said; asked again at the next look at everything."""


class ClusterGC:
    """Looks at the records of pods that something has happened to, and now and then at all records.

    The copies that the informers keep raise doubts; what releases an address is a fresh read of its pod, and
    a write that holds only for the very version of the record that was doubted. An API error releases nothing.
    """

    def __init__(
        self, client: Client, copies: GCListers, recorder: Recorder, timing: GCTimings, policy: GCPolicy
    ) -> None:
        self._client = client
        self._copies = copies
        self._owners = OwnerReader(client)
        self._recorder = recorder
        self._timing = timing
        self._policy = policy
        self._seen = GCState()
        self._records: dict[str, dict[str, SpiderIP]] = defaultdict(dict)
        self._reporters: dict[str, set[str]] = defaultdict(set)
        copies.ips.subscribe(self._on_ip)
        copies.pods.subscribe(self._on_pod)
        copies.nodes.subscribe(self._on_node)

    async def run(self) -> None:
        """Look and collect until cancelled."""
        pause, full = max(self._timing.interval, SHORTEST), 0.0
        while True:
            now = time.monotonic()
            if now >= full:
                full = now + max(self._timing.full_interval, pause)
                self._seen.kept.clear()
                self._seen.pods |= self._records.keys()
            await self._look(now)
            await asyncio.sleep(pause)

    async def _look(self, now: float) -> None:
        keys = self._seen.pods | {pod_key(doubt.record) for doubt in self._seen.doubts.values()}
        ips = [ip for key in keys for ip in self._records.get(key, {}).values()]  # records first, then pods
        ips = [ip for ip in ips if (ip.metadata.uid or "") not in self._seen.kept]
        self._seen.doubts = find_candidates(ips, self._scene(), self._seen.doubts, now)
        self._seen.pods = {key for key in keys if self._is_watched(key)}
        for doubt in past_grace(self._seen.doubts, now, self._timing.graces()):
            try:
                await self._settle(doubt)
            except SpiderpoolError as error:
                COLLECT_FAILURES.inc()
                log.warning("address not released", address=doubt.record.spec.address, error=str(error))
                return

    def _scene(self) -> Snapshot:
        copies = self._copies
        return Snapshot(copies.pods, copies.nodes, copies.pools, self._reporters, time.time(), self._policy)

    def _is_watched(self, key: str) -> bool:
        """Whether time alone may bring a doubt about a pod's records."""
        ips = [ip for ip in self._records.get(key, {}).values() if (ip.metadata.uid or "") not in self._seen.kept]
        return bool(ips) and not is_stable(ips, self._copies.pods.get(key))

    # --- What makes us look ---------------------------------------------------------------------------------------

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._records[pod_key(old)].pop(old.name, None)
            self._suspect(pod_key(old))
            if not self._records[pod_key(old)]:
                del self._records[pod_key(old)]
        if new is not None:
            self._records[pod_key(new)][new.name] = new
            self._suspect(pod_key(new))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        before, after = (_standing(pod) if pod else None for pod in (old, new))
        if before == after:
            return
        for address in reported_addresses(old) if old else ():
            self._reporters[address].discard(old.key if old else "")
            if not self._reporters[address]:
                del self._reporters[address]
        for address in reported_addresses(new) if new else ():
            self._reporters[address].add(new.key if new else "")
        self._suspect((new or old).key)  # type: ignore[union-attr]  # one of the two is there

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and is_ready(old) == is_ready(new):
            return
        name = new.name if new else old.name if old else ""
        for ip in self._copies.ips.items():
            if ip.spec.node == name:
                self._suspect(pod_key(ip))

    def _suspect(self, key: str) -> None:
        self._seen.pods.add(key)
        self._seen.kept -= {ip.metadata.uid or "" for ip in self._records.get(key, {}).values()}

    # --- What becomes of a doubt ----------------------------------------------------------------------------------

    async def _settle(self, doubt: ReleaseCandidate) -> None:
        """Release the address, unless the pod as it is now holds it or its owner wants it."""
        ip, uid = doubt.record, doubt.record.metadata.uid or ""
        self._seen.doubts.pop(uid, None)
        self._seen.pods.add(pod_key(ip))
        confirmed = find_candidates(*await self._read_again(doubt), {}, 0.0).get(uid)
        if confirmed is None:
            return
        if confirmed.cause is not ReleaseCause.COOLDOWN_OVER and await self._owners.keep(ip, timeout=READ_TIMEOUT):
            self._seen.kept.add(uid)
            return
        with suppress(NotFound, Conflict):  # released, or changed, by somebody else: looked at again next time
            await self._release(ip, confirmed)

    async def _read_again(self, doubt: ReleaseCandidate) -> tuple[Iterable[SpiderIP], Snapshot]:
        """The doubted record and its twin, then the pod and its node, as the API server holds them now."""
        ip, copies = doubt.record, self._copies
        twin = await self._read(SpiderIP, doubt.kept_duplicate.name) if doubt.kept_duplicate else None
        pod = None if ip.spec.releasedAt else await self._read(Pod, ip.spec.pod, ip.spec.namespace)
        node = await self._read(Node, pod.spec.nodeName) if pod and pod.spec.nodeName else None
        pods = {pod.key: pod} if pod else {}
        nodes = {node.name: node} if node else {}
        scene = Snapshot(pods, nodes, copies.pools, self._reporters, time.time(), self._policy)
        return (ip, twin) if twin else (ip,), scene

    async def _read(self, kind: type[T], name: str, namespace: str | None = None) -> T | None:
        try:
            return await self._client.get(kind, name, namespace, timeout=READ_TIMEOUT)
        except NotFound:
            return None

    async def _release(self, ip: SpiderIP, doubt: ReleaseCandidate) -> None:
        pool = self._copies.pools.get(ip.spec.pool)
        if doubt.cause is not ReleaseCause.COOLDOWN_OVER and pool is not None and pool.spec.cooldownSeconds:
            self._copies.ips.note(await self._client.replace(released(ip, time.time())))
        else:
            meta = ip.metadata
            await self._client.delete(SpiderIP, ip.name, uid=meta.uid, resourceVersion=meta.resourceVersion)
        COLLECTED.inc()
        self._recorder.event(ip, "Normal", "Collected", f"{ip.spec.address} released: {doubt.reason}")
        spec = ip.spec
        log.info("address released", address=spec.address, pool=spec.pool, node=spec.node, reason=doubt.reason)


def _standing(pod: Pod) -> tuple[object, ...]:
    """What of a pod decides about its addresses."""
    return pod.metadata.uid, is_alive(pod), pod.spec.nodeName, reported_addresses(pod)
