"""SpiderSubnets: they adopt the pools of their CIDR, say what is given away, and go after their pools."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any

import msgspec

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import FINALIZER
from spiderpool.api.subnet import SpiderSubnet, SubnetStatus
from spiderpool.core.admission.subnet import default_subnet
from spiderpool.core.ipam.subnets import adopted_pool, is_cut_from, subnet_status
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

ORPHAN = "orphan"
"""Finalizer of an object that is deleted without what it owns (kubectl delete --cascade=orphan)."""

WORKERS = 2

log = logger("subnets")


class PoolsBySubnet:
    """The pools of each CIDR."""

    def __init__(self, pools: Informer[SpiderIPPool]) -> None:
        self._by_cidr: dict[str, dict[str, SpiderIPPool]] = defaultdict(dict)
        pools.subscribe(self._index)

    def of(self, subnet: SpiderSubnet) -> list[SpiderIPPool]:
        """The pools that are cut from a subnet, whether or not it has adopted them."""
        return list(self._by_cidr.get(subnet.spec.subnet, {}).values())

    def _index(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None:
            self._by_cidr[old.spec.subnet].pop(old.name, None)
        if new is not None:
            self._by_cidr[new.spec.subnet][new.name] = new


class SubnetReconciler:
    """Reconciles every SpiderSubnet, at most once in ``debounce`` seconds."""

    def __init__(
        self, client: Client, subnets: Informer[SpiderSubnet], pools: Informer[SpiderIPPool], debounce: float
    ) -> None:
        self._client = client
        self._subnets = subnets
        self._pools = pools
        self._cuts = PoolsBySubnet(pools)
        self._debounce = debounce
        self._queue = WorkQueue(self._reconcile, "subnets")
        subnets.subscribe(self._on_subnet)
        pools.subscribe(self._on_pool)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    def _on_subnet(self, _: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        if new is not None:
            self._queue.add(new.name, self._debounce)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None and new is not None and (old.spec, old.metadata.ownerReferences) == _kept(new):
            return
        for subnet in self._subnets.items():
            if any(pool is not None and is_cut_from(pool, subnet) for pool in (old, new)):
                self._queue.add(subnet.name, self._debounce)

    async def _reconcile(self, name: str) -> None:
        subnet = self._subnets.get(name)
        if subnet is None:
            return
        with suppress(NotFound):
            if subnet.terminating:
                await self._end(subnet)
            else:
                await self._complete(subnet)
                for pool in self._cuts.of(subnet):
                    await self._adopt(pool, subnet)
            await self._write(subnet, subnet_status(subnet, self._cuts.of(subnet)))

    async def _complete(self, subnet: SpiderSubnet) -> None:
        """Finalizer and label of a subnet that was written while no webhook listened."""
        wanted = default_subnet(subnet).metadata
        if (wanted.finalizers, wanted.labels) != (subnet.metadata.finalizers, subnet.metadata.labels):
            metadata = {
                "finalizers": wanted.finalizers,
                "labels": wanted.labels,
                "resourceVersion": subnet.metadata.resourceVersion,
            }
            self._subnets.note(await self._client.patch(SpiderSubnet, subnet.name, {"metadata": metadata}))

    async def _adopt(self, pool: SpiderIPPool, subnet: SpiderSubnet) -> None:
        wanted = None if pool.terminating else adopted_pool(pool, subnet)
        if wanted is None:
            return
        with suppress(NotFound):
            self._pools.note(await self._client.patch(SpiderIPPool, pool.name, _adoption_patch(pool, wanted)))
            log.info("pool adopted", subnet=subnet.name, pool=pool.name)

    async def _end(self, subnet: SpiderSubnet) -> None:
        """Let a terminating subnet go after its pools, each of which waits for its last address."""
        finalizers = subnet.metadata.finalizers or []
        if FINALIZER not in finalizers or ORPHAN in finalizers:
            return
        for pool in self._owned(subnet, self._cuts.of(subnet)):
            if not pool.terminating:
                with suppress(NotFound):
                    await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)
        if not self._owned(subnet, await self._client.list(SpiderIPPool)):
            rest = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
            metadata = {"finalizers": rest, "resourceVersion": subnet.metadata.resourceVersion}
            await self._client.patch(SpiderSubnet, subnet.name, {"metadata": metadata})
            log.info("subnet deleted", subnet=subnet.name)

    def _owned(self, subnet: SpiderSubnet, pools: list[SpiderIPPool]) -> list[SpiderIPPool]:
        return [pool for pool in pools if pool.controller and pool.controller.uid == subnet.metadata.uid]

    async def _write(self, subnet: SpiderSubnet, status: SubnetStatus) -> None:
        if status != subnet.status:
            body = {field: getattr(status, field) for field in status.__struct_fields__}
            self._subnets.note(await self._client.patch(SpiderSubnet, subnet.name, {"status": body}, sub="status"))


def _kept(pool: SpiderIPPool) -> tuple[Any, Any]:
    """What of a pool a subnet looks at."""
    return pool.spec, pool.metadata.ownerReferences


def _adoption_patch(pool: SpiderIPPool, wanted: SpiderIPPool) -> dict[str, Any]:
    metadata = {
        "labels": wanted.metadata.labels,
        "ownerReferences": msgspec.to_builtins(wanted.metadata.ownerReferences),
        "resourceVersion": pool.metadata.resourceVersion,
    }
    changed = {name: getattr(wanted.spec, name) for name in ("gateway", "routes")}
    spec = {name: msgspec.to_builtins(value) for name, value in changed.items() if value != getattr(pool.spec, name)}
    return {"metadata": metadata, "spec": spec} if spec else {"metadata": metadata}
