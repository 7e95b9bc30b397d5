"""The allocator against a plain model of the API server: no address twice, none lost, none leaked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace as changed

from spiderpool.agent.allocator import Allocation, Allocator
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.record_store import ClusterReads
from spiderpool.api.ip import IP_OWNER_LABEL, IP_POOL_LABEL, IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.allocation import address_of, cooldown_is_over, family, new_record
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest, NamedPools
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


class Store:
    """The far end: one name, one object; UIDs never come back, and a change is for the version that was seen."""

    def __init__(self) -> None:
        self.objects: dict[str, SpiderIP] = {}
        self.writes = self.reads = self.revision = 0
        self.faults: list[str] = []
        self.late: list[Callable[[], object]] = []
        """Writes that the server has not carried out although their caller has given up."""

    def land(self) -> None:
        """Late writes are carried out, unless they are refused by now."""
        while self.late:
            with suppress(AlreadyExists, Conflict, NotFound):
                self.late.pop(0)()

    def create(self, wanted: SpiderIP) -> SpiderIP:
        fault = self._arrives(lambda: self.create(wanted))
        if wanted.name in self.objects:
            raise AlreadyExists(wanted.name)
        made = self._put(changed(wanted, metadata=changed(wanted.metadata, uid=f"uid-{self.writes}")))
        return self._answered(fault, made)

    def replace(self, wanted: SpiderIP) -> SpiderIP:
        fault = self._arrives(lambda: self.replace(wanted))
        self._check(wanted)
        return self._answered(fault, self._put(wanted))

    def delete(self, held: SpiderIP) -> None:
        fault = self._arrives(lambda: self.delete(held))
        self._check(held)
        del self.objects[held.name]
        self._answered(fault, held)

    def _arrives(self, again: Callable[[], object]) -> str:
        self.writes += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "late request":
            self.late.append(again)
            raise ApiUnavailable("timed out")
        if fault == "lost request":
            raise ApiUnavailable("connection refused")
        return fault

    def _check(self, seen: SpiderIP) -> None:
        known = self.objects.get(seen.name)
        if known is None:
            raise NotFound(seen.name)
        if (known.metadata.uid, known.metadata.resourceVersion) != (seen.metadata.uid, seen.metadata.resourceVersion):
            raise Conflict(seen.name)

    def _put(self, wanted: SpiderIP) -> SpiderIP:
        self.revision += 1
        made = changed(wanted, metadata=changed(wanted.metadata, resourceVersion=str(self.revision)))
        self.objects[made.name] = made
        return made

    def _answered(self, fault: str, made: SpiderIP) -> SpiderIP:
        if fault == "lost answer":
            raise ApiUnavailable("connection reset")
        return made


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
        return [each for each in self.of_pod(pod_uid) if each.spec.interface == interface]

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        held = (each for each in self.known.values() if each.spec.podUID == pod_uid and not each.spec.releasedAt)
        return sorted(held, key=lambda each: int(each.metadata.resourceVersion or 0))

    def released(self) -> list[SpiderIP]:
        return [each for each in self.known.values() if each.spec.releasedAt]

    def addresses(self, pool: str) -> Collection[int]:
        return [address_of(each) for each in self.known.values() if each.spec.pool == pool]

    async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        await asyncio.sleep(0)
        made = self.store.create(wanted)
        await asyncio.sleep(0)
        self.known[made.name] = made
        return made

    async def replace(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        await asyncio.sleep(0)
        made = self.store.replace(wanted)
        self.known[made.name] = made
        return made

    async def delete(self, held: SpiderIP, *, timeout: float) -> None:
        await asyncio.sleep(0)
        with suppress(NotFound):
            self.store.delete(held)
        self.known.pop(held.name, None)

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        self.store.reads += 1
        return self.store.objects.get(name)

    def adopt(self, held: SpiderIP) -> None:
        self.known[held.name] = held

    def forget(self, held: SpiderIP) -> None:
        self.known.pop(held.name, None)

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        self.store.reads += 1
        found = self.store.objects.values()
        return [each for each in found if (each.metadata.labels or {}).get(IP_OWNER_LABEL) == label]

    async def labelled(self, label: str | None, *, timeout: float) -> list[SpiderIP]:
        await asyncio.sleep(0)
        self.store.reads += 1
        return [
            each for each in self.store.objects.values() if (each.metadata.labels or {}).get(IP_POOL_LABEL) == label
        ]


def pool(name: str = "shared", ips: str = "10.0.0.1-10.0.0.6", **spec: object) -> SpiderIPPool:
    version = 6 if ":" in ips else 4
    subnet = "fd00::/64" if version == 6 else "10.0.0.0/16"
    fields: dict[str, object] = {"subnet": subnet, "ipVersion": version, "default": True, "ips": [ips]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))  # type: ignore[arg-type]


def ask(pod: str, node: str = "n1", **fields: object) -> AllocationRequest:
    request = AllocationRequest("default", pod, f"uid-of-{pod}", "eth0", node, "kube-system/ipvlan-eth0")
    return replace(request, **fields)  # type: ignore[arg-type]


def keyed(requests: Iterable[AllocationRequest]) -> dict[RequestKey, AllocationRequest]:
    return {(request.interface, request.version): request for request in requests}


class Surroundings:
    """What an allocator sees beside the records; its clock stands still until it is moved."""

    def __init__(self, *pools: SpiderIPPool) -> None:
        self.pools = list(pools)
        self.now = 1_000_000.0
        self.reserved = {4: AddressSet(4), 6: AddressSet(6)}
        self.gone: set[str] = set()
        """Pods that their owner no longer wants."""
        self.running: set[str] = set()
        """UIDs of pods that go on though another pod asks for their address."""
        self.hidden: set[str] = set()
        """Names of pools that exist, but that no allocator sees."""
        self.reads = ClusterReads(self.is_needed, self.is_held, self.read_pool)

    async def is_needed(self, held: SpiderIP) -> bool:
        return held.spec.pod not in self.gone

    def seen(self) -> list[SpiderIPPool]:
        return [each for each in self.pools if each.name not in self.hidden]

    async def is_held(self, held: SpiderIP) -> bool:
        return held.spec.podUID in self.running

    async def read_pool(self, name: str) -> SpiderIPPool | None:
        return next((each for each in self.pools if each.name == name), None)

    def allocator(self, records: Any) -> Allocator:
        return Allocator(
            records,
            NodePools(records.node, self.seen, self.reserved.__getitem__),
            reads=self.reads,
            clock=lambda: self.now,
        )


class One:
    """One node with a store of its own."""

    def __init__(self, *pools: SpiderIPPool, store: Store | None = None) -> None:
        self.store = store or Store()
        self.surroundings = Surroundings(*pools)
        self.view = NodeView(self.store, "n1")
        self.allocator = self.surroundings.allocator(self.view)

    async def give(self, *asks: AllocationRequest) -> str:
        """Allocate; the addresses of the first ask's interface, without prefix lengths."""
        await self.allocator.allocate(keyed(asks))
        held = sorted(self.allocator.held(asks[0].pod_uid).items())
        return " ".join(
            record.spec.address.partition("/")[0] for (name, _), record in held if name == asks[0].interface
        )


FAULTS = st.sampled_from(["lost request", "lost answer", "late request"])


class Histories(RuleBasedStateMachine):
    """Random ADD, DEL, restart, late events and lost messages on two nodes that share their pools.

    Pods differ by number: one family or two, one interface or two at once, with an owner or without. A pod that was
    deleted may come again under its name, those with an owner on the other node as well.
    """

    NODES = ("n1", "n2")
    PODS = range(8)
    STICKY = 5
    """From this number on pods have an owner."""
    COOLDOWN = 60

    @initialize(size=st.integers(1, 6), hint=st.booleans(), cooldown=st.booleans())
    def start(self, size: int, hint: bool, cooldown: bool) -> None:
        self.runner = asyncio.Runner()
        self.store = self.new_store()
        seconds = self.COOLDOWN if cooldown else 0
        self.surroundings = Surroundings(
            pool("four", f"10.0.0.1-10.0.0.{size}", cooldownSeconds=seconds),
            pool("six", f"fd00::1-fd00::{size + 1}", cooldownSeconds=seconds),
        )
        self.size = {4: size, 6: size + 1}
        self.hint = hint
        self.lives = dict.fromkeys(self.PODS, 0)
        self.node_of = {pod: self.NODES[pod % 2] for pod in self.PODS}
        self.granted: dict[int, dict[RequestKey, str]] = {}
        self.left: dict[int, dict[RequestKey, str]] = {}
        """What an owner holds though its pod is gone."""
        self.views: dict[str, Any] = {}
        self.nodes: dict[str, Allocator] = {}
        for node in self.NODES:
            self.restart(node)

    def asks(self, pod: int) -> list[AllocationRequest]:
        families = (4, 6) if pod % 4 >= 2 else (4,)
        interfaces = ("eth0", "net1") if pod % 3 == 2 else ("eth0",)
        owner = IPOwner("StatefulSet", "default", "web") if self.is_sticky(pod) else None
        base = ask(f"web-{pod}", self.node_of[pod], pod_uid=self.uid(pod), owner=owner)
        return [replace(base, interface=each, version=version) for each in interfaces for version in families]

    def is_sticky(self, pod: int) -> bool:
        return pod >= self.STICKY

    def uid(self, pod: int) -> str:
        return f"uid-{pod}-{self.lives[pod]}"

    @rule(
        what=st.sampled_from(["restart", "events", "time", "hint", "move", "scale"]),
        node=st.sampled_from(NODES),
        pod=st.sampled_from(range(STICKY, 8)),
        flag=st.booleans(),
    )
    def something_happens(self, what: str, node: str, pod: int, flag: bool) -> None:
        match what:
            case "restart":
                self.restart(node)
            case "events":
                self.views[node].deliver()
            case "time":
                self.surroundings.now += 61 if flag else 20
            case "hint":
                self.controller_publishes_a_hint()
            case "move":
                self.move(pod)
            case "scale":
                self.scale(pod, wanted=flag)

    @rule(names=st.sets(st.sampled_from(["four", "six"])))
    def pools_are_not_seen_for_a_while(self, names: set[str]) -> None:
        self.surroundings.hidden = names

    @rule()
    def land(self) -> None:
        """What the server was slow to do is done, and every node sees it."""
        self.store.land()
        for view in self.views.values():
            view.deliver()

    def new_store(self) -> Any:
        return Store()

    def new_view(self, node: str) -> Any:
        return NodeView(self.store, node)

    def restart(self, node: str) -> None:
        """A killed agent knows nothing but what the store says."""
        self.views[node] = self.new_view(node)
        self.nodes[node] = self.surroundings.allocator(self.views[node])

    def controller_publishes_a_hint(self) -> None:
        """Perhaps: the hint may also stay as old as it likes."""
        self.surroundings.pools = [
            changed(each, status=IPPoolStatus(allocatedRanges=self.used(each).ranges()) if self.hint else None)
            for each in self.surroundings.pools
        ]

    def used(self, each: SpiderIPPool) -> AddressSet:
        records = (held for held in self.store.objects.values() if held.spec.pool == each.name)
        return AddressSet.of_addresses(map(address_of, records), each.spec.ipVersion or 4)

    @rule(pods=st.lists(st.sampled_from(PODS), min_size=1, max_size=4))
    def add_some(self, pods: list[int]) -> None:
        for pod in pods:
            self.add(pod, "", late=False)

    @rule(pods=st.lists(st.sampled_from(PODS), min_size=1, max_size=4))
    def delete_some(self, pods: list[int]) -> None:
        for pod in pods:
            self.delete(pod, "")

    @rule(pod=st.sampled_from(PODS), fault=FAULTS, late=st.booleans())
    def add_with_a_fault(self, pod: int, fault: str, late: bool) -> None:
        self.add(pod, fault, late=late)

    @rule(pod=st.sampled_from(PODS), fault=FAULTS)
    def delete_with_a_fault(self, pod: int, fault: str) -> None:
        self.delete(pod, fault)

    def add(self, pod: int, fault: str, *, late: bool) -> None:
        node = self.node_of[pod]
        asks = self.asks(pod)
        before = dict(self.store.objects)
        self.store.faults = ["", fault] if late else [fault]
        try:
            done = self.runner.run(self.nodes[node].allocate(keyed(asks)))
        except ApiUnavailable:
            assert fault
        except Refused:
            assert pod not in self.granted
            if not self.surroundings.hidden:
                assert self.is_short_of_an_address(asks, before), "refused though an address was free"
            if not fault and not self.is_sticky(pod):
                assert not self.held_newly(pod, before), "refused, but not undone"
        else:
            self.check_grant(pod, asks, done, before)
        self.store.faults = []

    def check_grant(
        self, pod: int, asks: list[AllocationRequest], done: Allocation, before: dict[str, SpiderIP]
    ) -> None:
        given = {key: record.spec.address for key, record in done.granted.items()}
        assert given.keys() == {(one.interface, one.version) for one in asks}, "not all, not none"
        assert self.granted.setdefault(pod, given) == given, "other addresses for the same pod"
        everything = [each for one in self.granted.values() for each in one.values()]
        assert len(set(everything)) == len(everything), "given twice"
        for place, address in self.left.pop(pod, {}).items():
            assert given[place] == address, "the owner's address was not kept"
        early = {each.name for each in done.early}
        for address in given.values():
            was = before.get(self.name(address))
            if was and was.spec.releasedAt and was.spec.pod != f"web-{pod}" and was.name not in early:
                assert cooldown_is_over(was, self.surroundings.pools[0], self.surroundings.now), (
                    "given before its cooldown was over"
                )

    def delete(self, pod: int, fault: str) -> None:
        """The pod is gone; what its owner has stays, anything else goes."""
        self.store.faults = [fault]
        for interface in ("eth0", "net1"):
            self.runner.run(self.nodes[self.node_of[pod]].release(self.uid(pod), interface))
        self.store.faults = []
        given = self.granted.pop(pod, None)
        if given and self.is_sticky(pod) and f"web-{pod}" not in self.surroundings.gone:
            self.left[pod] = given
        self.lives[pod] += 1

    def move(self, pod: int) -> None:
        """The scheduler chooses the other node for the next pod of an owner."""
        if pod not in self.granted:
            self.node_of[pod] = next(node for node in self.NODES if node != self.node_of[pod])

    def scale(self, pod: int, *, wanted: bool) -> None:
        """The owner no longer wants a pod that is there, or wants it again."""
        (self.surroundings.gone.discard if wanted else self.surroundings.gone.add)(f"web-{pod}")

    def is_short_of_an_address(self, asks: Iterable[AllocationRequest], before: dict[str, SpiderIP]) -> bool:
        wanted = list(asks)
        for version in (4, 6):
            held = [each for each in before.values() if family(each) == version and not each.spec.releasedAt]
            needed = sum(one.version == version for one in wanted)
            own = sum(self.may_keep(wanted[0], each) for each in held)
            if len(held) + needed - own > self.size[version]:
                return True
        return False

    def may_keep(self, one: AllocationRequest, held: SpiderIP) -> bool:
        owned = one.owner is not None and (held.spec.owner, held.spec.pod) == (one.owner, one.pod)
        return owned or held.spec.podUID == one.pod_uid

    def held_newly(self, pod: int, before: dict[str, SpiderIP]) -> list[str]:
        mine = (each for each in self.store.objects.values() if each.spec.podUID == self.uid(pod))
        return [each.name for each in mine if not each.spec.releasedAt and each.name not in before]

    def name(self, address: str) -> str:
        return str(next(each.name for each in self.store.objects.values() if each.spec.address == address))

    @invariant()
    def every_grant_has_its_record(self) -> None:
        by_address = {each.spec.address: each for each in getattr(self, "store", Store()).objects.values()}
        for pod, given in getattr(self, "granted", {}).items():
            for (interface, _), address in given.items():
                held = by_address.get(address)
                assert held is not None, "a granted address was lost"
                assert (held.spec.podUID, held.spec.interface) == (self.uid(pod), interface)
                assert held.spec.releasedAt is None

    @invariant()
    def an_owner_keeps_its_address(self) -> None:
        by_address = {each.spec.address: each for each in getattr(self, "store", Store()).objects.values()}
        for pod, given in getattr(self, "left", {}).items():
            for address in given.values():
                held = by_address.get(address)
                assert held is not None, "an address that an owner wants was released"
                assert held.spec.pod == f"web-{pod}"

    def teardown(self) -> None:
        """After all pods and owners are gone, agents that see everything give everything back."""
        if not hasattr(self, "store"):
            return
        self.land()
        self.surroundings.gone = {f"web-{pod}" for pod in self.PODS}
        for node in self.NODES:
            self.restart(node)
            for held in list(self.views[node].known.values()):
                self.runner.run(self.nodes[node].release(held.spec.podUID, held.spec.interface))
        leaked = [each for each in self.store.objects.values() if not each.spec.releasedAt]
        self.close()
        assert leaked == []

    def close(self) -> None:
        self.runner.close()


Histories.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, derandomize=True)
TestHistories = Histories.TestCase


async def test_200_pods_on_two_nodes_fill_a_shared_pool_exactly() -> None:
    store, world = Store(), Surroundings(pool(ips="10.0.0.1-10.0.0.200"))
    nodes = {node: world.allocator(NodeView(store, node)) for node in ("n1", "n2")}
    gate = asyncio.Semaphore(32)

    async def one(pod: int) -> None:
        node = ("n1", "n2")[pod % 2]
        async with gate:
            await nodes[node].allocate(keyed([ask(f"pod-{pod}", node)]))

    await asyncio.gather(*(one(pod) for pod in range(200)))
    assert len(store.objects) == 200
    assert len({each.spec.podUID for each in store.objects.values()}) == 200


async def test_one_write_and_no_read_for_an_address() -> None:
    one = One(pool(nodeName=["n1"]))
    for _ in range(2):
        await one.give(ask("a"))
        assert (one.store.writes, one.store.reads) == (1, 0)


async def test_two_families_are_two_writes_and_no_read() -> None:
    one = One(pool("four"), pool("six", "fd00::1-fd00::9"))
    given = await one.give(ask("a"), ask("a", version=6))
    assert given.split()[0].startswith("10.0.0.")
    assert given.split()[1].startswith("fd00::")
    assert (one.store.writes, one.store.reads) == (2, 0)


async def test_a_second_family_that_is_refused_gives_the_first_back() -> None:
    one = One(pool("four", nodeName=["n1"]), pool("six", "fd00::1", nodeName=["n9"]))
    with pytest.raises(Refused, match=r"no IPv6 address .* six: is for node n9, not n1"):
        await one.give(ask("a"), ask("a", version=6))
    assert one.store.objects == {}


async def test_two_interfaces_on_one_pool_get_two_addresses() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ask("a"), ask("a", interface="net1")) == "10.0.0.1"
    assert await one.give(ask("a", interface="net1")) == "10.0.0.2"
    assert one.allocator.interfaces("uid-of-a") == ("eth0", "net1")
    assert (one.store.writes, one.store.reads) == (2, 0)


async def test_a_second_interface_that_is_refused_gives_the_first_back() -> None:
    one = One(pool(ips="10.0.0.1", nodeName=["n1"]))
    with pytest.raises(Refused, match=r"net1 of pod default/a .* 1 of 1 addresses in use"):
        await one.give(ask("a"), ask("a", interface="net1"))
    assert one.store.objects == {}


async def test_a_refusal_names_every_pool_and_why() -> None:
    one = One(pool("a", ips="10.0.0.1-10.0.0.2", nodeName=["n1"]), pool("b", nodeName=["n9"]))
    for pod in ("p", "q"):
        await one.give(ask(pod))
    with pytest.raises(Refused, match="a: 2 of 2 addresses in use; b: is for node n9, not n1"):
        await one.give(ask("r"))
    await one.allocator.release("uid-of-p", "eth0")
    assert await one.give(ask("r")) == "10.0.0.1"


async def test_a_pool_that_cannot_be_read_is_passed_over() -> None:
    one = One(pool("a", ips="10.0.0.9-10.0.0.1"), pool("b", ips="10.0.1.1"))
    done = await one.allocator.allocate(keyed([ask("p")]))
    assert "a: its addresses cannot be read" in str(done.trace[2])
    assert list(one.store.objects) == ["10.0.1.1"]


async def test_the_second_pool_serves_when_the_first_is_full() -> None:
    one = One(pool("a", ips="10.0.0.1", nodeName=["n1"]), pool("b", ips="10.0.1.1"))
    assert [await one.give(ask(pod)) for pod in ("p", "q")] == ["10.0.0.1", "10.0.1.1"]


async def test_a_reserved_address_is_never_given_and_its_holder_keeps_it() -> None:
    one = One(pool(ips="10.0.0.1-10.0.0.2", nodeName=["n1"]))
    assert await one.give(ask("p")) == "10.0.0.1"
    one.surroundings.reserved[4] = AddressSet.parse(["10.0.0.1"], 4)
    assert await one.give(ask("q")) == "10.0.0.2"
    assert await one.give(ask("p")) == "10.0.0.1"
    await one.allocator.release("uid-of-p", "eth0")
    with pytest.raises(Refused, match="1 of 1 addresses in use"):
        await one.give(ask("r"))


async def test_a_release_that_was_put_off_does_not_hit_a_pod_that_came_back() -> None:
    one = One(pool())
    first = await one.give(ask("a"))
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    assert await one.give(ask("a")) == first
    await one.allocator.releases.retry(first)
    assert len(one.store.objects) == 1


@pytest.mark.parametrize("landing", ["before the next ADD", "after the next ADD", "never"])
async def test_a_release_that_is_carried_out_late_does_not_hit_a_pod_that_came_back(landing: str) -> None:
    one = One(pool(nodeName=["n1"]), pool("six", "fd00::1", nodeName=["n9"]))
    one.store.faults = ["", "late request"]
    with pytest.raises(Refused):
        await one.give(ask("a"), ask("a", version=6))
    if landing.startswith("before"):
        one.store.land()
    assert await one.give(ask("a")) == "10.0.0.1"
    if landing.startswith("after"):
        one.store.land()
    assert [record.spec.podUID for record in one.store.objects.values()] == ["uid-of-a"]
    await one.allocator.releases.retry("10.0.0.1")
    assert await one.give(ask("a")) == "10.0.0.1"
    assert list(one.store.objects) == ["10.0.0.1"]


async def test_a_late_release_after_a_conflict_does_not_bring_the_address_back() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    one.store.faults = ["late request"]
    await one.allocator.release_conflicting("uid-of-a")
    assert await one.give(ask("a")) == "10.0.0.2"
    one.store.land()
    assert list(one.store.objects) == ["10.0.0.2"]


async def test_a_release_that_was_put_off_does_not_concern_the_next_holder() -> None:
    one = One(pool(ips="10.0.0.1", nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    one.store.objects.clear()  # garbage collection has been faster
    one.view.deliver()
    assert await one.give(ask("b")) == "10.0.0.1"
    await one.allocator.releases.retry("10.0.0.1")
    assert await one.give(ask("b")) == "10.0.0.1"


async def test_a_release_that_was_put_off_is_carried_out() -> None:
    one = One(pool())
    await one.give(ask("a"))
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    worker = asyncio.create_task(one.allocator.run())
    await eventually(lambda: not one.store.objects)
    worker.cancel()


async def test_a_pod_that_is_gone_gives_everything_back_without_waiting() -> None:
    one = One(pool())
    await one.give(ask("a"), ask("a", interface="net1"))
    worker = asyncio.create_task(one.allocator.run())
    for interface in ("eth0", "net1"):
        one.allocator.release_soon("uid-of-a", interface)
    await eventually(lambda: not one.store.objects)
    worker.cancel()


async def test_a_claim_that_was_cancelled_is_found_again() -> None:
    one = One(pool())
    claim = asyncio.create_task(one.give(ask("a")))
    while not one.store.objects:
        await asyncio.sleep(0)
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    assert one.view.known == {}
    (name,) = one.store.objects
    assert await one.give(ask("a")) == name


@pytest.mark.parametrize("landing", ["before the next ADD", "after the next ADD", "during the next ADD"])
async def test_a_create_that_is_carried_out_late_gives_no_second_address(landing: str) -> None:
    one = One(pool(nodeName=["n1"]), pool("b", "10.0.1.1"))
    assert await one.give(ask("other")) == "10.0.0.1"
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("a"))
    reading = one.view.get

    async def get(name: str, *, timeout: float) -> SpiderIP | None:
        found = await reading(name, timeout=timeout)
        if landing.startswith("during"):
            one.store.land()
        return found

    one.view.get = get  # type: ignore[method-assign]
    if landing.startswith("before"):
        one.store.land()
    assert await one.give(ask("a")) == "10.0.0.2"
    one.store.land()
    assert sorted(one.store.objects) == ["10.0.0.1", "10.0.0.2"]
    assert await one.give(ask("a")) == "10.0.0.2"
    reads = one.store.reads
    assert await one.give(ask("a")) == "10.0.0.2"
    assert one.store.reads == reads, "nothing is left to find out"


@pytest.mark.parametrize("landing", ["before the next ADD", "after the next ADD", "never"])
async def test_a_take_over_that_is_carried_out_late_gives_no_second_address(landing: str) -> None:
    one = One(cold())
    for pod in ("a", "b"):
        await one.give(ask(pod))
        await one.allocator.release(f"uid-of-{pod}", "eth0")
    one.surroundings.now += 60
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("c"))
    if landing.startswith("before"):
        one.store.land()
    first = await one.give(ask("c"))
    if landing.startswith("after"):
        one.store.land()
    assert [name for name, record in one.store.objects.items() if not record.spec.releasedAt] == [first]
    reads = one.store.reads
    assert await one.give(ask("c")) == first
    assert one.store.reads == reads


async def test_a_create_that_is_carried_out_after_a_restart_does_not_replace_what_was_granted() -> None:
    one = One(pool("a"), pool("b", "10.0.1.1"))
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("a"))
    one.allocator = one.surroundings.allocator(one.view)
    one.surroundings.pools.reverse()
    one.surroundings.pools[1] = changed(one.surroundings.pools[1], spec=pool("a", disable=True).spec)
    assert await one.give(ask("a")) == "10.0.1.1"
    one.store.land()
    one.view.deliver()
    assert len(one.view.known) == 2
    assert await one.give(ask("a")) == "10.0.1.1"


async def test_an_address_that_another_pod_got_while_our_create_was_late_is_left_to_it() -> None:
    one = One(pool(nodeName=["n1"]))
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("a"))
    one.store.create(new_record(ask("b", "n2"), pool(), 0x0A000001))
    one.store.land()
    assert await one.give(ask("a")) == "10.0.0.2"


@pytest.mark.parametrize("soon", [False, True])
async def test_nothing_is_remembered_of_a_pod_that_has_ended(soon: bool) -> None:
    one = One(pool(nodeName=["n1"]))
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("a"))
    if soon:
        one.allocator.release_soon("uid-of-a", "eth0")
    else:
        await one.allocator.release("uid-of-a", "eth0")
    reads = one.store.reads
    assert await one.give(ask("a")) == "10.0.0.2"
    assert one.store.reads == reads


async def test_what_a_cancelled_call_claimed_before_is_given_back() -> None:
    one = One(pool("four"), pool("six", "fd00::1"))
    claim = asyncio.create_task(one.give(ask("a"), ask("a", version=6)))
    while not one.view.known:
        await asyncio.sleep(0)
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    worker = asyncio.create_task(one.allocator.run())
    await eventually(lambda: not [name for name in one.store.objects if "." in name])
    worker.cancel()


async def test_an_address_that_another_node_took_costs_one_try_not_an_error() -> None:
    only = pool(ips="10.0.0.1-10.0.0.3", nodeName=["n1"])
    one = One(only)
    one.store.create(new_record(ask("stranger", "n2"), only, 0x0A000001))
    assert await one.give(ask("a")) == "10.0.0.2"


SIZE = 400


@pytest.mark.parametrize("label", ["other", "edited", None])
@pytest.mark.parametrize("nodes", [["n1"], None])
async def test_addresses_held_under_another_name_cost_few_requests_and_the_next_pool_serves(
    label: str | None, nodes: list[str] | None
) -> None:
    """As records of a pool that overlaps, or with a label that somebody has edited or removed."""
    crowded = pool("crowded", "10.0.0.1-10.0.1.144", nodeName=nodes)
    one = One(crowded, pool("spare", "10.0.9.1-10.0.9.9"))
    for address in range(0x0A000001, 0x0A000001 + SIZE):
        held = new_record(ask("stranger", "n2"), pool("other") if label == "other" else crowded, address)
        labels = (held.metadata.labels or {}) | {IP_POOL_LABEL: label}
        kept = {key: value for key, value in labels.items() if value is not None}
        one.store.create(changed(held, metadata=changed(held.metadata, labels=kept)))
    for pod in ("a", "b"):
        writes, reads = one.store.writes, one.store.reads
        assert (await one.give(ask(pod))).startswith("10.0.9.")
        assert one.store.writes - writes <= 10
        assert one.store.reads - reads <= 4
    for last in (7, 8):
        one.store.objects.pop(f"10.0.0.{last}")
    assert await one.give(ask("c")) in ("10.0.0.7", "10.0.0.8"), "free again"


def scattered(pool: SpiderIPPool, size: int, every: int = 2) -> Store:
    """A store in which another node has a pool but for one address of ``every``."""
    store = Store()
    for offset in range(size):
        if offset % every != 1:
            store.create(new_record(ask("stranger", "n2"), pool, 0x0A000001 + offset))
    return store


@pytest.mark.parametrize("published", [True, False], ids=["a hint", "no hint"])
async def test_what_is_known_of_a_scattered_pool_outlasts_its_status(published: bool) -> None:
    """In more pieces than its status lists, and the controller writes the status between any two ADDs."""
    large = pool(ips="10.0.0.1-10.0.31.64")
    one = One(large, store=scattered(large, 8000, every=8))
    writes, reads = one.store.writes, one.store.reads
    for number in range(50):
        taken = AddressSet.of_addresses(map(address_of, one.store.objects.values()), 4)
        ranges, compressed = hints.write(taken) if published else (None, None)
        status = IPPoolStatus(allocatedIPCount=taken.size, allocatedRanges=ranges, compressedRanges=compressed)
        one.surroundings.pools = [changed(large, status=status)]
        await one.give(ask(f"a{number}"))
    assert one.store.writes - writes <= 60
    assert one.store.reads - reads == (0 if published else 1)


async def test_a_full_pool_that_is_long_to_read_is_not_read_by_every_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spiderpool.agent.pool_cache.SHORT_READ", 0.0)
    full = pool(ips="10.0.0.1-10.0.0.9")
    one = One(full, store=scattered(full, 9))
    for name in "abcd":
        await one.give(ask(name))

    class Slow(NodeView):
        async def labelled(self, label: str | None, *, timeout: float) -> list[SpiderIP]:
            await asyncio.sleep(0.1)
            return await super().labelled(label, timeout=timeout)

    one.allocator = one.surroundings.allocator(Slow(one.store, "n1"))
    reads = one.store.reads
    for name in ("e", "f", "g"):
        with pytest.raises(Refused, match="9 of 9 addresses in use"):
            await one.give(ask(name))
    assert one.store.reads - reads == 1
    await one.allocator.release("uid-of-a", "eth0")
    assert await one.give(ask("h")) != "", "what this node gives back is free at once"


async def test_a_pool_whose_every_create_is_refused_is_exhausted_after_one_round() -> None:
    one = One(pool("p", "10.0.0.1-10.0.0.200"), pool("spare", "10.0.9.1-10.0.9.9"))

    class Refusing(NodeView):
        async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
            if wanted.spec.pool == "p":
                one.store.writes += 1
                raise AlreadyExists(wanted.name)
            return await super().create(wanted, timeout=timeout)

    one.allocator = one.surroundings.allocator(Refusing(one.store, "n1"))
    assert (await one.give(ask("a"))).startswith("10.0.9.")
    assert one.store.writes == 201
    assert one.store.reads <= 102


async def test_an_address_that_somebody_outside_uses_is_shunned_while_another_is_free() -> None:
    one = One(pool(ips="10.0.0.1-10.0.0.2", nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    await one.allocator.release_conflicting("uid-of-a")
    assert one.store.objects == {}
    assert [await one.give(ask(pod)) for pod in ("a", "b")] == ["10.0.0.2", "10.0.0.1"]


WEB = IPOwner("StatefulSet", "default", "web")


def ordinal(uid: str, node: str = "n1", **fields: object) -> AllocationRequest:
    return ask("web-0", node, pod_uid=uid, owner=WEB, **fields)


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
    assert (one.store.writes, one.store.reads) == (1, 1)
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


@asynccontextmanager
async def working(allocator: Allocator) -> AsyncIterator[None]:
    """The allocator carries out what it has put off."""
    worker = asyncio.create_task(allocator.run())
    yield
    worker.cancel()


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


def cold(ips: str = "10.0.0.1-10.0.0.2", **spec: object) -> SpiderIPPool:
    return pool("cold", ips, cooldownSeconds=60, nodeName=["n1"], **spec)


async def test_a_released_address_cools_down_and_only_its_own_pod_gets_it_back() -> None:
    one = One(cold())
    assert await one.give(ask("a")) == "10.0.0.1"
    await one.allocator.release("uid-of-a", "eth0")
    assert one.store.objects["10.0.0.1"].spec.releasedAt == "1970-01-12T13:46:40Z"
    assert one.allocator.held("uid-of-a") == {}
    assert await one.give(ask("b")) == "10.0.0.2"
    reads = one.store.reads
    assert await one.give(ask("a", pod_uid="another-life")) == "10.0.0.1"
    assert one.store.reads == reads


async def test_a_stranger_gets_a_cooling_address_when_nothing_else_is_free_and_it_is_told() -> None:
    one = One(cold(), pool("warm", "10.0.1.1"))
    for pod in ("a", "b"):
        await one.give(ask(pod))
        one.surroundings.now += 1
        await one.allocator.release(f"uid-of-{pod}", "eth0")
    assert await one.give(ask("c")) == "10.0.1.1"
    done = await one.allocator.allocate(keyed([ask("d")]))
    assert [(each.name, each.spec.pod) for each in done.early] == [("10.0.0.1", "a")], "the one that waited longest"
    assert one.store.objects["10.0.0.1"].spec.pod == "d"


async def test_a_cooldown_that_is_over_frees_the_address_for_all() -> None:
    one = One(cold("10.0.0.1"))
    await one.give(ask("a"))
    await one.allocator.release("uid-of-a", "eth0")
    one.surroundings.now += 60
    done = await one.allocator.allocate(keyed([ask("b")]))
    assert done.early == ()
    assert one.store.objects["10.0.0.1"].spec.podUID == "uid-of-b"


async def test_a_late_release_does_not_hit_who_took_the_cooling_address_over() -> None:
    one = One(cold("10.0.0.1"))
    other = One(cold("10.0.0.1"))
    other.store = one.store
    other.allocator = other.surroundings.allocator(NodeView(one.store, "n1"))
    await one.give(ask("a"))
    one.store.faults = ["lost answer"]
    await one.allocator.release("uid-of-a", "eth0")
    await other.allocator.allocate(keyed([ask("b")]))
    await one.allocator.releases.retry("10.0.0.1")
    assert one.store.objects["10.0.0.1"].spec.podUID == "uid-of-b"


async def test_the_address_of_a_rolled_back_take_over_cools_down_again() -> None:
    one = One(cold("10.0.0.1"), pool("six", "fd00::1", nodeName=["n9"]))
    await one.give(ask("a"))
    await one.allocator.release("uid-of-a", "eth0")
    with pytest.raises(Refused):
        await one.give(ask("b"), ask("b", version=6))
    assert one.store.objects["10.0.0.1"].spec.releasedAt


class TestRequestedAddresses:
    async def test_it_decides_before_what_the_pod_had_before(self) -> None:
        one = One(cold("10.0.0.1-10.0.0.3"))
        assert await one.give(ask("a")) == "10.0.0.1"
        await one.allocator.release("uid-of-a", "eth0")
        assert await one.give(ask("a", pod_uid="second", address="10.0.0.2")) == "10.0.0.2"
        assert one.store.objects["10.0.0.1"].spec.releasedAt
        await one.allocator.release("second", "eth0")
        assert await one.give(ask("a", pod_uid="third", address="10.0.0.1")) == "10.0.0.1"

    async def test_it_decides_before_what_the_owner_has(self) -> None:
        one = One(pool(nodeName=["n1"]), pool("six", "fd00::1-fd00::9"))
        assert await one.give(ordinal("first")) == "10.0.0.1"
        async with working(one.allocator):
            assert await one.give(ordinal("second", address="10.0.0.3")) == "10.0.0.3"
            await eventually(lambda: list(one.store.objects) == ["10.0.0.3"])
            assert await one.give(ordinal("third", address="10.0.0.3")) == "10.0.0.3"
        assert await one.give(ordinal("third", version=6, address="fd00:0::2")) == "10.0.0.3 fd00::2"
        assert await one.give(ordinal("third", version=6, address="fd00::2")) == "10.0.0.3 fd00::2"

    async def test_a_refusal_takes_nothing_from_the_owner(self) -> None:
        one = One(pool(nodeName=["n1"]))
        assert [await one.give(ordinal("first")), await one.give(ask("a"))] == ["10.0.0.1", "10.0.0.2"]
        async with working(one.allocator):
            with pytest.raises(Refused, match=r"10\.0\.0\.2 is in use"):
                await one.give(ordinal("second", address="10.0.0.2"))
            await asyncio.sleep(0.02)
        assert await one.give(ordinal("second")) == "10.0.0.1"

    async def test_it_decides_before_what_the_pod_holds(self) -> None:
        one = One(pool(nodeName=["n1"]))
        for request in (ask("a"), ordinal("first")):
            await one.give(request)
            async with working(one.allocator):
                assert await one.give(replace(request, address="10.0.0.6")) == "10.0.0.6"
                await eventually(lambda: list(one.store.objects) == ["10.0.0.6"])
            await one.allocator.release(request.pod_uid, "eth0")
            one.surroundings.running.add(request.pod_uid)
            one.store.objects.pop("10.0.0.6", None)
            one.view.deliver()

    async def test_an_address_that_cools_down_is_given_when_its_cooldown_is_over(self) -> None:
        one = One(cold())
        await one.give(ask("a"))
        await one.allocator.release("uid-of-a", "eth0")
        with pytest.raises(Refused, match=r"10\.0\.0\.1 was released at 1970-01-12T13:46:40Z and cools down"):
            await one.give(ask("b", address="10.0.0.1"))
        one.surroundings.now += 60
        assert await one.give(ask("b", address="10.0.0.1")) == "10.0.0.1"

    async def test_an_address_that_cools_down_in_another_pool_is_not_taken_from_there(self) -> None:
        one = One(cold(), pool("overlapping"))
        await one.give(ask("a", candidates=NamedPools(("cold",))))
        await one.allocator.release("uid-of-a", "eth0")
        with pytest.raises(Refused, match=r"10\.0\.0\.1 was released at .* and cools down"):
            await one.give(ask("b", address="10.0.0.1", candidates=NamedPools(("overlapping",))))

    async def test_a_record_that_only_the_server_knows_is_recognised(self) -> None:
        one = One(pool(nodeName=["n1"]))
        await one.give(ask("a"))
        one.view.known.clear()
        assert await one.give(ask("a", address="10.0.0.1")) == "10.0.0.1"

    async def test_an_address_that_comes_free_meanwhile_is_in_use_for_now(self) -> None:
        one = One(pool(nodeName=["n1"]))
        await one.give(ask("a"))

        class Late(NodeView):
            async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
                return None

        late = one.surroundings.allocator(Late(one.store, "n1"))
        with pytest.raises(Refused, match="is in use"):
            await late.allocate(keyed([ask("b", address="10.0.0.1")]))


async def test_pools_that_the_pod_names_are_asked_in_order() -> None:
    one = One(pool("a", ips="10.0.0.1"), pool("b", ips="10.0.1.1", default=False))
    assert await one.give(ask("p", candidates=NamedPools(("b", "a")))) == "10.0.1.1"
