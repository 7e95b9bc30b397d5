"""What an administrator states about a node that does not answer."""

from __future__ import annotations

from spiderpool.api.core_v1 import Node
from spiderpool.api.spidernode import SpiderNode, SpiderNodeSpec
from spiderpool.errors import Refused
from spiderpool.kube.client import AlreadyExists, Client, NotFound

TIMEOUT = 10.0
"""Seconds for each request."""


async def fence(client: Client, name: str) -> str:
    """State that nothing of the present boot of a node runs any more; a sentence about it.

    Raises Refused for a Node that is ready or that tells no boot, NotFound, and other errors of the API.
    """
    node = await client.get(Node, name, timeout=TIMEOUT)
    boot = node.status.nodeInfo.bootID
    if node.ready:
        raise Refused(f"node {name} is ready: its agent says itself what runs there, and nothing is to be stated")
    if not boot:
        raise Refused(f"node {name} has never told its boot ID (status.nodeInfo.bootID); delete the Node instead")
    try:  # its agent may have made none
        await client.create(SpiderNode.of(node, SpiderNodeSpec(fencedBootID=boot)), timeout=TIMEOUT)
    except AlreadyExists:
        await client.patch(SpiderNode, name, {"spec": {"fencedBootID": boot}}, timeout=TIMEOUT)
    return f"node {name} is fenced: addresses that were last used by its boot {boot} are free once no pod holds them"


async def unfence(client: Client, name: str) -> str:
    """Take the statement back; a sentence about it. Raises errors of the API."""
    try:
        await client.patch(SpiderNode, name, {"spec": {"fencedBootID": None}}, timeout=TIMEOUT)
    except NotFound:
        return f"node {name} was not fenced"
    return f"node {name} is not fenced: its addresses wait for the word of its agent"
