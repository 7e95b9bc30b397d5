"""Writes of the ADD path whose answer is lost, or that are carried out late."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent import record_writes
from spiderpool.api.ip import RELEASE_ANNOTATION, RENEWED_ANNOTATION, SpiderIP
from spiderpool.core.ipam.allocation import new_record
from spiderpool.errors import ApiUnavailable, NotReady
from tests.agent.allocating_node import (
    One,
    ask,
    cold,
    pool,
)

pytestmark = pytest.mark.unit


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


@pytest.mark.parametrize("landing", ["before the next ADD", "during the next ADD", "after the next ADD", "never"])
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
    replacing = one.view.replace

    async def replace(wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        if landing.startswith("during"):
            one.store.land()
        return await replacing(wanted, timeout=timeout)

    one.view.replace = replace  # type: ignore[method-assign]
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


async def test_of_very_many_doubts_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_writes, "MOST_UNANSWERED", 1)
    one = One(pool(nodeName=["n1"]))
    for name in ("a", "b"):
        one.store.faults = ["late request"]
        with pytest.raises(ApiUnavailable):
            await one.give(ask(name))
    for name, reads in (("a", 0), ("b", 1)):
        before = one.store.reads
        await one.give(ask(name))
        assert one.store.reads - before == reads


def marked(one: One, name: str) -> SpiderIP:
    """Somebody is about to release a record by hand, and the node has seen so."""
    held = one.store.objects[name]
    annotations = {RELEASE_ANNOTATION: held.metadata.uid or "", "theirs": "x"}
    one.store.replace(changed(held, metadata=changed(held.metadata, annotations=annotations)))
    one.view.deliver()
    return one.store.objects[name]


async def test_a_record_with_the_mark_of_a_release_is_written_before_it_is_granted() -> None:
    one = One(pool())
    name = await one.give(ask("a"))
    record = marked(one, name)
    before = one.store.writes
    await one.allocator.retain(record, anew=False)
    assert one.store.objects[name].metadata.annotations == {"theirs": "x"}
    assert one.store.objects[name].metadata.resourceVersion != record.metadata.resourceVersion
    await one.allocator.retain(one.store.objects[name], anew=False)
    assert one.store.writes == before + 1, "without a mark there is nothing to write"


async def test_a_record_that_was_deleted_after_its_mark_is_not_granted() -> None:
    one = One(pool())
    record = marked(one, await one.give(ask("a")))
    one.store.delete(record)
    with pytest.raises(NotReady, match="has just been released"):
        await one.allocator.retain(record, anew=False)
    assert one.view.known == {}, "the next ADD takes an address anew"


async def test_a_mark_that_was_taken_away_or_set_anew_meanwhile() -> None:
    one = One(pool())
    old = marked(one, await one.give(ask("a")))
    again = marked(one, old.name)
    await one.allocator.retain(old, anew=False)
    assert not one.store.objects[old.name].marked
    before = one.store.writes
    await one.allocator.retain(again, anew=False)
    assert one.store.writes == before + 1, "one that is refused, since it bears the mark no more"
    assert not one.view.known[old.name].marked
    assert one.view.known[old.name] == one.store.objects[old.name]


async def test_a_record_of_a_pod_that_comes_back_is_written_anew() -> None:
    """A deletion that was sent while the pod was gone names the version before."""
    one = One(pool())
    name = await one.give(ask("a"))
    old = one.store.objects[name]
    one.store.replace(changed(old, metadata=changed(old.metadata, annotations={"theirs": "x"})))
    await one.allocator.retain(old, anew=True)
    present = one.store.objects[name]
    assert set(present.metadata.annotations or {}) == {"theirs", RENEWED_ANNOTATION}
    assert one.view.known[name] == present
    await one.allocator.retain(present, anew=True)
    assert one.store.objects[name].metadata.resourceVersion != present.metadata.resourceVersion


async def test_a_record_of_another_holder_by_now_is_not_granted() -> None:
    one = One(pool())
    old = marked(one, await one.give(ask("a")))
    one.store.replace(changed(old, spec=changed(old.spec, podUID="another")))
    with pytest.raises(NotReady):
        await one.allocator.retain(old, anew=False)
