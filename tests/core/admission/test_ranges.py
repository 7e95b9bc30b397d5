"""Rules that pools, subnets and reserved addresses share."""

from __future__ import annotations

import pytest

from spiderpool.api.ippool import Route
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, ObjectMeta
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.admission.ranges import (
    cidr_label,
    family_faults,
    gateway_faults,
    merged,
    range_faults,
    route_faults,
    subnet_faults,
    subnet_or_none,
    with_finalizer,
)
from tests.core.admission.objects import NET, found

pytestmark = pytest.mark.unit

SUBNET = parse_subnet(NET)
SUBNET6 = parse_subnet("fd00::/64")
BOTH = frozenset({4, 6})


@pytest.mark.parametrize(
    ("text", "label"), [("10.6.0.0/24", "10-6-0-0-24"), ("fd00::/64", "fd00---64"), ("::/0", None), ("10.6.0.1/24", "")]
)
def test_a_subnet_as_a_label(text: str, label: str | None) -> None:
    subnet = subnet_or_none(text)
    assert (cidr_label(subnet) if subnet else "") == label


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [FINALIZER]),
        (["x"], ["x", FINALIZER]),
        ([FINALIZER], [FINALIZER]),
        ([FORMER_FINALIZER, "x"], ["x", FINALIZER]),
        ([FINALIZER, FORMER_FINALIZER], [FINALIZER]),
    ],
)
def test_our_finalizer_is_added_once(before: list[str] | None, after: list[str]) -> None:
    metadata = ObjectMeta(finalizers=before, labels={"stale": "x"})
    assert with_finalizer(metadata, {"a": "b"}) == ObjectMeta(finalizers=after, labels={"a": "b"})
    assert with_finalizer(metadata, {}).labels is None


@pytest.mark.parametrize(
    ("ranges", "after"),
    [
        (None, None),
        (["10.6.0.2"], ["10.6.0.2"]),
        (["10.6.0.2", "10.6.0.1"], ["10.6.0.1-10.6.0.2"]),
        (["10.6.0.2", "x"], ["10.6.0.2", "x"]),
        (["10.7.0.2", "10.7.0.1"], ["10.7.0.2", "10.7.0.1"]),
    ],
)
def test_ranges_are_joined_unless_one_is_invalid(ranges: list[str] | None, after: list[str] | None) -> None:
    assert merged(ranges, 4, AddressSet.of_network(SUBNET)) == after


@pytest.mark.parametrize(
    ("subnet", "version", "families", "faults"),
    [
        (NET, 4, BOTH, []),
        (NET, None, BOTH, []),
        ("10.6.0.1/24", None, BOTH, [("INVALID", "spec.subnet")]),
        (NET, 6, BOTH, [("INVALID", "spec.ipVersion")]),
        ("fd00::/64", None, frozenset({4}), [("FORBIDDEN", "spec.ipVersion")]),
    ],
)
def test_the_subnet_and_its_family(
    subnet: str, version: int | None, families: frozenset[int], faults: list[tuple[str, str]]
) -> None:
    assert found(subnet_faults(subnet, version, families)) == faults


def test_the_fault_names_the_setting_that_switches_a_family_on() -> None:
    assert list(family_faults(4, BOTH)) == []
    (fault,) = family_faults(6, frozenset({4}))
    assert "set enableIPv6 to true in the ConfigMap" in fault.message


@pytest.mark.parametrize(
    ("ranges", "faults"),
    [
        (None, []),
        (["10.6.0.1", "10.6.0.250-10.6.0.255"], []),
        (["10.6.0.1", "fd00::1"], [("INVALID", "spec.ips[1]")]),
        (["10.6.0.250-10.6.1.5", "10.6.0.9-10.6.0.1"], [("INVALID", "spec.ips[0]"), ("INVALID", "spec.ips[1]")]),
    ],
)
def test_each_wrong_entry_is_named(ranges: list[str] | None, faults: list[tuple[str, str]]) -> None:
    assert found(range_faults(ranges, "spec.ips", 4, SUBNET)) == faults


@pytest.mark.parametrize(
    ("gateway", "remedies"),
    [
        (None, []),
        ("10.6.0.254", []),
        ("10.6.0.9", ["is one of spec.ips and would be given to a pod; add it to spec.excludeIPs"]),
        ("10.7.0.1", ["lies outside the subnet 10.6.0.0/24; write an address of the subnet"]),
        ("fd00::1", ["not an IPv4 address; write an address of the subnet 10.6.0.0/24"]),
    ],
)
def test_the_gateway_is_in_the_subnet_and_not_usable_by_pods(gateway: str | None, remedies: list[str]) -> None:
    faults = gateway_faults(gateway, SUBNET, AddressSet.parse(["10.6.0.1-10.6.0.9"], 4))
    assert [fault.message for fault in faults] == remedies


def test_routes_of_ipv6() -> None:
    right = Route("fd01::/64", "fd00::1")
    faults = list(route_faults([right, Route("10.0.0.0/8", "fd00::1"), Route("::/0", "fd00::1"), right], SUBNET6))
    assert [(fault.path, fault.message.partition(";")[2].strip()) for fault in faults] == [
        ("spec.routes[1].dst", "write one such as fd00:233::/64"),
        ("spec.routes[2].dst", "leave this one out"),
        ("spec.routes[3].dst", "keep one of them"),
    ]


def test_routes_of_ipv4() -> None:
    (fault,) = route_faults([Route("10.233.1.1", "10.6.0.1")], SUBNET)
    assert fault.message == "not an IPv4 CIDR; write one such as 10.233.0.0/18"
