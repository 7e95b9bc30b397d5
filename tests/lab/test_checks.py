"""The checks of the walkthrough as values, and the verdict on single answers."""

from __future__ import annotations

import json
from collections import Counter
from ipaddress import ip_address

import pytest

from spiderpool_lab import walkthrough
from spiderpool_lab.checks import Check, Expectation, fault
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
ENVIRONMENT = Environment(WALKTHROUGH, (ONE, TWO), {"inside": CLUSTER_IP, "local": LOCAL})


def targets(checks: list[Check], kind: str) -> set[str]:
    return {check.probe.target for check in checks if check.probe.kind == kind}


def test_source_and_target_of_every_check_are_of_one_family() -> None:
    checks = [*walkthrough.east_west(ENVIRONMENT), *walkthrough.north_south(ENVIRONMENT)]
    for check in checks:
        version = ip_address(check.probe.target).version
        assert check.topic.endswith(f"IPv{version}")
        assert check.probe.bind is None or ip_address(check.probe.bind).version == version
    topics = Counter(check.topic.rpartition(",")[0] for check in checks)
    assert all(count % 2 == 0 for count in topics.values()), topics  # IPv4 and IPv6 alike


def test_pods_send_to_every_interface_of_others_by_every_protocol() -> None:
    checks = [check for check in walkthrough.pod_to_pod(ENVIRONMENT) if check.probe.source == ONE.key]
    for kind in ("ping", "http", "udp"):
        assert targets(checks, kind) == TWO.addresses
    assert {check.expected.seen_as for check in checks if check.probe.kind != "ping"} == {ONE.addresses}


def test_a_cluster_ip_is_answered_by_all_endpoints_and_node_port_local_by_those_of_the_node() -> None:
    inside = list(walkthrough.to_cluster_ip(ENVIRONMENT))
    assert {check.expected.answered_by for check in inside} == {frozenset({ONE.key, TWO.key})}
    local = [
        check for check in walkthrough.from_internet(ENVIRONMENT) if check.probe.target in MASTER.enis[0].own_addresses
    ]
    assert {check.expected.answered_by for check in local} == {frozenset({ONE.key})}
    assert {check.expected.seen_as for check in local} == {frozenset(WALKTHROUGH.internet.client)}


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
    checks = [
        check
        for check in walkthrough.to_internet(ENVIRONMENT)
        if check.probe.source == pod.key
        and check.probe.bind is None
        and check.probe.kind == "http"
        and ip_address(check.probe.target).version == version
    ]
    assert {check.expected.seen_as for check in checks} == {frozenset({seen_as})}


def test_nodes_are_seen_by_their_elastic_addresses() -> None:
    checks = [check for check in walkthrough.to_internet(ENVIRONMENT) if check.text.startswith("http master →")]
    assert checks[0].expected.seen_as == {"198.51.100.183"}


ANSWER = Answer(
    ok=True, status=200, body=json.dumps({"pod": "default/one", "node": "master", "client": "203.0.113.77"})
)
FORWARDED = Answer(ok=True, status=200, body=json.dumps({"pod": "default/one", "forwardedFor": "203.0.113.77"}))
UNKNOWN = Answer(ok=True, body="?")
SILENCE = Answer(ok=False, error="no answer within 1 s")


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        (Expectation(), ANSWER, ""),
        (Expectation(), SILENCE, "no answer within 1 s"),
        (Expectation(answered=False), SILENCE, ""),
        (Expectation(answered=False), ANSWER, "there was an answer"),
        (Expectation(answered_by=frozenset({"default/one"})), ANSWER, ""),
        (Expectation(answered_by=frozenset({"default/two"})), ANSWER, "answered by default/one"),
        (
            Expectation(answered_by=frozenset({"default/two"})),
            Answer(ok=True, body="?"),
            "answered by somebody unknown",
        ),
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
def test_the_verdict_on_an_answer(expected: Expectation, answer: Answer, verdict: str) -> None:
    assert fault(expected, answer) == verdict
