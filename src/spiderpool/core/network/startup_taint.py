"""The taint that keeps pods away from a new node until its agent can attach them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.spidernode import SpiderNode

STARTUP_TAINT: Final = "spiderpool.spidernet.io/agent-not-ready"
"""Key of the taint with which an administrator has nodes registered. We never set it."""


def is_awaited(node: Node) -> bool:
    """Whether a Node has the taint."""
    return any(taint.key == STARTUP_TAINT for taint in node.spec.taints or ())


def has_agent(node: Node, account: SpiderNode | None) -> bool:
    """Whether the agent of a node serves it: it has published its account in the node's present boot.

    A Node that was deleted and registered again has the account of the former one for a moment, which does not count.
    """
    if account is None or account.name != node.name or account.status is None:
        return False
    owners = [owner for owner in account.metadata.ownerReferences or () if owner.kind == Node.KIND.name]
    if any(owner.uid != node.metadata.uid for owner in owners):
        return False
    return account.status.bootID is not None and account.status.bootID == node.status.nodeInfo.bootID


def removal(node: Node) -> dict[str, Any]:
    """A merge patch that removes the taint. It names the version it was made from, since it replaces all taints."""
    others = [taint for taint in node.spec.taints or () if taint.key != STARTUP_TAINT]
    metadata = {"uid": node.metadata.uid, "resourceVersion": node.metadata.resourceVersion}
    return {"metadata": metadata, "spec": {"taints": msgspec.to_builtins(others) or None}}
