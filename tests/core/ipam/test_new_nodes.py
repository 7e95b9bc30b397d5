"""When the labels of a Node count as complete."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.new_nodes import UNINITIALIZED, why_incomplete

pytestmark = pytest.mark.unit


def node(ready: str, *taints: str) -> Node:
    return Node(
        metadata=ObjectMeta(name="n1"),
        spec=NodeSpec(taints=[Taint(each, effect="NoSchedule") for each in taints]),
        status=NodeStatus([NodeCondition("Ready", ready)]),
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "it is not registered"),
        (node("True", "team", UNINITIALIZED), f"it has the taint {UNINITIALIZED}"),
        (node("True", "karpenter.sh/unregistered"), "it has the taint karpenter.sh/unregistered"),
        (node("False", "team"), "it is not ready"),
        (node("True", "team"), None),
    ],
)
def test_signs_that_labels_are_to_come(found: Node | None, reason: str | None) -> None:
    assert why_incomplete(found) == reason
