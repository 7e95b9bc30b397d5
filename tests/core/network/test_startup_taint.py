"""Whose agent is ready, and what is left of the taints."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node, NodeSpec, NodeStatus, NodeSystemInfo, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, SpiderNode
from spiderpool.core.network.startup_taint import STARTUP_TAINT, has_agent, is_awaited, removal

pytestmark = pytest.mark.unit

BOOT, FORMER_BOOT = "11111111-1111-1111-1111-111111111111", "00000000-0000-0000-0000-000000000000"
OURS = Taint(STARTUP_TAINT, effect="NoSchedule")
OTHER = Taint("node.kubernetes.io/not-ready", "x", "NoSchedule", "2026-01-01T00:00:00Z")


def new_node(name: str, *taints: Taint, boot: str | None = BOOT, uid: str = "1") -> Node:
    return Node(
        metadata=ObjectMeta(name=name, uid=uid, resourceVersion="7"),
        spec=NodeSpec(taints=list(taints) or None),
        status=NodeStatus(nodeInfo=NodeSystemInfo(bootID=boot)),
    )


def account_of(node: Node, boot: str | None = BOOT) -> SpiderNode:
    account = SpiderNode.of(node)
    account.status = NodeAccount(bootID=boot, sandboxes=[])
    return account


class TestWhoIsReady:
    def test_a_node_whose_agent_has_spoken_in_this_boot(self) -> None:
        node = new_node("a", OURS)
        assert has_agent(node, account_of(node))

    def test_no_node_without_such_an_account(self) -> None:
        node = new_node("a", OURS)
        assert not has_agent(node, None)
        assert not has_agent(node, SpiderNode.of(node)), "made to ask a question"
        assert not has_agent(node, account_of(node, FORMER_BOOT))
        assert not has_agent(node, account_of(node, None))

    def test_not_the_node_of_another_account(self) -> None:
        assert not has_agent(new_node("a", OURS), account_of(new_node("b")))

    def test_no_node_that_was_deleted_and_registered_again_without_a_boot(self) -> None:
        assert not has_agent(new_node("a", OURS, uid="2"), account_of(new_node("a")))

    def test_no_node_that_tells_no_boot(self) -> None:
        node = new_node("a", OURS, boot=None)
        assert not has_agent(node, account_of(node, None))


class TestTaints:
    def test_it_is_known_by_its_key(self) -> None:
        assert is_awaited(new_node("a", OTHER, Taint(STARTUP_TAINT, "x", "NoExecute")))
        assert not is_awaited(new_node("a", OTHER))
        assert not is_awaited(new_node("a"))

    def test_others_stay_as_they_are(self) -> None:
        left = {"key": OTHER.key, "value": "x", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
        metadata = {"uid": "1", "resourceVersion": "7"}
        assert removal(new_node("a", OURS, OTHER)) == {"metadata": metadata, "spec": {"taints": [left]}}
        assert removal(new_node("a", OURS)) == {"metadata": metadata, "spec": {"taints": None}}
