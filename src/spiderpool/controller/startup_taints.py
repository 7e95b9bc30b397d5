"""Removes the taint with which nodes are registered to keep pods away, once the node's own agent is ready."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from spiderpool.api.core_v1 import Node
from spiderpool.api.spidernode import SpiderNode
from spiderpool.controller.accounts import NodeAccounts
from spiderpool.core.network import startup_taint
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

log = logger("startup-taints")


class StartupTaintReconciler:
    """Takes the taint from each Node whose agent answers after the taint was seen; never sets it.

    That the agent has published an account in this boot is not enough: the taint may have been set since, while there
    is no agent any more.
    """

    def __init__(self, client: Client, nodes: Informer[Node], accounts: Informer[SpiderNode]) -> None:
        self._client = client
        self._nodes = nodes
        self._accounts = accounts
        self._questions = NodeAccounts(client, nodes, accounts)
        self._since: dict[str, float] = {}  # node with the taint → loop time at which it was seen
        self._queue = WorkQueue(self._reconcile, "startup-taints")  # of nodes' names
        nodes.subscribe(self._on_node)
        accounts.subscribe(self._on_account)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is not None and startup_taint.is_awaited(new):
            self._since.setdefault(new.name, asyncio.get_running_loop().time())
            self._queue.add(new.name)
        elif (gone := new or old) is not None and self._since.pop(gone.name, None) is not None:
            self._questions.retain(self._since)

    def _on_account(self, _: SpiderNode | None, new: SpiderNode | None) -> None:
        if new is not None and new.name in self._since:
            self._queue.add(new.name)

    async def _reconcile(self, name: str) -> None:
        node, since = self._nodes.get(name), self._since.get(name)
        if node is None or since is None or not startup_taint.is_awaited(node):
            return
        if not startup_taint.has_agent(node, self._accounts.get(name)):
            return
        if self._questions.get(name).answer(since) is None:
            await self._questions.request(name, since)  # the answer is another account, and brings us here again
            return
        with suppress(Conflict, NotFound):  # gone or changed meanwhile: the event of that change decides
            self._nodes.note(await self._client.patch(type(node), name, startup_taint.removal(node)))
            log.info("startup taint removed: the agent is ready", node=name)
