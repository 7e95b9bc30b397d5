"""What is known of the sandboxes of a node: the only evidence that an address is in use by nothing there any more.

Time is no evidence: a pod whose object is gone may run on while its kubelet hangs or the node is cut off. Evidence is

- the word of somebody else that the node is stopped (:func:`why_stopped`), while its agent does not answer, or
- its own account (SpiderNode), when it was taken after the question was sent: the API server numbers every question
  (``metadata.generation``), and the agent writes the number that it has seen into its account. No clocks are compared.

The account is taken from the agent's files and the kernel. A sandbox has its file before the agent gives it an address,
so a sandbox that an account lacks got no address before the account was taken.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SpiderNode
from spiderpool.core.addresses import canonical
from spiderpool.core.ipam.allocation import address_text

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""Taint by which an administrator says that the node is shut down; Kubernetes then deletes its pods by force."""

SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
"""Taint that a cloud controller sets while the server of a node is stopped."""


class AddressUse(enum.Enum):
    """What the evidence of a node says about one record."""

    FREE = enum.auto()
    """No sandbox of the node has the address."""
    IN_USE = enum.auto()
    """A sandbox has it, or may have it."""
    UNKNOWN = enum.auto()
    """The node has not answered."""


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """A question to a node, as the API server has numbered it."""

    sent: float
    """Time just before it was sent, in seconds of the caller's monotonic clock."""
    uid: str
    """UID of the SpiderNode: one that was made anew numbers its questions anew."""
    generation: int

    def is_answered(self, node: SpiderNode) -> bool:
        """Whether the account of a SpiderNode was taken after this question.

        No agent has seen a number that the API server has not given yet: somebody has edited that account.
        """
        seen = node.status.observedGeneration if node.status else None
        if node.metadata.uid != self.uid or seen is None:
            return False
        return self.generation <= seen <= (node.metadata.generation or seen)


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """What was read of one node, and what it was asked; None stands for what does not exist."""

    name: str
    node: Node | None = None
    account: SpiderNode | None = None
    request: AccountRequest | None = None

    def answer(self, since: float) -> NodeAccount | None:
        """The account, if it was taken after a question that was sent at ``since`` or later."""
        request, account = self.request, self.account
        if request is None or account is None or request.sent < since or not request.is_answered(account):
            return None
        return account.status

    def is_silent(self, since: float, now: float, answer_time: float) -> bool:
        """Whether the node had so many seconds from ``since`` to answer and has not, or cannot be asked.

        One whose SpiderNode was made anew after the question has not been asked yet.
        """
        request, account = self.request, self.account
        if account is None or request is None or request.uid != account.metadata.uid:
            return account is None
        return not request.is_answered(account) and now - max(request.sent, since) >= answer_time


def why_stopped(node: Node, account: SpiderNode | None) -> str | None:
    """Why nothing of the node's last boot runs any more; None when nobody says so, or when its kubelet reports."""
    if node.ready:
        return None  # whoever said so has not noticed that it runs again; its account decides
    for taint in node.spec.taints or ():
        if taint.key in (OUT_OF_SERVICE, SHUTDOWN):
            return f"node {node.name} has the taint {taint.key}"
    fenced = account.spec.fencedBootID if account else None
    if fenced is not None and fenced == node.status.nodeInfo.bootID:
        return f"node {node.name} was fenced by an administrator"
    return None


def is_disproved(node: Node | None, account: SpiderNode) -> bool:
    """Whether the kubelet of a boot reports that was fenced: the next time that it is silent, its pods may run."""
    fenced = account.spec.fencedBootID
    return fenced is not None and node is not None and node.ready and node.status.nodeInfo.bootID == fenced


def sandbox_using(account: NodeAccount, record: SpiderIP) -> NodeSandbox | None:
    """A sandbox that has the address of a record, or may have it; None when there is none.

    Any sandbox of the record's pod may: while it is being attached, its interface comes after its record. So may those
    of pods from which a virtual machine was to move, and one whose interfaces cannot be read and whose pod has the same
    name, as the pod before in a StatefulSet.
    """
    sandboxes, spec = account.sandboxes or (), record.spec
    pods = (spec, *(spec.movedFrom or ()))
    uids, names = {pod.podUID for pod in pods}, {(spec.namespace, pod.pod) for pod in pods}
    if own := next((sandbox for sandbox in sandboxes if sandbox.podUID in uids), None):
        return own
    address = address_text(record)
    for sandbox in sandboxes:
        unread = sandbox.interfaces is None and (sandbox.namespace, sandbox.pod) in names
        if unread or address in _addresses(sandbox):
            return sandbox
    return None


def addresses_used_by(account: NodeAccount, pod_uid: str, interface: str) -> frozenset[str] | None:
    """The addresses that all sandboxes of a pod have on an interface; None when one cannot be read, or has none.

    None also when the pod has no sandbox. A sandbox without the interface may be about to be given it.
    """
    found: set[str] | None = None
    for sandbox in account.sandboxes or ():
        if sandbox.podUID == pod_uid:
            seen = set(_addresses(sandbox, interface))
            if not seen:
                return None
            found = seen if found is None else found & seen
    return None if found is None else frozenset(found)


def use_of(record: SpiderIP, evidence: NodeEvidence, since: float) -> tuple[AddressUse, str]:
    """Whether a record's address is in use on a node, and why, by what the node was asked at ``since`` or later."""
    node, name = evidence.node, evidence.name
    if not name:
        return AddressUse.UNKNOWN, f"SpiderIP {record.name} names no node"
    if node is None:
        return AddressUse.FREE, f"node {name} does not exist"
    if evidence.account is None:
        return AddressUse.UNKNOWN, f"node {name} has no SpiderNode: no agent of this version runs there"
    account = evidence.answer(since)
    if account is None:
        return AddressUse.UNKNOWN, f"the agent of node {name} has not said what its sandboxes hold"
    if sandbox := sandbox_using(account, record):
        return AddressUse.IN_USE, f"{sandbox_text(sandbox)} on node {name} still runs"
    return AddressUse.FREE, f"no sandbox of node {name} has it"


def use_of_duplicate(record: SpiderIP, kept: SpiderIP, evidence: NodeEvidence, since: float) -> tuple[AddressUse, str]:
    """As :func:`use_of`, for a record of an interface that is said to use the record ``kept`` instead."""
    name, spec = evidence.name, record.spec
    account = evidence.answer(since)
    if account is None:
        return AddressUse.UNKNOWN, f"the agent of node {name} has not said what its sandboxes hold"
    used = addresses_used_by(account, spec.podUID, spec.interface)
    if used is None or address_text(kept) not in used:
        return AddressUse.UNKNOWN, f"node {name} does not say that {spec.interface} uses {address_text(kept)}"
    if any(address_text(record) in _addresses(sandbox) for sandbox in account.sandboxes or ()):
        return AddressUse.IN_USE, f"a sandbox of node {name} has both addresses"
    return AddressUse.FREE, f"no sandbox of node {name} has it"


def sandbox_text(sandbox: NodeSandbox) -> str:
    """A sandbox as it is named in messages."""
    return f"sandbox {sandbox.containerID[:13]} of pod {sandbox.namespace}/{sandbox.pod}"


def _addresses(sandbox: NodeSandbox, interface: str | None = None) -> Iterator[str]:
    """The addresses of a sandbox, as canonical text; those of one interface, or of all."""
    for each in sandbox.interfaces or ():
        if interface in (None, each.name):
            yield from map(_canonical, each.addresses or ())


@lru_cache(maxsize=65_536)
def _canonical(text: str) -> str:
    """The same address always as the same text. What is no address stays as it is and equals none."""
    try:
        return canonical(text)
    except ValueError:
        return text
