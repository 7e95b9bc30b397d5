"""What an ADD would be granted, by each way to an address; tests/cli compares it with the allocator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus, Pod
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import new_record, released
from spiderpool.core.ipam.dry_run import AddressSnapshot, DryGrant, GrantOrigin, dry_run, visible_pools
from spiderpool.core.ipam.selection import AllocationRequest, DefaultPools, NamedPools

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
ONE, TWO = 0x0A000001, 0x0A000002
WEB = IPOwner("StatefulSet", "default", "web")
MACHINE = IPOwner("VirtualMachineInstance", "default", "vm")


def pool(name: str = "blue", ips: str = "10.0.0.1-10.0.0.2", **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": [ips], "default": True, "nodeName": ["n1"]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))


def request(pod: str = "web-0", uid: str = "uid-1", **fields: Any) -> AllocationRequest:
    return replace(AllocationRequest("default", pod, uid, "eth0", "n1", None), **fields)


def record(address: int, of: AllocationRequest, where: SpiderIPPool | None = None) -> SpiderIP:
    made = new_record(of, where or pool(), address)
    return changed(made, metadata=changed(made.metadata, resourceVersion=str(address)))


def snapshot(*records: SpiderIP, pools: tuple[SpiderIPPool, ...] = (), **fields: Any) -> AddressSnapshot:
    reserved = {4: AddressSet(4), 6: AddressSet(6)}
    return replace(AddressSnapshot("n1", pools or (pool(),), records, reserved, NOW), **fields)


def one(asked: AllocationRequest, seen: AddressSnapshot) -> DryGrant:
    (found,) = dry_run({(asked.interface, asked.version): asked}, seen)
    return found


def outcome(asked: AllocationRequest, seen: AddressSnapshot) -> tuple[str, GrantOrigin | None]:
    found = one(asked, seen)
    return (found.record.name if found.record else str(found.refusal)), found.origin


OTHER = request("other", "uid-9")


def test_what_a_pod_holds_comes_first_and_of_several_the_first_written() -> None:
    seen = snapshot(record(TWO, request()), record(ONE, request()))
    assert outcome(request(), seen) == ("10.0.0.1", GrantOrigin.HELD)
    assert outcome(request(address="10.0.0.2"), seen) == ("10.0.0.2", GrantOrigin.HELD)


def test_a_record_of_the_pod_on_another_node_is_only_recognised_by_its_address() -> None:
    seen = snapshot(record(ONE, request(node="n2")))
    assert outcome(request(), seen) == ("10.0.0.2", GrantOrigin.FREE)
    assert outcome(request(address="10.0.0.1"), seen) == ("10.0.0.1", GrantOrigin.HELD)


class TestOwners:
    def test_the_next_pod_of_an_ordinal_takes_its_address_over(self) -> None:
        seen = snapshot(record(TWO, request(uid="uid-0", owner=WEB, node="n2")))
        assert outcome(request(owner=WEB), seen) == ("10.0.0.2", GrantOrigin.OWNER)
        assert outcome(request("web-1", owner=WEB), seen) == ("10.0.0.1", GrantOrigin.FREE)
        assert outcome(request(owner=WEB, interface="net1"), seen) == ("10.0.0.1", GrantOrigin.FREE)

    def test_it_gets_another_one_where_pods_move_away_from_that(self) -> None:
        away = pool()
        away.metadata.annotations = {POOL_MOVING_ANNOTATION: "10.0.0.2"}
        kept = record(TWO, request(uid="uid-0", owner=WEB))
        assert outcome(request(owner=WEB), snapshot(kept, pools=(away,))) == ("10.0.0.1", GrantOrigin.FREE)
        former = changed(kept, spec=changed(kept.spec, owner=None, releasedAt="1970-01-12T13:46:40Z"))
        assert outcome(request(), snapshot(former, pools=(away,))) == ("10.0.0.1", GrantOrigin.FREE)
        assert outcome(request(), snapshot(former)) == ("10.0.0.2", GrantOrigin.FORMER)

    @pytest.mark.parametrize("owner", [WEB, None])
    def test_no_released_address_comes_back_that_is_reserved_or_left_its_pool(self, owner: IPOwner | None) -> None:
        former = released(record(TWO, request(uid="uid-0", owner=owner)), NOW - 1)
        asked = request(owner=owner)
        assert outcome(asked, snapshot(former))[0] == "10.0.0.2"
        assert outcome(asked, snapshot(former, pools=(pool(ips="10.0.0.1"),))) == ("10.0.0.1", GrantOrigin.FREE)
        reserved = {4: AddressSet.parse(["10.0.0.2"], 4), 6: AddressSet(6)}
        assert outcome(asked, snapshot(former, reserved=reserved)) == ("10.0.0.1", GrantOrigin.FREE)

    def test_it_waits_for_the_sandbox_of_the_former_pod(self) -> None:
        former = record(TWO, request(uid="uid-0", owner=WEB))
        seen = snapshot(former, why_not_given_up=lambda _: "a sandbox may still use")
        assert "waits for 10.0.0.2/24, which a sandbox may still use" in outcome(request(owner=WEB), seen)[0]
        given_up = snapshot(released(former, NOW), why_not_given_up=lambda _: "a sandbox may still use")
        assert outcome(request(owner=WEB), given_up) == ("10.0.0.2", GrantOrigin.OWNER)

    def test_an_address_of_another_pool_is_left(self) -> None:
        red = pool("red", "10.0.0.9")
        seen = snapshot(record(0x0A000009, request(uid="uid-0", owner=WEB), red), pools=(pool(), red))
        named = request(owner=WEB, candidates=NamedPools(("blue",)))
        assert outcome(named, seen) == ("10.0.0.1", GrantOrigin.FREE)

    def test_an_address_of_a_pool_that_is_missing_is_not_given_up(self) -> None:
        seen = snapshot(record(ONE, request(uid="uid-0", owner=WEB), pool("gone")))
        assert "keeps 10.0.0.1/24 of pool gone, which does not exist" in outcome(request(owner=WEB), seen)[0]

    def test_a_record_of_a_pool_that_is_missing_stands_in_no_others_way(self) -> None:
        gone = record(ONE, request(uid="uid-0", owner=WEB), pool("gone"))
        kept = record(TWO, request(uid="uid-0", owner=WEB))
        for records in ((gone, kept), (kept, gone)):
            assert outcome(request(owner=WEB), snapshot(*records)) == ("10.0.0.2", GrantOrigin.OWNER)

    def test_labels_of_the_node_are_those_of_the_object(self) -> None:
        zone = pool(nodeName=None, nodeAffinity=LabelSelector({"zone": "a"}))
        seen = snapshot(record(ONE, request(uid="uid-0", owner=WEB), zone), pools=(zone,))
        assert "but some may be about to come" in outcome(request(owner=WEB), seen)[0]
        status = NodeStatus([NodeCondition("Ready", "True")])
        there = Node(metadata=ObjectMeta(name="n1", labels={"zone": "a"}), status=status)
        assert outcome(request(owner=WEB), replace(seen, node_object=there)) == ("10.0.0.1", GrantOrigin.OWNER)

    def test_a_machine_that_runs_elsewhere_keeps_its_address(self) -> None:
        running = Pod(metadata=ObjectMeta(name="vm-a", namespace="default", uid="uid-0"))
        held = record(ONE, request("vm-a", "uid-0", owner=MACHINE))
        seen = snapshot(held, pods={"default/vm-a": running})
        after = request("vm-b", owner=MACHINE)
        assert "when pod default/vm-a on node n1, which has it, has ended" in outcome(after, seen)[0]
        assert outcome(replace(after, migrating=True), seen) == ("10.0.0.1", GrantOrigin.OWNER)
        elsewhere = replace(after, migrating=True, address="10.0.0.2")
        assert outcome(elsewhere, seen) == ("10.0.0.2", GrantOrigin.FREE)
        assert outcome(after, snapshot(held)) == ("10.0.0.1", GrantOrigin.OWNER)


class TestFormerPods:
    def test_a_pod_of_the_same_name_gets_its_address_back(self) -> None:
        former = released(record(TWO, request(uid="uid-0")), NOW)
        assert outcome(request(), snapshot(former)) == ("10.0.0.2", GrantOrigin.FORMER)
        assert outcome(OTHER, snapshot(former)) == ("10.0.0.1", GrantOrigin.FREE)

    def test_not_from_a_pool_that_the_node_does_not_see(self) -> None:
        there = pool("red", "10.0.0.9")
        hidden = changed(there, metadata=ObjectMeta(name="red", labels={POOL_NODE_LABEL: "n2"}))
        former = released(record(0x0A000009, request(uid="uid-0"), there), NOW)
        assert outcome(request(), snapshot(former, pools=(pool(), hidden))) == ("10.0.0.1", GrantOrigin.FREE)


class TestNewAddresses:
    def test_a_cooldown_that_is_over_and_one_that_is_not(self) -> None:
        slow = pool("blue", "10.0.0.1", cooldownSeconds=60)
        cooling = released(record(ONE, OTHER, slow), NOW - 10)
        assert outcome(request(), snapshot(cooling, pools=(slow,))) == ("10.0.0.1", GrantOrigin.EARLY)
        assert outcome(request(), snapshot(cooling, pools=(slow,), now=NOW + 60)) == ("10.0.0.1", GrantOrigin.COOLED)

    def test_a_full_pool(self) -> None:
        seen = snapshot(record(ONE, OTHER), pools=(pool(ips="10.0.0.1"),))
        assert "blue: 1 of 1 addresses in use" in outcome(request(), seen)[0]

    def test_a_pool_that_cannot_be_read(self) -> None:
        assert "blue: its addresses cannot be read" in outcome(request(), snapshot(pools=(pool(ips="x"),)))[0]

    def test_addresses_that_sandboxes_use_without_a_record(self) -> None:
        seen = snapshot(occupied={4: {ONE}})
        assert outcome(request(), seen) == ("10.0.0.2", GrantOrigin.FREE)
        assert "10.0.0.1 is in use" in outcome(request(address="10.0.0.1"), seen)[0]

    def test_a_quota_of_which_nothing_is_left(self) -> None:
        found = one(request(), snapshot(exhausted_quota="few"))
        assert "nothing is left of SpiderIPQuota default/few" in str(found.refusal)
        assert [verdict.subject for verdict in found.trace] == ["blue"]

    @pytest.mark.parametrize(
        ("address", "said"),
        [("10.0.0.9", "does not hold 10.0.0.9"), ("10.0.0.1", "10.0.0.1 is in use"), ("10.0.0.2", "10.0.0.2")],
    )
    def test_a_requested_address(self, address: str, said: str) -> None:
        assert said in outcome(request(address=address), snapshot(record(ONE, OTHER)))[0]

    def test_a_requested_address_that_cools_down(self) -> None:
        slow = pool(cooldownSeconds=60)
        seen = snapshot(released(record(ONE, OTHER, slow), NOW - 10), pools=(slow,))
        asked = request(address="10.0.0.1")
        assert "cools down; only the pod that had it gets it now" in outcome(asked, seen)[0]
        assert outcome(asked, replace(seen, now=NOW + 60)) == ("10.0.0.1", GrantOrigin.COOLED)

    def test_nothing_cools_down_in_a_pool_that_cannot_be_read(self) -> None:
        seen = snapshot(pools=(pool(ips="x"), pool("red", "y")))
        assert "red: its addresses cannot be read" in outcome(request(), seen)[0]

    def test_what_one_request_would_get_is_not_there_for_the_next(self) -> None:
        asked = {(name, 4): request(interface=name) for name in ("eth0", "net1", "net2")}
        found = dry_run(asked, snapshot())
        assert [each.record.name if each.record else None for each in found] == ["10.0.0.1", "10.0.0.2", None]


def test_an_agent_sees_its_own_pools_and_the_shared_ones() -> None:
    own, others = (
        changed(pool(node), metadata=ObjectMeta(name=node, labels={POOL_NODE_LABEL: node})) for node in ("n1", "n2")
    )
    assert [each.name for each in visible_pools([own, others, pool("shared")], "n1")] == ["n1", "shared"]
    assert isinstance(request().candidates, DefaultPools)
