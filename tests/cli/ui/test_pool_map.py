"""Maps of pools: each address has the state that `who`, `top pools` and the allocator see."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import FormerPod, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.address_state import AddressState
from spiderpool.cli.ui.pool_map import (
    MAP_STATES,
    HolderIndex,
    MapInput,
    MapPiece,
    PoolMap,
    changes,
    pool_maps,
)
from spiderpool.cli.usage import pool_usage, reserved_by_family
from spiderpool.cli.who import AddressObjects, answer
from spiderpool.controller.pools import status_of
from spiderpool.core.addresses import from_int
from spiderpool.core.ipam.allocation import address_of
from spiderpool.core.ipam.pool_capacity import pool_capacities
from tests.cli.ui.objects import (
    BASE,
    NOW,
    account,
    node,
    objects,
    pool,
    record,
    records_of,
    reserved,
    state_of,
    states_of,
)

pytestmark = pytest.mark.unit

S = AddressState
THEN = datetime.fromtimestamp(NOW, UTC)


def drawn(found: MapInput, name: str = "blue") -> list[tuple[int, int, AddressState]]:
    """The pieces of a map, from the first address of its subnet on."""
    return [(each.first - BASE, each.last - BASE, each.state) for each in pool_maps(found, NOW)[name].pieces]


def test_an_empty_pool_is_free_but_for_what_is_excluded_and_reserved() -> None:
    blue = pool(ips=["10.0.0.0-10.0.0.9", "10.0.0.255"], excludeIPs=["10.0.0.5"])
    assert drawn(objects([blue], reserved=[reserved("10.0.0.7-10.0.0.8")])) == [
        (0, 0, S.EXCLUDED),  # the network address
        (1, 4, S.FREE),
        (5, 5, S.EXCLUDED),
        (6, 6, S.FREE),
        (7, 8, S.RESERVED),
        (9, 9, S.FREE),
        (255, 255, S.EXCLUDED),  # the broadcast address
    ]


def test_records_are_held_cool_down_or_are_free_again() -> None:
    blue = pool(ips=["10.0.0.1-10.0.0.5"])
    records = [
        record(BASE + 1, blue),
        record(BASE + 2, blue),
        record(BASE + 3, blue, released_before=59),
        record(BASE + 4, blue, released_before=61),
    ]
    assert drawn(objects([blue], records)) == [(1, 2, S.HELD), (3, 3, S.COOLING), (4, 5, S.FREE)]


def test_what_pods_of_a_fenced_node_hold_is_fenced() -> None:
    blue = pool(ips=["10.0.0.1-10.0.0.3"])
    records = [record(BASE + 1, blue), record(BASE + 2, blue, node="n2")]
    found = objects([blue], records, accounts=[account(fenced=True)], nodes=[node(ready=False), node("n2")])
    assert drawn(found) == [(1, 1, S.FENCED), (2, 2, S.HELD), (3, 3, S.FREE)]


def test_a_sandbox_with_the_address_of_another_pod_or_of_none_conflicts() -> None:
    blue = pool(ips=["10.0.0.1-10.0.0.4"])
    records = [record(BASE + 1, blue, uid="a"), record(BASE + 2, blue, uid="b")]
    seen = account([(BASE + 1, "a"), (BASE + 2, "other"), (BASE + 3, "nobody")])
    assert drawn(objects([blue], records, accounts=[seen])) == [
        (1, 1, S.HELD),
        (2, 3, S.CONFLICTING),
        (4, 4, S.FREE),
    ]


def test_the_sandboxes_of_a_fenced_node_conflict_with_nothing() -> None:
    blue = pool(ips=["10.0.0.1-10.0.0.2"])
    past = account([(BASE + 1, "former")], fenced=True)
    found = objects([blue], [record(BASE + 1, blue, node="n2")], accounts=[past], nodes=[node(ready=False)])
    assert drawn(found) == [(1, 1, S.HELD), (2, 2, S.FREE)]


def test_an_address_that_left_its_pool_while_a_pod_has_it_is_shown() -> None:
    blue = pool(ips=["10.0.0.1-10.0.0.2"])
    assert drawn(objects([blue], [record(BASE + 9, blue)])) == [(1, 2, S.FREE), (9, 9, S.HELD)]


def test_a_record_of_another_pool_takes_the_address_all_the_same() -> None:
    blue, red = pool(ips=["10.0.0.1-10.0.0.2"]), pool("red", ips=["10.0.0.2-10.0.0.3"])
    found = objects([blue, red], [record(BASE + 2, red)])
    assert drawn(found) == [(1, 1, S.FREE), (2, 2, S.HELD)]
    assert drawn(found, "red") == [(2, 2, S.HELD), (3, 3, S.FREE)]


@pytest.mark.parametrize("spec", [{"ips": ["none"]}, {"excludeIPs": ["none"]}, {"subnet": "none"}])
def test_a_pool_that_cannot_be_read_gives_nothing(spec: dict[str, Any]) -> None:
    wrong, blue = pool("wrong", **spec), pool(ips=["10.0.0.1"])
    assert pool_maps(objects([wrong, blue]), NOW)["wrong"].pieces == ()


def test_a_network_of_ipv6_costs_what_is_used_of_it() -> None:
    wide = pool(subnet="fd00::/64", ips=["fd00::-fd00::ffff:ffff:ffff:ffff"])
    base = 0xFD00 << 112
    found = pool_maps(objects([wide], [record(base + 7, wide)]), NOW)["blue"]
    assert [(each.size, each.state) for each in found.pieces] == [(7, S.FREE), (1, S.HELD), ((1 << 64) - 8, S.FREE)]
    assert state_of(found, base + 7) is S.HELD
    assert state_of(found, base - 1) is None


SOME = st.lists(st.integers(0, 9), unique=True, max_size=6)


@st.composite
def clusters(draw: st.DrawFn) -> MapInput:
    """Two pools of one network, which may overlap, with records, reserved addresses, accounts and nodes."""
    pools = [
        pool(
            name,
            ips=[from_int(BASE + each, 4) for each in sorted(draw(SOME))],
            excludeIPs=_texts(draw(SOME)),
            disable=draw(st.booleans()),
        )
        for name in ("blue", "red")
    ]
    records = []
    for address in draw(SOME):
        of, before = draw(st.sampled_from(pools)), draw(st.sampled_from([None, None, 10.0, 100.0]))
        on = draw(st.sampled_from(["n1", "n2"]))
        records.append(record(BASE + address, of, node=on, uid=f"uid-{address}", released_before=before))
    seen = [(BASE + each, draw(st.sampled_from([f"uid-{each}", "another"]))) for each in draw(SOME)]
    fenced = draw(st.booleans())
    accounts = [account(seen), account((), "n2", fenced=fenced)]
    return objects(pools, records, [reserved(*_texts(draw(SOME)))], accounts, [node(), node("n2", ready=not fenced)])


def _texts(numbers: list[int]) -> list[str]:
    return [from_int(BASE + each, 4) for each in numbers]


def who(found: MapInput, address: str) -> tuple[str, bool, bool]:
    """What `who` says of an address, whether of another user, and whether its node stopped."""
    records = {from_int(address_of(each), 4): each for each in records_of(found)}
    holder = records.get(address)
    nodes = {each.name: each for each in found.nodes}
    of_record: Node | None = nodes.get(holder.spec.node) if holder else None
    said = answer(
        AddressObjects(
            address,
            holder,
            None,
            of_record,
            tuple(found.pools),
            tuple(found.reserved),
            tuple(found.accounts),
            tuple(found.nodes),
        ),
        THEN,
    )
    is_used_twice = any("uses it" in each for each in said.problems)
    return said.state, is_used_twice, any("is free once no pod holds it" in each for each in said.notes)


SAID = {
    "cooling down": {S.COOLING},
    "released, free for any pod": {S.FREE, S.RESERVED, S.EXCLUDED},
    "free": {S.FREE, S.EXCLUDED},  # another of the pools may give it
    "reserved": {S.RESERVED, S.EXCLUDED},
    "given by no pool": {S.EXCLUDED},
}


@settings(max_examples=20)
@given(clusters())
def test_each_address_is_what_who_says_of_it(found: MapInput) -> None:
    maps = pool_maps(found, NOW)
    for number in range(BASE, BASE + 10):
        state, is_used_twice, is_stopped = who(found, from_int(number, 4))
        expected = SAID.get(state) or {S.FENCED if is_stopped else S.HELD}
        for drawing in maps.values():
            known = state_of(drawing, number)
            if known is S.FREE and drawing.is_disabled:
                assert state in ("free", "given by no pool", "released, free for any pod"), (from_int(number, 4), state)
            elif known is not None:
                assert known in ({S.CONFLICTING} if is_used_twice else expected), (from_int(number, 4), state)


@settings(max_examples=40)
@given(clusters())
def test_as_many_are_free_and_cool_down_as_the_allocator_counts(found: MapInput) -> None:
    """Of addresses that one pool has alone: admission refuses the others, and the allocator counts them as held."""
    records = [each for each in records_of(found) if not _is_elsewhere(found, each)]
    maps = pool_maps(objects([*found.pools], records, [*found.reserved]), NOW)
    for name, capacity in pool_capacities(found.pools, records, reserved_by_family(found.reserved), NOW).items():
        usable = {each for each in range(BASE, BASE + 10) if _may_give(found, name, each)}
        states = [state_of(maps[name], each) for each in usable]
        assert maps[name].counts[S.FREE] == states.count(S.FREE) == capacity.free
        assert states.count(S.COOLING) == capacity.cooling


def _is_elsewhere(found: MapInput, held: SpiderIP) -> bool:
    text = from_int(address_of(held), 4)
    return any(text in (each.spec.ips or ()) for each in found.pools if each.name != held.spec.pool)


def _may_give(found: MapInput, name: str, number: int) -> bool:
    text = from_int(number, 4)
    spec = next(each.spec for each in found.pools if each.name == name)
    is_reserved = any(text in (each.spec.ips or ()) for each in found.reserved)
    return text in (spec.ips or ()) and text not in (spec.excludeIPs or ()) and number != BASE and not is_reserved


@given(st.lists(st.integers(1, 40), unique=True), SOME)
def test_as_many_are_free_as_top_pools_says(taken: list[int], kept: list[int]) -> None:
    blue, rest = pool(ips=["10.0.0.1-10.0.0.40"]), [reserved(*_texts(kept))]
    records = [record(BASE + each, blue) for each in taken]
    counted = SpiderIPPool(metadata=ObjectMeta(name="blue"), spec=blue.spec, status=status_of(blue, records, THEN))
    usage = pool_usage(counted, reserved_by_family(rest))
    counts = pool_maps(objects([blue], records, rest), NOW)["blue"].counts
    assert (usage.free, usage.used) == (counts[S.FREE], counts[S.HELD])
    assert usage.total == sum(counts.values())


@settings(max_examples=40)
@given(clusters(), clusters())
def test_changes_laid_over_the_old_map_give_the_new_one(old: MapInput, new: MapInput) -> None:
    before, after = pool_maps(old, NOW)["blue"], pool_maps(new, NOW)["blue"]
    laid = states_of(before.pieces)
    for each in changes(before, after):
        for address in range(each.first, each.last + 1):
            if each.state is None:
                del laid[address]
            else:
                laid[address] = each.state
    assert laid == states_of(after.pieces)


@settings(max_examples=40)
@given(clusters())
def test_pieces_are_sorted_and_as_long_as_they_can_be(found: MapInput) -> None:
    for each in pool_maps(found, NOW).values():
        for one, other in zip(each.pieces, each.pieces[1:], strict=False):
            assert one.first <= one.last < other.first
            assert one.last + 1 < other.first or one.state is not other.state


def test_nothing_has_changed_of_a_map_that_is_the_same() -> None:
    found = PoolMap.of(pool(), (MapPiece(1, 9, S.FREE),))
    assert changes(found, found) == []
    longer = PoolMap.of(pool(), (MapPiece(1, 4, S.FREE), MapPiece(5, 5, S.HELD), MapPiece(6, 9, S.FREE)))
    assert [(each.first, each.last, each.state) for each in changes(found, longer)] == [(5, 5, S.HELD)]


@settings(max_examples=40)
@given(clusters(), clusters())
def test_records_that_are_followed_give_the_same_map(old: MapInput, new: MapInput) -> None:
    index = HolderIndex()
    before, after = ({each.name: each for each in records_of(found)} for found in (old, new))
    for name in {**before, **after}:
        index.note(None, before.get(name))
        index.note(before.get(name), after.get(name))
    assert pool_maps(replace(new, holders=index.copy()), NOW) == pool_maps(new, NOW)


def test_holders_that_a_machine_moves_from_do_not_conflict() -> None:
    blue = pool(ips=["10.0.0.1"])
    held: SpiderIP = record(BASE + 1, blue, uid="target")
    held.spec.movedFrom = [FormerPod("n2", "vm-1", "source", "7")]
    assert drawn(objects([blue], [held], accounts=[account([(BASE + 1, "source")])])) == [(1, 1, S.HELD)]


def test_the_page_knows_the_states_in_the_same_order() -> None:
    script = (files("spiderpool.cli.ui") / "static" / "states.js").read_text()
    found = re.search(r"STATES = (\[.*\]);", script)
    assert found is not None
    assert json.loads(found[1]) == list(MAP_STATES)
