"""Reconciles Nodes with their servers: provider ID, labels, taint of stopped servers; deletes Nodes of lost ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node
from spiderpool.api.spiderserver import Instance
from spiderpool.cloud.provider import CloudProvider, CloudServer, NotPermitted
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.core.cloud.nodes import (
    ServerQuery,
    Strangers,
    foreign_address,
    identity_patch,
    judge,
    mismatch,
    queries,
    shutdown_patch,
)
from spiderpool.errors import is_bug
from spiderpool.kube.attempts import Attempts
from spiderpool.kube.client import Conflict, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

WORKERS = 2
"""Nodes that are reconciled at a time."""
CONFIRM_PAUSE = 30.0
"""Seconds until the cloud is asked again for the server of a Node that it did not confirm."""

log = logger("nodes")


@dataclass(frozen=True, slots=True)
class NodeListers:
    """Informers to read from; their owner runs them."""

    nodes: Informer[Node]
    servers: NodeServers


class NodeReconciler:
    """Keeps Nodes as their servers are. ``period`` is the time between two searches for lost servers, in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        cloud: CloudProvider,
        listers: NodeListers,
        period: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = cluster.client
        self._recorder = cluster.recorder
        self._cloud = cloud
        self._nodes = nodes = listers.nodes
        self._servers = listers.servers
        self._period = period
        self._clock = clock
        self._queue = WorkQueue(self._reconcile, "nodes")
        self._missing: dict[str, float] = {}  # Node UID → time at which the cloud first lacked its server
        self._queries = Attempts(partial(_failed, "servers not described"))
        self._marks = Attempts(partial(_failed, "node not marked"))  # by UID
        self._deletions = Attempts(partial(_failed, "node not deleted"))  # by UID
        self._by_uid = nodes.index(lambda node: (node.metadata.uid,))
        self._by_server = nodes.index(self._server_of, lambda node: node.name)
        self._strangers = Strangers()
        self._confirm_at: dict[str, float] = {}  # Node name → time before which the cloud is not asked for its server
        nodes.subscribe(self._on_node)
        listers.servers.subscribe(self._queue.add)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._search_periodically())

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        """Identify a Node when a part of it changes that counts: most events are heartbeats."""
        if new is None and old is not None:
            self._confirm_at.pop(old.name, None)
        if new is not None and (old is None or _part(old) != _part(new)):
            self._queue.add(new.name)

    def _server_of(self, node: Node) -> list[tuple[str, str]]:
        """Region and instance that a Node's provider ID names."""
        named = self._cloud.parse_provider_id(node.spec.providerID or "")
        return [named] if named else []

    async def _reconcile(self, name: str) -> None:
        """Writes what is missing on one Node, and takes away that its server is stopped once its kubelet reports."""
        node = self._nodes.get(name)
        if node is not None and node.ready:
            await self._set_stopped(node, stopped=False)
        if node is not None and (instance := self._servers.of(node)) is not None:
            await self._identify(self._nodes.get(name) or node, instance)

    async def _identify(self, node: Node, instance: Instance) -> None:
        if reason := mismatch(node, instance, self._cloud.parse_provider_id):
            self._recorder.event(
                node, event_reasons.PROVIDER_ID_MISMATCH, f"{reason}; delete the Node to register it anew"
            )
            return
        if not node.spec.providerID and not await self._is_confirmed(node, instance):
            return
        if body := identity_patch(node, instance):
            with suppress(NotFound):  # deleted meanwhile: nothing to write to
                self._nodes.note(await self._client.patch(Node, node.name, body))
                log.info("node identified", node=node.name, provider_id=instance.provider_id)

    async def _is_confirmed(self, node: Node, instance: Instance) -> bool:
        """Whether the cloud knows the server that a Node's agent reports, and it has the address of the Node.

        A provider ID cannot be changed, and an agent can report any server. After a refusal it is asked again.
        """
        now, not_before = self._clock(), self._confirm_at.get(node.name, 0.0)
        if now < not_before:
            self._queue.add(node.name, not_before - now)
            return False
        self._confirm_at[node.name] = now + CONFIRM_PAUSE
        try:
            known = (await self._cloud.instances(instance.region, [instance.identity])).get(instance.identity)
        except NotPermitted as error:
            self._recorder.event(node, event_reasons.CLOUD_PERMISSION_MISSING, error.message)
            raise
        if known is None:
            fault = f"the cloud knows no server {instance.provider_id}"
        elif address := foreign_address(node, known.addresses):
            fault = f"server {instance.provider_id} does not have the node's address {address}"
        elif others := [
            each for each in self._by_server.get((instance.region, instance.identity)) if each != node.name
        ]:
            fault = f"server {instance.provider_id} is that of Node {others[0]}"
        else:
            self._confirm_at.pop(node.name, None)
            return True
        self._recorder.event(node, event_reasons.SERVER_NOT_CONFIRMED, f"{fault}; its SpiderServer is not believed")
        self._queue.add(node.name, CONFIRM_PAUSE)
        return False

    async def _search_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            try:
                await self.search_lost_servers()
            except Exception as error:
                log.warning("lost servers not looked for", error=str(error), exc_info=is_bug(error))

    async def search_lost_servers(self) -> None:
        """Has the cloud look up the servers of silent Nodes; marks Nodes whose server is stopped, deletes lost ones.

        What fails waits for the next search, and keeps nothing else from being done.
        """
        self._strangers.retain({identity for _, identity in self._by_server})
        due = queries(self._nodes.items(), self._cloud.parse_provider_id, self._servers.of, self._strangers)
        suspected = {uid for query in due for uid in query.suspects}
        self._missing = {uid: since for uid, since in self._missing.items() if uid in suspected}
        states: dict[str, CloudServer] = {}  # Node UID → its server
        lost: list[str] = []  # UIDs of Nodes whose server is proven to be gone

        async def look_up(query: ServerQuery) -> None:
            found = await self._cloud.instances(query.region, {*query.suspects.values(), *query.witnesses})
            self._strangers.note(query, found)
            if query.witnesses.issubset(found):
                states.update({uid: found[name] for uid, name in query.suspects.items() if name in found})
            else:
                log.warning("description of servers not believed: it lacks servers whose nodes are ready")
            self._missing, proven = judge(self._missing, query, found, self._clock(), self._period)
            lost.extend(proven)

        await self._queries.on_each({f"{query.region}/{min(query.suspects)}": query for query in due}, look_up)
        await self._marks.on_each({uid: (uid, server.stopped) for uid, server in states.items()}, self._mark)
        await self._deletions.on_each({uid: uid for uid in lost}, self._delete)

    async def _mark(self, known: tuple[str, bool]) -> None:
        """Writes on a silent Node, by its UID, whether its server is stopped."""
        uid, stopped = known
        for node in self._by_uid.get(uid):
            await self._set_stopped(node, stopped=stopped)

    async def _set_stopped(self, node: Node, *, stopped: bool) -> None:
        """Sets or removes the taint of a stopped server, on the version of the Node that was judged."""
        body = shutdown_patch(node, stopped=stopped)
        if body is None:
            return
        with suppress(NotFound, Conflict):  # deleted or changed meanwhile: its event, or the next search, decides
            self._nodes.note(await self._client.patch(Node, node.name, body))
            log.info("node marked", node=node.name, provider_id=node.spec.providerID, stopped=stopped)
            if stopped:
                text = f"server {node.spec.providerID} is stopped: addresses that no pod holds there are free"
                self._recorder.event(node, event_reasons.SERVER_STOPPED, text)

    async def _delete(self, uid: str) -> None:
        """Deletes a Node, unless a fresh read finds that its kubelet reports again."""
        known = next(iter(self._by_uid.get(uid)), None)
        if known is None:
            return
        with suppress(NotFound, Conflict):  # deleted or changed meanwhile: the next search decides
            node = await self._client.get(Node, known.name)
            same = node.metadata.uid == uid and node.spec.providerID == known.spec.providerID
            if not same or node.ready_status != "Unknown":
                return
            await self._client.delete(Node, node.name, uid=uid, resourceVersion=node.metadata.resourceVersion)
            self._nodes.forget(node)
            text = f"server {node.spec.providerID} no longer exists, and nothing is heard of the node: Node deleted"
            self._recorder.event(node, event_reasons.SERVER_GONE, text)
            log.warning("node deleted", node=node.name, provider_id=node.spec.providerID)


def _failed(message: str, of: str, error: Exception) -> None:
    log.warning(message, of=of, error=str(error), exc_info=is_bug(error))


def _part(node: Node) -> tuple[object, ...]:
    """Returns the parts of a Node that decide about its identity, and whether its server is stopped."""
    return node.metadata.uid, node.metadata.labels, node.spec.providerID, node.spec.taints, node.ready_status
