"""Releases that the API server does not take at once, and those that must not happen any more."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.allocator import Allocator
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.releases import PendingRelease, Releases, after_del
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.ipam.allocation import new_record, taken_over
from spiderpool.errors import ApiUnavailable
from tests.agent.allocating_node import NodeView, Store, Surroundings, ask, pool
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ADDRESS = to_int("10.0.0.1", 4)


class Node:
    """One node's releases, with one record that pod ``a`` holds."""

    def __init__(self, cooldown: int = 0, owner: IPOwner | None = None) -> None:
        self.pool = pool(cooldownSeconds=cooldown)
        self.store = Store()
        self.view = NodeView(self.store, "n1")
        self.surroundings = Surroundings(self.pool)
        self.record = self.store.create(new_record(ask("a", owner=owner), self.pool, ADDRESS))
        self.view.deliver()
        self.locks = KeyedLock()
        self.releases = Releases(
            self.view,
            {self.pool.name: self.pool}.get,
            self.locks,
            reads=self.surroundings.reads,
            clock=lambda: self.surroundings.now,
        )

    @property
    def stored(self) -> SpiderIP | None:
        return self.store.objects.get("10.0.0.1")


async def test_a_release_deletes_the_record_or_starts_its_cooldown() -> None:
    for cooldown, cool, releases in ((0, True, False), (60, False, False), (60, True, True)):
        node = Node(cooldown)
        await node.releases.release_or_defer(PendingRelease(node.record, cool=cool))
        assert bool(node.stored and node.stored.spec.releasedAt) is releases


async def test_an_address_of_a_pool_that_is_not_seen_cools_down_all_the_same() -> None:
    node = Node(60)
    releases = Releases(node.view, lambda _: None, KeyedLock(), reads=node.surroundings.reads, clock=lambda: 0.0)
    await releases.release_or_defer(PendingRelease(node.record))
    assert node.stored is not None
    assert node.stored.spec.releasedAt


async def test_a_sticky_owner_that_wants_the_address_keeps_it() -> None:
    node = Node(owner=IPOwner("StatefulSet", "default", "web"))
    await node.releases.release_or_defer(PendingRelease(node.record))
    assert node.stored == node.record
    node.surroundings.gone.add("a")
    await node.releases.release_or_defer(PendingRelease(node.record))
    assert node.stored is None


@pytest.mark.parametrize("fault", ["lost request", "lost answer"])
async def test_a_release_that_fails_is_carried_out_later(fault: str) -> None:
    node = Node()
    node.store.faults = [fault]
    await node.releases.release_or_defer(PendingRelease(node.record))
    await node.releases.retry("10.0.0.1")
    assert node.stored is None
    assert "10.0.0.1" not in node.view.known


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "late request"])
@pytest.mark.parametrize("cooldown", [0, 60])
async def test_a_release_that_may_have_been_done_is_completed_rather_than_withdrawn(fault: str, cooldown: int) -> None:
    node = Node(cooldown)
    node.store.faults = [fault]
    await node.releases.release_or_defer(PendingRelease(node.record))
    assert not await node.releases.withdraw(node.record)
    node.store.land()
    await node.releases.retry("10.0.0.1")
    assert node.view.of("uid-of-a", "eth0") == []
    assert node.stored is None or node.stored.spec.releasedAt


async def test_a_release_that_has_not_begun_is_withdrawn_without_a_read() -> None:
    node = Node()
    node.releases.defer(PendingRelease(node.record))
    assert node.releases.is_pending(node.record)
    assert await node.releases.withdraw(node.record)
    assert (node.releases.is_pending(node.record), node.store.reads) == (False, 0)
    await node.releases.retry("10.0.0.1")
    assert node.stored == node.record


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_a_release_that_was_put_off_waits_for_an_add_which_may_withdraw_it(withdrawn: bool) -> None:
    node = Node()
    node.releases.defer(PendingRelease(node.record))
    async with node.locks.held("uid-of-a"):
        work = asyncio.create_task(node.releases.retry("10.0.0.1"))
        await asyncio.sleep(0.01)
        assert node.stored == node.record
        if withdrawn:
            assert await node.releases.withdraw(node.record)
    await work
    assert (node.stored is not None) is withdrawn


async def test_the_release_of_a_former_holder_says_nothing_about_the_present_one() -> None:
    node = Node()
    node.store.faults = ["lost request"]
    await node.releases.release_or_defer(PendingRelease(node.record))
    taken = node.store.replace(taken_over(node.record, ask("b")))
    assert not node.releases.is_pending(taken)
    assert await node.releases.withdraw(taken)
    await node.releases.retry("10.0.0.1")
    assert node.stored == taken


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "late request"])
async def test_an_owner_that_needs_the_address_after_all_does_not_keep_what_may_be_gone(fault: str) -> None:
    node = Node(owner=IPOwner("StatefulSet", "default", "web"))
    node.surroundings.gone.add("a")
    node.store.faults = [fault]
    await node.releases.release_or_defer(PendingRelease(node.record))
    node.surroundings.gone.clear()
    await node.releases.retry("10.0.0.1")
    node.store.land()
    assert node.stored is None
    assert node.view.of("uid-of-a", "eth0") == []


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "late request"])
async def test_its_pod_gets_the_address_again(fault: str) -> None:
    owner = IPOwner("StatefulSet", "default", "web")
    node = Node(owner=owner)
    pools = NodePools("n1", lambda: [node.pool], lambda version: AddressSet(version))
    allocator = Allocator(node.view, pools, reads=node.surroundings.reads, clock=lambda: node.surroundings.now)
    node.surroundings.gone.add("a")
    node.store.faults = [fault]
    await allocator.release("uid-of-a", "eth0")
    node.surroundings.gone.clear()
    await allocator.allocate({("eth0", 4): ask("a", owner=owner)})
    node.store.land()
    assert list(node.store.objects) == ["10.0.0.1"]
    assert [each.spec.podUID for each in node.store.objects.values()] == ["uid-of-a"]


@pytest.mark.parametrize("fault", ["", "lost answer"])
async def test_what_no_add_has_granted_is_not_kept_for_its_owner_by_a_later_del(fault: str) -> None:
    node = Node(60, owner=IPOwner("StatefulSet", "default", "web"))
    node.store.faults = [fault or "lost request"]
    ungranted = after_del(node.record, {node.record.name: False})
    if fault:
        await node.releases.release_or_defer(ungranted)
    else:
        node.releases.defer(ungranted)
    await node.releases.release_or_defer(after_del(node.record, {}))
    await node.releases.retry("10.0.0.1")
    assert node.stored is None
    assert node.view.of("uid-of-a", "eth0") == []


@pytest.mark.parametrize("cooldown", [0, 60])
async def test_a_release_whose_answer_was_lost_does_not_hit_a_pod_that_has_the_address_again(cooldown: int) -> None:
    node = Node(cooldown)
    pools = NodePools("n1", lambda: [node.pool], lambda version: AddressSet(version))
    allocator = Allocator(node.view, pools, reads=node.surroundings.reads, clock=lambda: node.surroundings.now)
    node.store.faults = ["lost answer"]
    await allocator.release("uid-of-a", "eth0")
    node.view.deliver()
    await allocator.allocate({("eth0", 4): ask("a")})
    await allocator.releases.retry("10.0.0.1")
    assert [each.spec.releasedAt for each in node.store.objects.values()] == [None]


async def test_withdrawing_nothing_costs_no_read() -> None:
    node = Node()
    assert await node.releases.withdraw(node.record)
    assert node.store.reads == 0


async def test_a_record_with_another_holder_by_now_is_left_alone() -> None:
    node = Node()
    taken = node.store.replace(taken_over(node.record, ask("b")))
    await node.releases.release_or_defer(PendingRelease(node.record))
    assert node.stored == taken
    assert node.view.known["10.0.0.1"] == taken


async def test_a_record_that_keeps_changing_is_given_up_for_now() -> None:
    node = Node()

    class Busy(NodeView):
        async def delete(self, held: SpiderIP, *, timeout: float) -> None:
            known = node.store.objects[held.name]
            node.store.replace(known)
            await super().delete(held, timeout=timeout)

    releases = Releases(
        Busy(node.store, "n1"), {node.pool.name: node.pool}.get, KeyedLock(), reads=node.surroundings.reads
    )
    releases.defer(PendingRelease(node.record))
    with pytest.raises(ApiUnavailable, match="changes under our hands"):
        await releases.retry("10.0.0.1")


class Slow(NodeView):
    """The API server does not answer until it is told to."""

    answer: asyncio.Event

    async def delete(self, held: SpiderIP, *, timeout: float) -> None:
        await self.answer.wait()
        await super().delete(held, timeout=timeout)


async def test_the_release_of_a_cancelled_del_is_carried_out_all_the_same() -> None:
    node = Node()
    view = Slow(node.store, "n1")
    view.answer = asyncio.Event()
    releases = Releases(view, {node.pool.name: node.pool}.get, KeyedLock(), reads=node.surroundings.reads)
    work = asyncio.create_task(releases.release_or_defer(PendingRelease(node.record)))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    view.answer.set()
    worker = asyncio.create_task(releases.run())
    await eventually(lambda: node.stored is None)
    worker.cancel()
