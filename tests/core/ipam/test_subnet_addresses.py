"""Which addresses subnets and pools hold, and what a pool holds after its size has changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.subnet_addresses import (
    available_addresses,
    lowest,
    pool_addresses,
    reserved_addresses,
    resize,
    subnet_addresses,
    why_subnet_unusable,
)
from tests.core.ipam.objects import NOW, addresses, pool, subnet

pytestmark = pytest.mark.unit


class TestSizes:
    AVAILABLE = AddressSet.parse(["0.0.0.1-0.0.0.20"], 4)
    NONE = AddressSet(4)

    @pytest.mark.parametrize(
        ("current", "size", "in_use", "result"),
        [
            ((), 3, (), (1, 2, 3)),
            ((2, 3), 4, (), (1, 2, 3, 4)),
            ((2, 3), 2, (3,), (2, 3)),
            ((1, 2, 3, 4), 2, (1,), (1, 4)),
            ((1, 2, 3, 4), 1, (1, 3), (1, 2, 3, 4)),
            ((1, 2, 99), 3, (), (1, 2, 3)),
            ((1, 2, 99), 3, (99,), (1, 2, 99)),
            ((), 2, (1, 3), (2, 4)),
            ((), 30, (), tuple(range(1, 21))),
        ],
    )
    def test_growing_and_shrinking(
        self, current: tuple[int, ...], size: int, in_use: tuple[int, ...], result: tuple[int, ...]
    ) -> None:
        assert resize(addresses(*current), size, self.AVAILABLE, addresses(*in_use)) == addresses(*result)

    def test_a_size_as_large_as_a_network(self) -> None:
        whole = AddressSet.parse(["fd00::-fd00::ffff:ffff:ffff:ffff"], 6)
        grown = resize(AddressSet(6), 10**18, whole, AddressSet(6))
        assert grown.size == 10**18
        assert resize(grown, 10**18 - 5, whole, AddressSet(6)).size == 10**18 - 5
        assert lowest(whole, 0) == AddressSet(6)

    def test_an_unreadable_entry_reserves_nothing_and_spoils_no_other(self) -> None:
        reserved = [
            SpiderReservedIP(spec=ReservedIPSpec(4, ["0.0.0.3", "x", "fd00::1", "0.0.0.5-0.0.0.6"])),
            SpiderReservedIP(metadata=ObjectMeta(deletionTimestamp=NOW), spec=ReservedIPSpec(4, ["0.0.0.9"])),
            SpiderReservedIP(),
        ]
        assert reserved_addresses(reserved, 4) == addresses(3, 5, 6)
        assert reserved_addresses(reserved, 6).ranges() == ["fd00::1"]
        assert available_addresses(self.AVAILABLE, [addresses(1, 2)], addresses(3)).ranges() == ["0.0.0.4-0.0.0.20"]

    @given(
        st.frozensets(st.integers(1, 40)),
        st.integers(0, 50),
        st.frozensets(st.integers(1, 30)),
        st.frozensets(st.integers(1, 40)),
    )
    def test_no_size_takes_an_address_in_use(
        self, current: frozenset[int], size: int, available: frozenset[int], in_use: frozenset[int]
    ) -> None:
        held, using = addresses(*current), addresses(*in_use)
        after = resize(held, size, addresses(*available), using)
        assert (held & using).issubset(after)
        assert (after - held).issubset(addresses(*available) - using)
        assert after.size <= max(size, held.size)
        assert resize(after, size, addresses(*available), using) == after

    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=25), st.data())
    def test_pools_of_any_workloads_are_disjoint(self, steps: list[tuple[int, int]], data: st.DataObject) -> None:
        """Applications come, grow, shrink and go in any order; some of their addresses are in use."""
        whole = AddressSet.parse(["0.0.0.1-0.0.0.30"], 4)
        reserved = addresses(3, 4)
        pools: dict[int, AddressSet] = {}
        in_use: dict[int, AddressSet] = {}
        for app, size in steps:
            current = pools.get(app, self.NONE)
            held = data.draw(st.frozensets(st.sampled_from(_numbers(current)))) if current else frozenset()
            in_use[app] = addresses(*held)
            others = [each for name, each in pools.items() if name != app]
            pools[app] = resize(current, size, available_addresses(whole, others, reserved), in_use[app])
            assert in_use[app].issubset(pools[app])
            assert not pools[app] & reserved
            assert (
                sum(each.size for each in pools.values())
                == AddressSet.of(4, (interval for each in pools.values() for interval in each.intervals)).size
            )


def _numbers(held: AddressSet) -> list[int]:
    return [number for first, last in held.intervals for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("version", "ips", "deleted", "reason"),
    [
        (4, "10.6.0.1", None, None),
        (4, "10.6.0.1", NOW, "is being deleted"),
        (4, "10.6.0.300", None, "cannot be read: entry 0 ('10.6.0.300')"),
        (6, "10.6.0.1", None, "is IPv4, the annotation wants IPv6"),
    ],
)
def test_why_a_subnet_cannot_give_addresses(version: int, ips: str, deleted: str | None, reason: str | None) -> None:
    stored = subnet(ips)
    stored.metadata.deletionTimestamp = deleted
    assert (why_subnet_unusable(stored, version) or "").partition(": not an")[0] == (reason or "")


def test_pools_that_cannot_be_read_have_no_addresses() -> None:
    assert pool_addresses(pool("b", "x"), 4) == AddressSet(4)
    assert pool_addresses(pool("b", "fd00::1", cidr="fd00::/64"), 4) == AddressSet(4)


def test_stored_subnets_that_cannot_be_read_have_no_addresses() -> None:
    assert subnet_addresses(subnet("10.6.0.1-10.6.0.9"), 4).ranges() == ["10.6.0.1-10.6.0.9"]
    assert subnet_addresses(subnet("10.6.0.9-10.6.0.1"), 4) == AddressSet(4)
    assert subnet_addresses(subnet("10.6.0.1"), 6) == AddressSet(6)
