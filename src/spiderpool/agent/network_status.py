"""Publishes the network status of pods after the ADD, so that no pod waits for it."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import STATUS_ANNOTATION
from spiderpool.core.network.status import AttachedNetwork, network_status
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.workqueue import WorkQueue

WORKERS = 4
"""Pods whose status is written at a time."""
LONGEST_QUEUE = 10_000
"""Statuses that may wait for the API server; beyond that the oldest is dropped."""


class NetworkStatusPublisher:
    """Writes each pod's annotation k8s.v1.cni.cncf.io/network-status."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: OrderedDict[str, tuple[Pod, tuple[AttachedNetwork, ...]]] = OrderedDict()  # pod key → its status
        self._queue = WorkQueue(self._write, "network-status")

    def publish(self, pod: Pod, attached: tuple[AttachedNetwork, ...]) -> None:
        """Queue the status of a pod; nothing is written if the pod has it already."""
        self._waiting[pod.key] = (pod, attached)
        if len(self._waiting) > LONGEST_QUEUE:
            self._waiting.popitem(last=False)
        self._queue.add(pod.key)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._queue.run(WORKERS)

    async def _write(self, key: str) -> None:
        if key not in self._waiting:
            return
        pod, attached = waiting = self._waiting[key]
        status = network_status(attached)
        if (pod.metadata.annotations or {}).get(STATUS_ANNOTATION) != status:
            body = {"metadata": {"uid": pod.metadata.uid, "annotations": {STATUS_ANNOTATION: status}}}
            with suppress(Conflict, NotFound):  # the pod is gone, or another one has its name
                await self._client.patch(Pod, pod.name, body, pod.metadata.namespace, sub="status")
        if self._waiting.get(key) is waiting:
            del self._waiting[key]
