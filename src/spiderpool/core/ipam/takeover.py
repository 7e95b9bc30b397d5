"""Decides whether a pod may take over the address of another pod, which may still have a sandbox somewhere.

A StatefulSet's next pod comes as soon as the former one's object is gone, but an object that is gone says nothing about
its sandbox: its node may be cut off, or its kubelet hang. So the account of the former pod's node decides, as it was
published last. It says enough if it is no older than the record: the sandbox that the record was made for had its file
before, so the account names it unless it is gone. When a sandbox starts again, the agent of that node reads a sticky
owner's pod afresh, and writes the record again before it gives the pod its address: else an account from between the
two sandboxes would say enough.

That a node is stopped is believed when its agent was asked and does not answer, as by the collection: an agent that
answers runs there, and so may the sandbox.
"""

from __future__ import annotations

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import revision
from spiderpool.api.spidernode import NodeAccount, SpiderNode
from spiderpool.core.ipam.evidence import sandbox_text, sandbox_using

REMEDIES = (
    "it gets it when that agent answers and nothing there uses it, when Node {node} is deleted or, while that agent "
    "does not answer, has the taint node.kubernetes.io/out-of-service or is fenced: `spiderpoolctl node fence {node}`"
)
"""What ends the wait for an address of another node."""


def is_given_up(record: SpiderIP, account: NodeAccount | None) -> bool:
    """Whether the account of the record's node proves that no sandbox there has its address."""
    if account is None or revision(account.recordVersion) < revision(record.metadata.resourceVersion):
        return False
    return sandbox_using(account, record) is None


def why_not_given_up(record: SpiderIP, account: SpiderNode | None, node: Node | None) -> str | None:
    """Why a sandbox of the record's node may still have its address, as the node tells it; None when it has not."""
    published = account.status if account else None
    if is_given_up(record, published) or node is None:
        return None
    if account is None and node.ready:  # an agent that publishes none: the end of the pod decides
        return None
    if published is not None and (sandbox := sandbox_using(published, record)):
        return f"{sandbox_text(sandbox)} on node {node.name} may still use"
    return f"a sandbox of node {node.name} may still use, whose agent has not said since that it does not"
