"""The allocator against a plain model of the API server: no address twice, none lost, none leaked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace as changed

from spiderpool.agent.allocator import Allocation, Allocator
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, cooldown_is_over, family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import ApiUnavailable, Refused
from tests.agent.allocating_node import (
    NodeView,
    Store,
    Surroundings,
    ask,
    keyed,
    pool,
)

pytestmark = pytest.mark.unit


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
        if f"web-{pod}" in self.surroundings.gone:
            self.left.pop(pod, None)
        elif given and self.is_sticky(pod):
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


Histories.TestCase.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=40, deadline=None, derandomize=True
)


TestHistories = Histories.TestCase
