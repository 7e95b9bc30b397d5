"""Automatic pools: one for each interface and address family of every application whose annotations ask for one.

An automatic pool takes its addresses from a SpiderSubnet. This module creates, resizes and deletes automatic pools; it
never touches pools that users made, and never decides which pod gets which address.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api import event_reasons
from spiderpool.api.applications import WORKLOADS, Workload
from spiderpool.api.core_v1 import Pod
from spiderpool.api.event_reasons import EventReason
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.quotas import NamespaceQuotas
from spiderpool.controller.subnets import PoolsBySubnet
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, family, pools_of
from spiderpool.core.ipam.application_pools import SubnetUse, desired_pool, find_pool, is_reclaimed, pool_names
from spiderpool.core.ipam.applications import (
    PoolClaim,
    PoolSlot,
    application_key,
    has_subnet_annotation,
    pool_application,
    read_application_key,
    third_party_application,
    third_party_claim,
    workload_application,
    workload_claim,
)
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.subnet_addresses import (
    pool_addresses,
    reserved_addresses,
    why_subnet_unusable,
)
from spiderpool.errors import BadConfig, NotReady
from spiderpool.kube.client import AlreadyExists, Client, Forbidden, NotFound
from spiderpool.kube.discovery import find_kind, uid_of
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue, resync
from spiderpool.telemetry import logger

RESYNC = 300.0
"""Seconds between two reconciliations of all applications."""
WORKERS = 4
"""Applications that are reconciled at a time; those of one subnet are serialized by a lock."""

KINDS: Mapping[tuple[str, str], type[Workload]] = {(kind.KIND.api_version, kind.KIND.name): kind for kind in WORKLOADS}
"""Watched kinds of workloads, by apiVersion and kind; other controllers of pods are called third-party."""

log = logger("applications")


@dataclass(frozen=True, slots=True)
class ApplicationListers:
    """The caches that automatic pools are computed from."""

    subnets: Informer[SpiderSubnet]
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    reserved: Informer[SpiderReservedIP]
    pods: Informer[Pod]
    workloads: Mapping[type[Workload], Informer[Any]]
    quotas: NamespaceQuotas | None = None
    """None: no Namespace has one."""


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """What a pool is made from: the application's claim, the slot in it, the subnet, and the addresses to have."""

    claim: PoolClaim
    slot: PoolSlot
    subnet: SpiderSubnet
    addresses: AddressSet
    limit: int | None = None
    """Addresses that the pool may have by the Namespace's quota; None without one."""

    @property
    def cut_by_quota(self) -> bool:
        """Whether it has no more addresses because of the quota, not for want of them in the subnet."""
        return self.limit is not None and self.limit <= self.addresses.size

    def pool(self, current: SpiderIPPool | str) -> SpiderIPPool:
        """The pool as it should be: ``current`` with its changes, or a new pool of that name."""
        return desired_pool(self.claim, self.slot, self.subnet, current, self.addresses)


class ApplicationPoolReconciler:
    """Creates, resizes and deletes the pools of applications.

    Pools of one subnet are written one at a time, and every write is cached at once, so two applications never get the
    same addresses. A pool that a user makes at the same moment may overlap; then the automatic pool gives the addresses
    up at its next reconciliation, and until then the creation of the SpiderIP decides, as always.
    """

    def __init__(
        self,
        client: Client,
        listers: ApplicationListers,
        recorder: Recorder,
        *,
        families: frozenset[int],
        redundant: int,
    ) -> None:
        self._client = client
        self._listers = listers
        self._recorder = recorder
        self._families = families
        self._redundant = redundant
        self._quotas = listers.quotas
        self._queue = WorkQueue(self._reconcile, "applications")
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # CIDR → held while its pools are written
        self._quota_locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # the same, of a Namespace
        self._applications_by_subnet: dict[str, set[str]] = {}  # subnet name → keys of applications that depend on it
        self._short: set[str] = set()  # keys of applications that have fewer addresses than they ask for
        self._shrinking: dict[str, str] = {}  # pool that is to shrink once addresses become idle → application key
        self._pools_by_subnet = PoolsBySubnet(listers.pools)
        self._ips_by_pool = listers.ips.index(pools_of)
        self._pools_by_application = listers.pools.index(_applications_of)
        self._third_party_pods = listers.pods.index(_third_party_applications)  # application key → its pods
        self._subscribe()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(resync(RESYNC, self._touch_all))

    # --- Which events cause a reconciliation -----------------------------------------------------------------------

    def _subscribe(self) -> None:
        self._listers.ips.subscribe(self._on_ip)
        self._listers.pools.subscribe(self._on_pool)
        self._listers.pods.subscribe(self._on_pod)
        for informer in self._listers.workloads.values():
            informer.subscribe(self._on_workload)
        self._listers.subnets.subscribe(self._on_subnet)
        self._listers.reserved.subscribe(self._on_reserved)
        if self._quotas is not None:
            self._quotas.subscribe(self._on_quota)

    def _touch_all(self) -> None:
        dependent = (key for keys in self._applications_by_subnet.values() for key in keys)
        self._touch({*self._pools_by_application, *self._third_party_pods, *dependent})

    def _touch(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._queue.add(key)

    def _on_workload(self, old: Workload | None, new: Workload | None) -> None:
        if old is not None and new is not None and _relevant(old) == _relevant(new):
            return
        for workload in (old, new):
            if workload is not None and has_subnet_annotation(workload.workload_spec.template.metadata.annotations):
                self._queue.add(application_key(workload_application(workload)))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if not any(has_subnet_annotation(pod.metadata.annotations) for pod in (old, new) if pod):  # as nearly all pods
            return
        before, after = (
            dict.fromkeys(_third_party_applications(pod), pod.metadata.annotations) if pod else {} for pod in (old, new)
        )
        if before != after:
            self._touch({*before, *after})

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None and new is not None and old.spec == new.spec and old.metadata.labels == new.metadata.labels:
            return
        for pool in (old, new):
            self._touch(_applications_of(pool) if pool is not None else ())
        if old is not None:  # addresses of the subnet may have become free
            self._touch(self._short)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if new is None and old is not None and old.spec.pool in self._shrinking:
            self._queue.add(self._shrinking[old.spec.pool])

    def _on_subnet(self, old: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        if old is None or new is None or old.spec != new.spec or old.terminating != new.terminating:
            for subnet in (old, new):
                self._touch(self._applications_by_subnet.get(subnet.name, ()) if subnet is not None else ())

    def _on_reserved(self, _: SpiderReservedIP | None, __: SpiderReservedIP | None) -> None:
        for keys in self._applications_by_subnet.values():
            self._touch(keys)

    def _on_quota(self, namespace: str) -> None:
        self._touch(key for key in self._short if read_application_key(key).namespace == namespace)

    # --- What is done for an application ---------------------------------------------------------------------------

    async def _reconcile(self, key: str) -> None:
        """Create or resize the pools that an application asks for, and delete those that it no longer asks for."""
        source = self._source(key)
        try:
            claimed = self._claim(source)
        except BadConfig as error:
            self._warn(source, event_reasons.BAD_SUBNET_ANNOTATION, error.message)
            return
        self._forget(key)
        served = [await self._serve(claimed, slot, source) for slot in self._slots(claimed)] if claimed else []
        await self._delete_unused(key, source, {pool.name for pool in served if pool is not None})

    def _forget(self, key: str) -> None:
        """Remove an application from the state; its reconciliation adds it again where that still applies."""
        self._short.discard(key)
        for keys in self._applications_by_subnet.values():
            keys.discard(key)
        self._applications_by_subnet = {subnet: keys for subnet, keys in self._applications_by_subnet.items() if keys}

    def _source(self, key: str) -> Workload | Pod | None:
        """The object whose annotations count: the workload, or the newest pod of a third-party application."""
        application = read_application_key(key)
        watched = KINDS.get((application.api_version, application.kind))
        if watched is not None:
            workloads = self._listers.workloads[watched]
            found: Workload | None = workloads.get(f"{application.namespace}/{application.name}")
            return found
        pods = self._third_party_pods.get(key)
        return max(pods, key=lambda pod: (pod.metadata.creationTimestamp or "", pod.name), default=None)

    def _claim(self, source: Workload | Pod | None) -> PoolClaim | None:
        """What the annotations ask for; None when they ask for nothing. Raises BadConfig."""
        match source:
            case Workload():
                return workload_claim(source, self._redundant)
            case Pod():
                return third_party_claim(source)
            case None:
                return None

    def _slots(self, claimed: PoolClaim) -> list[PoolSlot]:
        """The pools to make for a claim, of the enabled families; notes the subnets that the application depends on."""
        for slot in claimed.slots:
            self._applications_by_subnet.setdefault(slot.subnet, set()).add(application_key(claimed.application))
        return [slot for slot in claimed.slots if slot.version in self._families]

    async def _serve(self, claimed: PoolClaim, slot: PoolSlot, source: Workload | Pod | None) -> SpiderIPPool | None:
        """Create or resize the pool of a slot, and return it.

        When the subnet cannot be used now, returns the pool that there is, which must not be deleted for that.
        """
        subnet = self._listers.subnets.get(slot.subnet)
        if subnet is None or (reason := why_subnet_unusable(subnet, slot.version)):
            self._warn(
                source, event_reasons.NO_SUBNET, f"SpiderSubnet {slot.subnet} {reason if subnet else 'does not exist'}"
            )
            pools = self._pools_by_application.get(application_key(claimed.application))
            return find_pool(pools, claimed.application, slot)
        async with self._locks[subnet.spec.subnet], self._quota_locks[claimed.application.namespace]:
            stored = find_pool(self._pools_by_subnet.of(subnet), claimed.application, slot)
            target = self._target(claimed, slot, subnet, stored)
            pool = await self._create(target) if stored is None else await self._resize(stored, target)
        self._note_size(target, pool, source)
        return pool

    def _target(
        self, claimed: PoolClaim, slot: PoolSlot, subnet: SpiderSubnet, stored: SpiderIPPool | None
    ) -> PoolTarget:
        """The pool with as many addresses as the application asks for, if subnet and quota have them."""
        version, peers = slot.version, self._pools_by_subnet.of(subnet)
        reserved = reserved_addresses(self._listers.reserved.items(), version)
        use = SubnetUse(subnet, tuple(peers), reserved, self._in_use(peers, version))
        remaining = self._quotas.remaining(claimed.application.namespace) if self._quotas else None
        limit = None if remaining is None else remaining + (pool_addresses(stored, version).size if stored else 0)
        size = claimed.size if limit is None else min(claimed.size, limit)
        return PoolTarget(claimed, slot, subnet, use.addresses(stored, size), limit)

    def _in_use(self, peers: Iterable[SpiderIPPool], version: int) -> AddressSet:
        """Addresses that pods hold from these pools, or from pools that were deleted."""
        deleted = [name for name in self._ips_by_pool if self._listers.pools.get(name) is None]
        names = [*(pool.name for pool in peers), *deleted]
        held = (ip for name in names for ip in self._ips_by_pool.get(name) if family(ip) == version)
        return AddressSet.of_addresses((address_of(ip) for ip in held), version)

    async def _resize(self, stored: SpiderIPPool, target: PoolTarget) -> SpiderIPPool:
        """Bring a pool up to date; returns it as stored. Raises Conflict when it has changed meanwhile."""
        desired = target.pool(stored)
        if desired == stored:
            return stored
        changed = await self._client.patch(SpiderIPPool, stored.name, _patch(stored, desired))
        self._listers.pools.note(changed)
        log.info("pool changed", pool=stored.name, application=str(target.claim.application), ips=desired.spec.ips)
        return changed

    async def _create(self, target: PoolTarget) -> SpiderIPPool:
        """Create a pool; returns it as stored.

        Raises NotReady when another pool has its name: one that is missing in our cache, or is being deleted.
        """
        names = pool_names(target.claim.application, target.slot)
        name = next((name for name in names if self._listers.pools.get(name) is None), None)
        if name is None:
            raise NotReady(f"pools {' and '.join(names)} are being deleted; their successor waits")
        try:
            made = await self._client.create(target.pool(name))
        except AlreadyExists as error:
            self._listers.pools.note(await self._client.get(SpiderIPPool, name))
            raise NotReady(f"pool {name} has just been made by another; it is looked at anew") from error
        self._listers.pools.note(made)
        log.info("pool made", pool=name, application=str(target.claim.application), ips=made.spec.ips)
        return made

    def _note_size(self, target: PoolTarget, pool: SpiderIPPool, source: Workload | Pod | None) -> None:
        """Remember that a pool has too many or too few addresses: then certain events cause a reconciliation."""
        key, size = application_key(target.claim.application), target.claim.size
        missing = size - target.addresses.size
        self._shrinking.pop(pool.name, None)
        if missing < 0:
            self._shrinking[pool.name] = key
        if missing > 0:
            self._short.add(key)
            short = f"pool {pool.name} has {target.addresses.size} of {size} addresses"
            if target.cut_by_quota:
                text = f"{short}: the SpiderIPQuota of Namespace {target.claim.application.namespace} leaves no more"
                self._warn(source, event_reasons.QUOTA_EXHAUSTED, text)
            else:
                self._warn(
                    source,
                    event_reasons.SUBNET_EXHAUSTED,
                    f"{short}: SpiderSubnet {target.slot.subnet} has no more; add some",
                )

    # --- Deletion of pools that no application asks for --------------------------------------------------------

    async def _delete_unused(self, key: str, source: Workload | Pod | None, served: set[str]) -> None:
        """Delete an application's pools that it no longer asks for, or all of them when it is gone."""
        for pool in self._pools_by_application.get(key):
            owner = pool_application(pool)
            if owner is None or pool.name in served or pool.terminating or not is_reclaimed(pool):
                continue
            if isinstance(source, Workload) and source.metadata.uid == owner.uid:
                await self._delete_when_empty(pool, key)
            elif not isinstance(source, Pod) and await self._is_gone(pool, owner):
                await self._delete(pool, f"{owner} is gone")

    async def _delete_when_empty(self, pool: SpiderIPPool, key: str) -> None:
        """Delete a pool that its application no longer asks for; while it has SpiderIPs, it stays for older pods."""
        if pool.name in self._ips_by_pool:
            self._shrinking[pool.name] = key
            return
        message = f"{pool_application(pool)} no longer asks for it"
        self._recorder.event(pool, event_reasons.APPLICATION_SUBNET_CHANGED, message)
        await self._delete(pool, message)

    async def _delete(self, pool: SpiderIPPool, reason: str) -> None:
        with suppress(NotFound):  # another client was faster
            await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)
        self._shrinking.pop(pool.name, None)
        log.info("pool ended", pool=pool.name, reason=reason)

    async def _is_gone(self, pool: SpiderIPPool, owner: Controller) -> bool:
        """Whether an application does not exist, by a fresh read. False, with an event, when we may not read it."""
        watched = KINDS.get((owner.api_version, owner.kind))
        try:
            kind = watched.KIND if watched else await find_kind(self._client, owner.api_version, owner.kind)
            return kind is None or await uid_of(self._client, kind, owner.name, owner.namespace) != owner.uid
        except Forbidden as error:
            remedy = "let the controller get it, or delete the pool by hand when the application is gone"
            self._recorder.event(pool, event_reasons.APPLICATION_UNKNOWN, f"{owner} cannot be read ({error}); {remedy}")
            return False

    def _warn(self, source: Workload | Pod | None, reason: EventReason[Workload | Pod], message: str) -> None:
        """Record a warning event on the object whose annotations are at fault, and log it."""
        if source is not None:
            self._recorder.event(source, reason, message)
            log.warning("application not served", source=source.key, reason=reason.name, message=message)


def _applications_of(pool: SpiderIPPool) -> list[str]:
    """Key of the application that an automatic pool was made for; none for other pools."""
    owner = pool_application(pool)
    return [application_key(owner)] if owner else []


def _third_party_applications(pod: Pod) -> list[str]:
    """Key of the third-party application of a pod that asks for a pool; none for other pods."""
    owner = third_party_application(pod) if has_subnet_annotation(pod.metadata.annotations) else None
    return [application_key(owner)] if owner else []


def _relevant(workload: Workload) -> tuple[Any, ...]:
    """The parts of a workload that decide about its pools."""
    return workload.metadata.uid, workload.metadata.ownerReferences, workload.spec, workload.status


def _patch(stored: SpiderIPPool, desired: SpiderIPPool) -> dict[str, Any]:
    """The merge patch from one pool to the other, which must change the version ``stored`` only."""
    metadata = {
        "labels": desired.metadata.labels,
        "annotations": desired.metadata.annotations,
        "resourceVersion": stored.metadata.resourceVersion,
    }
    if desired.spec == stored.spec:
        return {"metadata": metadata}
    changing = {name: getattr(desired.spec, name) for name in ("ips", "excludeIPs", "podAffinity")}
    return {"metadata": metadata, "spec": msgspec.to_builtins(changing)}
