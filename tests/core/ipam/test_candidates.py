"""Who names the pools: the first in order of priority that says anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.candidates import (
    Circumstances,
    Demand,
    asks_of,
    demands,
    wants_application_pool,
    with_requested,
)
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.selection import AllocationRequest, ApplicationPool, DefaultPools, NamedPools
from spiderpool.core.network.pod_networks import Interfaces, RequestedNetwork
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

ONE_ENI = Interfaces("kube-system/a", ())
TWO_ENIS = Interfaces("kube-system/a", (RequestedNetwork("default/b", "net1"),))
DEFAULT = [
    SpiderIPPool(metadata=ObjectMeta(name="four"), spec=IPPoolSpec(subnet="10.0.0.0/24", default=True)),
    SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec(subnet="fd00::/64", default=True)),
]
WEB = Controller("apps/v1", "Deployment", "default", "web", "u")


def pod(**annotations: str) -> dict[str, str]:
    return {f"ipam.spidernet.io/{key.replace('_', '-')}": text for key, text in annotations.items()}


EVERYTHING: dict[str, Any] = {
    "pod": pod(
        subnet='{"ipv4": ["s"]}',
        ippools='[{"interface": "eth0", "ipv4": ["a"]}]',
        ippool='{"ipv4": ["b"]}',
    ),
    "namespace": pod(default_ipv4_ippool='["c"]'),
    "configured": {4: ("d",)},
    "controller": WEB,
}


def about(interface: str = "eth0", **circumstances: Any) -> Circumstances:
    given: dict[str, Any] = {"interface": interface, "interfaces": ONE_ENI} | circumstances
    return Circumstances(**given)


@pytest.mark.parametrize(
    ("without", "source", "names"),
    [
        ("", "annotation ipam.spidernet.io/subnet", None),
        ("subnet", "annotation ipam.spidernet.io/ippools", ("a",)),
        ("ippools", "annotation ipam.spidernet.io/ippool", ("b",)),
        ("ippool", "the default pools of the Namespace's annotations", ("c",)),
        ("namespace", "the network's configuration", ("d",)),
        ("configured", "the cluster's default pools", None),
    ],
)
def test_the_first_source_that_says_anything_decides(without: str, source: str, names: tuple[str, ...] | None) -> None:
    given = dict(EVERYTHING)
    for each in ("subnet", "ippools", "ippool", "namespace", "configured")[: _index(without)]:
        if each in given:
            given.pop(each)
        else:
            given["pod"] = {key: text for key, text in given["pod"].items() if not key.endswith(f"/{each}")}
    found = demands(about(**given), DEFAULT[:1])
    (demand,) = found.each
    assert demand.source == source
    if names:
        assert demand.candidates == {4: NamedPools(names)}
    assert [verdict.subject for verdict in found.trace if verdict.kept] == [source]
    assert len(found.trace) == _index(without) + 1, "every source before it is in the trace"


def _index(without: str) -> int:
    order = ("", "subnet", "ippools", "ippool", "namespace", "configured")
    return order.index(without)


def test_default_pools_are_asked_for_every_family_that_has_one() -> None:
    both = demands(about(families=(4, 6)), DEFAULT).each[0].candidates
    assert both == {4: DefaultPools(), 6: DefaultPools()}
    assert demands(about(families=(4, 6)), DEFAULT[:1]).each[0].candidates == {4: DefaultPools()}
    assert demands(about(), []).each[0].candidates == {}


def test_a_family_that_is_off_is_dropped_with_a_verdict() -> None:
    found = demands(about(pod=pod(ippool='{"ipv4": ["a"], "ipv6": ["b"]}')), DEFAULT)
    assert found.each[0].candidates == {4: NamedPools(("a",))}
    assert str(found.trace[-1]) == (
        "IPv6 pools of annotation ipam.spidernet.io/ippool for eth0: enableIPv6 is false in the ConfigMap"
    )


def test_named_interfaces_are_served_at_once_each_with_its_own_default_route() -> None:
    text = '[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"], "cleangateway": true}]'
    each = demands(about(pod=pod(ippools=text)), DEFAULT).each
    assert [(one.interface, one.candidates[4], one.clean_gateway) for one in each] == [
        ("eth0", NamedPools(("a",)), False),
        ("net1", NamedPools(("b",)), True),
    ]


UNNAMED = pod(ippools='[{"ipv4": ["a"]}, {"ipv4": ["b"]}]')


@pytest.mark.parametrize(
    ("interface", "interfaces", "attached", "names"),
    [
        ("eth0", ONE_ENI, (), ("a",)),
        ("eth0", TWO_ENIS, ("net1",), ("a",)),
        ("net1", TWO_ENIS, (), ("b",)),
        ("net7", ONE_ENI, ("eth0",), ("b",)),
        ("net7", ONE_ENI, ("eth0", "net7"), ("b",)),
        ("net7", ONE_ENI, (), ("a",)),
    ],
)
def test_unnamed_interfaces_are_served_one_by_one_in_order(
    interface: str, interfaces: Interfaces, attached: tuple[str, ...], names: tuple[str, ...]
) -> None:
    (demand,) = demands(about(interface, interfaces=interfaces, attached=attached, pod=UNNAMED), DEFAULT).each
    assert (demand.interface, demand.candidates) == (interface, {4: NamedPools(names)})


@pytest.mark.parametrize(
    ("circumstances", "message"),
    [
        ({"pod": UNNAMED, "interface": "net9", "attached": ("eth0", "net1")}, "net9 is one more"),
        ({"pod": pod(ippools='[{"interface": "eth0", "ipv4": ["a"]}]'), "interface": "net1"}, "not for net1"),
        ({"pod": pod(subnet='{"ipv4": ["s"]}')}, "a bare pod gets its address by ippool"),
        ({"pod": pod(subnet='{"ipv4": ["s"]}'), "automatic": False}, "enableAutoPoolForApplication is false"),
        (
            {"pod": pod(subnets='[{"interface": "net1", "ipv4": ["s"]}]'), "controller": WEB},
            "names pools for net1, not for eth0",
        ),
        ({"pod": pod(routes="{}")}, "ipam.spidernet.io/routes of the pod is wrong"),
    ],
)
def test_what_cannot_be_served_is_refused(circumstances: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        demands(about(**circumstances), DEFAULT)


def test_an_applications_pool_is_described_by_labels_and_may_still_be_made() -> None:
    found = demands(about(pod=pod(subnet='{"ipv4": ["s"]}'), controller=WEB), DEFAULT)
    candidates = found.each[0].candidates[4]
    assert isinstance(candidates, ApplicationPool)
    assert candidates.labels["ipam.spidernet.io/owner-spider-subnet"] == "s"
    assert found.may_be_made
    assert not demands(about(), DEFAULT).may_be_made


def test_subnet_is_for_its_own_interface_and_others_are_served_by_the_next_source() -> None:
    given = about("net1", interfaces=TWO_ENIS, pod=pod(subnet='{"ipv4": ["s"]}'), controller=WEB)
    found = demands(given, DEFAULT)
    assert found.each[0].source == "the cluster's default pools"
    assert str(found.trace[0]) == "annotation ipam.spidernet.io/subnet: is for eth0, not net1"


def test_subnets_have_no_effect_where_they_are_switched_off() -> None:
    annotations = pod(subnet='{"ipv4": ["s"]}')
    assert wants_application_pool(annotations, subnets=True)
    assert not wants_application_pool(annotations, subnets=False)
    found = demands(about(pod=annotations, subnets=False), DEFAULT)
    assert "enableSpiderSubnet is false" in str(found.trace[0])


def test_an_ask_for_each_family_and_the_network_of_each_interface() -> None:
    ask = AllocationRequest("default", "p", "u", "eth0", "n1", "kube-system/a")
    demand = Demand("net1", "s", {6: NamedPools(("b",)), 4: NamedPools(("a",))})
    four, six = asks_of(ask, demand, TWO_ENIS)
    assert (four.version, four.interface, four.network) == (4, "net1", "default/b")
    assert six == replace(four, version=6, candidates=NamedPools(("b",)))


def test_routes_of_the_pod_go_with_every_source() -> None:
    found = demands(about(pod=pod(routes='[{"dst": "10.0.0.0/8", "gw": "10.0.0.1"}]')), DEFAULT)
    assert found.routes == (("10.0.0.0/8", "10.0.0.1"),)


def ask(interface: str, version: int) -> AllocationRequest:
    return AllocationRequest("default", "web", "u", interface, "n1", None, version=version)


def test_a_pod_may_want_an_address_of_each_family() -> None:
    asks = [ask("eth0", 4), ask("net1", 4), ask("net1", 6)]
    assert with_requested(asks, {}) == asks
    found = with_requested(asks, {"net1": ("fd00::7", "10.0.0.7")})
    assert [(one.interface, one.address) for one in found] == [
        ("eth0", None),
        ("net1", "10.0.0.7"),
        ("net1", "fd00::7"),
    ]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"eth0": ("fd00::7",)}, "eth0 asks for fd00::7, but nobody names IPv6 pools"),
        ({"net1": ("10.0.0.7", "10.0.0.8")}, r"net1 asks for 10\.0\.0\.7 and 10\.0\.0\.8; one address of a family"),
    ],
)
def test_addresses_that_cannot_be_had(wanted: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        with_requested([ask("eth0", 4), ask("net1", 4)], wanted)
