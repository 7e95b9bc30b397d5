"""Whether the labels of a Node are all there: some come only after its kubelet has registered it."""

from __future__ import annotations

from spiderpool.api.core_v1 import Node

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
"""Taint of a node whose kubelet runs with ``--cloud-provider=external`` and waits for a cloud controller."""
LABELS_TO_COME = frozenset({UNINITIALIZED, "node.cluster.x-k8s.io/uninitialized", "karpenter.sh/unregistered"})
"""Taints that go once somebody has set the labels of a new node: a cloud controller, Cluster API, Karpenter."""


def why_incomplete(node: Node | None) -> str | None:
    """Why labels of a Node may be about to come; None when there is no sign of it."""
    if node is None:
        return "it is not registered"
    if taint := next((each.key for each in node.spec.taints or () if each.key in LABELS_TO_COME), None):
        return f"it has the taint {taint}"
    return None if node.ready else "it is not ready"
