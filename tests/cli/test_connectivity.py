"""`spiderpoolctl connectivity test`: which questions it puts, what answers mean, and what it says before it begins."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

from spiderpool.cli.connectivity import objects
from spiderpool.cli.connectivity.answer import ConnectivityReport, junit
from spiderpool.cli.connectivity.command import socket_address
from spiderpool.cli.connectivity.judgement import ConnectivityRow, ProbeLine, judge, read_lines, verdict
from spiderpool.cli.connectivity.matrix import (
    TITLES,
    AskedServices,
    ProbeInterface,
    ProbePod,
    Question,
    SocketAddress,
    Topic,
    performance_pairs,
    questions,
)
from spiderpool.cli.connectivity.objects import ProbeFrame, ProbeSite
from spiderpool.cli.connectivity.prober import LARGE_LOST
from spiderpool.cli.connectivity.run import is_expired
from spiderpool.cli.main import cli
from spiderpool.cli.printing import View, printed

pytestmark = pytest.mark.unit

SERVICES = AskedServices(8080, 30080, ("10.96.0.1", "fd00:96::1"), "probe.test.svc")


def pod(name: str, node: str, *addresses: str, network: str = "one") -> ProbePod:
    return ProbePod(name, node, network, (ProbeInterface("eth0", addresses),))


def host(node: str, *addresses: str) -> ProbePod:
    return ProbePod(f"host-{node}", node, "", (ProbeInterface("", addresses),))


A1, A2 = pod("a1", "a", "10.0.0.1", "fd00::1"), pod("a2", "a", "10.0.0.2", "fd00::2")
B1 = pod("b1", "b", "10.0.0.11", "fd00::11")
HOST_A, HOST_B = host("a", "192.0.2.1"), host("b", "192.0.2.2")
PODS = [A1, A2, B1, HOST_A, HOST_B]


def of(topic: Topic, asked: list[Question]) -> set[tuple[str, str, str]]:
    return {(each.pod, each.kind, each.address) for each in asked if each.topic is topic}


def test_pods_of_one_node_and_of_another_are_asked_in_both_families() -> None:
    asked = questions(PODS, SERVICES)
    assert of(Topic.SAME_NODE, asked) == {
        *((source, kind, f"{prefix}{to}") for source, to in (("a1", 2), ("a2", 1)) for kind in ("tcp", "udp")
          for prefix in ("10.0.0.", "fd00::")),
    }  # fmt: skip
    other = of(Topic.OTHER_NODE, asked)
    assert {each for each in other if each[0] == "b1" and each[1] == "udp"} == {
        ("b1", "udp", address) for address in (*A1.addresses, *A2.addresses)
    }
    (first, *_) = (each for each in asked if each.topic is Topic.OTHER_NODE)
    assert (first.answered_by, first.seen_as) == (frozenset({"b1"}), frozenset(A1.addresses))


def test_nodes_are_asked_by_pods_and_ask_pods_in_the_families_that_both_have() -> None:
    asked = questions(PODS, SERVICES)
    assert of(Topic.TO_NODE, asked) == {
        (each, "tcp", address) for each in ("a1", "a2", "b1") for address in ("192.0.2.1", "192.0.2.2")
    }
    assert of(Topic.FROM_NODE, asked) == {
        (each, "tcp", f"10.0.0.{number}") for each in ("host-a", "host-b") for number in (1, 2, 11)
    }
    assert not any(each.seen_as for each in asked if each.topic is Topic.FROM_NODE)


def test_services_are_asked_by_cluster_ip_node_port_and_name() -> None:
    asked = questions(PODS, SERVICES)
    assert of(Topic.CLUSTER_IP, asked) >= {("a1", "udp", "fd00:96::1"), ("host-b", "tcp", "10.96.0.1")}
    assert ("host-b", "tcp", "fd00:96::1") not in of(Topic.CLUSTER_IP, asked)
    assert of(Topic.NODE_PORT, asked) >= {("a1", "tcp", "192.0.2.1"), ("a1", "tcp", "192.0.2.2")}
    assert {each.port for each in asked if each.topic is Topic.NODE_PORT} == {30080}
    names = [each for each in asked if each.topic is Topic.DNS and each.pod == "a1"]
    assert [(each.family, *each.answered_by) for each in names] == [(4, "10.96.0.1"), (6, "fd00:96::1")]


def test_what_is_named_outside_is_asked_and_what_is_left_out_is_not() -> None:
    outside = replace(
        SERVICES, egress=(SocketAddress("203.0.113.9", 443),), balancers=(SocketAddress("fd00:b::1", 80),)
    )
    asked = questions([A1, HOST_A], outside, [Topic.CLUSTER_IP, Topic.DNS])
    assert of(Topic.EGRESS, asked) == {("a1", "connect", "203.0.113.9"), ("host-a", "connect", "203.0.113.9")}
    assert of(Topic.LOAD_BALANCER, asked) == {("a1", "connect", "fd00:b::1")}
    assert not of(Topic.CLUSTER_IP, asked) | of(Topic.DNS, asked)


def test_pods_with_two_networks_are_seen_by_the_address_that_they_bind_to() -> None:
    two = [
        ProbePod(f"{name}2", name, "one+two", (ProbeInterface("eth0", (first,)), ProbeInterface("net1", (second,))))
        for name, first, second in (("a", "10.0.0.5", "10.1.0.5"), ("b", "10.0.0.6", "10.1.0.6"))
    ]
    asked = questions(two, SERVICES)
    bound = {(each.bind, each.address): each.seen_as for each in asked if each.bind}
    assert bound == {
        ("10.0.0.5", "10.0.0.6"): {"10.0.0.5"},
        ("10.1.0.5", "10.1.0.6"): {"10.1.0.5"},
        ("10.0.0.6", "10.0.0.5"): {"10.0.0.6"},
        ("10.1.0.6", "10.1.0.5"): {"10.1.0.6"},
    }
    assert {each.topic for each in asked if each.target.startswith("one+two")} == {Topic.SECOND_NETWORK}


def test_in_a_large_cluster_each_node_is_asked_by_a_few_others() -> None:
    many = [pod(f"p{number:03}", f"n{number:03}", f"10.0.1.{number}") for number in range(100)]
    asked = [each for each in questions(many, SERVICES) if each.kind == "udp" and each.topic is Topic.OTHER_NODE]
    assert len(asked) == 600
    assert {sum(each.address == f"10.0.1.{number}" for each in asked) for number in range(100)} == {6}


def test_pairs_are_measured_once_in_each_family() -> None:
    pairs = performance_pairs(PODS, SERVICES)
    found = [(each.pod, each.address) for each in pairs]
    assert found == [
        ("a1", "10.0.0.2"),
        ("a1", "fd00::2"),
        ("a1", "10.0.0.11"),
        ("a1", "fd00::11"),
        ("b1", "10.0.0.1"),
        ("b1", "fd00::1"),
    ]


# --- judgement


(ASKED,) = [each for each in questions([A1, B1], SERVICES) if (each.pod, each.kind, each.family) == ("a1", "udp", 4)][
    :1
]
RIGHT = ProbeLine(round=1, id=0, ok=True, ms=0.4, by="b1", seen="10.0.0.1")


def judged(line: ProbeLine | None, question: Question = ASKED, silent: str = "") -> ConnectivityRow:
    (row,) = judge([question], {0: line} if line else {}, {question.pod: silent} if silent else {})
    return row


def test_a_right_answer() -> None:
    row = judged(RIGHT)
    assert (row.ok, row.milliseconds, row.answer, row.remedy) == (True, 0.4, "", "")


@pytest.mark.parametrize(
    ("line", "answer", "remedy"),
    [
        (
            ProbeLine(error="no answer"),
            "no answer",
            "`spiderpoolctl doctor --node a` and `spiderpoolctl doctor --node b`",
        ),
        (ProbeLine(ok=True, by="b9", seen="10.0.0.1"), "answered by b9", "security groups"),
        (ProbeLine(ok=True, by="b1", seen="9.9.9.9"), "seen as 9.9.9.9 instead of 10.0.0.1 or fd00::1", "translates"),
        (ProbeLine(error=LARGE_LOST), LARGE_LOST, "MTU"),
    ],
)
def test_a_wrong_answer_says_what_to_look_at(line: ProbeLine, answer: str, remedy: str) -> None:
    row = judged(line)
    assert (row.ok, row.answer) == (False, answer)
    assert remedy in row.remedy


def test_each_topic_has_a_remedy() -> None:
    for topic in Topic:
        assert judged(ProbeLine(error="no answer"), replace(ASKED, topic=topic)).remedy


def test_a_pod_that_does_not_run_is_the_failure_of_its_questions() -> None:
    assert judged(None, silent="AddressRefused: no IPv4 address").answer == "AddressRefused: no IPv4 address"
    assert judged(None).answer == "pod a1 did not answer in time"


def test_lines_of_others_in_a_log_are_left_out() -> None:
    log = 'Traceback:\n{"round": 1, "id": 3, "ok": true, "by": "x"}\n{"round": 1, "done": true}\n{"round": 2, "i'
    assert [(each.round, each.id, each.done) for each in read_lines(log)] == [(1, 3, False), (1, -1, True)]


def row(source: str, family: int = 4, *, ok: bool = True) -> ConnectivityRow:
    return ConnectivityRow(
        topic=Topic.TO_NODE,
        source=source,
        target="node b 192.0.2.2",
        question=f"pod to node, IPv{family}",
        kind="tcp",
        ok=ok,
        milliseconds=0.5 if ok else None,
        answer="" if ok else "no answer",
        family=family,
    )


def addresses(source: str, pod: str, failure: str = "") -> ConnectivityRow:
    """Whether a pod gets its addresses, which is no question of one family."""
    remedy = f"`spiderpoolctl explain pod test/{pod}`" if failure else ""
    title = TITLES[Topic.ADDRESS]
    return ConnectivityRow(Topic.ADDRESS, source, pod, title, "start", not failure, None, failure or "ok", remedy)


def test_the_verdict_names_what_all_failures_have_in_common() -> None:
    assert verdict([row("a"), row("b")]) == "All 2 questions were answered as they should be"
    assert verdict([row("a"), row("b", ok=False)]) == "1 of 2 questions failed: all of them from b"
    failures = [row("a", 6, ok=False), row("b", 6, ok=False)]
    assert verdict([row("a"), row("b"), *failures]) == "2 of 4 questions failed: all of them by IPv6"
    assert verdict([row("a"), row("b", 6), row("b", ok=False), row("a", 6, ok=False)]) == "2 of 4 questions failed"


def test_pods_that_do_not_start_are_named_in_verdict_table_and_junit() -> None:
    failed = [addresses(f"one on {node}", f"pod-{node}", "AddressRefused: no IPv4 address") for node in "ab"]
    report = ConnectivityReport((row("c"), *failed), ("a", "b", "c"))
    lines = printed(report, "table", View()).splitlines()
    assert lines[0] == "2 of 3 questions failed: all of them about pod gets its addresses"
    assert lines[-3:] == [
        "! pod gets its addresses: look at `spiderpoolctl explain pod test/pod-a`",
        "",
        "! pod gets its addresses: look at `spiderpoolctl explain pod test/pod-b`",
    ]
    (suite,) = ElementTree.fromstring(junit(report))
    assert [each.get("classname") for each in suite] == ["pod-to-node.IPv4", "address", "address"]


def test_addresses_have_no_family_in_common_with_what_else_failed() -> None:
    failed = addresses("one on a", "pod-a", "AddressRefused: no IPv4 address")
    assert verdict([addresses("one on c", "pod-c"), failed, replace(failed, source="one on b")]) == (
        "2 of 3 questions failed"
    )
    assert verdict([row("c"), failed, row("b", 6, ok=False)]) == "2 of 3 questions failed"


def test_the_table_has_each_failure_and_sums_up_what_passed() -> None:
    failed = replace(row("b", ok=False), remedy="`spiderpoolctl doctor --node b`")
    report = ConnectivityReport((row("a"), replace(row("c"), milliseconds=2.25), failed), ("a", "b"))
    assert report.failed
    assert printed(report, "table", View()).splitlines() == [
        "1 of 3 questions failed: all of them from b",
        "",
        "SOURCE  TARGET            QUESTION                 ANSWER",
        "b       node b 192.0.2.2  pod to node, IPv4 (tcp)  no answer",
        "2       node b 192.0.2.2  pod to node, IPv4        2 ok, 0.5 to 2.25 ms",
        "",
        "! pod to node: look at `spiderpoolctl doctor --node b`",
    ]
    wide = printed(report, "wide", View(wide=True)).splitlines()
    assert "c       node b 192.0.2.2  pod to node, IPv4 (tcp)  ok, 2.25 ms" in wide
    document = json.loads(printed(report, "json", View()))
    assert (document["failed"], document["rows"][2]["answer"]) == (True, "no answer")


def test_junit_has_a_case_for_each_question() -> None:
    failed = replace(row("b", ok=False), remedy="the node", answer="no\x1banswer & more")
    suites = ElementTree.fromstring(junit(ConnectivityReport((row("a"), failed), ("a",), problems=("left out",))))
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    passed, failing = suite.findall("testcase")
    assert (passed.get("classname"), passed.get("time"), len(passed)) == ("pod-to-node.IPv4", "0.0005", 0)
    (failure,) = failing
    assert (failure.get("message"), failure.text) == ("no\\x1banswer & more", "look at the node")
    assert suite.findtext("system-err") == "left out"


# --- objects


FRAME = ProbeFrame("spiderpool-connectivity-0a1b2c", "image", 8080, "0a1b", 300)


def test_pods_are_restricted_and_end_by_themselves() -> None:
    made = objects.pod(FRAME, ProbeSite("pod-1", "n1", "one+kube-system/two")).spec
    (container,) = made["containers"]
    assert made["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (made["activeDeadlineSeconds"], made["automountServiceAccountToken"], made["hostNetwork"]) == (
        300,
        False,
        False,
    )
    annotations = objects.pod(FRAME, ProbeSite("pod-1", "n1", "one+kube-system/two")).metadata.annotations
    assert annotations == {
        "v1.multus-cni.io/default-network": "one",
        "k8s.v1.cni.cncf.io/networks": "kube-system/two",
    }


def test_a_pod_that_stands_for_its_node_listens_on_its_addresses_alone() -> None:
    made = objects.pod(FRAME, ProbeSite("host-1", "n1", ""), ["192.0.2.1"])
    assert made.spec["hostNetwork"] is True
    assert made.spec["containers"][0]["args"][-1] == "192.0.2.1"
    assert made.metadata.labels == {}  # no endpoint of the Service


def test_the_program_imports_nothing_but_the_standard_library() -> None:
    text = (objects.program(FRAME).data or {})["prober.py"]
    imports = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Import | ast.ImportFrom)]
    names = {name for each in imports for name in _imported(each)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def _imported(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that a statement imports; one that is named relative to its package begins with a dot."""
    if isinstance(statement, ast.Import):
        return [each.name for each in statement.names]
    return ["." * statement.level + (statement.module or "")]


def test_a_namespace_is_removed_by_others_once_its_time_is_over() -> None:
    """By the API server's clock, whatever that of the one who made it says."""
    made = objects.namespace_object(FRAME, is_privileged=True)
    made.metadata.creationTimestamp = "2026-11-30T00:00:00Z"
    assert not is_expired(made, "2026-11-30T00:04:59Z")
    assert is_expired(made, "2026-11-30T00:05:00Z")
    assert not is_expired(made, None)


def test_a_namespace_without_pods_on_the_host_network_is_not_privileged() -> None:
    labels = [objects.namespace_object(FRAME, is_privileged=each).metadata.labels or {} for each in (True, False)]
    assert ["pod-security.kubernetes.io/enforce" in each for each in labels] == [True, False]


@pytest.mark.parametrize("text", ["203.0.113.10", "name:80", "[2001:db8::1]", "10.0.0.1:0", "10.0.0.1:65536"])
def test_what_is_no_address_with_a_port(text: str) -> None:
    with pytest.raises(click.UsageError, match="no address with a port"):
        socket_address(text)


def test_addresses_with_ports() -> None:
    assert socket_address("203.0.113.10:443") == SocketAddress("203.0.113.10", 443)
    assert socket_address("[2001:db8::10]:53") == SocketAddress("2001:db8::10", 53)
    result = CliRunner().invoke(cli, ["connectivity", "test", "--egress", "example.com"])
    assert result.exit_code == 2
