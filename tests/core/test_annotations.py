"""Annotations of pods and Namespaces: what they choose, and how a wrong one is named with the remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spiderpool.core.annotations import (
    InterfacePools,
    IPNumber,
    all_interface_pools,
    all_interface_subnets,
    custom_routes,
    entry_for,
    interface_pools,
    ip_number,
    is_pattern,
    namespace_pools,
    reclaims_pool,
)
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

PREFIX = "ipam.spidernet.io/"


def one(key: str, text: str) -> dict[str, str]:
    return {PREFIX + key: text}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"ipv4": ["a"], "ipv6": ["b", "c"]}', {4: ("a",), 6: ("b", "c")}),
        ('{"ipv4": ["a"], "ipv6": []}', {4: ("a",)}),
        ('{"ipv4": ["a"], "ipv6": null}', {4: ("a",)}),
        ('{"IPv4": [" a "], "something": 1}', {4: ("a",)}),
        ('{"interface": "eth1", "ipv6": ["p*"]}', {6: ("p*",)}),
    ],
)
def test_ippool_names_pools_of_the_attached_interface(text: str, names: dict[int, tuple[str, ...]]) -> None:
    assert interface_pools(one("ippool", text), "eth0") == InterfacePools("eth0", names)


def test_ippools_names_pools_of_several_interfaces() -> None:
    text = '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv6": ["b"], "cleanGateway": true}]'
    assert all_interface_pools(one("ippools", text)) == (
        InterfacePools("eth0", {4: ("a",)}),
        InterfacePools("net1", {6: ("b",)}, True),
    )


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ('{"ipv4": ["s1", "s2"]}', (InterfacePools("eth0", {4: ("s1",)}),)),
        ('{"interface": "net1", "ipv4": ["s1"], "ipv6": ["s6"]}', (InterfacePools("net1", {4: ("s1",), 6: ("s6",)}),)),
    ],
)
def test_subnet_names_the_first_subnet_of_each_family(text: str, pools: tuple[InterfacePools, ...]) -> None:
    assert all_interface_subnets(one("subnet", text)) == pools


def test_subnets_takes_precedence_over_subnet() -> None:
    both = one("subnet", '{"ipv4": ["a"]}') | one("subnets", '[{"interface": "net1", "ipv4": ["b"]}]')
    assert all_interface_subnets(both) == (InterfacePools("net1", {4: ("b",)}),)


def test_annotations_that_are_not_set() -> None:
    assert interface_pools({}, "eth0") is None
    assert all_interface_pools({}) is None
    assert all_interface_subnets({}) is None
    assert ip_number({}) is None
    assert (custom_routes({}), namespace_pools({}), reclaims_pool({})) == ((), {}, True)


def pools_of_eth0(annotations: dict[str, str]) -> object:
    return interface_pools(annotations, "eth0")


@pytest.mark.parametrize(
    ("key", "text", "read", "message"),
    [
        ("ippool", "", lambda a: interface_pools(a, "eth0"), "ippool of the pod is wrong: .*; write"),
        ("ippool", "[]", lambda a: interface_pools(a, "eth0"), "ippool of the pod is wrong: Expected `object`"),
        ("ippool", '{"ipv4": "a"}', lambda a: interface_pools(a, "eth0"), "Expected `array | null`, got `str`"),
        (
            "ippool",
            "{}",
            lambda a: interface_pools(a, "eth0"),
            "names nothing under ipv4 or ipv6; add names, or remove",
        ),
        ("ippool", '{"ipv4": [""]}', lambda a: interface_pools(a, "eth0"), "holds an empty name; remove it"),
        ("ippools", "[]", all_interface_pools, "lists no interface; add one"),
        ("ippools", '[{"interface": "eth0"}]', all_interface_pools, "names nothing for eth0"),
        (
            "ippools",
            '[{"interface": "eth0", "ipv4": ["a"]}, {"ipv4": ["b"]}]',
            all_interface_pools,
            "names eth0 but leaves another entry unnamed; name all interfaces or none",
        ),
        (
            "ippools",
            '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "eth0", "ipv6": ["b"]}]',
            all_interface_pools,
            "lists interface eth0 twice",
        ),
        (
            "ippools",
            '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "eth0@", "ipv4": ["b"]}]',
            all_interface_pools,
            "names 'eth0@', which no interface is called; write a name such as eth0",
        ),
        ("subnets", "[]", all_interface_subnets, "lists no interface"),
        ("subnets", '[{"interface": "eth0"}]', all_interface_subnets, "names nothing for eth0"),
        (
            "subnets",
            '[{"interface": "eth0", "ipv4": ["s"]}, {"interface": "net1", "ipv4": ["s"]}]',
            all_interface_subnets,
            "uses subnet s for two interfaces",
        ),
        ("subnets", '[{"ipv4": ["s"]}, {"ipv4": ["t"]}]', all_interface_subnets, "several interfaces without names"),
        ("subnet", '{"ipv4": [" "]}', all_interface_subnets, "holds an empty name"),
        ("routes", '[{"dst": "10.0.0.0/8"}]', custom_routes, "missing required field `gw`"),
        ("routes", '[{"dst": "10.0.0.0/99", "gw": "10.0.0.1"}]', custom_routes, "write dst as a CIDR"),
        ("routes", '[{"dst": "10.0.0.0/8", "gw": "fd00::1"}]', custom_routes, "an address of the other family"),
        ("ippool-ip-number", "-1", ip_number, "is '-1'; write a number such as 5"),
        ("ippool-ip-number", "++1", ip_number, "write a number"),
        ("ippool-ip-number", "", ip_number, "write a number"),
        ("ippool-ip-number", "1000000", ip_number, "ippool-ip-number requests 1000000 addresses; at most 5000"),
        ("ippool-ip-number", "+5001", ip_number, "requests 5001 addresses"),
        ("ippool-ip-number", "9" * 5000, ip_number, "requests a number of 5000 digits"),
        ("ippools", "[" + ",".join(['{"ipv4": ["p"]}'] * 34) + "]", all_interface_pools, "of the pod has 34 entries"),
        ("ippool", f'{{"ipv4": {["p"] * 257}}}'.replace("'", '"'), pools_of_eth0, "holds 257 names; at most 256"),
        ("ippool", f'{{"ipv4": ["{"p" * 254}"]}}', pools_of_eth0, "holds a name of 254 characters; at most 253"),
        ("ippool-reclaim", "yes", reclaims_pool, "is 'yes'; write true or false"),
        ("default-ipv4-ippool", "pool", namespace_pools, "default-ipv4-ippool of the Namespace is wrong"),
        ("default-ipv6-ippool", '[""]', namespace_pools, "default-ipv6-ippool holds an empty name"),
    ],
)
def test_a_wrong_annotation_is_named_with_the_remedy(
    key: str, text: str, read: Callable[[dict[str, str]], object], message: str
) -> None:
    with pytest.raises(BadConfig, match=message) as raised:
        read(one(key, text))
    assert PREFIX + key in str(raised.value)


def test_routes_are_put_in_canonical_form() -> None:
    text = '[{"dst": "10.1.2.3/8", "gw": "10.0.0.1"}, {"DST": "fd00::5/64", "GW": "fd00:0::1"}]'
    assert custom_routes(one("routes", text)) == (("10.0.0.0/8", "10.0.0.1"), ("fd00::/64", "fd00::1"))


def test_default_pools_of_a_namespace() -> None:
    annotations = one("default-ipv4-ippool", '["a", "b*"]') | one("default-ipv6-ippool", "[]")
    assert namespace_pools(annotations) == {4: ("a", "b*")}


@pytest.mark.parametrize(("text", "number"), [("5", IPNumber(5, False)), ("+2", IPNumber(2, True))])
def test_the_number_of_addresses(text: str, number: IPNumber) -> None:
    assert ip_number(one("ippool-ip-number", text)) == number


@pytest.mark.parametrize(
    ("name", "pattern"), [("a", False), ("a*", True), ("a?", True), ("a[1-3]", True), ("a[", False)]
)
def test_patterns(name: str, pattern: bool) -> None:
    assert is_pattern(name) is pattern


NAMED = (InterfacePools("eth0", {4: ("a",)}), InterfacePools("net1", {4: ("b",)}))
UNNAMED = (InterfacePools("", {4: ("a",)}), InterfacePools("", {4: ("b",)}))


def test_an_entry_is_found_by_name_or_by_position() -> None:
    assert entry_for(NAMED, "k", "net1", 0) is NAMED[1]
    assert entry_for(UNNAMED, "k", "net1", 1) is UNNAMED[1]


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        (NAMED, "names pools for eth0, net1, not for net7; add an entry"),
        (UNNAMED, "for 2 interfaces; net7 is one more"),
    ],
)
def test_an_interface_that_is_not_listed_is_refused(pools: tuple[InterfacePools, ...], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        entry_for(pools, "k", "net7", 2)


def test_an_annotation_holds_so_many_patterns() -> None:
    text = '{"ipv4": [' + ", ".join(['"a*"'] * 67) + "]}"
    with pytest.raises(BadConfig, match="holds 67 patterns for names of pools; at most 66 are possible"):
        interface_pools({"ipam.spidernet.io/ippool": text}, "eth0")
