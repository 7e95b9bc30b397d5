"""Which address comes next, and what a record says."""

from __future__ import annotations

import pytest

from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.allocation import (
    address_of,
    choose,
    exhausted,
    grant,
    hinted,
    is_exclusive,
    label_value,
    record,
    refusal,
    start_of,
    usable,
)
from spiderpool.core.selection import Ask, Verdict

pytestmark = pytest.mark.unit

ASK = Ask("default", "web-0", "u1", "eth0", "worker", "kube-system/ipvlan-eth0")
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


def test_excluded_addresses_are_not_usable() -> None:
    assert usable(POOL).ranges() == ["172.31.199.190", "172.31.199.192-172.31.199.194"]


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
    assert choose(some("10.0.0.1-10.0.0.4"), some(*taken), to_int(start, 4)) == expected


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


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, []),
        (IPPoolStatus(), []),
        (IPPoolStatus(allocatedRanges=["10.0.0.1-10.0.0.2"]), ["10.0.0.1-10.0.0.2"]),
        (IPPoolStatus(allocatedRanges=["nonsense"]), []),
    ],
)
def test_a_hint_is_used_where_it_makes_sense(status: IPPoolStatus | None, expected: list[str]) -> None:
    pool = SpiderIPPool(spec=IPPoolSpec(subnet="10.0.0.0/24"), status=status)
    assert hinted(pool, 4).ranges() == expected


def test_a_record_names_address_holder_pool_and_node() -> None:
    made = record(ASK, POOL, to_int("172.31.199.192", 4))
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
    held = record(ASK, POOL, to_int("172.31.199.192", 4))
    given = grant(held, POOL)
    assert (given.gateway, given.routes) == ("172.31.207.253", (("10.0.0.0/8", "172.31.192.1"),))
    assert grant(held, POOL, clean_gateway=True).gateway is None
    assert grant(held, None).routes == ()


def test_a_refusal_names_every_pool_once_with_the_last_verdict() -> None:
    trace = [
        Verdict("a", True, "kept", "may serve"),
        Verdict("b", False, "node", "is for node x, not y"),
        exhausted("a", 5),
    ]
    assert refusal(ASK, trace).message == (
        "no IPv4 address for eth0 of pod default/web-0 on node worker: "
        "a: 5 of 5 addresses in use; b: is for node x, not y"
    )
    assert "no pool is a default pool" in refusal(ASK, []).message
    assert str(exhausted("c", 0)) == "c: holds no addresses"


def test_long_names_become_digests_in_labels() -> None:
    assert label_value("n" * 63) == "n" * 63
    assert len(label_value("n" * 64)) == 63
    assert label_value("n" * 64) != label_value("n" * 65)
