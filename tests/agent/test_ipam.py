"""The allocator against a plain model of the API server: no address twice, none lost, none leaked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spiderpool.agent.ipam import Allocator
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.allocation import address_of, held_by, record
from spiderpool.core.selection import Ask
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.client import AlreadyExists

pytestmark = pytest.mark.unit


class Store:
    """The far end: one name, one object; UIDs never come back."""

    def __init__(self) -> None:
        self.objects: dict[str, SpiderIP] = {}
        self.writes = self.reads = 0
        self.faults: list[str] = []

    def create(self, wanted: SpiderIP) -> SpiderIP:
        self.writes += 1
        fault = self.faults.pop() if self.faults else ""
        if fault == "lost request":
            raise ApiUnavailable("connection refused")
        if wanted.name in self.objects:
            raise AlreadyExists(wanted.name)
        wanted.metadata.uid = f"uid-{self.writes}"
        self.objects[wanted.name] = wanted
        if fault == "lost answer":
            raise ApiUnavailable("connection reset")
        return wanted

    def delete(self, held: SpiderIP) -> None:
        fault = self.faults.pop() if self.faults else ""
        if fault == "lost request":
            raise ApiUnavailable("connection refused")
        known = self.objects.get(held.name)
        if known and known.metadata.uid == held.metadata.uid:
            del self.objects[held.name]
        if fault == "lost answer":
            raise ApiUnavailable("connection reset")


class NodeView:
    """What one node knows of the store: its own writes at once, anything else when events arrive."""

    def __init__(self, store: Store, node: str) -> None:
        self.store = store
        self.node = node
        self.known: dict[str, SpiderIP] = {}
        self.deliver()

    def deliver(self) -> None:
        self.known = {name: each for name, each in self.store.objects.items() if each.spec.node == self.node}

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        return held_by(self.known.values(), pod_uid, interface)

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        return [each for each in self.known.values() if each.spec.podUID == pod_uid]

    def addresses(self, pool: str) -> Collection[int]:
        return [address_of(each) for each in self.known.values() if each.spec.pool == pool]

    async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        await asyncio.sleep(0)
        made = self.store.create(wanted)
        await asyncio.sleep(0)
        self.known[made.name] = made
        return made

    async def delete(self, held: SpiderIP, *, timeout: float) -> None:
        await asyncio.sleep(0)
        self.store.delete(held)
        self.known.pop(held.name, None)

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        self.store.reads += 1
        return self.store.objects.get(name)

    def adopt(self, held: SpiderIP) -> None:
        self.known[held.name] = held

    def forget(self, held: SpiderIP) -> None:
        self.known.pop(held.name, None)

    async def in_use(self, pool: str, version: int, *, timeout: float) -> AddressSet:
        await asyncio.sleep(0)
        self.store.reads += 1
        records = [each for each in self.store.objects.values() if each.spec.pool == pool]
        return AddressSet.of_addresses(map(address_of, records), version)


def pool(name: str = "shared", ips: str = "10.0.0.1-10.0.0.6", **spec: object) -> SpiderIPPool:
    fields: dict[str, object] = {"subnet": "10.0.0.0/16", "ipVersion": 4, "default": True, "ips": [ips]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))  # type: ignore[arg-type]


def ask(pod: str, node: str = "n1") -> Ask:
    return Ask("default", pod, f"uid-of-{pod}", "eth0", node, "kube-system/ipvlan-eth0")


class Histories(RuleBasedStateMachine):
    """Random ADD, DEL, restart, late events and lost messages on two nodes that share one pool."""

    NODES = ("n1", "n2")

    @initialize(size=st.integers(1, 6), hint=st.booleans())
    def start(self, size: int, hint: bool) -> None:
        self.runner = asyncio.Runner()
        self.store = Store()
        self.pool = pool(ips=f"10.0.0.1-10.0.0.{size}")
        self.size = size
        self.hint = hint
        self.views: dict[str, NodeView] = {}
        self.nodes: dict[str, Allocator] = {}
        self.granted: dict[str, str] = {}
        for node in self.NODES:
            self.restart(node)

    @rule(node=st.sampled_from(NODES))
    def restart(self, node: str) -> None:
        """A killed agent knows nothing but what the store says."""
        self.views[node] = NodeView(self.store, node)
        self.nodes[node] = Allocator(self.views[node], lambda: [self.pool], node)

    @rule(node=st.sampled_from(NODES))
    def events_arrive(self, node: str) -> None:
        self.views[node].deliver()

    @rule()
    def controller_publishes_a_hint(self) -> None:
        """Perhaps: the hint may also stay as old as it likes."""
        used = AddressSet.of_addresses(map(address_of, self.store.objects.values()), 4)
        status = IPPoolStatus(allocatedRanges=used.ranges()) if self.hint else None
        self.pool = SpiderIPPool(metadata=self.pool.metadata, spec=self.pool.spec, status=status)

    @rule(pod=st.integers(0, 7), fault=st.sampled_from(["", "", "", "lost request", "lost answer"]))
    def add(self, pod: int, fault: str) -> None:
        name, node = f"pod-{pod}", self.NODES[pod % 2]
        self.store.faults = [fault]
        try:
            given = self.runner.run(self.nodes[node].allocate(ask(name, node))).address
        except ApiUnavailable:
            assert fault
        except Refused:
            assert name not in self.granted
            assert len(self.store.objects) == self.size, "refused though an address was free"
        else:
            assert self.granted.setdefault(name, given) == given, "another address for the same pod"
            assert given not in {other for each, other in self.granted.items() if each != name}, "given twice"
        self.store.faults = []

    @rule(pod=st.integers(0, 7), fault=st.sampled_from(["", "", "lost request", "lost answer"]))
    def delete(self, pod: int, fault: str) -> None:
        name, node = f"pod-{pod}", self.NODES[pod % 2]
        self.store.faults = [fault]
        self.runner.run(self.nodes[node].release(f"uid-of-{name}", "eth0"))
        self.granted.pop(name, None)
        self.store.faults = []

    @invariant()
    def every_grant_has_its_record(self) -> None:
        for name, address in getattr(self, "granted", {}).items():
            held = self.store.objects.get(address.partition("/")[0])
            assert held is not None, "a granted address was lost"
            assert held.spec.pod == name

    def teardown(self) -> None:
        """After all pods are gone, an agent that sees everything gives everything back."""
        if not hasattr(self, "store"):
            return
        for node in self.NODES:
            self.restart(node)
            for pod in range(8):
                self.runner.run(self.nodes[node].release(f"uid-of-pod-{pod}", "eth0"))
        self.runner.close()
        assert self.store.objects == {}, "leaked"


Histories.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


async def test_200_pods_on_two_nodes_fill_a_shared_pool_exactly() -> None:
    store = Store()
    shared = pool(ips="10.0.0.1-10.0.0.200")
    nodes = {node: Allocator(NodeView(store, node), lambda: [shared], node) for node in ("n1", "n2")}
    gate = asyncio.Semaphore(32)

    async def one(pod: int) -> str:
        node = ("n1", "n2")[pod % 2]
        async with gate:
            return (await nodes[node].allocate(ask(f"pod-{pod}", node))).address

    addresses = await asyncio.gather(*(one(pod) for pod in range(200)))
    assert len(set(addresses)) == 200


async def test_one_write_and_no_read_for_an_address() -> None:
    store = Store()
    allocator = Allocator(NodeView(store, "n1"), lambda: [pool(nodeName=["n1"])], "n1")
    await allocator.allocate(ask("a"))
    assert (store.writes, store.reads) == (1, 0)
    await allocator.allocate(ask("a"))
    assert (store.writes, store.reads) == (1, 0)


async def test_a_refusal_names_every_pool_and_why() -> None:
    store = Store()
    pools = [pool("a", ips="10.0.0.1-10.0.0.2", nodeName=["n1"]), pool("b", nodeName=["n9"])]
    allocator = Allocator(NodeView(store, "n1"), lambda: pools, "n1")
    for pod in ("p", "q"):
        await allocator.allocate(ask(pod))
    with pytest.raises(Refused, match="a: 2 of 2 addresses in use; b: is for node n9, not n1"):
        await allocator.allocate(ask("r"))
    await allocator.release("uid-of-p", "eth0")
    assert (await allocator.allocate(ask("r"))).address == "10.0.0.1/16"


async def test_the_second_pool_serves_when_the_first_is_full() -> None:
    allocator = Allocator(
        NodeView(Store(), "n1"),
        lambda: [pool("a", ips="10.0.0.1", nodeName=["n1"]), pool("b", ips="10.0.1.1")],
        "n1",
    )
    assert [(await allocator.allocate(ask(pod))).pool for pod in ("p", "q")] == ["a", "b"]


async def test_a_release_that_was_put_off_does_not_hit_a_pod_that_came_back() -> None:
    store = Store()
    view = NodeView(store, "n1")
    allocator = Allocator(view, lambda: [pool()], "n1")
    first = await allocator.allocate(ask("a"))
    store.faults = ["lost request"]
    await allocator.release("uid-of-a", "eth0")
    assert (await allocator.allocate(ask("a"))).address == first.address
    await allocator._release_later(first.address.partition("/")[0])
    assert len(store.objects) == 1


async def test_a_release_that_was_put_off_is_carried_out() -> None:
    store = Store()
    allocator = Allocator(NodeView(store, "n1"), lambda: [pool()], "n1")
    await allocator.allocate(ask("a"))
    store.faults = ["lost request"]
    await allocator.release("uid-of-a", "eth0")
    worker = asyncio.create_task(allocator.run())
    async with asyncio.timeout(10):
        while store.objects:
            await asyncio.sleep(0.05)
    worker.cancel()


async def test_a_pod_that_is_gone_gives_everything_back_without_waiting() -> None:
    store = Store()
    allocator = Allocator(NodeView(store, "n1"), lambda: [pool()], "n1")
    await allocator.allocate(ask("a"))
    worker = asyncio.create_task(allocator.run())
    allocator.release_soon("uid-of-a")
    async with asyncio.timeout(10):
        while store.objects:
            await asyncio.sleep(0.01)
    worker.cancel()


async def test_a_claim_that_was_cancelled_is_found_again() -> None:
    store = Store()
    view = NodeView(store, "n1")
    allocator = Allocator(view, lambda: [pool()], "n1")
    claim = asyncio.create_task(allocator.allocate(ask("a")))
    while not store.objects:
        await asyncio.sleep(0)
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    assert view.known == {}
    (name,) = store.objects
    assert (await allocator.allocate(ask("a"))).address == f"{name}/16"


async def test_an_address_that_another_node_took_costs_one_try_not_an_error() -> None:
    store = Store()
    only = pool(ips="10.0.0.1-10.0.0.3", nodeName=["n1"])
    store.create(record(ask("stranger", "n2"), only, address_of(record(ask("x"), only, 0x0A000001))))
    allocator = Allocator(NodeView(store, "n1"), lambda: [only], "n1")
    assert (await allocator.allocate(ask("a"))).address == "10.0.0.2/16"
