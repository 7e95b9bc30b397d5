"""What a node believes about a pool: which address is tried next, and what a fresh read corrects."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.agent.pool_cache import LONGEST_BELIEF, NodePools, PoolCache, PoolCaches
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


def status(*ranges: str) -> IPPoolStatus:
    return IPPoolStatus(allocatedRanges=list(ranges))


class TestKnowledge:
    """What is found out in a pool that others use, too, lasts from one hint to the next."""

    SHARED = pool("own", "10.0.0.1-10.0.0.3")

    def test_a_status_without_a_hint_takes_nothing_away(self) -> None:
        cache = PoolCache(self.SHARED, "n1", NOTHING)
        cache.update([record(ONE), record(TWO)], own=())
        for each in (IPPoolStatus(allocatedIPCount=2), None, IPPoolStatus(allocatedIPCount=3)):
            cache.renew(replace(self.SHARED, status=each), NOTHING)
            assert cache.free.ranges() == ["10.0.0.3"]

    def test_the_same_hint_again_says_nothing_new(self) -> None:
        cache = PoolCache(replace(self.SHARED, status=status("10.0.0.1")), "n1", NOTHING)
        cache.exclude(TWO)
        for count in (1, 2, 3):
            again = IPPoolStatus(allocatedRanges=["10.0.0.1"], allocatedIPCount=count)
            cache.renew(replace(self.SHARED, status=again), NOTHING)
            assert cache.free.ranges() == ["10.0.0.3"]

    def test_the_first_hint_may_be_older_than_what_was_found_out_the_second_is_not(self) -> None:
        cache = PoolCache(replace(self.SHARED, status=status()), "n1", NOTHING)
        cache.exclude(TWO)
        cache.renew(replace(self.SHARED, status=status("10.0.0.1")), NOTHING)
        assert cache.free.ranges() == ["10.0.0.3"]
        cache.renew(replace(self.SHARED, status=status("10.0.0.3")), NOTHING)
        assert cache.free.ranges() == ["10.0.0.1-10.0.0.2"]

    def test_our_own_records_leave_an_address_free_once_they_are_gone(self) -> None:
        cache = PoolCache(self.SHARED, "n1", NOTHING)
        mine = replace(record(ONE), spec=replace(record(ONE).spec, node="n1"))
        cache.update([mine, record(TWO), record(THREE)], own={ONE})
        assert cache.next({ONE}) is None
        assert cache.next(()) == ONE

    def test_a_pool_that_becomes_a_nodes_own_has_but_this_nodes_records(self) -> None:
        cache = PoolCache(self.SHARED, "n1", NOTHING)
        cache.update([record(ONE)], own=())
        cache.renew(replace(OWN, status=status("10.0.0.1")), NOTHING)
        assert cache.free.ranges() == ["10.0.0.1-10.0.0.3"]

    def test_only_a_costly_read_is_believed_for_a_while_and_not_once_we_gave_an_address_back(self) -> None:
        cache = PoolCache(self.SHARED, "n1", NOTHING)
        cache.update([record(ONE)], own={TWO})
        cache.believe(0.0, 0.5)
        assert not cache.is_known({TWO}, 0.5)
        cache.believe(0.0, 1.0)
        assert cache.is_known({TWO, THREE}, 10.0)
        assert not cache.is_known({TWO}, 12.0)
        assert not cache.is_known({THREE}, 1.0)
        cache.believe(0.0, 60.0)
        assert not cache.is_known({TWO}, 60.0 + LONGEST_BELIEF)


class TestCaches:
    def test_a_cache_is_renewed_when_the_pool_or_the_reserved_addresses_change(self) -> None:
        reserved = {4: NOTHING}
        caches = PoolCaches(NodePools("n1", lambda: [OWN], reserved.__getitem__))
        assert caches.known("own") is None
        cache = caches.of(OWN)
        assert caches.of(OWN) is cache is caches.known("own")
        cache.conflicting.add(TWO)
        cache.in_flight.add(ONE)
        reserved[4] = AddressSet.parse(["10.0.0.3"], 4)
        assert caches.of(OWN).next(()) == TWO, "the reserved address is none of it"
        wider = replace(OWN, spec=replace(OWN.spec, ips=["10.0.0.1-10.0.0.9"]))
        assert to_int("10.0.0.9", 4) in caches.of(wider).free

    def test_another_pool_of_the_same_name_begins_anew_and_pools_that_are_gone_are_forgotten(self) -> None:
        caches = PoolCaches(NodePools("n1", lambda: [OWN], lambda _: NOTHING))
        caches.of(pool("former", "10.0.0.1"))
        first = caches.of(OWN)
        assert caches.known("former") is None
        assert caches.of(replace(OWN, metadata=replace(OWN.metadata, uid="another"))) is not first

    def test_ranges_that_cannot_be_parsed_are_an_error(self) -> None:
        broken: SpiderIPPool = pool("broken", "10.0.0.9-10.0.0.1")
        with pytest.raises(ValueError, match=r"10\.0\.0\.9"):
            PoolCaches(NodePools("n1", lambda: [broken], lambda _: NOTHING)).of(broken)


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
