"""Asks a node what its sandboxes hold, and reads what is known of it: the evidence by which addresses are released."""

from __future__ import annotations

import asyncio

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import INT64_MAX
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.ipam.evidence import AccountRequest, NodeEvidence
from spiderpool.kube.client import Client, Conflict, NotFound

TRIES = 3
"""Times that a question is sent at most, when the node's agent publishes an account meanwhile."""


async def request_account(
    client: Client, account: SpiderNode, *, timeout: float
) -> tuple[AccountRequest, SpiderNode] | None:
    """Ask the node of a SpiderNode; the question, and the object as stored. None when it is gone or changes too often.

    The version of the SpiderNode is a precondition: the number that somebody else has just written would be no change,
    and the API server would not number it. Each request has ``timeout`` seconds. Raises SpiderpoolError.
    """
    newest: SpiderNode | None = account
    for _ in range(TRIES):
        if newest is None:
            return None
        version = {"resourceVersion": newest.metadata.resourceVersion}
        body = {"metadata": version, "spec": {"accountRequest": (newest.spec.accountRequest or 0) + 1}}
        sent = asyncio.get_running_loop().time()
        try:
            stored = await client.patch(SpiderNode, account.name, body, timeout=timeout)
        except Conflict:
            newest = await client.find(SpiderNode, account.name, timeout=timeout)
            continue
        except NotFound:
            return None
        generation = stored.metadata.generation or INT64_MAX  # without a number no account is an answer
        return AccountRequest(sent, stored.metadata.uid or "", generation), stored
    return None


async def read_evidence(client: Client, name: str, request: AccountRequest | None, *, timeout: float) -> NodeEvidence:
    """The evidence of a node by fresh reads, after it was sent ``request``. Raises SpiderpoolError."""
    node = await client.find(Node, name, timeout=timeout)
    account = await client.find(SpiderNode, name, timeout=timeout) if node else None
    return NodeEvidence(name, node, account, request)
