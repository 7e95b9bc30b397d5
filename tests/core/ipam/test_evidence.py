"""What a node's own account and the statements about a node prove about an address."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint
from spiderpool.api.ip import FormerPod, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from spiderpool.core.ipam.evidence import (
    OUT_OF_SERVICE,
    SHUTDOWN,
    AccountRequest,
    AddressUse,
    NodeEvidence,
    addresses_used_by,
    is_disproved,
    sandbox_using,
    use_of,
    use_of_duplicate,
    why_stopped,
)

pytestmark = pytest.mark.unit

SENT = 10.0
"""When the question was sent, by the monotonic clock of who sent it."""


def record(address: str = "10.6.0.1", **spec: Any) -> SpiderIP:
    """A record of eth0 of pod ns/web with UID u-1."""
    fields = {"pod": "web", "podUID": "u-1", "interface": "eth0", **spec}
    return SpiderIP(metadata=ObjectMeta(name=address), spec=IPSpec(f"{address}/24", "p", "n", "ns", **fields))


def sandbox(*addresses: str, uid: str = "u-9", pod: str = "other", interface: str = "eth0") -> NodeSandbox:
    """A sandbox with these addresses on one interface."""
    return NodeSandbox(uid, "ns", pod, "c" * 64, [SandboxInterface(interface, None, list(addresses))])


def unread(uid: str = "u-9", pod: str = "other") -> NodeSandbox:
    return NodeSandbox(uid, "ns", pod, "d" * 64)


def account(*sandboxes: NodeSandbox, seen: int = 3, generation: int = 3, fenced: str | None = None) -> SpiderNode:
    """The account of node n, taken after generation ``seen``."""
    return SpiderNode(
        metadata=ObjectMeta(name="n", uid="sn-1", generation=generation),
        spec=SpiderNodeSpec(fencedBootID=fenced),
        status=NodeAccount(observedGeneration=seen, sandboxes=list(sandboxes)),
    )


def node(status: str = "True", boot: str = "b-1", taint: str | None = None) -> Node:
    return Node(
        metadata=ObjectMeta(name="n"),
        spec=NodeSpec(taints=[Taint(taint, effect="NoExecute")] if taint else None),
        status=NodeStatus([NodeCondition("Ready", status)], nodeInfo=NodeSystemInfo(boot)),
    )


REQUEST = AccountRequest(SENT, "sn-1", 3)


def evidence(**changes: Any) -> NodeEvidence:
    """A ready node that has answered: it has no sandbox."""
    return NodeEvidence(**{"name": "n", "node": node(), "account": account(), "request": REQUEST, **changes})


class TestStopped:
    @pytest.mark.parametrize("status", ["False", "Unknown"])
    @pytest.mark.parametrize("taint", [OUT_OF_SERVICE, SHUTDOWN])
    def test_a_taint_counts_while_the_kubelet_does_not_report(self, taint: str, status: str) -> None:
        assert why_stopped(node(status, taint=taint), None) == f"node n has the taint {taint}"
        assert why_stopped(node("True", taint=taint), None) is None

    def test_other_taints_say_nothing(self) -> None:
        assert why_stopped(node("Unknown", taint="node.kubernetes.io/unreachable"), account()) is None

    def test_a_fence_counts_for_one_boot(self) -> None:
        fenced = account(fenced="b-1")
        assert why_stopped(node("Unknown"), fenced) == "node n was fenced by an administrator"
        assert why_stopped(node("Unknown", boot="b-2"), fenced) is None
        assert why_stopped(node("True"), fenced) is None

    def test_a_node_without_a_boot_id_cannot_be_fenced(self) -> None:
        nameless = node("Unknown")
        nameless.status.nodeInfo.bootID = None
        assert why_stopped(nameless, account()) is None


@pytest.mark.parametrize(
    ("sandboxes", "uses"),
    [
        ([], False),
        ([sandbox("10.6.0.2", "fd00::1")], False),
        ([sandbox("10.6.0.2"), sandbox("10.6.0.1")], True),  # whichever pod it is
        ([sandbox("10.6.0.2", uid="u-1")], True),  # an ADD: its address comes later
        ([sandbox(uid="u-1")], True),
        ([unread("u-1")], True),
        ([unread("u-8", pod="web")], True),  # the pod before, of the same name
        ([sandbox("10.6.0.2", uid="u-8", pod="web")], False),
        ([unread()], False),
    ],
)
def test_which_sandbox_may_have_an_address(sandboxes: list[NodeSandbox], uses: bool) -> None:
    found = sandbox_using(NodeAccount(sandboxes=sandboxes), record())
    assert (found is not None) is uses
    expected = AddressUse.IN_USE if uses else AddressUse.FREE
    assert use_of(record(), evidence(account=account(*sandboxes)), SENT)[0] is expected


@pytest.mark.parametrize(
    ("one", "uses"), [(sandbox(uid="u-7"), True), (unread(pod="launcher"), True), (unread(), False), (sandbox(), False)]
)
def test_the_pods_from_which_a_machine_was_to_move_may_have_its_address(one: NodeSandbox, uses: bool) -> None:
    moved = record(movedFrom=[FormerPod("m", "launcher", "u-7", "1")])
    assert (sandbox_using(NodeAccount(sandboxes=[one]), moved) is one) is uses


def test_addresses_are_compared_as_numbers() -> None:
    spelt = NodeAccount(sandboxes=[sandbox("none"), sandbox("FD00:0:0::1")])
    assert sandbox_using(spelt, record("fd00::1")) is spelt.sandboxes[1]  # type: ignore[index]
    assert sandbox_using(NodeAccount(sandboxes=[sandbox("fd00::1")]), record("fd00:0:0::0001")), "written by hand"
    mapped = NodeAccount(sandboxes=[sandbox("::ffff:a00:1")])
    assert sandbox_using(mapped, record("::ffff:10.0.0.1")), "Python and the C library write such addresses differently"


def test_a_record_that_names_no_node_is_never_proven_unused() -> None:
    use = use_of(record(), evidence(name="", node=None), SENT)
    assert use == (AddressUse.UNKNOWN, "SpiderIP 10.6.0.1 names no node")


@pytest.mark.parametrize(
    ("found", "fenced", "wrong"),
    [
        (node(), "b-1", True),
        (node("Unknown"), "b-1", False),
        (node(boot="b-2"), "b-1", False),
        (node(), None, False),
        (None, "b-1", False),
    ],
)
def test_a_fence_is_wrong_once_its_boot_reports(found: Node | None, fenced: str | None, wrong: bool) -> None:
    assert is_disproved(found, account(fenced=fenced)) is wrong


class TestAnswers:
    @pytest.mark.parametrize(
        ("changes", "use"),
        [
            ({}, AddressUse.FREE),
            ({"request": None}, AddressUse.UNKNOWN),
            ({"request": AccountRequest(9.9, "sn-1", 3)}, AddressUse.UNKNOWN),  # before anything was suspected
            ({"account": account(seen=2)}, AddressUse.UNKNOWN),
            ({"account": account(seen=4, generation=5)}, AddressUse.FREE),  # somebody asks again
            ({"account": account(seen=999)}, AddressUse.UNKNOWN),  # edited: nobody has asked so often
            ({"account": None}, AddressUse.UNKNOWN),
            ({"request": AccountRequest(SENT, "sn-0", 3)}, AddressUse.UNKNOWN),  # made anew since
            ({"account": SpiderNode(metadata=ObjectMeta(name="n", uid="sn-1", generation=3))}, AddressUse.UNKNOWN),
            ({"node": node("Unknown")}, AddressUse.FREE),  # its agent reports although its kubelet does not
            ({"node": None, "account": None, "request": None}, AddressUse.FREE),
            ({"node": node("Unknown", taint=SHUTDOWN), "account": account(seen=2)}, AddressUse.UNKNOWN),
        ],
    )
    def test_only_an_answer_counts(self, changes: dict[str, Any], use: AddressUse) -> None:
        assert use_of(record(), evidence(**changes), SENT)[0] is use

    @pytest.mark.parametrize(
        ("changes", "seconds", "silent"),
        [
            ({"account": account(seen=2)}, 30.0, True),
            ({"account": account(seen=2)}, 29.9, False),
            ({}, 9e9, False),
            ({"request": None}, 9e9, False),
            ({"request": AccountRequest(SENT, "sn-0", 3)}, 9e9, False),  # made anew since: not asked yet
            ({"account": None}, 0.0, True),
        ],
    )
    def test_a_node_is_silent_that_had_time_to_answer_or_cannot_be_asked(
        self, changes: dict[str, Any], seconds: float, silent: bool
    ) -> None:
        said = evidence(**changes)
        assert said.is_silent(0.0, SENT + seconds, answer_time=30.0) is silent
        assert said.is_silent(SENT + 1.0, SENT + 1.0 + seconds, answer_time=30.0) is silent

    def test_what_runs_is_named(self) -> None:
        _, reason = use_of(record(), evidence(account=account(sandbox("10.6.0.1"))), SENT)
        assert reason == f"sandbox {'c' * 13} of pod ns/other on node n still runs"


class TestDuplicates:
    KEPT = record("10.6.0.2")

    @pytest.mark.parametrize(
        ("sandboxes", "use"),
        [
            ([sandbox("10.6.0.2", uid="u-1")], AddressUse.FREE),
            ([sandbox("10.6.0.2", uid="u-1"), sandbox("10.6.0.1")], AddressUse.IN_USE),
            ([sandbox("10.6.0.2", "10.6.0.1", uid="u-1")], AddressUse.IN_USE),
            ([sandbox("10.6.0.1", uid="u-1")], AddressUse.UNKNOWN),
            ([sandbox("10.6.0.2", uid="u-1"), sandbox(uid="u-1")], AddressUse.UNKNOWN),  # the second is being attached
            ([sandbox("10.6.0.2", uid="u-1"), unread("u-1")], AddressUse.UNKNOWN),
            ([sandbox("10.6.0.2", uid="u-1", interface="net1")], AddressUse.UNKNOWN),
            ([sandbox("10.6.0.2")], AddressUse.UNKNOWN),
            ([], AddressUse.UNKNOWN),
        ],
    )
    def test_the_account_must_name_the_one_that_is_used(self, sandboxes: list[NodeSandbox], use: AddressUse) -> None:
        found = evidence(account=account(*sandboxes))
        assert use_of_duplicate(record(), self.KEPT, found, SENT)[0] is use

    def test_no_statement_about_the_node_replaces_it(self) -> None:
        stopped = evidence(node=node("Unknown", taint=SHUTDOWN), account=account(seen=2))
        assert use_of_duplicate(record(), self.KEPT, stopped, SENT)[0] is AddressUse.UNKNOWN

    def test_what_all_sandboxes_of_a_pod_have_in_common(self) -> None:
        both = NodeAccount(sandboxes=[sandbox("10.6.0.1", "10.6.0.2", uid="u-1"), sandbox("10.6.0.2", uid="u-1")])
        assert addresses_used_by(both, "u-1", "eth0") == frozenset({"10.6.0.2"})
