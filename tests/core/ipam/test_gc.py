"""When an address may be taken from a pod: one reading of the cluster after another."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    Node,
    NodeCondition,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Taint,
)
from spiderpool.api.ip import FormerPod, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.core.ipam.evidence import OUT_OF_SERVICE, AccountRequest, AddressUse, NodeEvidence
from spiderpool.core.ipam.gc import (
    MIRROR_POD_ANNOTATION,
    STATIC_POD_ANNOTATION,
    GCPolicy,
    ReleaseCandidate,
    ReleaseCause,
    Snapshot,
    find_candidates,
    is_alive,
    is_finished,
    is_stable,
    past_grace,
    pods_of,
    reported_addresses,
    silent_nodes,
    use_by_candidate,
)

pytestmark = pytest.mark.unit

DELETED, LATER = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
DELETED_AT = datetime.fromisoformat(DELETED).timestamp()
DEFAULT = GCPolicy()


def pod(
    name: str = "web",
    *,
    phase: str = "Running",
    ips: tuple[str, ...] = (),
    **metadata: Any,
) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", **{"uid": "u-1", **metadata}),
        spec=PodSpec(nodeName="n"),
        status=PodStatus(phase, [PodIP(ip) for ip in ips]),
    )


def containers(pod: Pod, *states: str) -> Pod:
    """The pod with containers in these states, each of another kind of container."""
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    for kind, state in zip(kinds, states, strict=False):
        setattr(
            pod.status, kind, [ContainerStatus(ContainerState(ContainerStateRunning() if state == "running" else None))]
        )
    return pod


def record(
    address: str = "10.6.0.1",
    *,
    own_uid: str = "r-1",
    made: str | None = None,
    version: str | None = None,
    **spec: Any,
) -> SpiderIP:
    """A record of interface eth0 of pod ns/web with UID u-1, unless ``spec`` differs."""
    fields = {"podUID": "u-1", "interface": "eth0", **spec}
    return SpiderIP(
        metadata=ObjectMeta(name=address, uid=own_uid, creationTimestamp=made, resourceVersion=version),
        spec=IPSpec(f"{address}/24", "p", "n", "ns", "web", **fields),
    )


@pytest.mark.parametrize(
    ("candidate", "alive", "finished"),
    [
        (pod(), True, False),
        (pod(phase="Pending"), True, False),
        (pod(deletionTimestamp=DELETED), False, False),
        (pod(phase="Unknown"), True, False),
        (pod(phase="Succeeded"), False, True),
        (pod(phase="Failed"), False, True),
        (pod(phase="Failed", deletionTimestamp=DELETED), False, True),
        (containers(pod(phase="Failed"), "running"), True, False),
        (containers(pod(phase="Failed", deletionTimestamp=DELETED), "terminated", "running"), False, False),
        (containers(pod(phase="Succeeded"), "terminated", "waiting"), False, True),
        (containers(pod(phase="Running"), "terminated"), True, False),
    ],
)
def test_alive_and_finished(candidate: Pod, alive: bool, finished: bool) -> None:
    assert is_alive(candidate) is alive
    assert is_finished(candidate) is finished


def snapshot(
    *pods: Pod,
    nodes: tuple[Node, ...] = (),
    accounts: tuple[SpiderNode, ...] = (),
    pools: tuple[SpiderIPPool, ...] = (),
    **values: Any,
) -> Snapshot:
    """A reading; it holds the node that all pods run on, unless ``nodes`` names others."""
    reporters: dict[str, set[str]] = defaultdict(set)
    for each in pods:
        for address in reported_addresses(each):
            reporters[address].add(each.key)
    there = nodes or (node(),)
    return Snapshot(
        {each.key: each for each in pods},
        {each.name: each for each in there},
        {each.name: each for each in accounts},
        {each.name: each for each in pools},
        reporters,
        **{"now": 0.0, **values},
    )


def account(*used: str, uid: str = "u-1", interface: str = "eth0", name: str = "n", seen: int | None = 7) -> SpiderNode:
    """The account of a node, with one sandbox for each address; by default of pod u-1."""
    sandboxes = [NodeSandbox(uid, "ns", "web", "c", [SandboxInterface(interface, None, [ip])]) for ip in used]
    return SpiderNode(metadata=ObjectMeta(name=name, uid="sn"), status=NodeAccount(seen, sandboxes=sandboxes))


def node(name: str = "n", *, ready: bool = True) -> Node:
    condition = NodeCondition("Ready", "True" if ready else "Unknown")
    return Node(metadata=ObjectMeta(name=name), status=NodeStatus([NodeCondition("X", "True"), condition]))


def causes(records: list[SpiderIP], reading: Snapshot) -> dict[str, ReleaseCause]:
    """Name of each candidate → cause."""
    candidates = find_candidates(records, reading, {}, 0).values()
    return {candidate.record.name: candidate.cause for candidate in candidates}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, "does not exist"),
        (pod(), None),
        (pod(deletionTimestamp=LATER), None),
        (pod(phase="Failed", ips=("10.6.0.1",)), "has finished"),
        (pod(uid="u-2"), "another one of the same name"),
        (pod(uid="u-2", ips=("10.6.0.1",)), None),
        (pod(uid="u-2", ips=("10.6.0.9",)), "another one"),
        (pod(uid="u-2", annotations={STATIC_POD_ANNOTATION: "u-1"}), None),
    ],
)
def test_why_no_pod_holds_a_record(now: Pod | None, reason: str | None) -> None:
    policy = GCPolicy(on_ready_node=False)
    candidates = find_candidates([record()], snapshot(*([now] if now else []), policy=policy), {}, 0)
    why = next((candidate.reason for candidate in candidates.values()), None)
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_a_live_pod_that_reports_the_address_keeps_it_whatever_the_record_says() -> None:
    stranger = pod("stranger", uid="u-9", ips=("fd00::1", "10.6.0.1"))
    assert find_candidates([record()], snapshot(stranger), {}, 0) == {}
    finished = pod("stranger", uid="u-9", phase="Succeeded", ips=("10.6.0.1",))
    assert list(find_candidates([record()], snapshot(finished), {}, 0)) == ["r-1"]


class TestNodeGoneAndDeletionOverdue:
    def test_a_pod_without_its_node_loses_its_address_even_when_it_reports_it(self) -> None:
        for held in (pod(), pod(ips=("10.6.0.1",)), pod(deletionTimestamp=DELETED)):
            assert causes([record()], snapshot(held, nodes=(node("other"),))) == {"10.6.0.1": ReleaseCause.NODE_GONE}

    def test_unless_another_pod_reports_it(self) -> None:
        moved = pod("moved", uid="u-9", ips=("10.6.0.1",))
        assert causes([record()], snapshot(pod(), moved, nodes=(node("other"),))) == {}

    @pytest.mark.parametrize(
        ("ready", "policy", "seconds"),
        [
            (True, GCPolicy(on_ready_node=False), None),
            (True, GCPolicy(), 630),
            (False, GCPolicy(), 630),
            (False, GCPolicy(delay=10), 640),
            (False, GCPolicy(on_not_ready_node=False), None),
        ],
    )
    @pytest.mark.parametrize("skew", [-7200, 0, 7200])
    def test_pods_that_should_have_ended_whatever_the_time_of_day(
        self, ready: bool, policy: GCPolicy, seconds: int | None, skew: int
    ) -> None:
        """Six hundred seconds for the pod to end, and thirty of the cause."""
        ending = pod(deletionTimestamp=DELETED, deletionGracePeriodSeconds=600, ips=("10.6.0.1",))
        reading = snapshot(ending, nodes=(node(ready=ready),), now=DELETED_AT + skew, policy=policy)
        candidates = find_candidates([record()], reading, {}, 0.0)
        if seconds is None:
            assert candidates == {}
            return
        for now in (100.0, seconds - 1.0, float(seconds)):
            candidates = find_candidates([record()], reading, candidates, now)
            assert bool(past_grace(candidates, now, graces(30.0))) is (now >= seconds)
        assert causes([record()], reading) == {"10.6.0.1": ReleaseCause.DELETION_OVERDUE}

    def test_the_deletion_of_a_mirror_pod_ends_no_static_pod(self) -> None:
        mirror = pod(deletionTimestamp=DELETED, annotations={MIRROR_POD_ANNOTATION: "u-1"})
        reading = snapshot(mirror, nodes=(node(ready=False),), now=DELETED_AT + 9999)
        assert causes([record()], reading) == {}

    def test_the_node_of_a_pod_that_is_gone_is_that_of_the_record(self) -> None:
        gone, replaced = snapshot(nodes=(node("other"),)), snapshot(pod(uid="u-2"), nodes=(node("other"),))
        for reading in (gone, replaced):
            assert causes([record()], reading) == {"10.6.0.1": ReleaseCause.NODE_GONE}
        assert causes([record()], snapshot()) == {"10.6.0.1": ReleaseCause.POD_GONE}
        unscheduled = pod()
        unscheduled.spec.nodeName = None
        assert causes([record()], snapshot(unscheduled, nodes=(node("other"),))) == {}

    def test_a_sticky_address_waits_for_its_pod_to_go(self) -> None:
        sticky = record(owner=IPOwner("StatefulSet", "ns", "web"))
        reading = snapshot(pod(deletionTimestamp=DELETED), nodes=(node(ready=False),), now=DELETED_AT + 99)
        assert causes([sticky], reading) == {}


class TestDuplicates:
    ONE = record(made="2026-01-01T00:00:01Z")
    TWO = record("10.6.0.2", own_uid="r-2", made="2026-01-01T00:00:02Z")
    SIX = record("fd00::1", own_uid="r-6")

    @pytest.mark.parametrize(
        ("used", "superfluous"),
        [
            (("10.6.0.1",), ["10.6.0.2"]),
            (("10.6.0.2",), ["10.6.0.1"]),
            (("10.6.0.1", "10.6.0.2"), []),  # two sandboxes
            (("10.9.9.9",), []),
            ((), []),
        ],
    )
    def test_only_the_record_that_the_sandbox_uses_makes_others_superfluous(
        self, used: tuple[str, ...], superfluous: list[str]
    ) -> None:
        for records in ([self.ONE, self.TWO, self.SIX], [self.TWO, self.ONE, self.SIX]):
            assert list(causes(records, snapshot(pod(), accounts=(account(*used),)))) == superfluous

    def test_what_the_pod_reports_is_no_word_of_its_sandbox(self) -> None:
        reporting = pod(ips=("10.6.0.1",))
        assert causes([self.ONE, self.TWO], snapshot(reporting)) == {}
        assert causes([self.ONE, self.TWO], snapshot(reporting, accounts=(SpiderNode(),))) == {}
        elsewhere = account("10.6.0.1", uid="u-9")
        assert causes([self.ONE, self.TWO], snapshot(reporting, accounts=(elsewhere,))) == {}
        said = account("10.6.0.2")
        assert causes([self.ONE, self.TWO], snapshot(reporting, accounts=(said,))) == {
            "10.6.0.1": ReleaseCause.DUPLICATE
        }

    def test_it_is_released_when_the_account_says_so_afterwards(self) -> None:
        reading = snapshot(pod(), accounts=(account("10.6.0.1"),))
        (candidate,) = find_candidates([self.ONE, self.TWO], reading, {}, 10.0).values()
        for used, use in ((("10.6.0.1",), AddressUse.FREE), (("10.6.0.2",), AddressUse.UNKNOWN)):
            answer = {"n": NodeEvidence("n", node(), account(*used), AccountRequest(11.0, "sn", 7))}
            assert use_by_candidate(candidate, answer, DEFAULT, 12.0)[0] is use

    def test_records_of_other_interfaces_and_released_ones_are_no_duplicates(self) -> None:
        other = record("10.6.0.2", own_uid="r-2", interface="net1")
        cooling = record("10.6.0.3", own_uid="r-3", releasedAt="2999-01-01T00:00:00Z")
        pools = (SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=9)),)
        said = (account("10.6.0.1"),)
        assert causes([self.ONE, other, cooling], snapshot(pod(), pools=pools, accounts=said)) == {}

    def test_a_live_pod_with_one_record_for_each_interface_and_family_is_stable(self) -> None:
        assert is_stable([self.ONE, self.SIX], pod())
        assert not is_stable([self.ONE, self.TWO], pod())
        assert not is_stable([self.ONE], pod(deletionTimestamp=LATER))
        assert not is_stable([self.ONE], pod(uid="u-2"))
        assert not is_stable([self.ONE], None)
        assert not is_stable([record(releasedAt="x")], pod())


@pytest.mark.parametrize(("seconds", "over"), [(59, True), (61, False), (None, True)])
def test_a_released_address_waits_for_the_end_of_its_cooldown_and_nothing_else(seconds: int | None, over: bool) -> None:
    pools = (SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=seconds)),)
    cooling = record(releasedAt=DELETED)
    reading = snapshot(pod(ips=("10.6.0.1",)), pools=pools, now=DELETED_AT + 60)
    assert causes([cooling], reading) == ({"10.6.0.1": ReleaseCause.COOLDOWN_OVER} if over else {})
    assert causes([cooling], snapshot(now=DELETED_AT + 60)) == {"10.6.0.1": ReleaseCause.COOLDOWN_OVER}


def test_only_a_second_reading_a_grace_period_later_is_past_grace() -> None:
    first = find_candidates([record()], snapshot(), {}, 10.0)
    assert past_grace(first, 10.0, graces(0.0)) == []
    second = find_candidates([record()], snapshot(), first, 14.9)
    assert past_grace(second, 14.9, graces(5.0)) == []
    third = find_candidates([record()], snapshot(), second, 15.0)
    assert [candidate.record.name for candidate in past_grace(third, 15.0, graces(5.0))] == ["10.6.0.1"]


def test_each_cause_has_its_own_grace_which_starts_anew_when_the_cause_changes() -> None:
    first = find_candidates([record()], snapshot(pod(), nodes=(node("other"),)), {}, 0.0)
    waits = graces(5.0) | {ReleaseCause.NODE_GONE: 60.0}
    assert past_grace(first, 59.0, waits) == []
    assert len(past_grace(first, 60.0, waits)) == 1
    other = find_candidates([record()], snapshot(), first, 59.0)
    assert past_grace(other, 60.0, waits) == []
    assert len(past_grace(other, 64.0, waits)) == 1


def test_one_reading_with_a_holder_starts_the_grace_anew() -> None:
    first = find_candidates([record()], snapshot(), {}, 0.0)
    contrary = find_candidates([record()], snapshot(pod()), first, 5.0)
    assert contrary == {}
    assert past_grace(find_candidates([record()], snapshot(), contrary, 10.0), 10.0, graces(5.0)) == []


def test_a_new_record_of_the_same_address_is_a_new_candidate() -> None:
    first = find_candidates([record()], snapshot(), {}, 0.0)
    second = find_candidates([record(own_uid="r-2")], snapshot(), first, 10.0)
    assert past_grace(second, 10.0, graces(5.0)) == []


def test_the_oldest_candidate_comes_first() -> None:
    candidates = {
        uid: ReleaseCandidate(record(own_uid=uid), ReleaseCause.POD_GONE, "", since)
        for uid, since in (("b", 2.0), ("a", 1.0), ("c", 9.0))
    }
    assert [candidate.since for candidate in past_grace(candidates, 10.0, graces(5.0))] == [1.0, 2.0]


def graces(seconds: float) -> dict[ReleaseCause, float]:
    return dict.fromkeys(ReleaseCause, seconds)


class TestEvidence:
    """A candidate is released by what its nodes say, not by the time that has passed."""

    @staticmethod
    def candidate(record_node: str = "n", **spec: Any) -> ReleaseCandidate:
        one = record(**spec)
        one.spec.node = record_node
        (found,) = find_candidates([one], snapshot(nodes=(node(), node("m"))), {}, 10.0).values()
        return found

    @staticmethod
    def of(name: str = "n", *used: str, sent: float = 11.0, seen: int | None = 7) -> dict[str, NodeEvidence]:
        said = account(*used, uid="u-9", name=name, seen=seen)
        return {name: NodeEvidence(name, node(name), said, AccountRequest(sent, "sn", 7))}

    @classmethod
    def made_anew(cls) -> dict[str, NodeEvidence]:
        """The node was asked by a SpiderNode that was deleted since."""
        return {"n": replace(cls.of(seen=6)["n"], request=AccountRequest(11.0, "former", 7))}

    def test_a_candidate_waits_for_the_answer_of_its_node(self) -> None:
        one = self.candidate()
        assert one.nodes == ("n",)
        assert use_by_candidate(one, {}, DEFAULT, 9e9)[0] is AddressUse.FREE  # of a Node that does not exist
        assert use_by_candidate(one, self.of(sent=9.0), DEFAULT, 9e9)[0] is AddressUse.UNKNOWN
        assert use_by_candidate(one, self.of(seen=6), DEFAULT, 9e9)[0] is AddressUse.UNKNOWN
        assert use_by_candidate(one, self.of("n", "10.6.0.1"), DEFAULT, 9e9)[0] is AddressUse.IN_USE
        assert use_by_candidate(one, self.of(), DEFAULT, 12.0) == (AddressUse.FREE, "no sandbox of node n has it")

    def test_a_node_that_is_said_to_be_stopped_is_asked_all_the_same(self) -> None:
        """An agent that answers runs there, whatever somebody says; one that is silent in time does not."""
        one, lost = self.candidate(), node(ready=False)
        lost.spec.taints = [Taint(OUT_OF_SERVICE, effect="NoExecute")]
        for said, now, use in (
            (self.of(sent=9.0), 9e9, AddressUse.UNKNOWN),  # the question is to come
            (self.of(seen=6), 40.9, AddressUse.UNKNOWN),
            (self.of(seen=6), 41.0, AddressUse.FREE),
            (self.of("n", "10.6.0.1"), 9e9, AddressUse.IN_USE),
            (self.made_anew(), 9e9, AddressUse.UNKNOWN),  # whoever made it may answer
            ({"n": NodeEvidence("n")}, 11.0, AddressUse.FREE),
        ):
            evidence = {"n": replace(said["n"], node=lost)}
            assert use_by_candidate(one, evidence, DEFAULT, now)[0] is use
            assert silent_nodes(one, evidence, DEFAULT, now) == []

    def test_a_record_without_a_node_waits_for_ever(self) -> None:
        assert use_by_candidate(self.candidate(""), {}, DEFAULT, 9e9) == (
            AddressUse.UNKNOWN,
            "SpiderIP 10.6.0.1 names no node",
        )

    def test_a_pod_on_another_node_than_its_record_needs_the_word_of_both(self) -> None:
        moved = record()
        moved.spec.node = "m"
        nodes = (node(), node("m"))
        finished = find_candidates([moved], snapshot(pod(phase="Failed"), nodes=nodes), {}, 10.0)["r-1"]
        assert finished.nodes == ("m", "n")
        assert (
            use_by_candidate(finished, self.of("m") | self.of("n", "10.6.0.1"), DEFAULT, 12.0)[0] is AddressUse.IN_USE
        )
        assert use_by_candidate(finished, self.of("m") | self.of(seen=6), DEFAULT, 12.0)[0] is AddressUse.UNKNOWN
        assert use_by_candidate(finished, self.of("m") | self.of(), DEFAULT, 12.0)[0] is AddressUse.FREE
        replaced = find_candidates([moved], snapshot(pod(uid="u-2"), nodes=nodes), {}, 10.0)["r-1"]
        assert replaced.nodes == ("m",)

    def test_a_node_that_is_gone_is_no_word_for_the_other_one(self) -> None:
        moved = record()
        moved.spec.node = "m"
        (one,) = find_candidates([moved], snapshot(pod(), nodes=(node("m"),)), {}, 10.0).values()
        assert (one.cause, one.nodes) == (ReleaseCause.NODE_GONE, ("m", "n"))
        assert use_by_candidate(one, self.of("m", seen=6), DEFAULT, 12.0)[0] is AddressUse.UNKNOWN
        assert use_by_candidate(one, self.of("m"), DEFAULT, 12.0)[0] is AddressUse.FREE

    def test_a_machine_that_was_to_move_needs_the_word_of_both_nodes(self) -> None:
        """Its pod there may run although the record names the other one, also when its interfaces are not known."""
        moved = record(podUID="target", movedFrom=[FormerPod("m", "source", "u-9", "1")])
        (one,) = find_candidates([moved], snapshot(nodes=(node(), node("m"))), {}, 10.0).values()
        assert one.nodes == ("m", "n")
        for said, use in (
            (self.of("m", seen=6), AddressUse.UNKNOWN),
            (self.of("m"), AddressUse.FREE),
            (self.of("m", "10.6.0.9"), AddressUse.IN_USE),  # of the pod, whatever its interfaces show
        ):
            assert use_by_candidate(one, said | self.of(), DEFAULT, 12.0)[0] is use
        moved.spec.movedFrom = [FormerPod("n", "source", "u-7", "1")]
        (one,) = find_candidates([moved], snapshot(nodes=(node(),)), {}, 10.0).values()
        assert one.nodes == ("n",)

    def test_an_address_that_cools_down_needs_no_word(self) -> None:
        (cooling,) = find_candidates([record(releasedAt=DELETED)], snapshot(now=DELETED_AT), {}, 10.0).values()
        assert cooling.nodes == ()
        assert use_by_candidate(cooling, {}, DEFAULT, 12.0) == (AddressUse.FREE, "")

    def test_another_version_of_the_record_starts_the_wait_anew(self) -> None:
        first = find_candidates([record(version="7")], snapshot(), {}, 0.0)
        assert find_candidates([record(version="7")], snapshot(), first, 5.0)["r-1"].since == 0.0
        assert find_candidates([record(version="8")], snapshot(), first, 5.0)["r-1"].since == 5.0

    @pytest.mark.parametrize(
        ("changes", "now", "silent"),
        [
            ({}, 999.0, False),
            ({"seen": 6}, 40.9, False),
            ({"seen": 6}, 41.0, True),
            ({"seen": None}, 41.0, True),
            ({"seen": 6, "sent": 1.0}, 39.9, False),  # the question is older than the candidate
            ({"seen": 6, "sent": 1.0}, 40.0, True),
            ({"sent": 1.0}, 999.0, False),  # answered too early: there will be another question
        ],
    )
    def test_a_node_has_time_to_answer(self, changes: dict[str, Any], now: float, silent: bool) -> None:
        one, said = self.candidate(), self.of(**changes)
        assert silent_nodes(one, said, DEFAULT, now) == (["n"] if silent else [])
        by_time = use_by_candidate(one, said, GCPolicy(by_time=True), now)[0]
        assert (by_time is AddressUse.FREE) is (silent or not changes)

    def test_a_node_that_cannot_be_asked_is_silent(self) -> None:
        one, alone = self.candidate(), {"n": NodeEvidence("n", node())}
        assert silent_nodes(one, alone, DEFAULT, 10.0) == ["n"]
        assert silent_nodes(one, {"n": NodeEvidence("n", node(), account())}, DEFAULT, 999.0) == []
        assert use_by_candidate(one, alone, DEFAULT, 9e9)[0] is AddressUse.UNKNOWN
        use, reason = use_by_candidate(one, alone, GCPolicy(by_time=True), 10.0)
        assert use is AddressUse.FREE
        assert reason.endswith("time counts as evidence")

    def test_time_is_no_evidence_against_a_sandbox_that_is_said_to_run(self) -> None:
        assert use_by_candidate(self.candidate(), self.of("n", "10.6.0.1"), GCPolicy(by_time=True), 9e9)[0] is (
            AddressUse.IN_USE
        )


READINGS = st.lists(st.tuples(st.floats(0.1, 20), st.booleans()), min_size=1, max_size=12)


@given(READINGS, st.floats(0, 30))
def test_nothing_is_past_grace_unless_every_reading_of_a_grace_period_agrees(
    readings: list[tuple[float, bool]], grace: float
) -> None:
    now, alive_at = 0.0, -1.0
    candidates: dict[str, ReleaseCandidate] = {}
    first_gone: float | None = None
    for step, alive in readings:
        now += step
        candidates = find_candidates([record()], snapshot(pod()) if alive else snapshot(), candidates, now)
        if alive:
            alive_at, first_gone = now, None
        elif first_gone is None:
            first_gone = now
        if past_grace(candidates, now, graces(grace)):
            assert first_gone is not None
            assert alive_at < first_gone < now
            assert now - first_gone >= grace


@given(st.sets(st.sampled_from(["10.6.0.1", "10.6.0.2", "10.6.0.3"]), min_size=1), st.sampled_from("123"))
def test_a_live_pod_keeps_the_address_that_it_reports(held: set[str], reported: str) -> None:
    records = [record(address, own_uid=f"r-{address}", made=address) for address in sorted(held)]
    said = (account(f"10.6.0.{reported}"),)
    left = held - set(causes(records, snapshot(pod(ips=(f"10.6.0.{reported}",)), accounts=said)))
    assert left == ({f"10.6.0.{reported}"} if f"10.6.0.{reported}" in held else held)


def test_records_are_grouped_by_their_pod() -> None:
    held = record()
    assert pods_of(held) == (f"{held.spec.namespace}/{held.spec.pod}",)
