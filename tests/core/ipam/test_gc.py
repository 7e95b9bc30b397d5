"""When an address may be taken from a pod: one reading of the cluster after another."""

from __future__ import annotations

from collections import defaultdict
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
)
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
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
    used_addresses,
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
    pools: tuple[SpiderIPPool, ...] = (),
    now: float = 0.0,
    policy: GCPolicy = DEFAULT,
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
        {each.name: each for each in pools},
        reporters,
        now,
        policy,
    )


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
    candidates = find_candidates([record()], snapshot(*([now] if now else [])), {}, 0)
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
            (True, GCPolicy(), None),
            (True, GCPolicy(on_ready_node=True), 630),
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
        ("reported", "superfluous"),
        [
            (("10.6.0.1",), ["10.6.0.2"]),
            (("10.6.0.2",), ["10.6.0.1"]),
            (("10.6.0.1", "10.6.0.2"), []),
            (("10.9.9.9",), []),
            ((), []),
        ],
    )
    def test_only_the_record_that_the_pod_reports_makes_others_superfluous(
        self, reported: tuple[str, ...], superfluous: list[str]
    ) -> None:
        for records in ([self.ONE, self.TWO, self.SIX], [self.TWO, self.ONE, self.SIX]):
            assert list(causes(records, snapshot(pod(ips=reported)))) == superfluous

    @pytest.mark.parametrize(
        ("status", "superfluous"),
        [
            ('[{"interface": "eth0", "ips": ["10.9.9.9"]}, {"interface": "net1", "ips": ["10.6.0.2"]}]', ["10.6.0.1"]),
            ('[{"interface": "net1"}]', []),
            ('[{"ips": ["10.6.0.2", "none"]}]', []),
            ("[", []),
            ('[{"other": ' + "[" * 100_000, []),
        ],
    )
    def test_of_further_interfaces_the_annotation_tells_what_is_used(self, status: str, superfluous: list[str]) -> None:
        records = [record(interface="net1"), record("10.6.0.2", own_uid="r-2", interface="net1")]
        reporting = pod(ips=("10.9.9.9",), annotations={"k8s.v1.cni.cncf.io/network-status": status})
        assert list(causes(records, snapshot(reporting))) == superfluous
        finished = pod(phase="Failed", annotations={"k8s.v1.cni.cncf.io/network-status": status})
        assert used_addresses(finished) == frozenset()

    def test_records_of_other_interfaces_and_released_ones_are_no_duplicates(self) -> None:
        other = record("10.6.0.2", own_uid="r-2", interface="net1")
        cooling = record("10.6.0.3", own_uid="r-3", releasedAt="2999-01-01T00:00:00Z")
        pools = (SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=9)),)
        assert causes([self.ONE, other, cooling], snapshot(pod(ips=("10.6.0.1",)), pools=pools)) == {}

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
    left = held - set(causes(records, snapshot(pod(ips=(f"10.6.0.{reported}",)))))
    assert left == ({f"10.6.0.{reported}"} if f"10.6.0.{reported}" in held else held)


def test_records_are_grouped_by_their_pod() -> None:
    held = record()
    assert pods_of(held) == (f"{held.spec.namespace}/{held.spec.pod}",)
