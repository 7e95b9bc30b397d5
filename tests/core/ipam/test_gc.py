"""Which addresses may be released, as a story of observations."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus, Pod, PodIP, PodSpec, PodStatus
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.gc import (
    STATIC_POD_ANNOTATION,
    GCPolicy,
    ReleaseCandidate,
    ReleaseCause,
    Snapshot,
    due,
    is_alive,
    is_at_rest,
    is_finished,
    observe,
    reported_addresses,
)

pytestmark = pytest.mark.unit

DELETED, LATER = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
DELETED_AT = datetime.fromisoformat(DELETED).timestamp()
DEFAULT = GCPolicy()


def pod(
    name: str = "web",
    uid: str = "u-1",
    *,
    phase: str = "Running",
    restart: str = "Always",
    reason: str | None = None,
    ips: tuple[str, ...] = (),
    **metadata: Any,
) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=uid, **metadata),
        spec=PodSpec(nodeName="n", restartPolicy=restart),
        status=PodStatus(phase, reason, [PodIP(ip) for ip in ips]),
    )


def record(
    address: str = "10.6.0.1",
    *,
    own_uid: str = "r-1",
    interface: str = "eth0",
    made: str | None = None,
    version: str | None = None,
    **spec: Any,
) -> SpiderIP:
    return SpiderIP(
        metadata=ObjectMeta(name=address, uid=own_uid, creationTimestamp=made, resourceVersion=version),
        spec=IPSpec(f"{address}/24", "p", "n", "ns", "web", "u-1", interface, **spec),
    )


@pytest.mark.parametrize(
    ("each", "alive", "finished"),
    [
        (pod(), True, False),
        (pod(phase="Pending"), True, False),
        (pod(deletionTimestamp=DELETED), False, False),
        (pod(phase="Succeeded"), True, False),
        (pod(phase="Succeeded", restart="OnFailure"), False, True),
        (pod(phase="Succeeded", restart="Never"), False, True),
        (pod(phase="Failed"), True, False),
        (pod(phase="Failed", restart="OnFailure"), True, False),
        (pod(phase="Failed", restart="Never"), False, True),
        (pod(phase="Failed", reason="Evicted"), False, True),
        (pod(phase="Failed", restart="Never", deletionTimestamp=DELETED), False, True),
    ],
)
def test_alive_and_finished(each: Pod, alive: bool, finished: bool) -> None:
    assert is_alive(each) is alive
    assert is_finished(each) is finished


def scene(
    *pods: Pod,
    nodes: tuple[Node, ...] = (),
    pools: tuple[SpiderIPPool, ...] = (),
    now: float = 0.0,
    policy: GCPolicy = DEFAULT,
) -> Snapshot:
    """What is to be seen; the node that all pods run on is there unless others are named."""
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


def causes(ips: list[SpiderIP], seen: Snapshot) -> dict[str, ReleaseCause]:
    """Which records are doubted, by name, and why."""
    return {doubt.ip.name: doubt.cause for doubt in observe(ips, seen, {}, 0).values()}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, "does not exist"),
        (pod(), None),
        (pod(deletionTimestamp=LATER), None),
        (pod(phase="Failed", restart="Never", ips=("10.6.0.1",)), "has finished"),
        (pod(uid="u-2"), "another one of the same name"),
        (pod(uid="u-2", ips=("10.6.0.1",)), None),
        (pod(uid="u-2", ips=("10.6.0.9",)), "another one"),
        (pod(uid="u-2", annotations={STATIC_POD_ANNOTATION: "u-1"}), None),
    ],
)
def test_why_an_address_has_no_holder(now: Pod | None, reason: str | None) -> None:
    doubts = observe([record()], scene(*([now] if now else [])), {}, 0)
    why = next((doubt.reason for doubt in doubts.values()), None)
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_a_live_pod_that_reports_the_address_keeps_it_whatever_the_record_says() -> None:
    stranger = pod("stranger", "u-9", ips=("fd00::1", "10.6.0.1"))
    assert observe([record()], scene(stranger), {}, 0) == {}
    finished = pod("stranger", "u-9", phase="Succeeded", restart="Never", ips=("10.6.0.1",))
    assert list(observe([record()], scene(finished), {}, 0)) == ["r-1"]


class TestNodes:
    def test_a_pod_without_its_node_loses_its_address_also_one_that_reports_it(self) -> None:
        for each in (pod(), pod(ips=("10.6.0.1",)), pod(deletionTimestamp=DELETED)):
            assert causes([record()], scene(each, nodes=(node("other"),))) == {"10.6.0.1": ReleaseCause.NODE}

    def test_unless_another_one_reports_it(self) -> None:
        moved = pod("moved", "u-9", ips=("10.6.0.1",))
        assert causes([record()], scene(pod(), moved, nodes=(node("other"),))) == {}

    @pytest.mark.parametrize(
        ("ready", "policy", "past", "doubted"),
        [
            (True, GCPolicy(), 1, True),
            (True, GCPolicy(), -1, False),
            (True, GCPolicy(delay=10), 9, False),
            (True, GCPolicy(delay=10), 11, True),
            (True, GCPolicy(on_ready_node=False), 99, False),
            (False, GCPolicy(on_ready_node=False), 99, True),
            (False, GCPolicy(on_not_ready_node=False), 99, False),
        ],
    )
    def test_pods_that_should_have_ended(self, ready: bool, policy: GCPolicy, past: float, doubted: bool) -> None:
        """The time of deletion already holds the grace period."""
        ending = pod(deletionTimestamp=DELETED, deletionGracePeriodSeconds=30, ips=("10.6.0.1",))
        seen = scene(ending, nodes=(node(ready=ready),), now=DELETED_AT + past, policy=policy)
        assert causes([record()], seen) == ({"10.6.0.1": ReleaseCause.OVERDUE} if doubted else {})

    def test_a_sticky_address_waits_for_its_pod_to_go(self) -> None:
        sticky = record(owner=IPOwner("StatefulSet", "ns", "web"))
        assert causes([sticky], scene(pod(deletionTimestamp=DELETED), now=DELETED_AT + 99)) == {}


class TestTwins:
    ONE = record(made="2026-01-01T00:00:01Z")
    TWO = record("10.6.0.2", own_uid="r-2", made="2026-01-01T00:00:02Z")
    SIX = record("fd00::1", own_uid="r-6")

    @pytest.mark.parametrize(
        ("reported", "doubted"),
        [
            (("10.6.0.1",), ["10.6.0.2"]),
            (("10.6.0.2",), ["10.6.0.1"]),
            (("10.6.0.1", "10.6.0.2"), []),
            (("10.9.9.9",), ["10.6.0.2"]),
            ((), []),
        ],
    )
    def test_the_one_that_the_pod_reports_stays_else_the_older(
        self, reported: tuple[str, ...], doubted: list[str]
    ) -> None:
        for ips in ([self.ONE, self.TWO, self.SIX], [self.TWO, self.ONE, self.SIX]):
            assert list(causes(ips, scene(pod(ips=reported)))) == doubted

    def test_of_the_same_second_the_first_written_stays(self) -> None:
        one, two = record(made="x", version="10"), record("10.6.0.2", own_uid="r-2", made="x", version="9")
        assert list(causes([one, two], scene(pod(ips=("10.9.9.9",))))) == ["10.6.0.1"]

    def test_other_interfaces_and_released_ones_are_no_twins(self) -> None:
        other = record("10.6.0.2", own_uid="r-2", interface="net1")
        cooling = record("10.6.0.3", own_uid="r-3", releasedAt="2999-01-01T00:00:00Z")
        pools = (SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=9)),)
        assert causes([self.ONE, other, cooling], scene(pod(ips=("10.6.0.1",)), pools=pools)) == {}

    def test_at_rest_is_a_live_pod_with_one_address_of_each_interface_and_family(self) -> None:
        assert is_at_rest([self.ONE, self.SIX], pod())
        assert not is_at_rest([self.ONE, self.TWO], pod())
        assert not is_at_rest([self.ONE], pod(deletionTimestamp=LATER))
        assert not is_at_rest([self.ONE], pod(uid="u-2"))
        assert not is_at_rest([self.ONE], None)
        assert not is_at_rest([record(releasedAt="x")], pod())


@pytest.mark.parametrize(("seconds", "over"), [(59, True), (61, False), (None, True)])
def test_a_released_address_waits_for_the_end_of_its_cooldown_and_nothing_else(seconds: int | None, over: bool) -> None:
    pools = (SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=seconds)),)
    cooling = record(releasedAt=DELETED)
    seen = scene(pod(ips=("10.6.0.1",)), pools=pools, now=DELETED_AT + 60)
    assert causes([cooling], seen) == ({"10.6.0.1": ReleaseCause.COOLED} if over else {})
    assert causes([cooling], scene(now=DELETED_AT + 60)) == {"10.6.0.1": ReleaseCause.COOLED}


def test_two_observations_a_grace_period_apart() -> None:
    first = observe([record()], scene(), {}, 10.0)
    assert due(first, 10.0, graces(0.0)) == []
    second = observe([record()], scene(), first, 14.9)
    assert due(second, 14.9, graces(5.0)) == []
    third = observe([record()], scene(), second, 15.0)
    assert [doubt.ip.name for doubt in due(third, 15.0, graces(5.0))] == ["10.6.0.1"]


def test_each_cause_has_its_own_grace_and_begins_anew() -> None:
    first = observe([record()], scene(pod(), nodes=(node("other"),)), {}, 0.0)
    waits = graces(5.0) | {ReleaseCause.NODE: 60.0}
    assert due(first, 59.0, waits) == []
    assert len(due(first, 60.0, waits)) == 1
    other = observe([record()], scene(), first, 59.0)
    assert due(other, 60.0, waits) == []
    assert len(due(other, 64.0, waits)) == 1


def test_one_contrary_observation_starts_anew() -> None:
    first = observe([record()], scene(), {}, 0.0)
    contrary = observe([record()], scene(pod()), first, 5.0)
    assert contrary == {}
    assert due(observe([record()], scene(), contrary, 10.0), 10.0, graces(5.0)) == []


def test_a_new_record_of_the_same_address_does_not_inherit_the_doubt() -> None:
    first = observe([record()], scene(), {}, 0.0)
    second = observe([record(own_uid="r-2")], scene(), first, 10.0)
    assert due(second, 10.0, graces(5.0)) == []


def test_the_oldest_doubt_is_due_first() -> None:
    doubts = {
        uid: ReleaseCandidate(record(own_uid=uid), ReleaseCause.POD, "", since)
        for uid, since in (("b", 2.0), ("a", 1.0), ("c", 9.0))
    }
    assert [doubt.since for doubt in due(doubts, 10.0, graces(5.0))] == [1.0, 2.0]


def graces(seconds: float) -> dict[ReleaseCause, float]:
    return dict.fromkeys(ReleaseCause, seconds)


SIGHTS = st.lists(st.tuples(st.floats(0.1, 20), st.booleans()), min_size=1, max_size=12)


@given(SIGHTS, st.floats(0, 30))
def test_nothing_is_due_unless_every_sight_of_a_grace_period_shares_the_doubt(
    sights: list[tuple[float, bool]], grace: float
) -> None:
    now, alive_at = 0.0, -1.0
    doubts: dict[str, ReleaseCandidate] = {}
    first_doubt: float | None = None
    for step, alive in sights:
        now += step
        doubts = observe([record()], scene(pod()) if alive else scene(), doubts, now)
        if alive:
            alive_at, first_doubt = now, None
        elif first_doubt is None:
            first_doubt = now
        if due(doubts, now, graces(grace)):
            assert first_doubt is not None
            assert alive_at < first_doubt < now
            assert now - first_doubt >= grace


@given(st.sets(st.sampled_from(["10.6.0.1", "10.6.0.2", "10.6.0.3"]), min_size=1), st.sampled_from("123"))
def test_a_live_pod_keeps_the_address_that_it_reports(held: set[str], reported: str) -> None:
    ips = [record(address, own_uid=f"r-{address}", made=address) for address in sorted(held)]
    left = held - set(causes(ips, scene(pod(ips=(f"10.6.0.{reported}",)))))
    assert f"10.6.0.{reported}" in left or (f"10.6.0.{reported}" not in held and len(left) == 1)
