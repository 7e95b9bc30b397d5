"""SpiderEndpoints: one for every pod that holds addresses, computed from the SpiderIPs.

They are for people: no part of Spiderpool reads them, so they may be late, and any of them may be deleted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.allocation import pools_of
from spiderpool.core.ipam.endpoints import endpoint, is_current, is_held
from spiderpool.core.ipam.gc import pod_key, pod_uids, pods_of
from spiderpool.kube import finalizers
from spiderpool.kube.client import AlreadyExists, Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.owners import OwnerReader
from spiderpool.kube.turns import in_turns
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

WORKERS = 4
"""Pods whose endpoint is written at a time."""
READ_TIMEOUT = 10.0
"""Seconds for the read of a pod's owner."""

log = logger("endpoints")


class RateLimiter:
    """Lets ``per_second`` calls through in a second, evenly spaced."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0  # loop time of the next free slot

    async def wait(self) -> None:
        """Wait for the caller's slot; callers get their slots in the order of their calls."""
        await asyncio.sleep(self.reserve(asyncio.get_running_loop().time()))

    def reserve(self, now: float) -> float:
        """Take the next free slot; returns the seconds until it begins."""
        slot = max(self._next, now)
        self._next = slot + self._gap
        return slot - now


@dataclass(frozen=True, slots=True)
class EndpointListers:
    """The caches that endpoints are computed from."""

    endpoints: Informer[SpiderEndpoint]
    ips: Informer[SpiderIP]
    pods: Informer[Pod]
    pools: Informer[SpiderIPPool]


class EndpointReconciler:
    """Writes a pod's endpoint ``debounce`` seconds after the first change of its records, ``rate`` a second at most."""

    def __init__(self, client: Client, listers: EndpointListers, *, debounce: float = 1.0, rate: float = 50.0) -> None:
        self._client = client
        self._endpoints = listers.endpoints
        self._pods = listers.pods
        self._pools = listers.pools
        self._owners = OwnerReader(client)
        self._debounce = debounce
        self._limiter = RateLimiter(rate)
        self._queue = WorkQueue(self._reconcile, "endpoints")
        self._listers = listers
        self._records_by_pod = listers.ips.index(pods_of)
        self._records_by_pool = listers.ips.index(pools_of)

    async def run(self) -> None:
        """Reconcile until cancelled: first all pods that have records or an endpoint, then those that change."""
        listers = self._listers
        listers.ips.subscribe(self._on_ip, replay=False)
        listers.pods.subscribe(self._on_pod, replay=False)
        listers.pools.subscribe(self._on_pool, replay=False)
        listers.endpoints.subscribe(self._on_endpoint, replay=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            async for key in in_turns(self._records_by_pod):
                self._queue.add(key)
            async for stored in in_turns(listers.endpoints.items()):
                self._queue.add(stored.key)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._queue.add(pod_key(old), self._debounce)
        if new is not None and is_held(new):
            self._queue.add(pod_key(new), self._debounce)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Reconcile when a part of the pod changes that its endpoint shows; Kubernetes deletes it with its pod."""
        if new is None or (old is not None and _shown(old) == _shown(new)):
            return
        if new.key in self._records_by_pod or self._endpoints.get(new.key) is not None:
            self._queue.add(new.key, self._debounce)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if new is not None and (old is None or _inherited(old) != _inherited(new)):
            for key in {pod_key(record) for record in self._records_by_pool.get(new.name) if is_held(record)}:
                self._queue.add(key, self._debounce)

    def _on_endpoint(self, old: SpiderEndpoint | None, new: SpiderEndpoint | None) -> None:
        changed = new or old
        if changed is not None:
            self._queue.add(changed.key, self._debounce)

    async def _reconcile(self, key: str) -> None:
        stored, desired = self._endpoints.get(key), await self._desired(key)
        if desired is None and stored is not None:
            await self._delete(stored)
        elif desired is not None and (stored is None or not is_current(stored, desired)):
            await self._put(stored, desired)

    async def _desired(self, key: str) -> SpiderEndpoint | None:
        """The endpoint that a pod should have; None for a pod that is gone or holds nothing."""
        pod = self._pods.get(key)
        if pod is None:
            return None
        uids = pod_uids(pod)
        records = [ip for ip in self._records_by_pod.get(key) if is_held(ip) and ip.spec.podUID in uids]
        if not records:
            return None
        return endpoint(pod, records, self._pools, await self._owners.top(pod, timeout=READ_TIMEOUT))

    async def _put(self, stored: SpiderEndpoint | None, desired: SpiderEndpoint) -> None:
        """Create or replace an endpoint. Raises Conflict: the queue retries with what the cache holds then."""
        await self._limiter.wait()
        if stored is not None and stored.terminating:
            await finalizers.clear(self._client, stored)
        elif stored is not None:
            desired.metadata.resourceVersion = stored.metadata.resourceVersion
            self._endpoints.note(await self._client.replace(desired))
        else:
            with suppress(AlreadyExists):  # our cache is late; the event that is under way reconciles the pod again
                self._endpoints.note(await self._client.create(desired))

    async def _delete(self, stored: SpiderEndpoint) -> None:
        await self._limiter.wait()
        await finalizers.clear(self._client, stored)  # other writers of endpoints set some, with nothing to clean up
        with suppress(NotFound):
            uid, namespace = stored.metadata.uid, stored.metadata.namespace
            await self._client.delete(SpiderEndpoint, stored.name, namespace, uid=uid)


def _shown(pod: Pod) -> tuple[object, ...]:
    """The parts of a pod that its endpoint shows."""
    return pod.metadata.uid, pod.spec.nodeName, pod.metadata.annotations, pod.metadata.ownerReferences


def _inherited(pool: SpiderIPPool) -> tuple[object, ...]:
    """The parts of a pool that the endpoints of its pods show."""
    return pool.spec.gateway, pool.spec.routes
