"""Stands for the agents of Nodes as far as they describe their servers."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.kube.client import Client, NotFound


async def describe(client: Client, name: str, instance: Instance | None) -> None:
    """Make or change the SpiderServer of a Node; None: delete it."""
    if instance is None:
        with suppress(NotFound):
            await client.delete(SpiderServer, name)
        return
    server = SpiderServer.of(await client.get(Node, name), instance)
    if await client.find(SpiderServer, name) is None:
        await client.create(server)
        return
    owners = msgspec.to_builtins(server.metadata.ownerReferences)
    body = {"metadata": {"ownerReferences": owners}, "spec": msgspec.to_builtins(instance)}
    await client.patch(SpiderServer, name, body)
