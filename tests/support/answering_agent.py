"""Stands for the agent of a node that no agent runs on: publishes the account of its sandboxes as an agent does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import ObjectMeta, OwnerReference, revision
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.kube.client import Client

INTERVAL = 0.05
"""Seconds between two looks at the object, which an agent watches."""


class AnsweringAgent:
    """Answers questions about one Node by the sandboxes that a test gives it, unless it is ``silent``."""

    def __init__(self, client: Client, node: Node) -> None:
        self.silent = False
        self.behind = False
        """Whether it has not seen any record of its node yet."""
        self.sandboxes: list[NodeSandbox] = []
        self._client = client
        self._node = node

    async def create(self) -> None:
        """Make the object as an agent does when it starts."""
        owner = OwnerReference("v1", "Node", self._node.name, self._node.metadata.uid or "")
        await self._client.create(SpiderNode(metadata=ObjectMeta(name=self._node.name, ownerReferences=[owner])))

    async def publish(self, generation: int | None) -> None:
        """Publish an account that was taken after a generation."""
        records = [] if self.behind else await self._client.list(SpiderIP)
        seen = max((revision(each.metadata.resourceVersion) for each in records), default=0)
        account = NodeAccount(generation, recordVersion=str(seen), sandboxes=self.sandboxes)
        body = {"status": {"sandboxes": None} | msgspec.to_builtins(account)}
        await self._client.patch(SpiderNode, self._node.name, body, sub="status")

    async def run(self) -> None:
        """Answer until cancelled, or until the object is gone."""
        seen = 0
        while (found := await self._client.find(SpiderNode, self._node.name)) is not None:
            generation = found.metadata.generation or 0
            if generation > seen and not self.silent:
                await self.publish(generation)
                seen = generation
            await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def answering(client: Client, node: Node) -> AsyncIterator[AnsweringAgent]:
    """An agent that answers while the context lasts."""
    agent = AnsweringAgent(client, node)
    await agent.create()
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def sandbox(uid: str, pod: str, *addresses: str, interface: str = "eth0") -> NodeSandbox:
    """A sandbox of a pod in namespace ``default`` with these addresses on one interface."""
    return NodeSandbox(uid, "default", pod, "c" * 64, [SandboxInterface(interface, None, list(addresses))])
