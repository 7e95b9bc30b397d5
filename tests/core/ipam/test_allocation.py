"""Which address comes next, and what a record says."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.ip import IPOwner
from spiderpool.api.ippool import IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.ipam.allocation import (
    address_of,
    address_text,
    as_held_by,
    choose,
    cooldown_is_over,
    disowned,
    elsewhere,
    exhausted,
    grant,
    holder_before_move,
    is_acceptable,
    is_exclusive,
    main_reason,
    moved_to,
    new_record,
    occupied,
    pools_of,
    quota_refusal,
    refusal,
    released,
    renewed,
    slot_of,
    start_of,
    taken_over,
    unreadable,
    usable,
)
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict

pytestmark = pytest.mark.unit

ASK = AllocationRequest("default", "web-0", "u1", "eth0", "worker", "kube-system/ipvlan-eth0")
POOL = SpiderIPPool(
    metadata=ObjectMeta(name="worker-172"),
    spec=IPPoolSpec(
        subnet="172.31.192.0/20",
        ips=["172.31.199.190-172.31.199.194"],
        excludeIPs=["172.31.199.191"],
        gateway="172.31.207.253",
        routes=[Route("10.0.0.0/8", "172.31.192.1")],
        nodeName=["worker"],
    ),
)


def some(*texts: str) -> AddressSet:
    return AddressSet.parse(texts, 4)


def test_a_requested_address_is_the_only_acceptable_one_however_it_is_written() -> None:
    six = SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec("fd00::/64", ips=["fd00::1"]))
    record = new_record(replace(ASK, version=6), six, 0xFD00 << 112 | 1)
    asked = [replace(ASK, version=6, address=text) for text in (None, "fd00:0::1", "fd00::2")]
    assert [is_acceptable(record, each) for each in asked] == [True, True, False]


def test_excluded_addresses_are_not_usable() -> None:
    assert usable(POOL).ranges() == ["172.31.199.190", "172.31.199.192-172.31.199.194"]


@pytest.mark.parametrize(
    ("subnet", "ips", "given"),
    [
        ("10.0.0.0/24", "10.0.0.0-10.0.0.255", "10.0.0.1-10.0.0.254"),
        ("10.0.0.4/30", "10.0.0.4-10.0.0.7", "10.0.0.5-10.0.0.6"),
        ("10.0.0.4/31", "10.0.0.4-10.0.0.5", "10.0.0.4-10.0.0.5"),
        ("10.0.0.4/32", "10.0.0.4", "10.0.0.4"),
        ("fd00::/120", "fd00::-fd00::ff", "fd00::-fd00::ff"),
    ],
)
def test_no_pod_gets_the_network_or_broadcast_address(subnet: str, ips: str, given: str) -> None:
    assert usable(SpiderIPPool(spec=IPPoolSpec(subnet=subnet, ips=[ips]))).ranges() == [given]


@pytest.mark.parametrize(
    ("taken", "start", "chosen"),
    [
        ((), "10.0.0.1", "10.0.0.1"),
        (("10.0.0.1",), "10.0.0.1", "10.0.0.2"),
        ((), "10.0.0.3", "10.0.0.3"),
        (("10.0.0.3-10.0.0.4",), "10.0.0.3", "10.0.0.1"),
        (("10.0.0.1-10.0.0.4",), "10.0.0.2", None),
    ],
)
def test_the_next_free_address_goes_around(taken: tuple[str, ...], start: str, chosen: str | None) -> None:
    expected = to_int(chosen, 4) if chosen else None
    assert choose(some("10.0.0.1-10.0.0.4"), some(*taken).__contains__, to_int(start, 4)) == expected


def test_nodes_begin_at_the_first_address_of_their_own_pool_and_apart_in_a_shared_one() -> None:
    shared = some("10.0.0.0-10.0.255.255")
    assert start_of(shared, "worker", exclusive=True) == 0
    starts = {start_of(shared, f"node-{i}", exclusive=False) for i in range(20)}
    assert len(starts) == 20
    assert all(start in shared for start in starts)
    assert start_of(AddressSet(4), "worker", exclusive=False) == 0


def test_only_a_pool_that_names_this_node_alone_is_exclusive() -> None:
    assert is_exclusive(POOL, "worker")
    assert not is_exclusive(POOL, "master")


def test_a_record_names_address_holder_pool_and_node() -> None:
    made = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    assert made.name == "172.31.199.192"
    assert made.metadata.labels == {"ipam.spidernet.io/node": "worker", "ipam.spidernet.io/ippool": "worker-172"}
    assert made.spec.address == "172.31.199.192/20"
    assert (made.spec.namespace, made.spec.pod, made.spec.podUID, made.spec.interface) == (
        "default",
        "web-0",
        "u1",
        "eth0",
    )
    assert address_of(made) == to_int("172.31.199.192", 4)


def test_a_grant_carries_what_the_pool_says() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    given = grant(held, POOL)
    assert (given.gateway, given.routes) == ("172.31.207.253", (("10.0.0.0/8", "172.31.192.1"),))
    assert grant(held, POOL, clean_gateway=True).gateway is None
    assert grant(held, None).routes == ()


def test_a_grant_carries_the_pods_own_routes_whose_gateway_is_in_its_subnet() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    own = (("10.1.0.0/16", "172.31.192.9"), ("10.2.0.0/16", "10.0.0.1"), ("fd00::/8", "fd00::1"))
    assert grant(held, POOL, routes=own).routes == (("10.0.0.0/8", "172.31.192.1"), ("10.1.0.0/16", "172.31.192.9"))


def test_the_default_route_goes_before_the_others() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    assert grant(held, POOL).all_routes[0] == ("0.0.0.0/0", "172.31.207.253")
    six = SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec(subnet="fd00::/64", gateway="fd00::1"))
    given = grant(new_record(ASK, six, to_int("fd00::5", 6)), six)
    assert (given.version, given.address, given.all_routes) == (6, "fd00::5/64", (("::/0", "fd00::1"),))


OWNER = IPOwner("StatefulSet", "default", "web")
STICKY = replace(ASK, owner=OWNER)


def test_a_record_that_stays_with_an_owner_is_found_by_a_label() -> None:
    made = new_record(STICKY, POOL, to_int("172.31.199.192", 4))
    assert made.spec.owner == OWNER
    assert (made.metadata.labels or {})["ipam.spidernet.io/owner"] == owner_label(OWNER, "web-0")


def test_a_record_is_taken_over_as_it_was_seen() -> None:
    held = new_record(STICKY, POOL, to_int("172.31.199.192", 4))
    held.metadata.uid, held.metadata.resourceVersion = "u", "5"
    held.spec.releasedAt = "2026-01-01T00:00:00Z"
    new = taken_over(held, replace(STICKY, pod_uid="u2", node="master"))
    assert (new.metadata.uid, new.metadata.resourceVersion) == ("u", "5")
    assert (new.spec.podUID, new.spec.node, new.spec.releasedAt) == ("u2", "master", None)
    assert (new.metadata.labels or {})["ipam.spidernet.io/node"] == "master"
    assert held.spec.podUID == "u1", "what was seen stays as it was seen"
    stranger = taken_over(held, ASK)
    assert stranger.spec.owner is None
    assert "ipam.spidernet.io/owner" not in (stranger.metadata.labels or {})
    assert "ipam.spidernet.io/owner" in (held.metadata.labels or {})


def test_a_record_that_is_renewed_differs_from_every_version_before() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    held.metadata.uid, held.metadata.resourceVersion = "u", "5"
    held.metadata.annotations = {"theirs": "x", "ipam.spidernet.io/release": "u"}
    once = renewed(held)
    assert once.metadata.annotations == {"theirs": "x", "ipam.spidernet.io/renewed": "5"}
    assert (once.spec, once.metadata.resourceVersion) == (held.spec, "5")
    once.metadata.resourceVersion = "6"
    assert renewed(once).metadata.annotations == {"theirs": "x", "ipam.spidernet.io/renewed": "6"}


def test_the_pod_from_which_a_machine_is_to_move_is_noted_and_can_be_asked_for() -> None:
    held = new_record(STICKY, POOL, to_int("172.31.199.192", 4))
    held.metadata.resourceVersion = "5"
    former = holder_before_move(held)
    assert (former.node, former.pod, former.podUID, former.recordVersion) == ("worker", "web-0", "u1", "5")
    moved = taken_over(held, replace(STICKY, pod="web-1", pod_uid="u2", node="master"), [former])
    moved.metadata.resourceVersion = "6"
    assert (moved.spec.podUID, moved.spec.movedFrom) == ("u2", [former])
    before = as_held_by(moved, former)
    assert (before.spec, before.metadata.resourceVersion) == (held.spec, "5")
    assert taken_over(moved, STICKY).spec.movedFrom is None


def test_a_record_that_its_owner_has_given_up_is_its_pods_alone() -> None:
    owner = IPOwner("StatefulSet", "default", "web")
    owned, plain = new_record(replace(ASK, owner=owner), POOL, 1), new_record(ASK, POOL, 1)
    given_up = disowned(owned)
    assert (given_up.spec, given_up.metadata.labels) == (plain.spec, plain.metadata.labels)
    assert owned.spec.owner == owner


def test_a_record_of_another_node_becomes_this_nodes_to_be_ended_here() -> None:
    held = new_record(ASK, POOL, 1)
    moved = moved_to(held, "here")
    assert (moved.spec, moved.metadata.labels) == (
        changed(held.spec, node="here"),
        (held.metadata.labels or {}) | {"ipam.spidernet.io/node": "here"},
    )


def test_a_released_record_has_the_time_of_its_release() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    assert released(held, 0.0).spec.releasedAt == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "now", "over"),
    [(60, 1059.0, False), (60, 1060.0, True), (0, 1000.0, True), (None, 1000.0, True), (10**9, 2000.0, False)],
)
def test_a_cooldown_ends(seconds: int | None, now: float, over: bool) -> None:
    cold = SpiderIPPool(spec=IPPoolSpec(subnet="172.31.192.0/20", cooldownSeconds=seconds))
    assert cooldown_is_over(released(new_record(ASK, POOL, 1), 1000.0), cold, now) is over


def test_a_record_without_a_pool_or_with_nonsense_blocks_no_address_and_a_held_one_is_its_holders() -> None:
    held = new_record(ASK, POOL, 1)
    assert not cooldown_is_over(held, None, 1e12)
    assert cooldown_is_over(released(held, 1000.0), None, 1000.0)
    held.spec.releasedAt = "soon"
    assert cooldown_is_over(held, POOL, 0.0)


def test_a_refusal_names_every_pool_once_with_the_last_verdict() -> None:
    trace = [
        Verdict("a", True, "kept", "may serve"),
        Verdict("b", False, "node", "is for node x, not y"),
        exhausted("a", 5),
    ]
    assert refusal(ASK, trace).message == (
        "no IPv4 address for eth0 of pod default/web-0 on node worker from the cluster's default pools: "
        "a: 5 of 5 addresses in use; b: is for node x, not y"
    )
    assert "no pool is a default pool" in refusal(ASK, []).message
    assert str(exhausted("c", 0)) == "c: holds no addresses but excluded and reserved ones"
    assert str(unreadable("d", ValueError("entry 0"))) == "d: its addresses cannot be read: entry 0"


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        ([], "no default pool"),
        ([Verdict("a", False, "node", "x")], "node"),
        ([Verdict("a", False, "node", "x"), Verdict("b", True, "kept", "x"), exhausted("b", 5)], "exhausted"),
    ],
)
def test_the_main_reason_of_a_refusal(trace: list[Verdict], reason: str) -> None:
    assert main_reason(trace) == reason


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (elsewhere("a", "10.0.0.9"), "a: does not hold 10.0.0.9, or excludes it, or it is reserved"),
        (occupied("a", "10.0.0.9"), "a: 10.0.0.9 is in use; `kubectl get spiderip` tells by whom"),
        (
            occupied("a", "10.0.0.9", "2026-01-01T00:00:00Z"),
            "a: 10.0.0.9 was released at 2026-01-01T00:00:00Z and cools down; only the pod that had it gets it now",
        ),
    ],
)
def test_why_a_pool_does_not_give_the_address_that_was_asked_for(verdict: Verdict, sentence: str) -> None:
    assert (verdict.kept, verdict.rule, str(verdict)) == (False, "address", sentence)


@pytest.mark.parametrize(
    ("subnet", "ips"),
    [
        ("10.0.0.0/24", "10.0.0.1-10.0.0.254"),
        ("10.0.0.0/8", "10.0.0.1-10.255.255.254"),
        ("fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:ffff"),
    ],
)
def test_an_address_of_a_huge_pool_costs_no_more_than_one_of_a_small_pool(subnet: str, ips: str) -> None:
    """A bound so wide that only work in proportion to the pool's size can break it."""
    pool = SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec(subnet=subnet, ips=[ips]))
    began = time.perf_counter()
    for _ in range(50):
        addresses = usable(pool)
        taken = AddressSet.of_addresses((addresses.nth(each) for each in range(100)), addresses.version)
        start = start_of(addresses, "worker", exclusive=False)
        chosen = choose(addresses, taken.__contains__, start)
        assert chosen is not None
        assert chosen not in taken
        assert new_record(ASK, pool, chosen).spec.pool == "p"
    assert time.perf_counter() - began < 2.0


@pytest.mark.parametrize(
    ("written", "text"), [("10.0.0.1/24", "10.0.0.1"), ("fd00::1/64", "fd00::1"), ("fd00:0:0::0001/64", "fd00::1")]
)
def test_an_address_always_has_the_same_text(written: str, text: str) -> None:
    record = new_record(ASK, POOL, 1)
    record.spec.address = written
    assert address_text(record) == text


def test_records_are_grouped_by_their_pool() -> None:
    assert pools_of(new_record(ASK, POOL, to_int("172.31.199.190", 4))) == ("worker-172",)


def test_a_pod_needs_one_address_of_each_family_for_an_interface() -> None:
    record = new_record(ASK, POOL, to_int("172.31.199.190", 4))
    assert slot_of(record) == slot_of(new_record(ASK, POOL, to_int("172.31.199.192", 4))) == ("u1", "eth0", 4)
    other = [replace(ASK, pod_uid="u2"), replace(ASK, interface="net1"), replace(ASK, version=6)]
    pool6 = SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec(subnet="fd00::/64"))
    slots = {slot_of(new_record(ask, pool6 if ask.version == 6 else POOL, 1)) for ask in other}
    assert len({*slots, slot_of(record)}) == 4


def test_a_take_over_leaves_no_mark_of_a_release_by_hand() -> None:
    held = new_record(ASK, POOL, to_int("172.31.199.192", 4))
    annotations = {"ipam.spidernet.io/release": "u-7", "theirs": "x"}
    marked = changed(held, metadata=changed(held.metadata, uid="u-7", annotations=annotations))
    assert marked.marked
    assert not changed(marked, metadata=changed(marked.metadata, uid="u-8")).marked, "it names another object"
    assert taken_over(marked, ASK).metadata.annotations == {"theirs": "x"}


def test_a_refusal_for_a_quota_names_it_and_what_to_do() -> None:
    message = quota_refusal(ASK, "q").message
    assert "no IPv4 address for eth0 of pod default/web-0" in message
    assert "nothing is left of SpiderIPQuota default/q; delete pods" in message
