"""Reads single pods, and who has an address, a few at a time: no cache is kept of all of them for the few asked for."""

from __future__ import annotations

import asyncio

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.ip import SpiderIP
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.addresses import object_name
from spiderpool.kube.client import Client

AT_ONCE = 10
"""Objects that are read at a time."""


class PodReader:
    """Reads pods that EndpointSlices name."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reads = asyncio.Semaphore(AT_ONCE)

    async def find(self, pod: ObjectReference, namespace: str) -> GatedPod | None:
        """Returns a pod; None when it is gone, perhaps with another in its place. Raises SpiderpoolError."""
        async with self._reads:
            read = await self._client.find(GatedPod, pod.name or "", namespace)
        return read if read is not None and read.metadata.uid == pod.uid else None

    async def holder(self, address: str) -> ObjectReference | None:
        """Returns the pod that has an address by its record; None without one. Raises SpiderpoolError."""
        async with self._reads:
            record = await self._client.find(SpiderIP, object_name(address))
        if record is None or record.spec.releasedAt is not None:
            return None
        return ObjectReference(namespace=record.spec.namespace, name=record.spec.pod, uid=record.spec.podUID)
