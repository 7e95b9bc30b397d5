"""Makes SpiderIPs again that somebody has deleted while a sandbox of this node uses their addresses.

An address without its SpiderIP is free for everybody, so it would soon be in use twice. As soon as the agent learns
that a record is gone which it has not deleted itself, it gives the address to nobody. Two seconds later, when a DEL
under way has ended, it looks at files and kernel: if a sandbox has the address, the record is made again. If another
pod has it by then, both are told, and the address is given to no third one. Records that went while no agent ran are
found when all sandboxes are read.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.record_store import holder_of
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.spidernode import NodeSandbox
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.evidence import sandbox_text
from spiderpool.core.ipam.gc import pod_uids
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.ipam.repair import UnrecordedAddress, is_shared, made_again, record_of, unrecorded
from spiderpool.kube.events import Recorder
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import ADDRESSES_TWICE, RECORDS_RESTORED, logger

CONFIRM = 2.0
"""Seconds until a sandbox is looked at again whose record is missing: a DEL may be about to end it."""
CALL_TIMEOUT = 5.0
"""Seconds for one call to the API server."""
WORKERS = 2
"""Pods that are looked at at a time."""

log = logger("repair")


class RecordRepair:
    """The repair of one node's records."""

    def __init__(
        self, cluster: ClusterCache, sandboxes: NodeSandboxes, recorder: Recorder, policy: AddressPolicy
    ) -> None:
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._recorder = recorder
        self._policy = policy
        self._lost: dict[str, SpiderIP] = {}  # name → record that has disappeared, until its sandbox was looked at
        # (UID, name) → another pod's record of an address that a sandbox of the pod with the UID has
        self._twice: dict[tuple[str, str], SpiderIP] = {}
        self._occupied: dict[int, frozenset[int]] = {}  # family → addresses of both, as far as computed since a change
        self._queue = WorkQueue(self._check, "repair")  # of UIDs
        cluster.records.on_lost(self._record_lost)

    async def run(self, account: AccountPublisher) -> None:
        """Repair until cancelled, also what each whole reading of the account shows."""
        account.subscribe(self._all_read)
        await self._queue.run(WORKERS)

    def occupied(self, version: int) -> Collection[int]:
        """Addresses of a family that must not be given to a pod, although they may have no record."""
        if version not in self._occupied:
            records = (*self._lost.values(), *self._twice.values())
            self._occupied[version] = frozenset(address_of(each) for each in records if family(each) == version)
        return self._occupied[version]

    def _record_lost(self, record: SpiderIP) -> None:
        self._lost[record.name] = record
        self._occupied.clear()
        self._queue.add(record.spec.podUID, after=CONFIRM)

    def _all_read(self, sandboxes: list[NodeSandbox]) -> None:
        pools = self._cluster.pools()
        for found in self._unrecorded(sandboxes, self._cluster.records.informer.items()):
            if record_of(found, self._cluster.node_name, pools, None) is not None:
                self._queue.add(found.sandbox.podUID, after=CONFIRM)
        for uid, _ in self._twice:
            self._queue.add(uid, after=CONFIRM)

    async def _check(self, uid: str) -> None:
        """Repair what the sandboxes of a pod use, and forget what they use no more. Raises SpiderpoolError."""
        lost = {name: record for name, record in self._lost.items() if record.spec.podUID == uid}
        sandboxes = await self._sandboxes.of_pod(uid)
        missing = self._unrecorded(sandboxes, self._cluster.records.of_pod(uid))
        done: set[tuple[str, str, int]] = set()
        twice: dict[tuple[str, str], SpiderIP] = {}
        for found in sorted(missing, key=lambda each: each.name not in lost):
            pod = self._pod_of(found.sandbox)
            record = self._record(found, pod) if found.slot not in done else None
            if record is not None:
                done.add(found.slot)
                if other := await self._restore(found, pod, record):
                    twice[uid, found.name] = other
        self._twice = {key: each for key, each in self._twice.items() if key[0] != uid} | twice
        self._lost = {name: each for name, each in self._lost.items() if lost.get(name) is not each}
        self._occupied.clear()

    def _unrecorded(self, sandboxes: list[NodeSandbox], records: list[SpiderIP]) -> list[UnrecordedAddress]:
        """What `unrecorded` finds on interfaces that pods are given: on others their programs may add any address."""
        names = self._sandboxes.interfaces()
        found = unrecorded(sandboxes, records)
        return [each for each in found if each.interface in names.get(each.sandbox.containerID, ())]

    async def _restore(self, found: UnrecordedAddress, pod: Pod | None, missing: SpiderIP) -> SpiderIP | None:
        """Make a record again; returns that of another pod, if there is one. Raises ApiRefusal or ApiUnavailable."""
        records = self._cluster.records
        stored = await records.get(missing.name, timeout=CALL_TIMEOUT)
        if stored is None:
            made = await records.create(missing, timeout=CALL_TIMEOUT)
            self._report_restored(found, pod, made)
        elif holder_of(stored) == holder_of(missing):
            records.adopt(stored)
        elif stored.spec.releasedAt:
            labels = (stored.metadata.labels or {}) | (missing.metadata.labels or {})
            taken = replace(stored, metadata=replace(stored.metadata, labels=labels), spec=missing.spec)
            made = await records.replace(taken, timeout=CALL_TIMEOUT)
            self._report_restored(found, pod, made)
        elif not is_shared(missing, stored):
            await self._report_twice(found, pod, stored)
            return stored
        return None

    def _record(self, found: UnrecordedAddress, pod: Pod | None) -> SpiderIP | None:
        """The record that is missing: as it was, or by the pool that has the address; None when none has."""
        lost = self._lost.get(found.name)
        if lost and (lost.spec.podUID, lost.spec.interface) == (found.sandbox.podUID, found.interface):
            return made_again(lost)
        owner = self._policy.sticky_owner(pod) if pod else None
        return record_of(found, self._cluster.node_name, self._cluster.pools(), owner)

    def _pod_of(self, sandbox: NodeSandbox) -> Pod | None:
        pod = self._cluster.pods.get(f"{sandbox.namespace}/{sandbox.pod}")
        return pod if pod and sandbox.podUID in pod_uids(pod) else None

    def _report_restored(self, found: UnrecordedAddress, pod: Pod | None, made: SpiderIP) -> None:
        RECORDS_RESTORED.inc()
        log.warning("restored", address=found.address, sandbox=sandbox_text(found.sandbox))
        message = (
            f"SpiderIP {made.name} was missing and has been made again: {found.interface} uses {found.address}. "
            "To release an address, delete its pod, or use `spiderpoolctl ip release`"
        )
        self._recorder.event(pod or made, event_reasons.SPIDERIP_RESTORED, message)

    async def _report_twice(self, found: UnrecordedAddress, pod: Pod | None, stored: SpiderIP) -> None:
        """Tell both pods, once, that they have the same address."""
        known, spec = self._twice.get((found.sandbox.podUID, found.name)), stored.spec
        if known and known.metadata.uid == stored.metadata.uid and known.spec.podUID == spec.podUID:
            return
        ADDRESSES_TWICE.inc()
        other = await self._cluster.holder(stored)
        message = (
            f"{found.address} is in use twice: {sandbox_text(found.sandbox)} on node {self._cluster.node_name} has it "
            f"on {found.interface}, and its SpiderIP belongs to pod {spec.namespace}/{spec.pod} on node {spec.node}; "
            "delete one of the two pods"
        )
        log.error("address in use twice", address=found.address, message=message)
        holder = other if other and spec.podUID in pod_uids(other) else stored
        for each in (pod, holder):
            if each is not None:
                self._recorder.event(each, event_reasons.ADDRESS_IN_USE_TWICE, message)
