"""How many addresses an ENI gets in advance, and which go back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import Node
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION
from spiderpool.core.cloud.preallocation import (
    ASSIGNED_ANNOTATION,
    Assign,
    ENIState,
    Fence,
    PreallocationPolicy,
    RecentChanges,
    Unassign,
    Unfence,
    assigned_of,
    gives,
    lists,
    own_of,
    plan,
    releasing_of,
    releasing_text,
    since,
)

pytestmark = pytest.mark.unit

POLICY = PreallocationPolicy(low=3, high=7, batch=4, idle=100.0, fence=10.0)
NOW = 1000.0


def some(first: int, last: int) -> frozenset[str]:
    return frozenset(f"10.0.0.{number}" for number in range(first, last + 1))


def state_of(
    registered: frozenset[str],
    held: frozenset[str] = frozenset(),
    releasing: frozenset[str] = frozenset(),
    *,
    limit: int = 30,
    vswitch_free: int | None = None,
) -> ENIState:
    return ENIState(
        "eni-1",
        4,
        registered,
        limit,
        held=held,
        releasing=releasing,
        assigned=registered,
        reported=registered,
        fenceable=registered,
        vswitch_free=vswitch_free,
    )


class TestAsking:
    @pytest.mark.parametrize(
        ("registered", "held", "limit", "vswitch_free", "count"),
        [
            (0, 0, 30, None, 4),  # a new ENI: a whole batch
            (3, 0, 30, None, 0),  # enough
            (3, 1, 30, None, 3),  # below the low mark: up to the target of 5
            (5, 5, 30, None, 4),
            (5, 5, 7, None, 2),  # the instance type takes two more
            (5, 5, 5, None, 0),
            (5, 5, 4, None, 0),  # more than the limit, after a change of the type
            (5, 5, 30, 1, 1),  # the vSwitch has one
            (5, 5, 30, 0, 0),
        ],
    )
    def test_asks_for_what_fits(
        self, registered: int, held: int, limit: int, vswitch_free: int | None, count: int
    ) -> None:
        state = state_of(some(1, registered), some(1, held), limit=limit, vswitch_free=vswitch_free)
        assert plan(state, POLICY, NOW) == ([Assign(count)] if count else [])

    def test_takes_fenced_ones_back_first(self) -> None:
        state = replace(
            state_of(some(1, 4), some(1, 2), some(3, 4)), fenced_since={"10.0.0.3": NOW - 5, "10.0.0.4": NOW - 9}
        )
        assert plan(state, POLICY, NOW) == [Unfence(("10.0.0.3", "10.0.0.4")), Assign(3)]

    def test_takes_none_back_whose_removal_may_be_under_way(self) -> None:
        state = replace(
            state_of(some(1, 4), some(1, 2), some(3, 4)), fenced_since={"10.0.0.3": NOW - 5, "10.0.0.4": NOW - 10}
        )
        assert plan(state, POLICY, NOW) == [Unfence(("10.0.0.3", "10.0.0.4")), Assign(3)]
        assert plan(replace(state, leaving=some(3, 4)), POLICY, NOW) == [Assign(4), Unassign(("10.0.0.4",))]


class TestGivingBack:
    def test_fences_the_longest_idle_down_to_the_target(self) -> None:
        idle = {f"10.0.0.{number}": NOW - 100 - number for number in range(1, 9)}
        assert plan(replace(state_of(some(1, 8)), idle_since=idle), POLICY, NOW) == [
            Fence(("10.0.0.6", "10.0.0.7", "10.0.0.8"))
        ]

    def test_keeps_what_was_used_lately_or_is_not_ours_or_cannot_be_fenced(self) -> None:
        idle = dict.fromkeys(some(1, 8), NOW - 500)
        fit = replace(state_of(some(1, 8)), idle_since=idle)
        assert plan(replace(fit, idle_since=dict.fromkeys(some(1, 8), NOW - 99)), POLICY, NOW) == []
        assert plan(replace(fit, idle_since={}), POLICY, NOW) == []
        assert plan(replace(fit, assigned=frozenset()), POLICY, NOW) == []
        assert plan(replace(fit, fenceable=frozenset()), POLICY, NOW) == []

    def test_unassigns_when_the_fence_has_stood_for_long_enough(self) -> None:
        state = state_of(some(1, 6), releasing=some(5, 6))
        assert plan(state, POLICY, NOW) == []
        standing = replace(state, fenced_since={"10.0.0.5": NOW - 10, "10.0.0.6": NOW - 9})
        assert plan(standing, POLICY, NOW) == [Unassign(("10.0.0.5",))]

    def test_a_held_one_is_not_given_back(self) -> None:
        state = replace(state_of(some(1, 6), some(6, 6), some(6, 6)), fenced_since={"10.0.0.6": 0.0})
        assert plan(state, POLICY, NOW) == [Unfence(("10.0.0.6",))]

    def test_the_fence_stays_until_the_node_no_longer_sees_the_address(self) -> None:
        gone = replace(state_of(some(1, 5), releasing=some(6, 6)), reported=some(1, 6))
        assert plan(gone, POLICY, NOW) == []
        assert plan(replace(gone, reported=some(1, 5), listed=some(6, 6)), POLICY, NOW) == []
        absent = replace(gone, reported=some(1, 5))
        assert plan(replace(absent, gone_since={"10.0.0.6": NOW - 300}), POLICY, NOW) == [Unfence(("10.0.0.6",))]

    def test_one_that_was_registered_again_is_free_again(self) -> None:
        fenced = replace(state_of(some(1, 4), releasing=some(4, 4)), assigned=some(1, 3))
        assert plan(fenced, POLICY, NOW) == [], "a fence of somebody else"
        assert plan(replace(fenced, returned=some(4, 4)), POLICY, NOW) == [Unfence(("10.0.0.4",))]
        assert plan(replace(fenced, returned=some(4, 4), leaving=some(4, 4)), POLICY, NOW) == []

    def test_the_fence_stays_while_metadata_may_show_the_address_once_more(self) -> None:
        gone = replace(state_of(some(1, 5), releasing=some(6, 6)), reported=some(1, 5))
        assert plan(gone, POLICY, NOW) == []
        assert plan(replace(gone, gone_since={"10.0.0.6": NOW - 299}), POLICY, NOW) == []


NAMES = sorted(some(1, 20))
SUBSETS = st.sets(st.sampled_from(NAMES)).map(frozenset)
TIMES = st.dictionaries(st.sampled_from(NAMES), st.floats(0, NOW))


@st.composite
def states(draw: st.DrawFn) -> ENIState:
    registered, releasing = draw(SUBSETS), draw(SUBSETS)
    return ENIState(
        "eni-1",
        4,
        registered,
        draw(st.integers(0, 25)),
        held=draw(SUBSETS) & registered,
        assigned=draw(SUBSETS),
        reported=draw(SUBSETS),
        releasing=releasing,
        listed=draw(SUBSETS) & releasing,
        leaving=draw(SUBSETS) & releasing,
        fenced_since={each: at for each, at in draw(TIMES).items() if each in releasing},
        idle_since=draw(TIMES),
        fenceable=registered,
        vswitch_free=draw(st.none() | st.integers(0, 9)),
    )


@given(states())
def test_never_harms(state: ENIState) -> None:
    back: set[str] = set()
    for step in plan(state, POLICY, NOW):
        match step:
            case Assign(count):
                assert 0 < count <= min(POLICY.batch, state.limit - len(state.registered))
                assert state.vswitch_free is None or count <= state.vswitch_free
                assert len(state.free) < POLICY.low
            case Unassign(addresses):
                assert set(addresses) <= (state.releasing & state.registered & state.assigned) - state.held - back
                assert all(NOW - state.fenced_since[each] >= POLICY.fence for each in addresses)
            case Fence(addresses):
                assert set(addresses) <= state.free & state.assigned
                assert len(state.free) - len(addresses) >= POLICY.low
            case Unfence(addresses):
                back |= set(addresses)
                assert back <= state.releasing
                assert not back & state.leaving & (state.registered - state.held)
                assert all(each in state.registered or each not in state.reported | state.listed for each in addresses)


class TestMemory:
    def test_what_the_cloud_confirmed_counts_until_it_shows(self) -> None:
        recent = RecentChanges().with_added(["10.0.0.9"], NOW + 60)
        assert recent.applied(some(1, 2)) == some(1, 2) | {"10.0.0.9"}
        assert recent.pending(some(1, 2), NOW).applied(some(1, 2)) == some(1, 2) | {"10.0.0.9"}
        assert recent.pending(some(1, 9), NOW) == RecentChanges()
        assert recent.pending(some(1, 2), NOW + 61) == RecentChanges()

    def test_what_was_taken_away_is_gone_although_it_shows(self) -> None:
        recent = RecentChanges().with_removed(["10.0.0.2"], NOW + 60)
        assert recent.pending(some(1, 2), NOW).applied(some(1, 2)) == some(1, 1)
        assert recent.pending(some(1, 1), NOW) == RecentChanges()
        assert recent.with_added(["10.0.0.2"], NOW + 60).applied(some(1, 1)) == some(1, 2)

    def test_since_forgets_who_left(self) -> None:
        assert since({"a": 1.0, "b": 2.0}, ["b", "c"], 9.0) == {"b": 2.0, "c": 9.0}


class TestPools:
    def pool(self, text: str = "", **spec: object) -> SpiderIPPool:
        metadata = ObjectMeta(name="p", annotations={RELEASING_ANNOTATION: text} if text else None)
        return SpiderIPPool(metadata=metadata, spec=IPPoolSpec(**({"subnet": "10.0.0.0/24"} | spec)))  # type: ignore[arg-type]

    def test_reads_and_writes_what_is_released(self) -> None:
        assert releasing_of(self.pool("10.0.0.9, 10.0.0.10,nonsense,")) == {"10.0.0.9", "10.0.0.10"}
        assert releasing_of(self.pool()) == frozenset()
        assert releasing_text(["10.0.0.10", "10.0.0.9"]) == "10.0.0.9,10.0.0.10"
        assert releasing_text([]) is None

    def test_knows_what_a_pool_gives(self) -> None:
        pool = self.pool(ips=["10.0.0.1-10.0.0.9"], excludeIPs=["10.0.0.5"])
        assert gives(pool, "10.0.0.4")
        assert not gives(pool, "10.0.0.5")
        assert not gives(pool, "fd00::4")
        assert gives(self.pool(ips=["nonsense"]), "10.0.0.4")

    def test_knows_what_a_pool_lists(self) -> None:
        pool = self.pool(ips=["10.0.0.1-10.0.0.9"], excludeIPs=["10.0.0.5"])
        assert lists(pool, "10.0.0.5")
        assert not lists(pool, "10.0.0.10")
        assert not lists(self.pool(), "10.0.0.4")
        assert lists(self.pool(ips=["nonsense"]), "10.0.0.4")


def test_a_servers_own_ipv6_address_is_no_spare_one() -> None:
    registered = frozenset({"fd00::1", "fd00::7", "fd00::8"})
    assert own_of(4, frozenset({"10.0.0.7"}), frozenset()) == frozenset()
    own = own_of(6, registered, frozenset({"fd00::7", "fd00::8"}))
    assert own == {"fd00::1"}
    state = ENIState("eni-1", 6, registered, limit=10, held=frozenset({"fd00::7"}), own=own)
    assert state.free == {"fd00::8"}
    assert plan(state, PreallocationPolicy(low=2, high=4), 0.0) == [Assign(2)]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (None, {}),
        ('{"eni-1": ["10.0.0.1", "10.0.0.2"]}', {"eni-1": ["10.0.0.1", "10.0.0.2"]}),
        ('{"eni-1": "10.0.0.1"}', {}),
        ("[" * 10_000, {}),
    ],
)
def test_what_was_registered_is_read_from_the_node(text: str | None, known: dict[str, list[str]]) -> None:
    annotations = None if text is None else {ASSIGNED_ANNOTATION: text}
    assert assigned_of(Node(metadata=ObjectMeta(name="n1", annotations=annotations))) == known
