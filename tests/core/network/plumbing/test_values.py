"""What an attachment, a pod and its addresses tell of themselves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute
from spiderpool.core.network.plumbing.values import (
    Link,
    Loan,
    Ownership,
    PodState,
    default_destination,
    is_default,
    is_global,
)
from tests.core.pods import POD_ETH0

pytestmark = pytest.mark.unit


def test_addresses_and_families_of_an_attachment() -> None:
    dual = replace(POD_ETH0, addresses=(ip_interface("2001:db8::7/64"), *POD_ETH0.addresses))
    assert dual.of(6) == (ip_address("2001:db8::7"),)
    assert dual.versions() == (4, 6)
    assert POD_ETH0.versions() == (4,)


def test_foreign_addresses_are_those_that_spiderpool_did_not_give() -> None:
    ours, theirs = ip_address("10.6.0.9"), ip_address("10.6.0.10")
    assert Ownership(frozenset({ours}), frozenset({ours, theirs})).foreign == {theirs}
    assert Ownership(frozenset({ours})).foreign == Ownership().foreign == frozenset()


def test_links_and_addresses_of_a_pod() -> None:
    eth0 = Link("eth0", 2)
    addresses = (
        AddAddress("pod", "eth0", ip_interface("10.6.0.9/24")),
        AddAddress("pod", "net1", ip_interface("fd00::9/64")),
    )
    pod = PodState((Link("lo", 1), eth0), addresses)
    assert (pod.link("eth0"), pod.link("net7")) == (eth0, None)
    assert pod.held_by("eth0") == (ip_address("10.6.0.9"),)


@pytest.mark.parametrize(
    ("address", "reachable"),
    [("10.6.0.9", True), ("fd00::9", True), ("127.0.0.1", False), ("169.254.1.1", False), ("fe80::1", False)]
    + [(special, False) for special in ("::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::")],
)
def test_which_addresses_other_machines_can_use(address: str, reachable: bool) -> None:
    assert is_global(ip_address(address)) is reachable


def test_the_destination_of_a_default_route() -> None:
    assert [str(default_destination(version)) for version in (4, 6)] == ["0.0.0.0/0", "::/0"]


@pytest.mark.parametrize(
    ("route", "default"),
    [
        (AddRoute("pod", default_destination(4), "eth0"), True),
        (AddRoute("pod", default_destination(6), "eth0"), True),
        (AddRoute("pod", default_destination(4), "eth0", table=101), False),
        (AddRoute("pod", ip_network("0.0.0.0/1"), "eth0"), False),
    ],
)
def test_which_routes_are_default_routes(route: AddRoute, default: bool) -> None:
    assert is_default(route) is default


def test_a_loan_is_found_by_what_nobody_in_the_pod_can_change() -> None:
    mac = "00:16:3e:00:00:03"
    hardware, child = Link("renamed", 3, permanent_mac=mac), Link("net1", 4, kind="macvlan", permanent_mac=mac)
    assert Loan("vf3", permanent_mac=mac).find([child, hardware], "net1") is hardware
    assert Loan("vf3", permanent_mac=mac).find([child], "net1") is None
    virtual = Link("net1", 5, kind="veth")
    assert Loan("vf3", "veth").find([virtual], "net1") is virtual
    assert Loan("vf3", "veth").find([virtual], "net2") is None
