"""SpiderNode: the account of one node's sandboxes."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_an_account() -> None:
    interface = {"name": "eth0", "mac": "02:00:00:00:00:01", "addresses": ["10.6.0.1"]}
    sandbox = {"podUID": "u-1", "namespace": "shop", "pod": "web-1", "containerID": "c1", "interfaces": [interface]}
    found = read({"metadata": {"name": "n1"}, "status": {"sandboxes": [sandbox]}}, SpiderNode).status
    assert found is not None
    assert [(one.podUID, one.interfaces) for one in found.sandboxes or ()] == [
        ("u-1", [SandboxInterface("eth0", "02:00:00:00:00:01", ["10.6.0.1"])])
    ]


@pytest.mark.parametrize(
    ("status", "answered"),
    [(None, False), (NodeAccount(), False), (NodeAccount(observedGeneration=1), False), (NodeAccount(2), True)],
)
def test_only_an_account_taken_after_the_last_request_answers_it(status: NodeAccount | None, answered: bool) -> None:
    node = SpiderNode(metadata=ObjectMeta(name="n1", generation=2), status=status)
    assert node.answered is answered


def test_a_new_one_is_deleted_with_its_node() -> None:
    made = SpiderNode.of(Node(metadata=ObjectMeta(name="n1", uid="u-1")), SpiderNodeSpec(fencedBootID="b"))
    assert (made.name, made.spec.fencedBootID, made.status) == ("n1", "b", None)
    assert made.metadata.ownerReferences == [OwnerReference("v1", "Node", "n1", "u-1")]


def test_the_sandboxes_of_an_account_and_their_addresses() -> None:
    interfaces = [
        SandboxInterface("eth0", addresses=["10.6.0.1", "fd00::1"]),
        SandboxInterface("net1", None, ["10.7.0.1"]),
    ]
    held = NodeSandbox("u-1", "shop", "web-1", "c1", [*interfaces, SandboxInterface("net2")])
    unread = NodeSandbox("u-2", "shop", "web-2", "c2")
    told = SpiderNode(metadata=ObjectMeta(name="n1"), status=NodeAccount(sandboxes=[held, unread]))
    assert [each.addresses for each in told.sandboxes] == [["10.6.0.1", "fd00::1", "10.7.0.1"], []]
    for status in (None, NodeAccount()):
        assert SpiderNode(metadata=ObjectMeta(name="n1"), status=status).sandboxes == []
