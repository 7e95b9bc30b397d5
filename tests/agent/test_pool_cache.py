"""What a node believes about a pool: which address is tried next, and what a fresh read corrects."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.agent.pool_cache import PoolCache, PoolCaches
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, to_int
from tests.agent.allocating_node import pool

pytestmark = pytest.mark.unit

NOTHING = AddressSet(4)
OWN = pool("own", "10.0.0.1-10.0.0.3", nodeName=["n1"])
ONE, TWO, THREE = (to_int(f"10.0.0.{last}", 4) for last in (1, 2, 3))


def record(address: int, released: str | None = None) -> SpiderIP:
    text = f"10.0.0.{address - ONE + 1}"
    spec = IPSpec(f"{text}/16", "own", "n2", "default", "p", "u", "eth0", releasedAt=released)
    return SpiderIP(metadata=ObjectMeta(name=text), spec=spec)


@pytest.fixture
def cache() -> PoolCache:
    return PoolCache(OWN, "n1", NOTHING)


def test_the_search_goes_on_behind_the_last_address_and_around(cache: PoolCache) -> None:
    assert [cache.next(()) for _ in range(4)] == [ONE, TWO, THREE, ONE]


def test_addresses_in_use_or_being_created_are_skipped(cache: PoolCache) -> None:
    cache.in_flight.add(ONE)
    assert cache.next({TWO}) == THREE
    cache.exclude(THREE)
    assert cache.next({TWO}) is None


def test_a_conflicting_address_comes_last(cache: PoolCache) -> None:
    cache.conflicting.add(ONE)
    assert cache.next(()) == TWO
    assert cache.next({TWO, THREE}) == ONE
    assert cache.next({ONE, TWO, THREE}) is None


def test_a_fresh_read_tells_what_is_free_what_is_stale_and_what_cools(cache: PoolCache) -> None:
    late, early = record(TWO, "2026-01-02T00:00:00Z"), record(THREE, "2026-01-01T00:00:00Z")
    cache.update([late, early], own={ONE})
    assert cache.stale == {ONE}
    assert cache.next({ONE}) == ONE, "our cached record is known to be gone"
    assert cache.cooling == [early, late]


def test_other_labels_are_read_as_long_as_the_pool_has_records_under_them(cache: PoolCache) -> None:
    cache.learn_label(replace(record(ONE), metadata=ObjectMeta(name="10.0.0.1", labels={IP_POOL_LABEL: "other"})))
    cache.learn_label(record(TWO))
    assert cache.labels == {"own", "other", None}
    cache.forget_label("other", [record(ONE)])
    six = replace(record(ONE), spec=replace(record(ONE).spec, address="fd00::1/64"))
    for label in (None, "own"):
        cache.forget_label(label, [six])
    assert cache.labels == {"own", "other"}


def test_records_of_other_pools_take_addresses_but_do_not_cool_for_this_one(cache: PoolCache) -> None:
    cooling = record(ONE, "2026-01-01T00:00:00Z")
    cache.update([replace(cooling, spec=replace(cooling.spec, pool="other"))], own=())
    assert (cache.next(()), cache.cooling) == (TWO, [])
    assert cache.next((), [TWO]) == THREE


def test_a_shared_pool_starts_from_the_hint_of_its_status() -> None:
    shared = replace(pool("shared", "10.0.0.1-10.0.0.3"), status=IPPoolStatus(allocatedRanges=["10.0.0.1-10.0.0.2"]))
    assert PoolCache(shared, "n1", NOTHING).next(()) == THREE
    assert PoolCache(replace(OWN, status=shared.status), "n1", NOTHING).next(()) == ONE, "its own records say all"


class TestCaches:
    def test_a_cache_lasts_until_the_pool_or_the_reserved_addresses_change(self) -> None:
        reserved = {4: NOTHING}
        caches = PoolCaches("n1", reserved.__getitem__)
        assert caches.known("own") is None
        first = caches.of(OWN)
        assert caches.of(OWN) is first is caches.known("own")
        first.conflicting.add(TWO)
        first.in_flight.add(ONE)
        reserved[4] = AddressSet.parse(["10.0.0.3"], 4)
        second = caches.of(OWN)
        assert (second.conflicting, second.in_flight) == ({TWO}, {ONE})
        assert second.next(()) == TWO, "the reserved address is none of it"
        changed = replace(OWN, metadata=replace(OWN.metadata, labels={"a": "b"}))
        assert caches.of(changed) is not second

    def test_ranges_that_cannot_be_parsed_are_an_error(self) -> None:
        broken: SpiderIPPool = pool("broken", "10.0.0.9-10.0.0.1")
        with pytest.raises(ValueError, match=r"10\.0\.0\.9"):
            PoolCaches("n1", lambda _: NOTHING).of(broken)


class TestManyNodes:
    """Nodes that take addresses of one shared pool at the same time, each by what it knows alone."""

    @staticmethod
    def lost_creates(nodes: int, adds: int) -> float:
        """Lost creates per ADD, when all nodes begin at one place and send their creates at the same moments."""
        shared = pool("shared", "10.0.0.1-10.0.63.254")
        caches = [PoolCache(shared, f"n{number}", NOTHING) for number in range(nodes)]
        for cache in caches:
            cache.start = ONE
        own: list[set[int]] = [set() for _ in caches]
        taken: set[int] = set()
        lost = 0
        while any(len(mine) < adds for mine in own):
            tries = [(place, cache.next(own[place])) for place, cache in enumerate(caches) if len(own[place]) < adds]
            for place, address in tries:
                assert address is not None
                if address in taken:
                    lost += 1
                    caches[place].exclude(address)
                else:
                    taken.add(address)
                    own[place].add(address)
        return lost / (nodes * adds)

    @pytest.mark.parametrize("nodes", [2, 8, 32])
    def test_do_not_go_on_in_step(self, nodes: int) -> None:
        assert self.lost_creates(nodes, 100) < 0.2


def test_the_search_in_a_pool_of_one_node_goes_on_behind_an_address_that_has_a_record(cache: PoolCache) -> None:
    assert cache.next(()) == ONE
    cache.exclude(ONE)
    assert cache.next(()) == TWO
