"""When the address of an owner may go to its next pod."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from spiderpool.core.ipam.takeover import is_given_up, why_not_given_up

pytestmark = pytest.mark.unit

RECORD = SpiderIP(
    metadata=ObjectMeta(name="10.0.0.1", resourceVersion="50"),
    spec=IPSpec("10.0.0.1/24", "p", "n1", "default", "web-0", "former", "eth0"),
)
RUNS = NodeSandbox("former", "default", "web-0", "c0", [SandboxInterface("eth0", None, ["10.0.0.1"])])
OTHER = NodeSandbox("other", "default", "web-1", "c1", [SandboxInterface("eth0", None, ["10.0.0.2"])])


def account(*sandboxes: NodeSandbox, version: str | None = "50", fenced: str | None = None) -> SpiderNode:
    status = NodeAccount(recordVersion=version, sandboxes=list(sandboxes))
    return SpiderNode(metadata=ObjectMeta(name="n1"), spec=SpiderNodeSpec(fencedBootID=fenced), status=status)


def node(ready: bool, *taints: str) -> Node:
    conditions = [NodeCondition("Ready", "True" if ready else "Unknown")]
    return Node(
        metadata=ObjectMeta(name="n1"),
        spec=NodeSpec(taints=[Taint(key) for key in taints]),
        status=NodeStatus(conditions, nodeInfo=NodeSystemInfo("boot")),
    )


@pytest.mark.parametrize(
    ("published", "given_up"),
    [
        (account(OTHER), True),
        (account(OTHER, version="51"), True),
        (account(OTHER, version="49"), False),
        (account(OTHER, version=None), False),
        (account(OTHER, RUNS), False),
        (None, False),
    ],
)
def test_an_account_that_is_no_older_than_the_record_decides(published: SpiderNode | None, given_up: bool) -> None:
    assert is_given_up(RECORD, published.status if published else None) is given_up
    reason = why_not_given_up(RECORD, published, node(ready=False))
    assert (reason is None) is given_up


def test_nothing_runs_on_a_node_that_is_gone() -> None:
    assert why_not_given_up(RECORD, account(RUNS), None) is None


def test_what_others_say_of_the_node_does_not_change_what_it_says_itself() -> None:
    stated = node(False, "node.kubernetes.io/out-of-service")
    assert why_not_given_up(RECORD, account(RUNS, fenced="boot"), stated)


def test_a_node_whose_agent_publishes_nothing() -> None:
    assert why_not_given_up(RECORD, None, node(ready=True)) is None
    assert why_not_given_up(RECORD, None, node(ready=False))


def test_the_reason_names_the_sandbox_or_that_nothing_is_known() -> None:
    named = why_not_given_up(RECORD, account(RUNS), node(ready=False))
    assert named == "sandbox c0 of pod default/web-0 on node n1 may still use"
    silent = why_not_given_up(RECORD, account(version="1"), node(ready=True)) or ""
    assert silent.startswith("a sandbox of node n1 may still use, whose agent has not said")
