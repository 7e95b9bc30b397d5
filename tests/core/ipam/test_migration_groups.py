"""Which nodes change hands together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import LabelSelector
from spiderpool.core.ipam.migration_groups import LABEL, Group, Side, groups, holders, serving, split
from tests.core.ipam.objects import pool
from tests.support.go_cluster import GoCluster

pytestmark = pytest.mark.unit

NODES = {"n1": {"zone": "a"}, "n2": {"zone": "a"}, "n3": {"zone": "b"}, "n4": {"zone": "c"}}
ZONE_A = LabelSelector(matchLabels={"zone": "a"})


def of(*pools: SpiderIPPool, held: dict[str, set[str]] | None = None) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(each.nodes, each.pools) for each in groups(pools, NODES, held or {})]


def test_nodes_that_a_pool_serves() -> None:
    assert serving(pool("named", nodeName=["n1", "gone"], nodeAffinity=ZONE_A), NODES) == {"n1"}
    assert serving(pool("zone", nodeAffinity=ZONE_A), NODES) == {"n1", "n2"}
    assert serving(pool("all"), NODES) == {*NODES}


def test_nodes_that_share_a_pool_are_one_group() -> None:
    assert of(pool("one", nodeName=["n1"]), pool("zone", nodeAffinity=ZONE_A), pool("three", nodeName=["n3"])) == [
        (("n1", "n2"), ("one", "zone")),
        (("n3",), ("three",)),
        (("n4",), ()),
    ]


def test_a_pool_without_bounds_makes_one_group() -> None:
    assert of(pool("one", nodeName=["n1"]), pool("all")) == [(("n1", "n2", "n3", "n4"), ("all", "one"))]


def test_groups_are_joined_by_way_of_others() -> None:
    assert of(pool("a", nodeName=["n1", "n4"]), pool("b", nodeName=["n4", "n3"])) == [
        (("n1", "n3", "n4"), ("a", "b")),
        (("n2",), ()),
    ]


def test_a_node_that_has_addresses_of_a_pool_belongs_to_it() -> None:
    assert of(pool("one", nodeName=["n1"]), held={"one": {"n3", "gone"}}) == [
        (("n1", "n3"), ("one",)),
        (("n2",), ()),
        (("n4",), ()),
    ]


def test_a_pool_that_serves_no_node_is_in_no_group() -> None:
    assert of(pool("none", nodeName=["gone"])) == [((name,), ()) for name in NODES]


def test_holders_are_found_in_endpoints() -> None:
    made = GoCluster()
    made.pool("four", "10.6.0.0/24")
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n2")):
        made.pod(name, {"eth0": {"four": f"10.6.0.{ord(name)}"}}, node=node)
    assert holders(made.endpoints) == {"four": {"n1", "n2"}}


def test_a_group_that_is_split() -> None:
    group, other = Group(("n1", "n2"), ("a",)), Group(("n3",), ())
    nodes = {"n1": {LABEL: Side.OLD}, "n2": {LABEL: Side.NEW}, "n3": {}}
    assert split([group, other], nodes) == (group,)
    nodes["n1"] = {LABEL: Side.MOVING}
    assert split([group, other], nodes) == ()
    assert other.sides(nodes) == {None}


names = st.sampled_from(sorted(NODES))


@given(st.lists(st.lists(names, min_size=1, max_size=2), max_size=5), st.data())
def test_no_pool_is_ever_served_from_both_sides(shares: list[list[str]], data: st.DataObject) -> None:
    """Whatever the order in which groups move, the nodes of a pool are all of one kind after each."""
    pools = [pool(f"p{number}", nodeName=nodes) for number, nodes in enumerate(shares)]
    found = groups(pools, NODES, {})
    assert sorted(name for each in found for name in each.nodes) == sorted(NODES)
    moved: set[str] = set()
    for each in data.draw(st.permutations(found)):
        moved |= {*each.nodes}
        for one in pools:
            serves = serving(one, NODES)
            assert serves <= moved or not serves & moved
