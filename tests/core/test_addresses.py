"""Sets of addresses against plain Python sets."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.core.addresses import (
    AddressSet,
    RangeError,
    canonical,
    from_int,
    object_name,
    parse_address,
    parse_subnet,
    to_int,
    version_of_text,
    with_port,
)

pytestmark = pytest.mark.unit

intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=8
)


def plain(addresses: AddressSet) -> set[int]:
    return {address for first, last in addresses.intervals for address in range(first, last + 1)}


@given(intervals, intervals)
def test_operators_are_those_of_sets(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = AddressSet.of(4, left), AddressSet.of(4, right)
    assert plain(a | b) == plain(a) | plain(b)
    assert plain(a - b) == plain(a) - plain(b)
    assert plain(a & b) == plain(a) & plain(b)
    assert a.issubset(b) == (plain(a) <= plain(b))
    assert a.size == len(plain(a))
    assert bool(a) == bool(plain(a))


@given(intervals)
def test_intervals_are_sorted_and_never_touch(raw: list[tuple[int, int]]) -> None:
    addresses = AddressSet.of(4, raw).intervals
    assert all(first <= last for first, last in addresses)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(addresses))


@given(intervals, st.integers(0, 80))
def test_membership(raw: list[tuple[int, int]], address: int) -> None:
    addresses = AddressSet.of(4, raw)
    assert (address in addresses) == (address in plain(addresses))


@given(intervals, st.integers(0, 80))
def test_rotation_begins_at_start_and_visits_every_address_once(raw: list[tuple[int, int]], start: int) -> None:
    addresses = AddressSet.of(4, raw)
    visited = [each for first, last in addresses.rotated(start) for each in range(first, last + 1)]
    ordered = sorted(plain(addresses))
    assert visited == [each for each in ordered if each >= start] + [each for each in ordered if each < start]


@pytest.mark.parametrize(
    ("start", "intervals"),
    [
        (0, [(1, 3), (7, 9)]),
        (2, [(2, 3), (7, 9), (1, 1)]),
        (5, [(7, 9), (1, 3)]),
        (8, [(8, 9), (1, 3), (7, 7)]),
        (10, [(1, 3), (7, 9)]),
    ],
)
def test_rotation(start: int, intervals: list[tuple[int, int]]) -> None:
    assert list(AddressSet.of(4, [(1, 3), (7, 9)]).rotated(start)) == intervals


@given(intervals)
def test_nth_counts_in_order(raw: list[tuple[int, int]]) -> None:
    addresses = AddressSet.of(4, raw)
    assert [addresses.nth(position) for position in range(addresses.size)] == sorted(plain(addresses))
    with pytest.raises(IndexError):
        addresses.nth(addresses.size)


@pytest.mark.parametrize(
    ("ranges", "version", "merged"),
    [
        (["10.0.0.5", "10.0.0.1-10.0.0.3", "10.0.0.4"], 4, ["10.0.0.1-10.0.0.5"]),
        (["10.0.0.255", "10.0.1.0"], 4, ["10.0.0.255-10.0.1.0"]),
        (["FD00::A", "fd00::b-fd00::d", "fd00::ff"], 6, ["fd00::a-fd00::d", "fd00::ff"]),
        (["::1-::3"], 6, ["::1-::3"]),
        ([], 4, []),
    ],
)
def test_parsing_merges_and_writes_canonical_text(ranges: list[str], version: int, merged: list[str]) -> None:
    assert AddressSet.parse(ranges, version).ranges() == merged


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.9-10.0.0.1", "the range is reversed; write 10.0.0.1-10.0.0.9"),
        ("10.0.0.0/24", "not an IPv4 address"),
        ("10.0.0.01", "not an IPv4 address"),
        ("10.0.0.1 ", "not an IPv4 address"),
        ("10.0.0.1-", "not an IPv4 address"),
        ("10.0.0.1-10.0.0.2-10.0.0.3", "not an IPv4 address"),
        ("fd00::1", "not an IPv4 address"),
        ("10.0.0.1\x00", "not an IPv4 address"),
        ("", "not an IPv4 address"),
    ],
)
def test_wrong_ranges_say_which_entry_and_why(text: str, reason: str) -> None:
    with pytest.raises(RangeError) as caught:
        AddressSet.parse(["10.0.0.1", text], 4)
    assert caught.value.index == 1
    assert caught.value.text == text
    assert reason in caught.value.reason


@pytest.mark.parametrize(("text", "version"), [("10.0.0.1", 4), ("FD00::1", 6)])
def test_parsing_an_address(text: str, version: int) -> None:
    assert parse_address(text, version) == ip_address(text)


@pytest.mark.parametrize("text", ["fd00::1%eth0", "10.0.0.1"])
def test_zones_and_other_families_are_no_ipv6_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="not an IPv6 address"):
        parse_address(text, 6)


@given(st.lists(st.integers(0, 60)))
def test_single_addresses_make_a_set(numbers: list[int]) -> None:
    assert plain(AddressSet.of_addresses(numbers, 4)) == set(numbers)


def test_a_huge_range() -> None:
    whole = AddressSet.parse(["fd00::-fd00::ffff:ffff:ffff:ffff"], 6)
    rest = whole - AddressSet.parse(["fd00::5"], 6)
    assert rest.size == 2**64 - 1
    assert rest.ranges() == ["fd00::-fd00::4", "fd00::6-fd00::ffff:ffff:ffff:ffff"]


def test_a_network_holds_all_its_addresses() -> None:
    assert AddressSet.of_network(parse_subnet("10.0.0.0/30")).ranges() == ["10.0.0.0-10.0.0.3"]


@pytest.mark.parametrize(
    ("subnet", "addresses"),
    [
        ("10.0.0.0/30", ["10.0.0.0", "10.0.0.3"]),
        ("10.0.0.0/31", []),
        ("10.0.0.1/32", []),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"]),
        ("fd00::/120", []),
    ],
)
def test_addresses_of_a_subnet_that_no_machine_may_have(subnet: str, addresses: list[str]) -> None:
    assert AddressSet.unassignable(parse_subnet(subnet)).ranges() == addresses


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.6.0.1/24", "write 10.6.0.0/24"),
        ("10.6.0.0/255.255.255.0", "write 10.6.0.0/24"),
        ("FD00::/64", "write fd00::/64"),
        ("10.6.0.0", "the prefix length is missing"),
        ("10.6.0.0/33", "not a CIDR"),
    ],
)
def test_subnets_must_be_canonical(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_subnet(text)


def test_there_are_two_families() -> None:
    with pytest.raises(ValueError, match="not an IPv5 address"):
        to_int("10.0.0.1", 5)


@given(st.integers(0, 2**128 - 1))
def test_text_and_integer_agree(value: int) -> None:
    assert to_int(from_int(value, 6), 6) == value


@pytest.mark.parametrize(
    ("address", "name"),
    [("172.31.199.187", "172.31.199.187"), ("fd00::1", "fd00-0000-0000-0000-0000-0000-0000-0001")],
)
def test_names_of_records(address: str, name: str) -> None:
    assert object_name(address) == name


@pytest.mark.parametrize(("text", "written"), [("10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1")])
def test_canonical_text(text: str, written: str) -> None:
    assert canonical(text) == written
    with pytest.raises(ValueError, match="not an IPv4 address"):
        canonical("10.0.0.01")


@pytest.mark.parametrize(
    ("address", "version", "written"),
    [("10.0.0.1", 4, "10.0.0.1:80"), ("fd00::1", 6, "[fd00::1]:80")],
)
def test_families_of_texts_and_addresses_with_ports(address: str, version: int, written: str) -> None:
    assert version_of_text(address) == version
    assert with_port(address, 80) == with_port(ip_address(address), 80) == written
