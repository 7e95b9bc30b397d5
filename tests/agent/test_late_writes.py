"""Creates and replaces that the API server carries out after the DEL of their interface."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spiderpool.agent import late_writes, record_writes
from spiderpool.api.ip import SpiderIP
from spiderpool.errors import ApiUnavailable
from tests.agent.addressing_node import addressing_node
from tests.agent.addressing_node import pool as node_pool
from tests.agent.allocating_node import One, ask, cold, ordinal, pool, working
from tests.support.api_server import Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_writes, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(late_writes, "PATIENCE", 0.3)


async def refused(one: One, pod: str) -> None:
    """An ADD whose write comes late, and the DEL that follows."""
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask(pod))
    await one.allocator.release(f"uid-of-{pod}", "eth0")


def is_in_doubt(one: One, pod: str) -> bool:
    """Whether it is remembered that a write for a pod was not answered."""
    return one.allocator._writes.is_unanswered((f"uid-of-{pod}", "eth0"))


async def test_what_is_created_after_the_del_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_writes, "CALL_TIMEOUT", 0.1)
    monkeypatch.setattr(late_writes, "PATIENCE", 10.0)
    async with addressing_node(tmp_path, node_pool("p", "10.0.0.1-10.0.0.9")) as node:
        await node.pod("a")
        node.server.inject(Fault("create", delay=0.5))
        with pytest.raises(ApiUnavailable):
            await node.add("a", "c")
        await node.gone("a")
        await node.delete("a", "c")
        assert node.records == {}
        seen: list[SpiderIP] = []
        node.cluster.records.informer.subscribe(lambda _, new: seen.extend([new] if new else []))
        await eventually(lambda: seen, "the late create")
        await eventually(lambda: not node.records)
        await eventually(lambda: not node.cluster.records.of_pod(node.uids["a"]), "the agent hears of it")


async def test_a_record_that_is_taken_over_after_the_del_is_released() -> None:
    one = One(cold("10.0.0.1"))
    await one.give(ask("before"))
    await one.allocator.release("uid-of-before", "eth0")
    one.surroundings.now += 61
    async with working(one.allocator):
        await refused(one, "a")
        one.store.land()
        assert one.store.objects["10.0.0.1"].spec.podUID == "uid-of-a"
        await eventually(lambda: one.store.objects["10.0.0.1"].spec.releasedAt is not None)


async def test_the_end_of_a_pod_begins_the_watch_too() -> None:
    one = One(pool())
    one.store.faults = ["late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(ask("a"))
    async with working(one.allocator):
        one.allocator.release_soon("uid-of-a", "eth0")
        one.store.land()
        await eventually(lambda: not one.store.objects)


@pytest.mark.parametrize("landed", [False, True], ids=["after", "before"])
async def test_no_owner_keeps_what_was_created_too_late_to_be_granted(landed: bool) -> None:
    """Its next pod on any node would get this address or its own, as it happens."""
    one = One(pool())
    async with working(one.allocator):
        one.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await one.give(ordinal("former"))
        if landed:
            one.store.land()
        await one.allocator.release("former", "eth0")
        address = await one.give(ordinal("next"))
        one.store.land()
        await eventually(lambda: list(one.store.objects) == [address])
        assert one.store.objects[address].spec.podUID == "next"


@pytest.mark.parametrize("again", [False, True], ids=["once", "with another DEL"])
async def test_one_of_two_equal_creates_comes_after_the_record_of_the_other_was_released(again: bool) -> None:
    """Each ADD sends it once more, and the API server may carry out the first after a minute."""
    one = One(pool())
    async with working(one.allocator):
        for _ in range(2):
            one.store.faults = ["late request"]
            with pytest.raises(ApiUnavailable):
                await one.give(ordinal("former"))
            await one.allocator.release("former", "eth0")
        first, second = one.store.late
        one.store.late = [second]
        one.store.land()
        assert one.store.objects
        await eventually(lambda: not one.store.objects)
        one.store.late = [first]
        one.store.land()
        one.view.deliver()
        assert one.store.objects
        if again:
            await one.allocator.release("former", "eth0")
        await eventually(lambda: not one.store.objects)


async def test_an_owner_keeps_what_was_granted_although_a_create_of_it_is_still_under_way() -> None:
    one = One(pool())
    async with working(one.allocator):
        one.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await one.give(ordinal("former"))
        await one.allocator.release("former", "eth0")
        address = await one.give(ordinal("former"))
        granted = one.store.objects[address].metadata.uid
        await one.allocator.release("former", "eth0")
        one.store.land()
        await asyncio.sleep(0.4)
        assert [each.metadata.uid for each in one.store.objects.values()] == [granted]


async def test_a_create_that_lands_beside_what_was_granted_goes_with_the_next_sandbox() -> None:
    """Another pool had room meanwhile, so that the ADD was granted another address than the one that it lost."""
    one = One(pool("a", "10.0.0.9"), pool("b", "10.0.0.1-10.0.0.3"))
    async with working(one.allocator):
        assert await one.give(ask("x")) == "10.0.0.9"
        one.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await one.give(ordinal("former"))
        await one.allocator.release("uid-of-x", "eth0")
        assert await one.give(ordinal("former")) == "10.0.0.9"
        one.store.land()
        one.view.deliver()
        assert len(one.store.objects) == 2
        assert await one.give(ordinal("former")) == "10.0.0.9"
        await eventually(lambda: [*one.store.objects] == ["10.0.0.9"])
        await one.allocator.release("former", "eth0")
        assert await one.give(ordinal("next")) == "10.0.0.9"


async def test_an_owner_keeps_what_was_granted_though_its_create_landed_while_the_owner_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = One(pool())
    async with working(one.allocator):
        one.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await one.give(ordinal("former"))
        asked = one.view.of_owner

        async def of_owner(label: str, *, timeout: float) -> list[SpiderIP]:
            one.store.land()
            return await asked(label, timeout=timeout)

        monkeypatch.setattr(one.view, "of_owner", of_owner)
        address = await one.give(ordinal("former"))
        granted = one.store.objects[address].metadata.uid
        await one.allocator.release("former", "eth0")
        await asyncio.sleep(0.4)
        assert [each.metadata.uid for each in one.store.objects.values()] == [granted]


async def test_a_look_that_comes_late_finds_what_came_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read for another holder hangs for longer than the watch lasts."""
    one = One(pool())
    async with working(one.allocator):
        for _ in range(2):
            one.store.faults = ["late request"]
            with pytest.raises(ApiUnavailable):
                await one.give(ordinal("former"))
        first, second = one.store.late
        one.store.late = [second]
        one.store.land()
        await one.allocator.release("former", "eth0")
        await refused(one, "z")
        read, begun = one.view.get, asyncio.Event()

        async def get(name: str, *, timeout: float) -> SpiderIP | None:
            begun.set()
            await asyncio.sleep(0.6)
            return await read(name, timeout=timeout)

        monkeypatch.setattr(one.view, "get", get)
        await begun.wait()
        one.store.late = [first]
        one.store.land()
        one.view.deliver()
        await eventually(lambda: not one.store.objects)


async def test_what_the_next_sandbox_is_given_stays() -> None:
    """Its ADD sends the same create again, so that whichever is carried out, the pod has one address."""
    one = One(pool())
    async with working(one.allocator):
        await refused(one, "a")
        address = await one.give(ask("a"))
        one.store.land()
        await asyncio.sleep(0.1)
        assert list(one.store.objects) == [address]
        assert one.store.objects[address].spec.podUID == "uid-of-a"


async def test_the_watch_ends_and_nothing_is_remembered() -> None:
    one = One(pool())
    async with working(one.allocator):
        await refused(one, "a")
        await asyncio.sleep(0.8)
        reads = one.store.reads
        assert reads < 12
        await asyncio.sleep(0.4)
        assert one.store.reads == reads
        assert not is_in_doubt(one, "a")
        await one.give(ask("a"))
        assert one.store.reads - reads <= 1, "of the pool, not of the record that was in doubt"


async def test_an_api_server_that_is_away_is_asked_once_it_is_back() -> None:
    one = One(pool())
    reading = one.view.get

    async def away(name: str, *, timeout: float) -> SpiderIP | None:
        raise ApiUnavailable("connection refused")

    async with working(one.allocator):
        one.view.get = away  # type: ignore[method-assign]
        await refused(one, "a")
        one.store.land()
        await asyncio.sleep(0.4)
        assert is_in_doubt(one, "a")
        one.view.get = reading  # type: ignore[method-assign]
        await eventually(lambda: not one.store.objects and not is_in_doubt(one, "a"))
