"""The table of the walkthrough as data, and the verdict on single answers."""

from __future__ import annotations

import json
from collections import Counter
from ipaddress import ip_address

import pytest

from spiderpool_lab import walkthrough
from spiderpool_lab.checks import Expectation, Question, fault
from spiderpool_lab.facts import PodFact, PodInterface, ServiceFact
from spiderpool_lab.probes import Answer
from spiderpool_lab.topology import WALKTHROUGH
from spiderpool_lab.walkthrough import Environment

pytestmark = pytest.mark.unit

MASTER, WORKER = WALKTHROUGH.nodes
PORTS = frozenset({"TCP/80", "UDP/53"})


def interface(name: str, node: int, eni: int, number: int) -> PodInterface:
    """The interface of that name on a registered address of each family."""
    found = WALKTHROUGH.nodes[node].enis[eni]
    return PodInterface(name, (found.secondaries[number], found.secondaries6[number]), found)


ONE = PodFact("default/one", "app", "master", (interface("eth0", 0, 0, 0),), PORTS, "eth0")
TWO = PodFact("default/two", "app", "worker", (interface("eth0", 1, 0, 0), interface("net1", 1, 1, 0)), PORTS, "net1")
CLUSTER_IP = ServiceFact("inside", "app", ("10.233.0.9", "fd00:10:233::9"), {"TCP": 80, "UDP": 53}, {}, False)
LOCAL = ServiceFact("local", "app", ("10.233.0.8",), {"TCP": 80}, {"TCP": 30080}, True)
WORLD = Environment(WALKTHROUGH, (ONE, TWO), {"inside": CLUSTER_IP, "local": LOCAL})


def targets(questions: list[Question], kind: str) -> set[str]:
    return {question.probe.target for question in questions if question.probe.kind == kind}


def test_every_question_names_a_source_and_a_target_of_one_family() -> None:
    asked = [*walkthrough.east_west(WORLD), *walkthrough.north_south(WORLD)]
    for question in asked:
        version = ip_address(question.probe.target).version
        assert question.topic.endswith(f"IPv{version}")
        assert question.probe.bind is None or ip_address(question.probe.bind).version == version
    topics = Counter(question.topic.rpartition(",")[0] for question in asked)
    assert all(count % 2 == 0 for count in topics.values()), topics  # IPv4 and IPv6 alike


def test_pods_ask_every_interface_of_others_by_every_protocol() -> None:
    asked = [question for question in walkthrough.pod_to_pod(WORLD) if question.probe.source == ONE.key]
    for kind in ("ping", "http", "udp"):
        assert targets(asked, kind) == TWO.addresses
    assert {question.expected.seen_as for question in asked if question.probe.kind != "ping"} == {ONE.addresses}


def test_a_cluster_ip_is_answered_by_all_endpoints_and_node_port_local_by_those_of_the_node() -> None:
    inside = list(walkthrough.to_cluster_ip(WORLD))
    assert {question.expected.by for question in inside} == {frozenset({ONE.key, TWO.key})}
    local = [question for question in walkthrough.from_internet(WORLD) if question.probe.target in MASTER.enis[0].own]
    assert {question.expected.by for question in local} == {frozenset({ONE.key})}
    assert {question.expected.seen_as for question in local} == {frozenset(WALKTHROUGH.internet.client)}


@pytest.mark.parametrize(
    ("pod", "version", "seen_as"),
    [
        (ONE, 4, MASTER.enis[0].vswitch.nat),
        (ONE, 6, ONE.interfaces[0].addresses[1]),
        (TWO, 4, WORKER.enis[1].vswitch.nat),
        (TWO, 6, TWO.interfaces[1].addresses[1]),
    ],
)
def test_the_internet_sees_the_vswitch_of_the_default_route(pod: PodFact, version: int, seen_as: str) -> None:
    asked = [
        question
        for question in walkthrough.to_internet(WORLD)
        if question.probe.source == pod.key
        and question.probe.bind is None
        and question.probe.kind == "http"
        and ip_address(question.probe.target).version == version
    ]
    assert {question.expected.seen_as for question in asked} == {frozenset({seen_as})}


def test_nodes_are_seen_by_their_elastic_addresses() -> None:
    asked = [question for question in walkthrough.to_internet(WORLD) if question.text.startswith("http master →")]
    assert asked[0].expected.seen_as == {"198.51.100.183"}


ANSWER = Answer(
    ok=True, status=200, body=json.dumps({"pod": "default/one", "node": "master", "client": "203.0.113.77"})
)
FORWARDED = Answer(ok=True, status=200, body=json.dumps({"pod": "default/one", "forwardedFor": "203.0.113.77"}))
SILENCE = Answer(ok=False, error="no answer within 1 s")


@pytest.mark.parametrize(
    ("expected", "answer", "said"),
    [
        (Expectation(), ANSWER, ""),
        (Expectation(), SILENCE, "no answer within 1 s"),
        (Expectation(answered=False), SILENCE, ""),
        (Expectation(answered=False), ANSWER, "there was an answer"),
        (Expectation(by=frozenset({"default/one"})), ANSWER, ""),
        (Expectation(by=frozenset({"default/two"})), ANSWER, "answered by default/one"),
        (Expectation(by=frozenset({"default/two"})), Answer(ok=True, body="?"), "answered by somebody unknown"),
        (Expectation(seen_as=frozenset({"203.0.113.77"})), ANSWER, ""),
        (Expectation(seen_as=frozenset({"10.0.0.1"})), ANSWER, "seen as 203.0.113.77 instead of 10.0.0.1"),
        (Expectation(forwarded_for=frozenset({"203.0.113.77"})), FORWARDED, ""),
        (
            Expectation(forwarded_for=frozenset({"203.0.113.77"})),
            ANSWER,
            "forwarded for nobody instead of 203.0.113.77",
        ),
        (Expectation(status=200), ANSWER, ""),
        (Expectation(status=200), Answer(ok=True, status=503), "status 503"),
    ],
)
def test_the_verdict_on_an_answer(expected: Expectation, answer: Answer, said: str) -> None:
    assert fault(expected, answer) == said
