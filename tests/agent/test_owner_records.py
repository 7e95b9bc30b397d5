"""Which record a pod takes over where its sticky owner has several, and how it comes to have only one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from spiderpool.agent import late_writes
from spiderpool.agent.allocator import Allocator
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import ApiUnavailable, NotReady, Refused
from tests.agent.allocating_node import NodeView, Store, Surroundings, ask, keyed, ordinal, pool, working
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

VM = IPOwner("VirtualMachineInstance", "default", "vm")
OTHER = pool("b", "10.0.1.1-10.0.1.3")


def launcher(name: str, node: str = "n1", **fields: object) -> AllocationRequest:
    """The request of a pod of the virtual machine; ``name`` is its UID, too."""
    return ask(f"launcher-{name}", node, pod_uid=name, owner=VM, **fields)


def draining(**spec: object) -> SpiderIPPool:
    emptied = pool("a", "10.0.0.1-10.0.0.6", disable=True, **spec)
    emptied.metadata.annotations = {POOL_MOVING_ANNOTATION: "10.0.0.0-10.0.0.255"}
    return emptied


class Interrupting(NodeView):
    """Something happens elsewhere between the reads and the first write of an ADD."""

    def __init__(self, store: Store, node: str) -> None:
        super().__init__(store, node)
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        while self.meanwhile:
            await self.meanwhile.pop()()
        return await super().create(wanted, timeout=timeout)


class Nodes:
    """Two nodes."""

    def __init__(self, *pools: SpiderIPPool) -> None:
        self.store = Store()
        self.surroundings = Surroundings(*pools)
        self.views = Interrupting(self.store, "n1"), Interrupting(self.store, "n2")
        self.one, self.two = map(self.surroundings.allocator, self.views)

    async def give(self, request: AllocationRequest) -> str:
        allocator = self.one if request.node == "n1" else self.two
        return (await allocator.allocate(keyed([request]))).granted["eth0", 4].name

    async def end(self, allocator: Allocator, uid: str) -> None:
        """The pod's DEL; later everybody knows what there is."""
        await allocator.release(uid, "eth0")
        await asyncio.sleep(0.05)
        self.wait()

    def wait(self) -> None:
        """Minutes pass, and everybody hears of everything."""
        self.store.minutes += 2
        self.surroundings.now += 120.0
        for view in self.views:
            view.deliver()


async def test_a_machine_that_moves_takes_along_what_it_has_and_nothing_that_cools_down() -> None:
    """A drained pool's address cools down when the machine was stopped and started."""
    nodes = Nodes(pool("a", cooldownSeconds=600), OTHER)
    async with working(nodes.one), working(nodes.two):
        had = await nodes.give(launcher("first"))
        nodes.surroundings.pools = [draining(cooldownSeconds=600), OTHER]
        await nodes.end(nodes.one, "first")
        has = await nodes.give(launcher("second"))
        await eventually(lambda: nodes.store.objects[had].spec.releasedAt)
        nodes.surroundings.running.add("second")
        nodes.wait()
        assert await nodes.give(launcher("target", "n2", migrating=True)) == has


@pytest.mark.parametrize("undone", [False, True], ids=["draining", "drain taken back"])
async def test_a_machine_that_moves_takes_along_what_it_has_and_nothing_left_over(undone: bool) -> None:
    """The agent ended before it had released what the machine had before the drain."""
    nodes = Nodes(pool("a"), OTHER)
    await nodes.give(launcher("first"))
    nodes.surroundings.pools = [draining(), OTHER]
    await nodes.end(nodes.one, "first")
    has = await nodes.give(launcher("second"))
    assert len(nodes.store.objects) == 2
    nodes.surroundings.running.add("second")
    nodes.surroundings.pools = [pool("a") if undone else draining(), OTHER]
    nodes.wait()
    assert await nodes.give(launcher("target", "n2", migrating=True)) == has


async def test_a_pod_that_waits_for_its_machine_is_given_nothing_left_over_meanwhile() -> None:
    nodes = Nodes(pool("a"), OTHER)
    await nodes.give(launcher("first"))
    nodes.surroundings.pools = [draining(), OTHER]
    await nodes.end(nodes.one, "first")
    has = await nodes.give(launcher("second"))
    nodes.surroundings.running.add("second")
    nodes.surroundings.pools = [pool("a"), OTHER]
    before = dict(nodes.store.objects)
    with pytest.raises(Refused, match=f"gets {has}/16 when pod default/launcher-second on node n1"):
        await nodes.give(launcher("third", "n2"))
    assert nodes.store.objects == before


async def test_an_ordinal_that_comes_back_keeps_what_fits_there_too() -> None:
    nodes = Nodes(pool("a", nodeName=["n1"], cooldownSeconds=600), pool("everywhere", "10.0.1.1-10.0.1.9"))
    given = []
    async with working(nodes.one), working(nodes.two):
        for number, (node, allocator) in enumerate([("n1", nodes.one), ("n2", nodes.two)] * 2):
            given.append(await nodes.give(ordinal(f"life-{number}", node)))
            await asyncio.sleep(0.05)
            await nodes.end(allocator, f"life-{number}")
    assert given == ["10.0.0.1", "10.0.1.1", "10.0.1.1", "10.0.1.1"]


async def test_no_owner_keeps_what_was_taken_over_too_late_to_be_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is as old as the stranger's holding of it; the address cools down as it did before."""
    monkeypatch.setattr(late_writes, "FIRST_PAUSE", 0.01)
    nodes = Nodes(pool("a", "10.0.0.1", cooldownSeconds=600))
    async with working(nodes.one), working(nodes.two):
        await nodes.give(ask("stranger"))
        await nodes.end(nodes.one, "uid-of-stranger")
        nodes.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await nodes.give(ordinal("first"))
        await nodes.end(nodes.one, "first")
        nodes.surroundings.pools = [pool("a", "10.0.0.1-10.0.0.3", cooldownSeconds=600)]
        used = await nodes.give(ordinal("second", "n2"))
        nodes.store.land()
        assert nodes.store.objects["10.0.0.1"].spec.podUID == "first"
        await eventually(lambda: nodes.store.objects["10.0.0.1"].spec.releasedAt)
        await nodes.end(nodes.two, "second")
        assert await nodes.give(ordinal("third", "n2")) == used


async def test_a_create_that_lands_between_two_adds_is_not_granted_beside_what_another_pod_of_the_owner_got() -> None:
    nodes = Nodes(pool("a"))
    nodes.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await nodes.give(ordinal("present", "n2"))
    other = await nodes.give(ordinal("former"))
    nodes.store.land()
    nodes.wait()
    with pytest.raises(NotReady, match=f"was given {other}/16 by another pod of its owner meanwhile"):
        await nodes.give(ordinal("present", "n2"))
    assert list(nodes.store.objects) == [other]
    assert await nodes.give(ordinal("present", "n2")) == other


async def test_what_another_pod_of_the_owner_took_over_meanwhile_is_not_replaced() -> None:
    """Both knew the record; it suits the other's node alone."""
    nodes = Nodes(pool("a", nodeName=["n1"]), pool("b", "10.0.1.1-10.0.1.3", nodeName=["n2"]))
    await nodes.give(ordinal("first"))
    await nodes.end(nodes.one, "first")
    nodes.views[1].meanwhile = [lambda: nodes.give(ordinal("second"))]
    with pytest.raises(NotReady, match=r"was given 10\.0\.0\.1/16 by another pod of its owner meanwhile"):
        await nodes.give(ordinal("third", "n2"))
    assert {name: each.spec.podUID for name, each in nodes.store.objects.items()} == {"10.0.0.1": "second"}


@pytest.mark.parametrize("versions", [(4, 6), (6, 4)])
async def test_what_no_add_has_granted_of_the_second_family_is_not_kept_either(versions: tuple[int, int]) -> None:
    """The create of its IPv6 address lands, and the next ADD is refused for its IPv4 address before the DEL."""
    nodes = Nodes(pool("a"), pool("six", "fd00::1-fd00::6"))

    async def give(request: AllocationRequest) -> str:
        allocator = nodes.one if request.node == "n1" else nodes.two
        asked = keyed(replace(request, version=version) for version in versions)
        return (await allocator.allocate(asked)).granted["eth0", 6].name

    async with working(nodes.one), working(nodes.two):
        nodes.store.faults = [""] * versions.index(6) + ["late request"]
        with pytest.raises(ApiUnavailable):
            await give(ordinal("present", "n2"))
        await asyncio.sleep(0.05)
        owned = await give(ordinal("former"))
        nodes.surroundings.in_use.add("former")
        nodes.store.land()
        nodes.wait()
        with pytest.raises((Refused, NotReady)):
            await give(ordinal("present", "n2"))
        await nodes.end(nodes.two, "present")
        nodes.surroundings.in_use.clear()
        await nodes.end(nodes.one, "former")
        assert await give(ordinal("next", "n2")) == owned
        await eventually(lambda: len(nodes.store.objects) == 2)
