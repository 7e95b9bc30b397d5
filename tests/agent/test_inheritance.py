"""Which address a pod has from its sticky owner: a StatefulSet or a virtual machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.new_nodes import UNINITIALIZED
from spiderpool.core.ipam.selection import AllocationRequest, NamedPools
from spiderpool.errors import NotReady, Refused
from tests.agent.allocating_node import (
    NodeView,
    One,
    Store,
    Surroundings,
    ask,
    cold,
    keyed,
    ordinal,
    pool,
    working,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


async def test_a_conflict_takes_no_address_from_a_sticky_owner_that_needs_it() -> None:
    one = One(pool(nodeName=["n1"]))
    assert [await one.give(ordinal("first")), await one.give(ask("a"))] == ["10.0.0.1", "10.0.0.2"]
    for uid in ("first", "uid-of-a"):
        await one.allocator.release_conflicting(uid)
    assert list(one.store.objects) == ["10.0.0.1"]
    assert await one.give(ordinal("first")) == "10.0.0.1"
    one.surroundings.gone.add("web-0")
    await one.allocator.release_conflicting("first")
    assert one.store.objects == {}


async def test_an_inherited_address_that_is_in_conflict_cools_down_and_is_tried_last() -> None:
    one = One(cold())
    assert await one.give(ask("a")) == "10.0.0.1"
    await one.allocator.release("uid-of-a", "eth0")
    assert await one.give(ask("a", pod_uid="another-life")) == "10.0.0.1"
    await one.allocator.release_conflicting("another-life")
    assert one.store.objects["10.0.0.1"].spec.releasedAt
    assert await one.give(ask("a", pod_uid="another-life")) == "10.0.0.2"
    one.surroundings.now += 1
    await one.allocator.release("another-life", "eth0")
    assert [await one.give(ask(pod)) for pod in ("b", "c")] == ["10.0.0.2", "10.0.0.1"]


async def test_what_was_made_long_after_its_call_had_failed_is_not_what_the_owner_had() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ordinal("first")) == "10.0.0.1"
    late = one.store.objects["10.0.0.1"]
    late = changed(late, metadata=changed(late.metadata, creationTimestamp="2026-12-01T10:00:30Z"))
    used = changed(late.metadata, name="10.0.0.2", uid="uid-2", creationTimestamp="2026-12-01T10:00:10Z")
    spec = changed(late.spec, address="10.0.0.2/24", podUID="second")
    one.store.objects |= {"10.0.0.1": late, "10.0.0.2": SpiderIP(metadata=used, spec=spec)}
    one.view.deliver()
    assert await one.give(ordinal("third")) == "10.0.0.2"


VM = IPOwner("VirtualMachineInstance", "default", "vm")


def launcher(name: str, node: str = "n1", **fields: object) -> AllocationRequest:
    return ask(f"virt-launcher-{name}", node, owner=VM, **fields)


def uid_of(name: str) -> str:
    return f"uid-of-virt-launcher-{name}"


class Machine:
    """A virtual machine that runs on n1; n2 has a pool of its own."""

    def __init__(self, *pools: SpiderIPPool) -> None:
        self.one = One(*pools)
        self.other = self.one.surroundings.allocator(NodeView(self.one.store, "n2"))

    async def start(self) -> str:
        address = await self.one.give(launcher("source"))
        self.one.surroundings.running.add(uid_of("source"))
        return address

    async def move(self, **fields: object) -> str:
        """The pod on n2 to which the machine is to move; its address."""
        asked = launcher("target", "n2", migrating=True, **fields)
        async with working(self.other):
            done = await self.other.allocate(keyed([asked]))
            await asyncio.sleep(0.02)
        return done.granted["eth0", 4].name


NARROW = (pool("a", nodeName=["n1"]), pool("b", ips="10.0.1.1-10.0.1.2", nodeName=["n2"]))


async def test_a_machine_that_moves_takes_its_address_along_where_its_pool_serves_the_node() -> None:
    machine = Machine(pool())
    address = await machine.start()
    assert await machine.move() == address
    assert machine.one.store.objects[address].spec.podUID == uid_of("target")


async def test_the_target_gets_an_address_of_its_own_where_the_pool_of_the_machine_does_not_serve_its_node() -> None:
    machine = Machine(*NARROW)
    address = await machine.start()
    own = await machine.move()
    records = machine.one.store.objects
    assert {name: record.spec.podUID for name, record in records.items()} == {
        address: uid_of("source"),
        own: uid_of("target"),
    }
    assert (records[address].spec.owner, records[own].spec.owner) == (VM, None)
    assert await machine.move() == own
    machine.one.surroundings.running.clear()
    assert await machine.one.give(launcher("back")) == address


async def test_after_a_migration_that_failed_the_next_one_takes_nothing_from_the_machine_either() -> None:
    """The record names the pod of the first migration, which is gone; the machine still runs in the first pod."""
    machine = Machine(pool("a", nodeName=["n1", "n3"]), NARROW[1])
    address = await machine.start()
    elsewhere = machine.one.surroundings.allocator(NodeView(machine.one.store, "n3"))
    await elsewhere.allocate(keyed([launcher("failed", "n3", migrating=True)]))
    assert machine.one.store.objects[address].spec.podUID == uid_of("failed")
    assert await machine.move() != address
    assert address in machine.one.store.objects


async def test_a_target_that_asks_for_the_address_of_its_machine_is_refused_with_pool_and_node() -> None:
    machine = Machine(*NARROW)
    address = await machine.start()
    with pytest.raises(Refused, match="target on node n2 from the cluster's default pools: a: is for node n1, not n2"):
        await machine.move(address=address)
    assert machine.one.store.objects[address].spec.podUID == uid_of("source")


async def test_a_pod_of_a_machine_waits_for_the_former_one_to_end() -> None:
    machine = Machine(pool())
    address = await machine.start()
    with pytest.raises(Refused, match=f"gets {address}/16 when pod default/virt-launcher-source on node n1, which has"):
        await machine.one.give(launcher("next"))
    machine.one.surroundings.running.clear()
    assert await machine.one.give(launcher("next")) == address


async def test_an_address_stays_with_its_owner_for_one_read_and_one_write() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ordinal("first")) == "10.0.0.1"
    assert (one.store.writes, one.store.reads) == (1, 2), "once more, whether another pod of the owner was faster"
    await one.allocator.release("first", "eth0")
    assert await one.give(ask("stranger")) == "10.0.0.2"
    writes, reads = one.store.writes, one.store.reads
    assert await one.give(ordinal("second")) == "10.0.0.1"
    assert (one.store.writes - writes, one.store.reads - reads) == (1, 1)


async def test_an_address_follows_its_owner_to_another_node() -> None:
    one = One(pool())
    other = one.surroundings.allocator(NodeView(one.store, "n2"))
    first = await one.give(ordinal("first"))
    await one.allocator.release("first", "eth0")
    await other.allocate(keyed([ordinal("second", "n2")]))
    (held,) = one.store.objects.values()
    assert (held.name, held.spec.node, held.spec.podUID) == (first, "n2", "second")
    assert (held.metadata.labels or {})["ipam.spidernet.io/node"] == "n2"
    one.surroundings.gone.add("web-0")
    await one.allocator.release("first", "eth0")
    assert first in one.store.objects, "a late DEL of the first pod does not hit the second"


async def test_an_address_whose_pool_does_not_go_with_the_new_node_is_replaced() -> None:
    one = One(pool("a", nodeName=["n1"]), pool("b", ips="10.0.1.1", nodeName=["n2"]))
    other = one.surroundings.allocator(NodeView(one.store, "n2"))
    await one.give(ordinal("first"))
    async with working(other):
        await other.allocate(keyed([ordinal("second", "n2")]))
        await eventually(lambda: list(one.store.objects) == ["10.0.1.1"])


async def test_a_fixed_address_stays_until_its_replacement_exists() -> None:
    one = One(pool("a", nodeName=["n1"]), pool("b", ips="10.0.1.1", nodeName=["n2"]))
    other = one.surroundings.allocator(NodeView(one.store, "n2"))
    fixed = await one.give(ordinal("first"))
    await other.allocate(keyed([ask("stranger", "n2")]))
    async with working(other):
        with pytest.raises(Refused, match="a: is for node n1, not n2; b: 1 of 1 addresses in use"):
            await other.allocate(keyed([ordinal("second", "n2")]))
        await asyncio.sleep(0.05)
    assert one.store.objects[fixed].spec.podUID == "first"
    assert await one.give(ordinal("third")) == fixed, "back on its node"


async def test_a_fixed_address_from_which_pods_move_away_is_replaced() -> None:
    """While nothing else is free it stays with its owner, so that the move can be taken back."""
    emptied = pool("a", disable=True)
    emptied.metadata.annotations = {POOL_MOVING_ANNOTATION: "10.0.0.0-10.0.255.255"}
    one = One(pool("a"), pool("b", ips="10.0.1.1"))
    fixed = await one.give(ordinal("first"))
    other = Surroundings(emptied, pool("b", ips="10.0.1.1")).allocator(NodeView(one.store, "n2"))
    async with working(other):
        await other.allocate(keyed([ordinal("second", "n2")]))
        await eventually(lambda: list(one.store.objects) == ["10.0.1.1"])
        assert fixed != "10.0.1.1"


async def test_a_fixed_address_is_not_given_up_on_the_word_of_a_late_cache() -> None:
    """A drain was taken back; the cache of the node still has the pool as it was before."""
    late = pool("a", disable=True)
    late.metadata.annotations = {POOL_MOVING_ANNOTATION: "10.0.0.0-10.0.255.255"}
    one = One(pool("a"), pool("b", ips="10.0.1.1"))
    fixed = await one.give(ordinal("first"))
    surroundings = Surroundings(pool("a"), pool("b", ips="10.0.1.1"))
    surroundings.late = [late, pool("b", ips="10.0.1.1")]
    other = surroundings.allocator(NodeView(one.store, "n2"))
    async with working(other):
        await other.allocate(keyed([ordinal("second", "n2")]))
        await asyncio.sleep(0.05)
    assert list(one.store.objects) == [fixed]
    assert one.store.objects[fixed].spec.podUID == "second"


@pytest.mark.parametrize("asked", [ask("web-0", pod_uid="second"), ordinal("second")])
@pytest.mark.parametrize("how", ["reserved", "taken out of its pool"])
async def test_a_released_address_that_nobody_may_get_does_not_come_back(asked: AllocationRequest, how: str) -> None:
    one = One(pool("a", cooldownSeconds=600, nodeName=["n1"]))
    former = await one.give(replace(asked, pod_uid="first"))
    one.surroundings.gone.add("web-0")
    await one.allocator.release("first", "eth0")
    assert one.store.objects[former].spec.releasedAt
    one.surroundings.gone.clear()
    if how == "reserved":
        one.surroundings.reserved[4] = AddressSet.parse([former], 4)
    else:
        one.surroundings.pools = [pool("a", "10.0.0.2-10.0.0.6", cooldownSeconds=600, nodeName=["n1"])]
    assert await one.give(asked) == "10.0.0.2"
    assert one.store.objects[former].spec.releasedAt


async def test_a_fixed_address_stays_when_another_family_is_refused() -> None:
    one = One(pool("a", nodeName=["n1"]), pool("b", ips="10.0.1.1", nodeName=["n2"]))
    other = one.surroundings.allocator(NodeView(one.store, "n2"))
    fixed = await one.give(ordinal("first"))
    async with working(other):
        with pytest.raises(Refused, match="no IPv6 address"):
            await other.allocate(keyed([ordinal("second", "n2"), ordinal("second", "n2", version=6)]))
        await asyncio.sleep(0.05)
    assert list(one.store.objects) == [fixed]


async def test_a_pool_that_is_not_seen_for_a_moment_costs_no_fixed_address() -> None:
    one = One(pool("a"), pool("spare", ips="10.0.1.1"))
    fixed = await one.give(ordinal("first"))
    one.surroundings.hidden = {"a"}
    assert await one.give(ordinal("second")) == fixed
    one.surroundings.pools = one.surroundings.pools[1:]
    with pytest.raises(Refused, match=f"keeps {fixed}/16 of pool a, which does not exist: create the pool again"):
        await one.give(ordinal("third"))
    assert list(one.store.objects) == [fixed]


async def test_a_record_of_a_pool_that_does_not_exist_keeps_an_owner_from_no_address_that_suits() -> None:
    one = One(pool("a", nodeName=["n1"]))
    fixed = await one.give(ordinal("first"))
    held = one.store.objects[fixed]
    planted = changed(held, metadata=changed(held.metadata, name="0.0.0.1"), spec=changed(held.spec, pool="none"))
    one.store.objects = {"0.0.0.1": planted, fixed: held}
    assert await one.give(ordinal("second")) == fixed
    assert "0.0.0.1" in one.store.objects


ZONE_A = LabelSelector(matchLabels={"zone": "a"})


def node(ready: str = "True", taints: tuple[str, ...] = (), **labels: str) -> Node:
    return Node(
        metadata=ObjectMeta(name="n1", labels=labels),
        spec=NodeSpec(taints=[Taint(each) for each in taints]),
        status=NodeStatus([NodeCondition("Ready", ready)]),
    )


async def zoned() -> tuple[One, str]:
    """A node of zone a whose labels no request has; the fixed address from the pool of the zone; a pool for all."""
    one = One(pool("a", nodeAffinity=ZONE_A), pool("open", ips="10.0.1.1"))
    return one, await one.give(ordinal("first", node_labels={"zone": "a"}))


async def test_labels_of_the_node_that_the_cache_lacks_cost_no_fixed_address() -> None:
    one, fixed = await zoned()
    one.surroundings.nodes["n1"] = node(zone="a", taints=(UNINITIALIZED,))
    assert await one.give(ordinal("second")) == fixed


@pytest.mark.parametrize("found", [None, node("False"), node(taints=(UNINITIALIZED,), zone="b")])
async def test_labels_of_the_node_that_may_be_about_to_come_cost_no_fixed_address(found: Node | None) -> None:
    one, fixed = await zoned()
    if found:
        one.surroundings.nodes["n1"] = found
    with pytest.raises(Refused, match=f"keeps {fixed}/16 of pool a: its nodeAffinity does not match .*about to come"):
        await one.give(ordinal("second"))
    assert list(one.store.objects) == [fixed]


async def test_a_fixed_address_does_not_go_along_to_a_node_with_other_labels() -> None:
    one, _ = await zoned()
    one.surroundings.nodes["n1"] = node(zone="b")
    async with working(one.allocator):
        assert await one.give(ordinal("second")) == "10.0.1.1"
        await eventually(lambda: list(one.store.objects) == ["10.0.1.1"])


async def test_where_more_than_labels_of_the_node_does_not_match_nobody_waits_for_them() -> None:
    one, _ = await zoned()
    assert await one.give(ordinal("second", candidates=NamedPools(("open",)))) == "10.0.1.1"


async def test_a_fixed_address_of_a_pool_that_the_pod_no_longer_names_is_replaced() -> None:
    one = One(pool("a"), pool("b", ips="10.0.1.1"))
    await one.give(ordinal("first"))
    one.surroundings.pools = one.surroundings.pools[1:]
    async with working(one.allocator):
        assert await one.give(ordinal("second", candidates=NamedPools(("b",)))) == "10.0.1.1"
        await eventually(lambda: list(one.store.objects) == ["10.0.1.1"])


async def test_an_address_whose_owner_no_longer_wants_it_is_released() -> None:
    one = One(pool())
    await one.give(ordinal("first"))
    one.surroundings.gone.add("web-0")
    await one.allocator.release("first", "eth0")
    assert one.store.objects == {}


async def test_an_owners_next_pod_waits_for_the_sandbox_of_the_former_one() -> None:
    one = One(pool())
    other = one.surroundings.allocator(NodeView(one.store, "n2"))
    await one.give(ordinal("first"))
    before = dict(one.store.objects)
    one.surroundings.in_use.add("first")
    with pytest.raises(Refused, match=r"web-0 on node n2 waits for 10\.0\.0\."):
        await other.allocate(keyed([ordinal("second", "n2")]))
    assert one.store.objects == before, "nothing was taken, and nothing given up"
    assert await one.give(ordinal("first")) in before, "the pod that holds it waits for nobody"
    one.surroundings.in_use.clear()
    await other.allocate(keyed([ordinal("second", "n2")]))
    assert [held.spec.podUID for held in one.store.objects.values()] == ["second"]


async def test_a_machine_that_moves_does_not_wait() -> None:
    machine = Machine(pool())
    address = await machine.start()
    machine.one.surroundings.in_use.add(uid_of("source"))
    assert await machine.move() == address


async def test_the_end_of_a_machine_that_was_to_move_frees_nothing_while_its_first_pod_runs() -> None:
    """Both pods have the address; the record names the second one, whose DEL comes first."""
    machine = Machine(pool())
    around = machine.one.surroundings
    address = await machine.start()
    await machine.move()
    around.gone |= {"virt-launcher-source", "virt-launcher-target"}
    around.in_use.add(uid_of("source"))
    await machine.other.release(uid_of("target"), "eth0")
    assert machine.one.store.objects[address].spec.releasedAt is None, "the collection of the cluster judges it"
    around.in_use.clear()
    await machine.other.release(uid_of("target"), "eth0")
    assert not machine.one.store.objects


async def test_after_a_migration_that_failed_the_next_pod_waits_for_the_one_in_which_the_machine_ran() -> None:
    machine = Machine(pool())
    around = machine.one.surroundings
    address = await machine.start()
    await machine.move()
    machine.one.view.deliver()
    around.running.clear()
    around.in_use.add(uid_of("source"))
    with pytest.raises(Refused, match="waits for"):
        await machine.other.allocate(keyed([launcher("next", "n2")]))
    assert await machine.one.give(launcher("source")) == address, "a further sandbox of that pod itself"
    assert machine.one.store.objects[address].spec.movedFrom is None


async def test_only_pods_that_may_still_run_are_remembered_of_the_moves_of_a_machine() -> None:
    machine = Machine(pool())
    address = await machine.start()
    for number in range(3):
        node = machine.other if number % 2 else machine.one.allocator
        machine.one.surroundings.in_use.add(uid_of("source"))
        await node.allocate(keyed([launcher(str(number), f"n{2 - (number + 1) % 2}", migrating=True)]))
    moved = machine.one.store.objects[address].spec.movedFrom or []
    assert [each.pod for each in moved] == ["virt-launcher-source", "virt-launcher-1"]


class Overtaken(NodeView):
    """The records as one node reads and writes them, while another pod is attached before its first IPv6 address."""

    def __init__(self, store: Store, node: str, overtake: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store, node)
        self._overtakes = [overtake]

    async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        if ":" in wanted.spec.address and self._overtakes:
            await self._overtakes.pop()()
        return await super().create(wanted, timeout=timeout)


async def test_a_machine_that_moves_while_its_first_pod_is_attached_gets_one_address_of_each_family() -> None:
    store, world = Store(), Surroundings(pool("four"), pool("six", "fd00::1-fd00::9"))
    target = world.allocator(NodeView(store, "n2"))
    moving = [launcher("target", "n2", migrating=True, version=version) for version in (4, 6)]
    source = world.allocator(Overtaken(store, "n1", lambda: target.allocate(keyed(moving))))
    world.running.add(uid_of("target"))

    with pytest.raises(NotReady, match=r"was given fd00::\d/64 by another pod of its owner meanwhile"):
        await source.allocate(keyed([launcher("source", version=version) for version in (4, 6)]))

    assert [record.spec.podUID for record in store.objects.values()] == [uid_of("target")] * 2
    with pytest.raises(Refused, match=r"gets .* when pod default/virt-launcher-target on node n2"):
        await source.allocate(keyed([launcher("source", version=version) for version in (4, 6)]))


async def test_two_pods_of_an_ordinal_that_are_attached_at_once_get_one_address_of_each_family() -> None:
    """The former one was deleted by force."""
    store, world = Store(), Surroundings(pool("four"), pool("six", "fd00::1-fd00::9"))
    other = world.allocator(NodeView(store, "n2"))
    present = [ordinal("second", "n2", version=version) for version in (4, 6)]
    node = world.allocator(Overtaken(store, "n1", lambda: other.allocate(keyed(present))))

    with pytest.raises(NotReady, match=r"was given fd00::\d/64 by another pod of its owner meanwhile"):
        await node.allocate(keyed([ordinal("first", version=version) for version in (4, 6)]))

    assert [record.spec.podUID for record in store.objects.values()] == ["second", "second"]
