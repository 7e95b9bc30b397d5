"""What this node watches of the cluster: only what concerns it, so that nodes do not multiply each other's work."""

from __future__ import annotations

import asyncio

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.allocation import label_value
from spiderpool.errors import NotReady
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.records import NodeRecords

POD_PATIENCE = 1.0
"""Seconds that a pod's own watch event may come after the runtime's call, before the pod is read."""


class Cluster:
    """Local copies of pods of this node, pools that it may use, networks and settings."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.node_name = node
        label = label_value(node)
        self.records = NodeRecords(client, node)
        self.pods = Informer(client, Pod, fields=f"spec.nodeName={node}")
        self._own_pools = Informer(client, SpiderIPPool, labels=f"{POOL_NODE_LABEL}={label}")
        self._shared_pools = Informer(client, SpiderIPPool, labels=f"!{POOL_NODE_LABEL}")
        self.networks = Informer(client, NetworkAttachmentDefinition)
        self.coordinators = Informer(client, SpiderCoordinator)
        self.namespaces = Informer(client, Namespace)
        self.nodes = Informer(client, Node, fields=f"metadata.name={node}")

    @property
    def ready(self) -> bool:
        """Whether every first list has arrived."""
        return all(informer.ready for informer in self._informers())

    async def run(self) -> None:
        """Keep all copies up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers():
                group.create_task(informer.run())

    async def synced(self, timeout: float) -> None:
        """Wait for every first list. Raises NotReady."""
        for informer in self._informers():
            await informer.synced(timeout)

    def pools(self) -> list[SpiderIPPool]:
        """Pools that this node may use or must judge: its own and the shared ones."""
        return self._own_pools.items() + self._shared_pools.items()

    def coordinator(self) -> SpiderCoordinator | None:
        """The cluster's coordinator settings: the first by name, so that all nodes agree."""
        return min(self.coordinators.items(), key=lambda each: each.name, default=None)

    async def pod(self, namespace: str, name: str, uid: str) -> Pod:
        """A pod of this node: from the copy, else read. Raises NotReady when it is not the pod that was meant."""
        key = f"{namespace}/{name}"
        pod = self.pods.get(key)
        if pod is None or (uid and pod.metadata.uid != uid):
            pod = await self._read_pod(namespace, name)
        if uid and pod.metadata.uid != uid:
            raise NotReady(f"pod {key} has UID {pod.metadata.uid}, the runtime attaches {uid}: it has been replaced")
        return pod

    async def _read_pod(self, namespace: str, name: str) -> Pod:
        try:
            return await self._client.get(Pod, name, namespace)
        except NotFound as error:
            raise NotReady(f"pod {namespace}/{name} does not exist; it has been deleted meanwhile") from error

    def _informers(self) -> list[Informer]:  # type: ignore[type-arg]
        return [
            self.records.informer,
            self.pods,
            self._own_pools,
            self._shared_pools,
            self.networks,
            self.coordinators,
            self.namespaces,
            self.nodes,
        ]
