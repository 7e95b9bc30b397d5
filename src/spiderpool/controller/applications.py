"""Automatic pools: one for each interface and address family of every application that asks a subnet for one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.applications import WORKLOADS, Workload
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.subnets import PoolsBySubnet
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.application_pools import desired_pool, find_pool, is_reclaimed, pool_names
from spiderpool.core.ipam.applications import (
    PoolClaim,
    PoolSlot,
    application_key,
    has_subnet_annotation,
    pool_application,
    third_party_application,
    third_party_claim,
    workload_application,
    workload_claim,
)
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.subnet_addresses import (
    available_addresses,
    parse_subnet_addresses,
    pool_addresses,
    reserved_addresses,
    resize,
    why_subnet_unusable,
)
from spiderpool.errors import BadConfig, NotReady
from spiderpool.kube.client import AlreadyExists, Client, Forbidden, NotFound
from spiderpool.kube.discovery import find_kind, uid_of
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

RESYNC = 300.0
"""Seconds after which every application is looked at again."""
WORKERS = 4

KINDS: Mapping[tuple[str, str], type[Workload]] = {(kind.KIND.api_version, kind.KIND.name): kind for kind in WORKLOADS}

log = logger("applications")


@dataclass(frozen=True, slots=True)
class ApplicationListers:
    """The local copies that automatic pools are made from."""

    subnets: Informer[SpiderSubnet]
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    reserved: Informer[SpiderReservedIP]
    pods: Informer[Pod]
    workloads: Mapping[type[Workload], Informer[Any]]


class ApplicationPoolReconciler:
    """Makes, sizes and ends the pools of applications.

    Writers to one subnet go one at a time, and know what they wrote before its event arrives. Should a pool made
    by hand take the same addresses at the same moment, the automatic one gives way when it is looked at next;
    until then creating the SpiderIP decides who has an address, as always.
    """

    def __init__(
        self, client: Client, sight: ApplicationListers, recorder: Recorder, *, families: frozenset[int], redundant: int
    ) -> None:
        self._client = client
        self._sight = sight
        self._recorder = recorder
        self._families = families
        self._redundant = redundant
        self._queue = WorkQueue(self._reconcile, "applications")
        self._cuts = PoolsBySubnet(sight.pools)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._holders: dict[str, dict[str, SpiderIP]] = defaultdict(dict)
        self._foreign: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._made: dict[str, dict[str, SpiderIPPool]] = defaultdict(dict)
        self._asking: dict[str, set[str]] = defaultdict(set)
        self._short: set[str] = set()
        self._full: dict[str, str] = {}
        self._subscribe()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._resync())

    # --- What makes us look at an application ---------------------------------------------------------------------

    def _subscribe(self) -> None:
        self._sight.ips.subscribe(self._on_ip)
        self._sight.pools.subscribe(self._on_pool)
        self._sight.pods.subscribe(self._on_pod)
        for informer in self._sight.workloads.values():
            informer.subscribe(self._on_workload)
        self._sight.subnets.subscribe(self._on_subnet)
        self._sight.reserved.subscribe(self._on_reserved)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC)
            self._touch({*self._made, *self._foreign, *(key for keys in self._asking.values() for key in keys)})

    def _touch(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._queue.add(key)

    def _on_workload(self, old: Workload | None, new: Workload | None) -> None:
        if old is not None and new is not None and _essence(old) == _essence(new):
            return
        for workload in (old, new):
            if workload is not None and has_subnet_annotation(workload.workload_spec.template.metadata.annotations):
                self._queue.add(application_key(workload_application(workload)))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None or not has_subnet_annotation(pod.metadata.annotations):
            return
        of = third_party_application(pod)
        if of is None:
            return
        key = application_key(of)
        known = self._foreign[key].pop(pod.key, None)
        if new is not None:
            self._foreign[key][new.key] = new
        elif not self._foreign[key]:
            del self._foreign[key]
        if known is None or new is None or known.metadata.annotations != new.metadata.annotations:
            self._queue.add(key)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None and new is not None and old.spec == new.spec and old.metadata.labels == new.metadata.labels:
            return
        for pool in (old, new):
            of = pool_application(pool) if pool is not None else None
            if pool is not None and of is not None:
                self._made[application_key(of)].pop(pool.name, None)
                if not self._made[application_key(of)]:
                    del self._made[application_key(of)]
                self._queue.add(application_key(of))
        if new is not None and (of := pool_application(new)):
            self._made[application_key(of)][new.name] = new
        if old is not None:
            self._touch(self._short)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._holders[old.spec.pool].pop(old.name, None)
            if not self._holders[old.spec.pool]:
                del self._holders[old.spec.pool]
        if new is not None:
            self._holders[new.spec.pool][new.name] = new
        elif old is not None and old.spec.pool in self._full:
            self._queue.add(self._full[old.spec.pool])

    def _on_subnet(self, old: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        if old is None or new is None or old.spec != new.spec or old.terminating != new.terminating:
            for subnet in (old, new):
                self._touch(self._asking.get(subnet.name, ()) if subnet is not None else ())

    def _on_reserved(self, _: SpiderReservedIP | None, __: SpiderReservedIP | None) -> None:
        for keys in self._asking.values():
            self._touch(keys)

    # --- What we do for it ----------------------------------------------------------------------------------------

    async def _reconcile(self, key: str) -> None:
        source = self._source(key)
        try:
            claimed = self._claim(source)
        except BadConfig as error:
            self._complain(source, "BadSubnetAnnotation", error.message)
            return
        self._forget(key)
        served = [await self._serve(claimed, place, source) for place in self._places(claimed)] if claimed else []
        await self._reclaim(key, source, {pool.name for pool in served if pool is not None})

    def _forget(self, key: str) -> None:
        """Drop what an application waits for; looking at it finds it again."""
        self._short.discard(key)
        for keys in self._asking.values():
            keys.discard(key)

    def _source(self, key: str) -> Workload | Pod | None:
        """What speaks for an application: the workload, or the newest pod of a third party's."""
        api_version, kind, namespace, name = key.split("|")
        watched = KINDS.get((api_version, kind))
        if watched is not None:
            found: Workload | None = self._sight.workloads[watched].get(f"{namespace}/{name}")
            return found
        pods = self._foreign.get(key, {}).values()
        return max(pods, key=lambda pod: (pod.metadata.creationTimestamp or "", pod.name), default=None)

    def _claim(self, source: Workload | Pod | None) -> PoolClaim | None:
        match source:
            case Workload():
                return workload_claim(source, self._redundant)
            case Pod():
                return third_party_claim(source)
            case None:
                return None

    def _places(self, claimed: PoolClaim) -> list[PoolSlot]:
        for place in claimed.slots:
            self._asking[place.subnet].add(application_key(claimed.application))
        return [place for place in claimed.slots if place.version in self._families]

    async def _serve(self, claimed: PoolClaim, place: PoolSlot, source: Object | None) -> SpiderIPPool | None:
        """The pool of a place, made or brought to its size; as it is when its subnet gives nothing now."""
        subnet = self._sight.subnets.get(place.subnet)
        if subnet is None or (reason := why_subnet_unusable(subnet, place.version)):
            self._complain(source, "NoSubnet", f"SpiderSubnet {place.subnet} {reason if subnet else 'does not exist'}")
            made_pools = self._made.get(application_key(claimed.application), {}).values()
            return find_pool(made_pools, claimed.application, place)
        async with self._locks[subnet.spec.subnet]:
            stored = find_pool(self._cuts.of(subnet), claimed.application, place)
            addresses = self._addresses(claimed, subnet, stored)
            made = await self._put(claimed, place, subnet, stored, addresses)
        self._judge(claimed, place, made, addresses, source)
        return made

    def _addresses(self, claimed: PoolClaim, subnet: SpiderSubnet, stored: SpiderIPPool | None) -> AddressSet:
        """The addresses that the pool shall have."""
        whole = parse_subnet_addresses(subnet)
        version, peers = whole.version, self._cuts.of(subnet)
        others = (pool_addresses(pool, version) for pool in peers if stored is None or pool.name != stored.name)
        offer = available_addresses(whole, others, reserved_addresses(self._sight.reserved.items(), version))
        current = pool_addresses(stored, version) if stored else AddressSet(version)
        return resize(current, claimed.size, offer, self._in_use(peers, version))

    def _in_use(self, peers: Iterable[SpiderIPPool], version: int) -> AddressSet:
        """Addresses that pods hold from these pools, or from pools that are gone."""
        gone = [name for name in self._holders if self._sight.pools.get(name) is None]
        names = [*(pool.name for pool in peers), *gone]
        held = (ip for name in names for ip in self._holders.get(name, {}).values() if family(ip) == version)
        return AddressSet.of_addresses((address_of(ip) for ip in held), version)

    async def _put(
        self,
        claimed: PoolClaim,
        place: PoolSlot,
        subnet: SpiderSubnet,
        stored: SpiderIPPool | None,
        addresses: AddressSet,
    ) -> SpiderIPPool:
        if stored is None:
            return await self._create(claimed, place, subnet, addresses)
        wanted = desired_pool(claimed, place, subnet, stored, addresses)
        if wanted == stored:
            return stored
        changed = await self._client.patch(SpiderIPPool, stored.name, _patch(stored, wanted))
        self._sight.pools.note(changed)
        log.info("pool changed", pool=stored.name, application=str(claimed.application), ips=wanted.spec.ips)
        return changed

    async def _create(
        self, claimed: PoolClaim, place: PoolSlot, subnet: SpiderSubnet, addresses: AddressSet
    ) -> SpiderIPPool:
        """A new pool. Raises NotReady when its name is taken by one that we did not know, or that is being deleted."""
        names = pool_names(claimed.application, place)
        name = next((each for each in names if self._sight.pools.get(each) is None), None)
        if name is None:
            raise NotReady(f"pools {' and '.join(names)} are being deleted; their successor waits")
        try:
            made = await self._client.create(desired_pool(claimed, place, subnet, name, addresses))
        except AlreadyExists as error:
            self._sight.pools.note(await self._client.get(SpiderIPPool, name))
            raise NotReady(f"pool {name} has just been made by another; it is looked at anew") from error
        self._sight.pools.note(made)
        log.info("pool made", pool=name, application=str(claimed.application), ips=made.spec.ips)
        return made

    def _judge(
        self, claimed: PoolClaim, place: PoolSlot, made: SpiderIPPool, addresses: AddressSet, source: Object | None
    ) -> None:
        """Remember what a pool waits for, when it has not the size that was asked for."""
        key, missing = application_key(claimed.application), claimed.size - addresses.size
        self._full.pop(made.name, None)
        if missing < 0:
            self._full[made.name] = key
        if missing > 0:
            self._short.add(key)
            reason = f"pool {made.name} has {addresses.size} of {claimed.size} addresses"
            self._complain(source, "SubnetExhausted", f"{reason}: SpiderSubnet {place.subnet} has no more; add some")

    # --- What becomes of pools that nobody asks for ---------------------------------------------------------------

    async def _reclaim(self, key: str, source: Workload | Pod | None, served: set[str]) -> None:
        for pool in list(self._made.get(key, {}).values()):
            of = pool_application(pool)
            if of is None or pool.name in served or pool.terminating or not is_reclaimed(pool):
                continue
            if isinstance(source, Workload) and source.metadata.uid == of.uid:
                await self._drop_unasked(pool, key)
            elif not isinstance(source, Pod) and await self._is_gone(pool, of):
                await self._delete(pool, f"{of} is gone")

    async def _drop_unasked(self, pool: SpiderIPPool, key: str) -> None:
        """A pool that a living application no longer asks for serves its older pods until they are gone."""
        if self._holders.get(pool.name):
            self._full[pool.name] = key
            return
        message = f"{pool_application(pool)} no longer asks for it"
        self._recorder.event(pool, "Warning", "ApplicationSubnetChanged", message)
        await self._delete(pool, message)

    async def _delete(self, pool: SpiderIPPool, reason: str) -> None:
        with suppress(NotFound):
            await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)
        self._full.pop(pool.name, None)
        log.info("pool ended", pool=pool.name, reason=reason)

    async def _is_gone(self, pool: SpiderIPPool, of: Controller) -> bool:
        """Whether the API server, too, knows no such application. Unknown counts as no."""
        watched = KINDS.get((of.api_version, of.kind))
        try:
            kind = watched.KIND if watched else await find_kind(self._client, of.api_version, of.kind)
            return kind is None or await uid_of(self._client, kind, of.name, of.namespace) != of.uid
        except Forbidden as error:
            remedy = "let the controller get it, or delete the pool by hand when the application is gone"
            self._recorder.event(pool, "Warning", "ApplicationUnknown", f"{of} cannot be read ({error}); {remedy}")
            return False

    def _complain(self, source: Object | None, reason: str, message: str) -> None:
        if source is not None:
            self._recorder.event(source, "Warning", reason, message)
            log.warning("application not served", source=source.key, reason=reason, message=message)


def _essence(workload: Workload) -> tuple[Any, ...]:
    """What of a workload decides about its pools."""
    return workload.metadata.uid, workload.metadata.ownerReferences, workload.spec, workload.status


def _patch(stored: SpiderIPPool, wanted: SpiderIPPool) -> dict[str, Any]:
    metadata = {
        "labels": wanted.metadata.labels,
        "annotations": wanted.metadata.annotations,
        "resourceVersion": stored.metadata.resourceVersion,
    }
    if wanted.spec == stored.spec:
        return {"metadata": metadata}
    changing = {name: getattr(wanted.spec, name) for name in ("ips", "excludeIPs", "podAffinity")}
    return {"metadata": metadata, "spec": msgspec.to_builtins(changing)}
