"""Which address a pod gets that has none: free, cooled, cooling, requested."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent import pool_search
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.allocation import address_of, new_record
from spiderpool.core.ipam.selection import NamedPools
from spiderpool.errors import Refused
from spiderpool.kube.client import AlreadyExists
from tests.agent.allocating_node import (
    NodeView,
    One,
    Store,
    ask,
    cold,
    keyed,
    ordinal,
    pool,
    working,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


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


async def test_an_address_that_is_excluded_during_the_search_is_not_given() -> None:
    whole = pool("p", "10.0.0.1-10.0.0.9", nodeName=["n1"])
    one = One(whole)

    class Late(NodeView):
        async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
            if one.surroundings.pools == [whole]:
                one.surroundings.pools = [changed(whole, spec=changed(whole.spec, excludeIPs=["10.0.0.2-10.0.0.7"]))]
                raise AlreadyExists(wanted.name)
            return await super().create(wanted, timeout=timeout)

    one.allocator = one.surroundings.allocator(Late(one.store, "n1"))
    assert await one.give(ask("a")) == "10.0.0.8"


async def test_an_address_that_somebody_outside_uses_is_shunned_while_another_is_free() -> None:
    one = One(pool(ips="10.0.0.1-10.0.0.2", nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    await one.allocator.release_conflicting("uid-of-a")
    assert one.store.objects == {}
    assert [await one.give(ask(pod)) for pod in ("a", "b")] == ["10.0.0.2", "10.0.0.1"]


async def test_an_address_in_conflict_is_tried_last_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_search, "CONFLICT_SECONDS", 0.01)
    one = One(pool(ips="10.0.0.1-10.0.0.3", nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    await one.allocator.release_conflicting("uid-of-a")
    assert await one.give(ask("b")) == "10.0.0.2"
    await asyncio.sleep(0.05)
    assert await one.give(ask("a")) == "10.0.0.3"
    await one.allocator.release("uid-of-a", "eth0")
    assert await one.give(ask("a")) == "10.0.0.1"


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


@pytest.mark.parametrize("seconds", [0, 61])
async def test_an_address_that_was_reserved_while_it_cooled_down_is_given_to_nobody(seconds: int) -> None:
    one = One(cold("10.0.0.1"))
    await one.give(ask("p"))
    await one.allocator.release("uid-of-p", "eth0")
    one.surroundings.reserved[4] = AddressSet.parse(["10.0.0.1"], 4)
    one.surroundings.now += seconds
    with pytest.raises(Refused, match="holds no addresses but excluded and reserved ones"):
        await one.give(ask("q"))


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


async def test_an_address_that_a_sandbox_uses_without_a_record_is_given_to_nobody() -> None:
    one = One(pool(nodeName=["n1"]))
    one.surroundings.occupied = {to_int("10.0.0.1", 4)}
    assert await one.give(ask("a")) == "10.0.0.2"
    with pytest.raises(Refused, match=r"10\.0\.0\.1 is in use"):
        await one.give(ask("b", address="10.0.0.1"))
    cooling = One(cold())
    await cooling.give(ask("a"))
    await cooling.allocator.release("uid-of-a", "eth0")
    cooling.surroundings.occupied = {to_int("10.0.0.1", 4)}
    await cooling.give(ask("b"))
    with pytest.raises(Refused):
        await cooling.give(ask("c"))
