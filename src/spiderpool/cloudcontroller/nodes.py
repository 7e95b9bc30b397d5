"""Nodes of a cloud: their provider ID, labels and taint, and their end when the server is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from spiderpool.api.core_v1 import Node
from spiderpool.cloud.provider import CloudError, CloudProvider
from spiderpool.core.cloud.nodes import (
    ServerQuery,
    contradiction,
    identity_patch,
    inquiries,
    instance_of,
    judge,
    provider_id,
    readiness,
)
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

log = logger("nodes")


class NodeReconciler:
    """Keeps Node objects as their servers are. ``period`` is in seconds."""

    def __init__(
        self,
        client: Client,
        cloud: CloudProvider,
        nodes: Informer[Node],
        recorder: Recorder,
        period: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cloud = cloud
        self._nodes = nodes
        self._recorder = recorder
        self._period = period
        self._clock = clock
        self._queue = WorkQueue(self._identify, "nodes")
        self._missing: dict[str, float] = {}
        nodes.subscribe(self._on_node)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(2))
            group.create_task(self._watch_for_losses())

    def _on_node(self, _: Node | None, new: Node | None) -> None:
        if new is not None:
            self._queue.add(new.name)

    async def _identify(self, name: str) -> None:
        """Write what is missing on one Node."""
        node = self._nodes.get(name)
        instance = instance_of(node) if node else None
        if node is None or instance is None:
            return
        if reason := contradiction(node, instance):
            self._recorder.event(
                node, "Warning", "ProviderIDMismatch", f"{reason}; delete the Node to register it anew"
            )
            return
        if body := identity_patch(node, instance):
            with suppress(NotFound):
                self._nodes.note(await self._client.patch(Node, name, body))
                log.info("node identified", node=name, provider_id=instance.provider_id)

    async def _watch_for_losses(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            try:
                await self.look_for_losses()
            except SpiderpoolError as error:
                log.warning("lost servers not looked for", error=str(error))

    async def look_for_losses(self) -> None:
        """Ask about the servers of silent nodes, and delete Nodes whose server is proven gone."""
        asked = inquiries(self._nodes.items())
        suspected = {uid for inquiry in asked for uid in inquiry.suspects}
        self._missing = {uid: since for uid, since in self._missing.items() if uid in suspected}
        for inquiry in asked:
            for uid in await self._gone(inquiry):
                await self._delete(uid)

    async def _gone(self, inquiry: ServerQuery) -> list[str]:
        identities = {*inquiry.suspects.values(), *inquiry.witnesses}
        try:
            found = await self._cloud.instances(inquiry.region, identities)
        except CloudError as error:
            log.warning("servers not described", region=inquiry.region, error=error.message)
            return []
        if not inquiry.witnesses.issubset(found):
            log.warning("description of servers not believed: it lacks servers whose nodes are ready")
        self._missing, gone = judge(self._missing, inquiry, found, self._clock(), self._period)
        return gone

    async def _delete(self, uid: str) -> None:
        """Delete a Node, if a fresh read finds it as silent as before."""
        known = next((node for node in self._nodes.items() if node.metadata.uid == uid), None)
        if known is None:
            return
        with suppress(NotFound, Conflict):
            node = await self._client.get(Node, known.name)
            if node.metadata.uid != uid or readiness(node) != "Unknown" or provider_id(node) != provider_id(known):
                return
            await self._client.delete(Node, node.name, uid=uid, resourceVersion=node.metadata.resourceVersion)
            self._nodes.forget(node)
            text = f"server {node.spec.providerID} no longer exists, and nothing is heard of the node: Node deleted"
            self._recorder.event(node, "Normal", "ServerGone", text)
            log.warning("node deleted", node=node.name, provider_id=node.spec.providerID)
