"""SpiderEndpoints: one for every pod that holds addresses, rebuilt from the records at every start."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.endpoints import endpoint, is_current, is_held
from spiderpool.core.ipam.gc import pod_key, pod_uids
from spiderpool.kube.client import AlreadyExists, Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.owners import OwnerReader
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

WORKERS = 4
READ_TIMEOUT = 10.0

log = logger("endpoints")


class RateLimiter:
    """Lets through so many a second, evenly."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the caller's turn."""
        now = asyncio.get_running_loop().time()
        mine = max(self._next, now)
        self._next = mine + self._gap
        await asyncio.sleep(mine - now)


class EndpointReconciler:
    """Writes a pod's endpoint ``debounce`` seconds after the first change of its records, ``rate`` a second at most.

    Nothing waits for it and nothing of ours reads it: an endpoint may be late, and any of them may be deleted.
    """

    def __init__(
        self,
        client: Client,
        endpoints: Informer[SpiderEndpoint],
        ips: Informer[SpiderIP],
        pods: Informer[Pod],
        pools: Informer[SpiderIPPool],
        *,
        debounce: float = 1.0,
        rate: float = 50.0,
    ) -> None:
        self._client = client
        self._endpoints = endpoints
        self._pods = pods
        self._pools = pools
        self._owners = OwnerReader(client)
        self._debounce = debounce
        self._pace = RateLimiter(rate)
        self._queue = WorkQueue(self._reconcile, "endpoints")
        self._records: dict[str, dict[str, SpiderIP]] = defaultdict(dict)
        self._by_pool: dict[str, dict[str, str]] = defaultdict(dict)
        ips.subscribe(self._on_ip)
        pods.subscribe(self._on_pod)
        pools.subscribe(self._on_pool)
        endpoints.subscribe(self._on_endpoint)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._records[pod_key(old)].pop(old.name, None)
            self._by_pool[old.spec.pool].pop(old.name, None)
            self._queue.add(pod_key(old), self._debounce)
            for index, name in ((self._records, pod_key(old)), (self._by_pool, old.spec.pool)):
                if not index[name]:
                    del index[name]
        if new is not None and is_held(new):
            self._records[pod_key(new)][new.name] = new
            self._by_pool[new.spec.pool][new.name] = pod_key(new)
            self._queue.add(pod_key(new), self._debounce)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Only what an endpoint shows of a pod; a pod that is gone takes its endpoint with it."""
        if new is None or (old is not None and _shown(old) == _shown(new)):
            return
        if new.key in self._records or self._endpoints.get(new.key) is not None:
            self._queue.add(new.key, self._debounce)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if new is not None and (old is None or _handed_down(old) != _handed_down(new)):
            for key in set(self._by_pool.get(new.name, {}).values()):
                self._queue.add(key, self._debounce)

    def _on_endpoint(self, old: SpiderEndpoint | None, new: SpiderEndpoint | None) -> None:
        changed = new or old
        if changed is not None:
            self._queue.add(changed.key, self._debounce)

    async def _reconcile(self, key: str) -> None:
        stored, wanted = self._endpoints.get(key), await self._wanted(key)
        if wanted is None and stored is not None:
            await self._delete(stored)
        elif wanted is not None and (stored is None or not is_current(stored, wanted)):
            await self._put(stored, wanted)

    async def _wanted(self, key: str) -> SpiderEndpoint | None:
        pod = self._pods.get(key)
        if pod is None:
            return None
        records = [ip for ip in self._records.get(key, {}).values() if ip.spec.podUID in pod_uids(pod)]
        if not records:
            return None
        return endpoint(pod, records, self._pools, await self._owners.top(pod, timeout=READ_TIMEOUT))

    async def _put(self, stored: SpiderEndpoint | None, wanted: SpiderEndpoint) -> None:
        await self._pace.turn()
        if stored is not None and stored.terminating:
            await self._let_go(stored)
        elif stored is not None:
            wanted.metadata.resourceVersion = stored.metadata.resourceVersion
            self._endpoints.note(await self._client.replace(wanted))
        else:
            with suppress(AlreadyExists):  # its event is on the way, and brings us back
                self._endpoints.note(await self._client.create(wanted))

    async def _delete(self, stored: SpiderEndpoint) -> None:
        await self._pace.turn()
        await self._let_go(stored)
        with suppress(NotFound):
            uid, namespace = stored.metadata.uid, stored.metadata.namespace
            await self._client.delete(SpiderEndpoint, stored.name, namespace, uid=uid)

    async def _let_go(self, stored: SpiderEndpoint) -> None:
        """Drop finalizers, which other writers of endpoints set: nothing has to be cleaned up."""
        if stored.metadata.finalizers:
            with suppress(NotFound):
                body = {"metadata": {"finalizers": None, "uid": stored.metadata.uid}}
                await self._client.patch(SpiderEndpoint, stored.name, body, stored.metadata.namespace)


def _shown(pod: Pod) -> tuple[object, ...]:
    return pod.metadata.uid, pod.spec.nodeName, pod.metadata.annotations, pod.metadata.ownerReferences


def _handed_down(pool: SpiderIPPool) -> tuple[object, ...]:
    return pool.spec.gateway, pool.spec.routes
