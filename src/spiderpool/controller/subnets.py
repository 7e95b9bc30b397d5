"""SpiderSubnets: adopts the pools of a subnet's CIDR, writes its status, and deletes its pools before itself.

It makes no pools and changes no addresses of pools.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from spiderpool.api import event_reasons
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Condition
from spiderpool.api.subnet import SpiderSubnet, SubnetStatus
from spiderpool.core.admission.faults import shown
from spiderpool.core.admission.subnet import default_subnet
from spiderpool.core.ipam.subnet_addresses import parse_subnet_addresses
from spiderpool.core.ipam.subnets import adopted_pool, is_cut_from, subnet_status
from spiderpool.kube import conditions, finalizers
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.conditions import StatusTimings, not_ready
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

ORPHAN = "orphan"
"""Finalizer of an object that is deleted while its dependents stay (kubectl delete --cascade=orphan)."""

WORKERS = 2
"""Subnets that are reconciled at a time."""

log = logger("subnets")


class PoolsBySubnet:
    """The cached pools, by the CIDR that they take their addresses from."""

    def __init__(self, pools: Informer[SpiderIPPool]) -> None:
        self._by_cidr = pools.index(lambda pool: [pool.spec.subnet])

    def of(self, subnet: SpiderSubnet) -> list[SpiderIPPool]:
        """The pools of a subnet's CIDR, whether or not the subnet has adopted them."""
        return self._by_cidr.get(subnet.spec.subnet)


class SubnetReconciler:
    """Reconciles every SpiderSubnet, at most once in the seconds of its timings."""

    def __init__(
        self,
        client: Client,
        subnets: Informer[SpiderSubnet],
        pools: Informer[SpiderIPPool],
        recorder: Recorder,
        *,
        timings: StatusTimings,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._subnets = subnets
        self._pools = pools
        self._pools_by_subnet = PoolsBySubnet(pools)
        self._timings = timings
        self._queue = WorkQueue(self._reconcile, "subnets")
        subnets.subscribe(self._on_subnet)
        pools.subscribe(self._on_pool)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    def _on_subnet(self, _: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        if new is not None:
            self._queue.add(new.name, self._timings.debounce)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None and new is not None and _relevant(old) == _relevant(new):
            return
        for subnet in self._subnets.items():
            if any(pool is not None and is_cut_from(pool, subnet) for pool in (old, new)):
                self._queue.add(subnet.name, self._timings.debounce)

    async def _reconcile(self, name: str) -> None:
        """Adopt the pools of a subnet, or delete them when it is terminating, and write its status."""
        subnet = self._subnets.get(name)
        if subnet is None:
            return
        with suppress(NotFound):  # the subnet is gone: nothing to do
            bring_about = self._finish if subnet.terminating else self._adopt_all
            await on_all((bring_about, self._write_status), lambda each: each(subnet))

    def _status(self, subnet: SpiderSubnet) -> SubnetStatus:
        pools = self._pools_by_subnet.of(subnet)
        former = subnet.status.conditions if subnet.status else None
        found = readiness(subnet, self._owned(subnet, pools))
        dated = conditions.dated(found, subnet, former, self._timings.now())
        return replace(subnet_status(subnet, pools), conditions=dated)

    async def _complete(self, subnet: SpiderSubnet) -> None:
        """Add the finalizer and label of a subnet that was written past the admission webhook."""
        desired = default_subnet(subnet).metadata
        if (desired.finalizers, desired.labels) != (subnet.metadata.finalizers, subnet.metadata.labels):
            metadata = {
                "finalizers": desired.finalizers,
                "labels": desired.labels,
                "resourceVersion": subnet.metadata.resourceVersion,
            }
            self._subnets.note(await self._client.patch(SpiderSubnet, subnet.name, {"metadata": metadata}))

    async def _adopt_all(self, subnet: SpiderSubnet) -> None:
        await self._complete(subnet)
        await on_all(self._pools_by_subnet.of(subnet), partial(self._adopt, subnet=subnet))

    async def _adopt(self, pool: SpiderIPPool, subnet: SpiderSubnet) -> None:
        """Make the subnet the owner of a pool, which inherits its gateway and routes."""
        desired = None if pool.terminating else adopted_pool(pool, subnet)
        if desired is None:
            return
        with suppress(NotFound):  # the pool was deleted meanwhile
            self._pools.note(await self._client.patch(SpiderIPPool, pool.name, _adoption_patch(pool, desired)))
            log.info("pool adopted", subnet=subnet.name, pool=pool.name)

    async def _finish(self, subnet: SpiderSubnet) -> None:
        """Delete the pools of a terminating subnet; when it has none, remove its finalizer.

        Every pool waits, by its own finalizer, until its last address is released. Which pools there are is read: when
        Kubernetes has orphaned them, our watch of pools may be behind that of subnets.
        """
        held = subnet.metadata.finalizers or ()
        ours = {FINALIZER, FORMER_FINALIZER}.intersection(held)
        if not ours or ORPHAN in held:
            return
        owned = self._owned(subnet, await self._client.list(SpiderIPPool))
        await on_all((pool for pool in owned if not pool.terminating), self._delete)
        if not owned:
            await finalizers.remove(self._client, subnet, *ours)
            log.info("subnet deleted", subnet=subnet.name)

    async def _delete(self, pool: SpiderIPPool) -> None:
        with suppress(NotFound):
            await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)

    def _owned(self, subnet: SpiderSubnet, pools: list[SpiderIPPool]) -> list[SpiderIPPool]:
        """Those of ``pools`` that the subnet has adopted."""
        return [pool for pool in pools if pool.controller and pool.controller.uid == subnet.metadata.uid]

    async def _write_status(self, subnet: SpiderSubnet) -> None:
        status = self._status(subnet)
        if status == subnet.status:
            return
        body = {field: msgspec.to_builtins(getattr(status, field)) for field in status.__struct_fields__}
        self._subnets.note(await self._client.patch(SpiderSubnet, subnet.name, {"status": body}, sub="status"))
        former = subnet.status.conditions if subnet.status else None
        if (waits := conditions.waiting(status.conditions)) and not conditions.waiting(former):
            self._recorder.event(subnet, event_reasons.TERMINATING, waits.message)


def readiness(subnet: SpiderSubnet, pools: Collection[SpiderIPPool]) -> Iterable[Condition]:
    """Whether pools can be cut from a subnet; while it is being deleted, which of its ``pools`` still wait."""
    if subnet.terminating:
        names = sorted(pool.name for pool in pools)
        what = f"{len(names)} {'pool has' if len(names) == 1 else 'pools have'} addresses of it: {shown(names)}"
        return conditions.terminating(what) if names else [not_ready("Terminating", "it has no pools")]
    try:
        addresses = parse_subnet_addresses(subnet)
    except ValueError as error:  # written past the admission webhook
        return [not_ready("Malformed", str(error))]
    if not addresses:
        return [not_ready("NoAddresses", "it has no address that a pool could get: add some to spec.ips")]
    return [conditions.ready(f"pools may get its {addresses.size} addresses")]


def _relevant(pool: SpiderIPPool) -> tuple[Any, Any]:
    """The parts of a pool that decide about its subnet."""
    return pool.spec, pool.metadata.ownerReferences


def _adoption_patch(pool: SpiderIPPool, desired: SpiderIPPool) -> dict[str, Any]:
    """The merge patch from one pool to the other, which must change the version ``pool`` only."""
    metadata = {
        "labels": desired.metadata.labels,
        "ownerReferences": msgspec.to_builtins(desired.metadata.ownerReferences),
        "resourceVersion": pool.metadata.resourceVersion,
    }
    changed = {name: getattr(desired.spec, name) for name in ("gateway", "routes")}
    spec = {name: msgspec.to_builtins(value) for name, value in changed.items() if value != getattr(pool.spec, name)}
    return {"metadata": metadata, "spec": spec} if spec else {"metadata": metadata}
