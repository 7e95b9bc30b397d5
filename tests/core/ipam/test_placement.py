"""What becomes of pods on nodes; test_placement_bounds.py compares it with the allocator."""

from __future__ import annotations

import pytest

from spiderpool.core.ipam.placement import (
    Capacity,
    NeededAddress,
    PodGroup,
    PodSite,
    QuotaRest,
    even,
    favourable,
    roll_out,
    unfavourable,
)
from spiderpool.core.ipam.pool_capacity import PoolCapacity

pytestmark = pytest.mark.unit


def site(*pools: str, **fields: object) -> PodSite:
    return PodSite((NeededAddress(("eth0", 4), pools, **fields),))  # type: ignore[arg-type]


def group(count: int, sites: dict[str, PodSite], **fields: bool) -> PodGroup:
    return PodGroup("web", "default", count, sites, **fields)


def capacity(quota: int | None = None, **free: int) -> Capacity:
    quotas = {} if quota is None else {"default": QuotaRest(quota)}
    return Capacity({name: PoolCapacity(count) for name, count in free.items()}, quotas)


OWN = {"n1": site("a"), "n2": site("b")}


def test_the_three_placements() -> None:
    web, there = group(6, OWN), capacity(a=1, b=5)
    spread, best, worst = even([web], there), favourable([web], there), unfavourable([web], there)
    assert [each.refused_count for each in (spread, best, worst)] == [2, 0, 5]
    assert (spread.pods, spread.free) == ({"n1": 3, "n2": 3}, {"a": 0, "b": 2})
    assert (best.pods, worst.pods) == ({"n1": 1, "n2": 5}, {"n1": 6})
    (refused,) = worst.refused
    assert (refused.group, refused.node, refused.count) == (web, "n1", 5)
    assert refused.need == OWN["n1"].needs[0]


def test_what_cools_down_comes_after_all_that_is_free() -> None:
    there = Capacity({"a": PoolCapacity(0, cooling=1), "b": PoolCapacity(1)})
    web = group(2, {"n1": site("a", "b")})
    assert roll_out(there, [(web, "n1")]).free == {"a": 1, "b": 0}
    assert roll_out(there, [(web, "n1")] * 3).refused_count == 1


def test_a_pod_gets_all_or_nothing() -> None:
    both = PodSite((NeededAddress(("eth0", 4), ("a",)), NeededAddress(("net1", 4), ("b",))))
    found = roll_out(capacity(a=5, b=1), [(group(2, {"n1": both}), "n1")] * 2)
    assert (found.free, found.refused[0].need) == ({"a": 4, "b": 0}, both.needs[1])


def test_a_requested_address_is_given_once() -> None:
    one = site("a", address="10.0.0.1")
    assert roll_out(capacity(a=5), [(group(2, {"n1": one}), "n1")] * 2).refused_count == 1
    both = PodSite((*one.needs, NeededAddress(("net1", 4), ("b",))))
    placed = [(group(1, {"n1": both}), "n1"), (group(1, {"n1": one}), "n1")]
    assert roll_out(capacity(a=5, b=0), placed).refused_count == 1  # the first one gives it back


def test_quotas_and_what_is_refused_anyway() -> None:
    found = roll_out(capacity(quota=1, a=5), [(group(2, {"n1": site("a")}), "n1")] * 2)
    assert (found.refused_count, found.refused[0].need) == (1, None)
    refused = group(1, {"n1": PodSite(refused=True)})
    for placement in (even, favourable, unfavourable):
        (pods,) = placement([refused], capacity()).refused
        assert (pods.count, pods.need) == (1, None)


def test_one_pod_on_each_node() -> None:
    daemons = group(2, OWN, one_per_node=True)
    for placement in (even, favourable, unfavourable):
        assert placement([daemons], capacity(a=0, b=1)).refused_count == 1


def test_pods_that_no_node_may_take_are_not_placed() -> None:
    for placement in (even, favourable, unfavourable):
        assert not placement([group(3, {})], capacity()).pods


def test_pods_with_the_least_choice_come_first_in_the_best() -> None:
    free, bound = group(1, {"n1": site("a", "b")}), group(1, {"n1": site("a")})
    assert favourable([free, bound], capacity(a=1, b=1)).refused_count == 0


def test_of_two_interfaces_in_one_pool_the_worst_node_is_that_where_fewer_pods_fit() -> None:
    twice = PodSite((NeededAddress(("eth0", 4), ("a",)), NeededAddress(("net1", 4), ("a",))))
    web = group(4, {"n1": twice, "n2": site("b"), "n3": PodSite()})
    assert unfavourable([web], capacity(a=4, b=3)).pods == {"n1": 4}
