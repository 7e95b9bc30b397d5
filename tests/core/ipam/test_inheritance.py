"""What a pod takes over, and the sentences where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import inheritance
from spiderpool.core.ipam.allocation import new_record
from spiderpool.core.ipam.selection import AllocationRequest, NamedPools
from spiderpool.errors import Refused

pytestmark = pytest.mark.unit

WEB = IPOwner("StatefulSet", "default", "web")
POOL = SpiderIPPool(
    metadata=ObjectMeta(name="blue"),
    spec=IPPoolSpec("10.0.0.0/24", default=True, nodeAffinity=LabelSelector({"zone": "a"})),
)
REQUEST = AllocationRequest("default", "web-0", "uid-1", "eth0", "n1", None, owner=WEB)
RECORD = new_record(replace(REQUEST, pod_uid="uid-0", node="n0"), POOL, 0x0A000005)


def with_spec(**fields: object) -> SpiderIP:
    return changed(RECORD, spec=changed(RECORD.spec, **fields))


def test_a_record_is_for_the_same_owner_interface_and_family() -> None:
    assert inheritance.is_for(RECORD, REQUEST)
    assert not inheritance.is_for(RECORD, replace(REQUEST, interface="net1"))
    assert not inheritance.is_for(RECORD, replace(REQUEST, version=6))
    assert not inheritance.is_for(RECORD, replace(REQUEST, owner=None))


def test_a_record_was_of_a_pod_of_the_same_name() -> None:
    assert inheritance.was_of(RECORD, REQUEST)
    assert not inheritance.was_of(RECORD, replace(REQUEST, pod="web-1"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pod": "virt-b"}, True),
        ({}, False),
        ({"pod": "virt-b", "podUID": "uid-1"}, False),
        ({"pod": "virt-b", "releasedAt": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_only_another_pod_of_another_name_may_run_elsewhere(fields: dict[str, object], expected: bool) -> None:
    assert inheritance.may_run_elsewhere(with_spec(**fields), REQUEST) is expected
    assert "when pod default/web-0 on node n0, which has it, has ended" in str(
        inheritance.other_machine(RECORD, REQUEST)
    )


def test_what_a_pod_asks_for_decides_before_what_its_owner_has() -> None:
    assert inheritance.why_not_asked(REQUEST, RECORD) is None
    assert inheritance.why_not_asked(replace(REQUEST, address="10.0.0.9"), RECORD) == (
        "is not 10.0.0.9, which the pod asks for"
    )
    named = replace(REQUEST, candidates=NamedPools(("red",)), source="annotation x")
    assert inheritance.why_not_asked(named, RECORD) == "does not come from annotation x"


def test_the_remedy_where_the_pool_is_missing() -> None:
    assert "run `spiderpoolctl ip release 10.0.0.5`" in str(inheritance.missing_pool(REQUEST, RECORD))


def moving(text: str) -> SpiderIPPool:
    return changed(POOL, metadata=ObjectMeta(name="blue", annotations={POOL_MOVING_ANNOTATION: text}))


def test_another_pod_does_not_get_an_address_from_which_pods_move_away() -> None:
    away = moving("10.0.0.1, 10.0.0.4-10.0.0.6")
    assert inheritance.moving_addresses(away, 4).size == 4
    assert "pool blue says that pods move away" in (inheritance.why_moving(REQUEST, RECORD, away) or "")
    assert inheritance.why_moving(replace(REQUEST, pod_uid="uid-0"), RECORD, away) is None, "whoever has it keeps it"
    assert inheritance.why_moving(replace(REQUEST, migrating=True), RECORD, away) is None, "a machine that runs too"


@pytest.mark.parametrize("text", ["", "10.0.0.6", "10.0.0", "fd00::1-fd00::9"])
def test_other_and_unreadable_addresses_stay_with_their_owner(text: str) -> None:
    assert inheritance.why_moving(REQUEST, RECORD, moving(text)) is None
    assert inheritance.why_moving(REQUEST, RECORD, POOL) is None


@pytest.mark.parametrize(("disabled", "size"), [(True, 256), (False, 0)])
def test_a_whole_pool_that_gives_addresses_again_is_left_by_nobody(disabled: bool, size: int) -> None:
    away = moving("10.0.0.0-10.0.0.255")
    assert inheritance.moving_addresses(changed(away, spec=changed(away.spec, disable=disabled)), 4).size == size


@pytest.mark.parametrize(
    ("ips", "reserved", "why"),
    [
        ("10.0.0.5", "10.0.0.6", None),
        ("10.0.0.6-10.0.0.9", "10.0.0.6", "pool blue does not give it any more"),
        ("10.0.0.5", "10.0.0.4-10.0.0.5", "it is reserved"),
        ("10.0.0", "10.0.0.6", "pool blue cannot be read"),
    ],
)
def test_a_released_address_that_its_pool_does_not_give_is_for_nobody(ips: str, reserved: str, why: str | None) -> None:
    pool, kept = changed(POOL, spec=changed(POOL.spec, ips=[ips])), AddressSet.parse([reserved], 4)
    released = with_spec(releasedAt="2026-01-01T00:00:00Z")
    assert inheritance.why_not_given(released, pool, kept) == why
    assert inheritance.why_not_given(RECORD, pool, kept) is None, "whoever has it keeps it"


def test_an_address_is_lost_where_its_pool_does_not_suit_moves_it_or_gives_it_no_more() -> None:
    nothing, released = AddressSet(4), with_spec(releasedAt="2026-01-01T00:00:00Z")
    pool = changed(POOL, spec=changed(POOL.spec, nodeAffinity=None, ips=["10.0.0.1-10.0.0.9"]))
    assert inheritance.why_lost(REQUEST, released, pool, nothing) is None
    of_others = changed(pool, spec=changed(pool.spec, nodeName=["n9"]))
    assert "is for node n9" in (inheritance.why_lost(REQUEST, released, of_others, nothing) or "")
    away = changed(pool, metadata=moving("10.0.0.5").metadata)
    assert "pods move away" in (inheritance.why_lost(REQUEST, released, away, nothing) or "")
    assert inheritance.why_lost(REQUEST, released, pool, AddressSet.parse(["10.0.0.5"], 4)) == "it is reserved"


def node(label: str, ready: str) -> Node:
    return Node(
        metadata=ObjectMeta(name="n1", labels={"zone": label}), status=NodeStatus([NodeCondition("Ready", ready)])
    )


def test_the_labels_of_the_node_as_they_are_now_decide() -> None:
    assert inheritance.why_labels_differ(REQUEST, RECORD, POOL, node("a", "True")) is None
    reason = inheritance.why_labels_differ(REQUEST, RECORD, POOL, node("b", "True"))
    assert reason == "its nodeAffinity does not match the labels of the node"
    for later in (node("b", "False"), None):
        with pytest.raises(Refused, match="but some may be about to come, since it is not"):
            inheritance.why_labels_differ(REQUEST, RECORD, POOL, later)


def test_an_annotation_that_cannot_be_read_is_told() -> None:
    assert inheritance.why_moving_unreadable(POOL) is None
    assert inheritance.why_moving_unreadable(moving("10.0.0.1")) is None
    assert "10.0.0.x" in (inheritance.why_moving_unreadable(moving("10.0.0.x")) or "")
