"""Which source names the pools of an interface: the first in order of priority that names any."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.candidates import AllocationPlan, allocation_plan, check_plan, with_controller
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.pod_context import (
    AddressPolicy,
    InterfaceNetworks,
    InterfaceRequest,
    PodContext,
)
from spiderpool.core.ipam.selection import ApplicationPool, DefaultPools, NamedPools
from spiderpool.errors import BadConfig, Refused

pytestmark = pytest.mark.unit

ONE_NIC = InterfaceNetworks((("eth0", "kube-system/a"),))
TWO_NICS = InterfaceNetworks((("eth0", "kube-system/a"), ("net1", "default/b")))
DEFAULT = [
    SpiderIPPool(metadata=ObjectMeta(name="four"), spec=IPPoolSpec(subnet="10.0.0.0/24", default=True)),
    SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec(subnet="fd00::/64", default=True)),
]
WEB = Controller("apps/v1", "Deployment", "default", "web", "u")
BOTH = AddressPolicy(families=(4, 6))


def annotated(**annotations: str) -> dict[str, str]:
    return {f"ipam.spidernet.io/{key.replace('_', '-')}": text for key, text in annotations.items()}


def context(**fields: Any) -> PodContext:
    return PodContext("default", "p", "u", "n1", **({"networks": ONE_NIC} | fields))


def request(interface: str = "eth0", *ips: str, **config: Any) -> InterfaceRequest:
    return InterfaceRequest(interface, IPAMConfig(**config), ips)


def plan(
    pod: PodContext,
    *interfaces: InterfaceRequest,
    policy: AddressPolicy | None = None,
    pools: list[SpiderIPPool] | None = None,
) -> AllocationPlan:
    listed = DEFAULT if pools is None else pools
    return allocation_plan(pod, interfaces or [request()], policy or AddressPolicy(), listed)


def gateway_of(found: AllocationPlan, interface: str) -> str | None:
    """The gateway that the plan grants to an interface which holds an address of a pool with one."""
    four = SpiderIPPool(metadata=ObjectMeta(name="four"), spec=IPPoolSpec(subnet="10.0.0.0/24", gateway="10.0.0.1"))
    record = SpiderIP(
        metadata=ObjectMeta(name="10.0.0.7"),
        spec=IPSpec("10.0.0.7/24", "four", "n1", "default", "p", "u", interface),
    )
    other = (f"{interface}x", 4)
    (grant,) = found.grants(interface, {(interface, 4): record, other: record}, {"four": four})
    return grant.gateway


ORDER = ("subnet", "ippools", "ippool", "namespace", "configured")
ALL_SOURCES = annotated(
    subnet='{"ipv4": ["s"]}',
    ippools='[{"interface": "eth0", "ipv4": ["a"]}]',
    ippool='{"ipv4": ["b"]}',
)


@pytest.mark.parametrize(
    ("first", "source", "names"),
    [
        (0, "annotation ipam.spidernet.io/subnet", None),
        (1, "annotation ipam.spidernet.io/ippools", ("a",)),
        (2, "annotation ipam.spidernet.io/ippool", ("b",)),
        (3, "the default pools of the Namespace's annotations", ("c",)),
        (4, "the network's configuration", ("d",)),
        (5, "the cluster's default pools", None),
    ],
)
def test_the_first_source_that_names_pools_decides(first: int, source: str, names: tuple[str, ...] | None) -> None:
    there = ORDER[first:]
    pod = context(
        annotations={key: text for key, text in ALL_SOURCES.items() if key.rpartition("/")[2] in there},
        namespace_annotations=annotated(default_ipv4_ippool='["c"]') if "namespace" in there else {},
        controller=WEB,
    )
    found = plan(pod, request(default_ipv4_ippool=["d"] if "configured" in there else None), pools=DEFAULT[:1])
    (wanted,) = found.requests.values()
    assert wanted.source == source
    if names:
        assert wanted.candidates == NamedPools(names)
    assert [verdict.subject for verdict in found.trace if verdict.kept] == [source]
    assert len(found.trace) == first + 1, "every source before it is in the trace"


def test_malformed_annotations_of_the_namespace_matter_only_where_the_pod_names_no_pools() -> None:
    home = annotated(default_ipv4_ippool="pool")
    decided = plan(context(annotations=annotated(ippool='{"ipv4": ["a"]}'), namespace_annotations=home))
    assert decided.requests["eth0", 4].candidates == NamedPools(("a",))
    with pytest.raises(BadConfig, match="default-ipv4-ippool of the Namespace is wrong"):
        plan(context(namespace_annotations=home))


def test_default_pools_serve_every_family_that_has_one() -> None:
    both = plan(context(), policy=BOTH).requests
    assert {key: each.candidates for key, each in both.items()} == {
        ("eth0", 4): DefaultPools(),
        ("eth0", 6): DefaultPools(),
    }
    assert list(plan(context(), policy=BOTH, pools=DEFAULT[:1]).requests) == [("eth0", 4)]
    assert plan(context(), pools=[]).requests == {}


def test_a_family_that_is_off_is_dropped_with_a_verdict() -> None:
    found = plan(context(annotations=annotated(ippool='{"ipv4": ["a"], "ipv6": ["b"]}')))
    assert found.families("eth0") == (4,)
    assert str(found.trace[-1]) == (
        "IPv6 pools of annotation ipam.spidernet.io/ippool for eth0: enableIPv6 is false in the ConfigMap"
    )


def test_named_interfaces_are_served_at_once_each_with_its_own_default_route() -> None:
    text = '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"], "cleangateway": true}]'
    found = plan(context(annotations=annotated(ippools=text), networks=TWO_NICS))
    assert {key: (each.candidates, each.network) for key, each in found.requests.items()} == {
        ("eth0", 4): (NamedPools(("a",)), "kube-system/a"),
        ("net1", 4): (NamedPools(("b",)), "default/b"),
    }
    assert [gateway_of(found, interface) for interface in ("eth0", "net1")] == ["10.0.0.1", None]


def test_an_interface_that_two_requests_name_gets_one_address_of_each_family() -> None:
    text = '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"]}]'
    pod = context(annotations=annotated(ippools=text), networks=TWO_NICS)
    assert list(plan(pod, request("eth0"), request("net1")).requests) == [("eth0", 4), ("net1", 4)]


def test_the_configuration_may_drop_the_default_route() -> None:
    assert gateway_of(plan(context(), request()), "eth0") == "10.0.0.1"
    assert gateway_of(plan(context(), request(clean_gateway=True)), "eth0") is None


UNNAMED = annotated(ippools='[{"ipv4": ["a"]}, {"ipv4": ["b"]}]')


@pytest.mark.parametrize(
    ("interface", "networks", "holding", "names"),
    [
        ("eth0", ONE_NIC, (), ("a",)),
        ("eth0", TWO_NICS, ("net1",), ("a",)),
        ("net1", TWO_NICS, (), ("b",)),
        ("net7", ONE_NIC, ("eth0",), ("b",)),
        ("net7", ONE_NIC, ("eth0", "net7"), ("b",)),
        ("net7", ONE_NIC, (), ("a",)),
    ],
)
def test_unnamed_interfaces_are_served_one_by_one_in_order(
    interface: str, networks: InterfaceNetworks, holding: tuple[str, ...], names: tuple[str, ...]
) -> None:
    pod = context(annotations=UNNAMED, networks=networks, holding=holding)
    ((key, wanted),) = plan(pod, request(interface)).requests.items()
    assert (key, wanted.candidates) == ((interface, 4), NamedPools(names))


@pytest.mark.parametrize(
    ("fields", "interface", "policy", "message"),
    [
        ({"annotations": UNNAMED, "holding": ("eth0", "net1")}, "net9", AddressPolicy(), "net9 is one more"),
        (
            {"annotations": annotated(ippools='[{"interface": "eth0", "ipv4": ["a"]}]')},
            "net1",
            AddressPolicy(),
            "not for net1",
        ),
        (
            {"annotations": annotated(subnet='{"ipv4": ["s"]}')},
            "eth0",
            AddressPolicy(),
            "a bare pod gets its address by ippool",
        ),
        (
            {"annotations": annotated(subnet='{"ipv4": ["s"]}')},
            "eth0",
            AddressPolicy(automatic=False),
            "enableAutoPoolForApplication is false",
        ),
        (
            {"annotations": annotated(subnets='[{"interface": "net1", "ipv4": ["s"]}]'), "controller": WEB},
            "eth0",
            AddressPolicy(),
            "names pools for net1, not for eth0",
        ),
        (
            {"annotations": annotated(routes="{}")},
            "eth0",
            AddressPolicy(),
            "ipam.spidernet.io/routes of the pod is wrong",
        ),
    ],
)
def test_what_cannot_be_served_is_an_error(
    fields: dict[str, Any], interface: str, policy: AddressPolicy, message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        plan(context(**fields), request(interface), policy=policy)


def test_an_applications_pool_is_described_by_labels_and_may_still_be_made() -> None:
    found = plan(context(annotations=annotated(subnet='{"ipv4": ["s"]}'), controller=WEB))
    candidates = found.requests["eth0", 4].candidates
    assert isinstance(candidates, ApplicationPool)
    assert candidates.labels["ipam.spidernet.io/owner-spider-subnet"] == "s"
    assert found.awaits_pool
    assert not plan(context()).awaits_pool


def test_subnet_is_for_its_own_interface_and_others_are_served_by_the_next_source() -> None:
    pod = context(networks=TWO_NICS, annotations=annotated(subnet='{"ipv4": ["s"]}'), controller=WEB)
    found = plan(pod, request("net1"))
    assert found.requests["net1", 4].source == "the cluster's default pools"
    assert str(found.trace[0]) == "annotation ipam.spidernet.io/subnet: is for eth0, not net1"


def test_subnets_have_no_effect_where_they_are_switched_off() -> None:
    annotations, off = annotated(subnet='{"ipv4": ["s"]}'), AddressPolicy(subnets=False)
    assert "enableSpiderSubnet is false" in str(plan(context(annotations=annotations), policy=off).trace[0])


def test_requests_tell_all_about_the_pod() -> None:
    pod = context(labels={"a": "b"}, namespace_labels={"c": "d"}, node_labels={"e": "f"}, networks=TWO_NICS)
    four, six = plan(pod, request("net1"), policy=BOTH).requests.values()
    assert (four.pod_labels, four.namespace_labels, four.node_labels) == ({"a": "b"}, {"c": "d"}, {"e": "f"})
    assert (four.version, four.interface, four.network) == (4, "net1", "default/b")
    assert six == replace(four, version=6)
    assert all(each.controller == WEB for each in with_controller(plan(pod), WEB).requests.values())


def test_an_interface_that_is_named_twice_has_the_network_of_its_first_mention() -> None:
    networks = InterfaceNetworks((("eth0", "kube-system/a"), ("eth0", "default/b")))
    assert networks.network("eth0") == "kube-system/a"
    assert networks.position("eth0") == 0


def test_routes_of_the_pod_go_with_every_source() -> None:
    found = plan(context(annotations=annotated(routes='[{"dst": "10.0.0.0/8", "gw": "10.0.0.1"}]')))
    assert found.routes == (("10.0.0.0/8", "10.0.0.1"),)


def test_a_pod_may_ask_for_an_address_of_each_family() -> None:
    found = plan(context(networks=TWO_NICS), request("eth0"), request("net1", "fd00::7", "10.0.0.7"), policy=BOTH)
    assert {key: each.address for key, each in found.requests.items()} == {
        ("eth0", 4): None,
        ("eth0", 6): None,
        ("net1", 4): "10.0.0.7",
        ("net1", 6): "fd00::7",
    }


@pytest.mark.parametrize(
    ("ips", "message"),
    [
        (("fd00::7",), "eth0 asks for fd00::7, but nobody names IPv6 pools"),
        (("10.0.0.7", "10.0.0.8"), r"eth0 asks for 10\.0\.0\.7 and 10\.0\.0\.8; one address of a family"),
    ],
)
def test_addresses_that_cannot_be_given(ips: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        plan(context(), request("eth0", *ips))


ONLY_SIX = annotated(ippool='{"ipv6": ["b"]}')


@pytest.mark.parametrize(
    ("annotations", "policy", "pools", "message"),
    [
        ({}, AddressPolicy(), [], "no IPv4 address for eth0 of pod default/p on node n1 from the cluster's default"),
        ({}, AddressPolicy(families=(6,)), [], "no IPv6 address for eth0"),
        (ONLY_SIX, AddressPolicy(), DEFAULT, "no IPv6 address for eth0 .*: enableIPv6 is false in the ConfigMap"),
    ],
)
def test_an_interface_without_any_family_is_refused_unless_it_holds_an_address(
    annotations: dict[str, str], policy: AddressPolicy, pools: list[SpiderIPPool], message: str
) -> None:
    found = plan(context(annotations=annotations), policy=policy, pools=pools).unserved
    assert isinstance(found, Refused)
    assert re.search(message, found.message)
    assert plan(context(annotations=annotations, holding=("eth0",)), policy=policy, pools=pools).unserved is None


def test_a_pool_of_an_application_asks_for_the_pods_controller() -> None:
    labels = {"ipam.spidernet.io/owner-application-name": "web"}
    made = SpiderIPPool(metadata=ObjectMeta(name="a", labels=labels), spec=IPPoolSpec(subnet="10.0.0.0/24"))
    pod = context(annotations=annotated(ippool='{"ipv4": ["a"]}'))
    assert plan(pod, pools=[made]).needs_controller
    assert not plan(replace(pod, controller=WEB), pools=[made]).needs_controller
    assert not plan(pod, pools=DEFAULT).needs_controller


def test_a_refusal_tells_nothing_of_the_families_of_other_interfaces() -> None:
    pod = context(networks=TWO_NICS)
    both = request(default_ipv4_ippool=["a"], default_ipv6_ippool=["b"])
    found = plan(pod, both, request("net1"), pools=[]).unserved
    assert isinstance(found, Refused)
    assert re.search(r"no IPv4 address for net1 .*: no pool is a default pool", found.message)


def test_a_check_does_not_mind_that_no_source_names_the_family_of_an_address_any_more() -> None:
    asked = request("eth0", "fd00::7", default_ipv4_ippool=["a"])
    assert check_plan(context(), asked, BOTH, DEFAULT).families("eth0") == (4,)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["p"] * 257, "the network of eth0 names 257 pools of a family; at most 256 are possible"),
        (["p*"] * 67, "the network of eth0 holds 67 patterns for names of pools; at most 66 are possible"),
    ],
)
def test_a_network_names_so_many_pools(names: list[str], complaint: str) -> None:
    with pytest.raises(BadConfig, match=complaint):
        plan(context(), request(default_ipv4_ippool=names))
