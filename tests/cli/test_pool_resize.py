"""`spiderpoolctl pool resize`: what may go, what is refused, and that it goes on and is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from spiderpool.api.ippool import POOL_ENI_LABEL, POOL_MOVING_ANNOTATION
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.cli.renumbering import runs
from spiderpool.cli.renumbering.drain import PoolDrain
from spiderpool.cli.renumbering.marks import MOVING_POOL_LABEL
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.resize import AddressChange, PoolResize, check_free, resized
from spiderpool.core.addresses import AddressSet, from_int
from spiderpool.core.ipam.allocation import address_of
from spiderpool.errors import ApiUnavailable, BadRequest, Refused
from tests.support.api_server import Fault
from tests.support.played_cluster import MOVE, OLD, PlayedCluster, held, played_cluster, pod

pytestmark = pytest.mark.unit

STAY = replace(MOVE, move=False)
FIRST = AddressChange(removed=("10.0.0.1",))


@pytest.fixture
async def played(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PlayedCluster]:
    """Pod web-a has the first address of the pool, web-b the second."""
    async with played_cluster(monkeypatch) as found:
        yield found


async def run(played: PlayedCluster, change: AddressChange, options: MoveOptions = MOVE) -> bool:
    return await PoolResize("one", change, options).carry_out(played.cluster, played.said.append)


async def refusals(played: PlayedCluster, change: AddressChange, options: MoveOptions = STAY) -> tuple[str, ...]:
    return (await PoolResize("one", change, options).plan(played.cluster)).refusals


class TestDecisions:
    """Values in, values out."""

    @pytest.mark.parametrize(
        ("change", "ips", "gone"),
        [
            (AddressChange(added=("10.0.0.7-10.0.0.8",)), ["10.0.0.1-10.0.0.8"], []),
            (AddressChange(removed=("10.0.0.3",)), ["10.0.0.1-10.0.0.2", "10.0.0.4-10.0.0.6"], ["10.0.0.3"]),
            (AddressChange(("10.0.0.9",), ("10.0.0.6",)), ["10.0.0.1-10.0.0.5", "10.0.0.9"], ["10.0.0.6"]),
            (
                AddressChange(ips=("10.0.0.2", "10.0.0.20")),
                ["10.0.0.2", "10.0.0.20"],
                ["10.0.0.1", "10.0.0.3-10.0.0.6"],
            ),
        ],
    )
    def test_what_a_pool_has_then(self, change: AddressChange, ips: list[str], gone: list[str]) -> None:
        found = resized(OLD, change)
        assert (found.after.spec.ips, found.part.addresses.ranges()) == (ips, gone)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (AddressChange(added=("10.0.0",)), "not an IPv4 address"),
            (AddressChange(removed=("10.0.0.5-10.0.0.9",)), "does not have 10.0.0.7-10.0.0.9"),
            (AddressChange(("10.0.0.9",), ("10.0.0.9",)), "cannot be added and removed at once"),
            (AddressChange(added=("10.0.0.2",)), "has these addresses already"),
            (AddressChange(added=("10.0.0.30",)), "excludeIPs of pool one has 10.0.0.30: take them out there first"),
        ],
    )
    def test_what_cannot_be(self, change: AddressChange, why: str) -> None:
        excluding = changed(OLD, spec=changed(OLD.spec, excludeIPs=["10.0.0.30-10.0.0.31"]))
        with pytest.raises(BadRequest, match=why):
            resized(excluding, change)

    @given(st.sets(st.integers(1, 6), min_size=1), st.sets(st.integers(1, 6)))
    def test_no_address_goes_while_a_record_holds_it(self, going: set[int], holding: set[int]) -> None:
        base = 0x0A000000
        change = AddressChange(removed=tuple(from_int(base + each, 4) for each in going))
        found = resized(OLD, change)
        records = [held(from_int(base + each, 4), f"pod-{each}") for each in holding]
        try:
            check_free(found.part, records)
        except Refused:
            assert going & holding
        else:
            after = AddressSet.parse(found.after.spec.ips or (), 4)
            assert all(address_of(each) in after for each in records)


async def test_a_pool_grows(played: PlayedCluster) -> None:
    assert await run(played, AddressChange(added=("10.0.0.7-10.0.0.9",)))
    assert played.pool("one").spec.ips == ["10.0.0.1-10.0.0.9"]


async def test_what_the_webhook_would_refuse_is_told_before(played: PlayedCluster) -> None:
    (taken,) = await refusals(played, AddressChange(added=("10.0.0.11",)))
    assert "pool two has 10.0.0.11 as well" in taken
    (outside,) = await refusals(played, AddressChange(added=("10.0.1.1",)))
    assert "10.0.1.1 lies outside the subnet 10.0.0.0/24" in outside


async def test_free_addresses_go_and_held_ones_stay(played: PlayedCluster) -> None:
    assert await run(played, AddressChange(removed=("10.0.0.5-10.0.0.6",)), STAY)
    assert played.pool("one").spec.ips == ["10.0.0.1-10.0.0.4"]
    assert await refusals(played, FIRST) == (
        "1 of the addresses that go are held: --move evicts the pods that have a controller",
    )
    assert not await run(played, FIRST, STAY)
    assert played.pool("one").spec.ips == ["10.0.0.1-10.0.0.4"]
    assert played.far.evicted == []


async def test_the_holders_of_what_goes_move_and_others_stay(played: PlayedCluster) -> None:
    assert await refusals(played, FIRST, MOVE) == ()
    assert await run(played, FIRST)
    assert played.far.evicted == ["web-a"]
    assert played.holding == {"10.0.0.2": "web-b", "10.0.0.11": "web-a-next"}
    pool = played.pool("one")
    assert (pool.spec.ips, pool.spec.disable, pool.metadata.annotations or {}) == (["10.0.0.2-10.0.0.6"], None, {})
    assert played.server.stored(SpiderReservedIP) == {}


async def test_it_goes_on_after_it_was_stopped(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    assert not await run(played, FIRST, replace(MOVE, timeout=0.2))
    assert played.pool("one").spec.ips == ["10.0.0.1-10.0.0.6"], "somebody has it still"
    assert (played.pool("one").metadata.annotations or {})[POOL_MOVING_ANNOTATION] == "10.0.0.1"
    assert played.server.stored(SpiderReservedIP)["moving-one"].spec.ips == ["10.0.0.1"], "nobody gets it anew"
    with pytest.raises(Refused, match="from a resize that is not over"):
        await run(played, AddressChange(removed=("10.0.0.2",)))
    played.server.forbid_evictions("")
    assert await run(played, FIRST)
    assert played.pool("one").spec.ips == ["10.0.0.2-10.0.0.6"]


async def test_it_is_taken_back(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    await run(played, FIRST, replace(MOVE, timeout=0.2))
    await PoolResize("one", AddressChange(), MOVE).undo(played.cluster, played.said.append)
    assert (played.pool("one").metadata.annotations or {}, played.server.stored(SpiderReservedIP)) == ({}, {})
    await PoolResize("one", AddressChange(), MOVE).undo(played.cluster, played.said.append)
    assert played.said[-1] == "pool one is not being resized"


async def test_the_pool_of_an_eni_is_changed_in_the_cloud(played: PlayedCluster) -> None:
    played.server.put(changed(OLD, metadata=ObjectMeta(name="one", labels={POOL_ENI_LABEL: "eni-1"})))
    with pytest.raises(Refused, match=r"pool one has the addresses of ENI eni-1, .* in the cloud"):
        await refusals(played, AddressChange(added=("10.0.0.7",)))


LAST = AddressChange(removed=("10.0.0.5-10.0.0.6",))


async def undo(played: PlayedCluster) -> None:
    await PoolResize("one", AddressChange(), MOVE).undo(played.cluster, played.said.append)


async def test_addresses_that_cool_down_are_given_to_nobody_again(played: PlayedCluster) -> None:
    played.server.put(held("10.0.0.6", "gone", releasedAt="2026-01-01T00:00:00Z"))
    played.server.put(held("10.0.0.4", "other", releasedAt="2026-01-01T00:00:00Z"))
    assert await run(played, LAST, STAY)
    assert set(played.holding) == {"10.0.0.1", "10.0.0.2", "10.0.0.4"}


async def test_a_drain_is_not_undone_by_a_resize(played: PlayedCluster) -> None:
    await PoolDrain("one", STAY).carry_out(played.cluster, played.said.append)
    before = played.pool("one")
    for change in (AddressChange(added=("10.0.0.7",)), LAST):
        with pytest.raises(Refused, match=r"a drain of pool one is not over: .* pool drain one --undo"):
            await run(played, change, STAY)
        with pytest.raises(Refused, match="a drain of pool one is not over"):
            await refusals(played, change)
    with pytest.raises(Refused, match="a drain of pool one is not over"):
        await undo(played)
    assert (played.pool("one").spec, played.pool("one").metadata.annotations) == (
        before.spec,
        before.metadata.annotations,
    )


async def test_a_resize_is_not_undone_by_another_one_or_by_a_drain(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    await run(played, FIRST, replace(MOVE, timeout=0.1))
    before = played.pool("one").metadata.annotations
    with pytest.raises(Refused, match="is being resized"):
        await run(played, AddressChange(added=("10.0.0.7",)), STAY)
    with pytest.raises(Refused, match="a resize of pool one is not over"):
        await PoolDrain("one", STAY).carry_out(played.cluster, played.said.append)
    assert played.pool("one").metadata.annotations == before


async def test_a_pool_that_is_disabled_on_purpose_stays_so(played: PlayedCluster) -> None:
    played.server.put(changed(OLD, spec=changed(OLD.spec, disable=True)))
    played.server.forbid_evictions("web-budget")
    await run(played, FIRST, replace(MOVE, timeout=0.1))
    await undo(played)
    await PoolDrain("one", STAY).undo(played.cluster, played.said.append)
    assert (played.pool("one").spec.disable, played.pool("one").metadata.annotations or {}) == (True, {})
    assert played.server.stored(SpiderReservedIP) == {}


@pytest.mark.parametrize("how", ["again", "undo", "add"])
async def test_what_an_interruption_after_the_change_leaves_is_removed(played: PlayedCluster, how: str) -> None:
    played.server.inject(Fault("delete", status=500, plural=SpiderReservedIP.KIND.plural))
    with pytest.raises(ApiUnavailable):
        await run(played, LAST, STAY)
    assert (played.pool("one").spec.ips, len(played.server.stored(SpiderReservedIP))) == (["10.0.0.1-10.0.0.4"], 1)
    ips = ["10.0.0.1-10.0.0.4"]
    if how == "again":
        found = await PoolResize("one", LAST, STAY).plan(played.cluster)
        assert (found.refusals, len(found.notes)) == ((), 1)
        assert await run(played, LAST, STAY)
    elif how == "undo":
        await undo(played)
    else:
        ips = ["10.0.0.1-10.0.0.6"]
        assert await run(played, AddressChange(added=("10.0.0.5-10.0.0.6",)), STAY)
    assert "pool one has given up 10.0.0.5-10.0.0.6 already; what was kept for that is removed" in played.said
    assert (played.pool("one").spec.ips, played.pool("one").metadata.annotations or {}) == (ips, {})
    assert played.server.stored(SpiderReservedIP) == {}


async def test_what_goes_stays_reserved_until_agents_have_learnt_of_the_pool(
    played: PlayedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LEARNING", 0.3)
    task = asyncio.create_task(run(played, LAST, STAY))
    await played.told("pool one has 10.0.0.1-10.0.0.4")
    assert set(played.server.stored(SpiderReservedIP)) == {"moving-one"}
    played.put(pod("late"), "10.0.0.6")
    assert not await task
    assert "pod default/late has got 10.0.0.6 meanwhile: add it again, or evict the pod" in played.said
    assert played.server.stored(SpiderReservedIP) == {}


@pytest.mark.parametrize("label", [{}, {MOVING_POOL_LABEL: "uid-of-a-former-pool"}])
async def test_what_somebody_else_has_reserved_stays(played: PlayedCluster, label: dict[str, str]) -> None:
    metadata = ObjectMeta(name="moving-one", labels=label)
    played.server.put(SpiderReservedIP(metadata=metadata, spec=ReservedIPSpec(4, ["10.0.0.5-10.0.0.6"])))
    await undo(played)
    with pytest.raises(Refused, match="SpiderReservedIP moving-one was not made by a resize of this pool"):
        await run(played, LAST, STAY)
    await undo(played)
    assert set(played.server.stored(SpiderReservedIP)) == {"moving-one"}
    assert (played.pool("one").metadata.annotations or {}) == {}


async def test_what_is_added_counts_and_is_there_first(played: PlayedCluster) -> None:
    played.server.remove(played.pool("two"))
    played.server.put(changed(OLD, spec=changed(OLD.spec, ips=["10.0.0.1-10.0.0.2"])))
    change = AddressChange(added=("10.0.0.50-10.0.0.60",), removed=("10.0.0.1",))
    assert await refusals(played, change, MOVE) == ()
    played.server.forbid_evictions("web-budget")
    assert not await run(played, change, replace(MOVE, timeout=0.1))
    assert played.pool("one").spec.ips == ["10.0.0.1-10.0.0.2", "10.0.0.50-10.0.0.60"]
    played.server.forbid_evictions("")
    assert await run(played, change)
    assert played.pool("one").spec.ips == ["10.0.0.2", "10.0.0.50-10.0.0.60"]
