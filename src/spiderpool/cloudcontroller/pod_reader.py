"""Reads single pods, a few at a time: no cache of all pods of the cluster is kept for the few that are asked for."""

from __future__ import annotations

import asyncio

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.kube.client import Client

AT_ONCE = 10
"""Pods that are read at a time."""


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
