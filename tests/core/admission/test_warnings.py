"""What kubectl prints of objects that are accepted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.core.admission.warnings import (
    coordinator_warnings,
    ippool_warnings,
    multusconfig_warnings,
    names_in,
    removed_coordinator_warnings,
    subnet_warnings,
)
from tests.core.admission.objects import pool, subnet

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("spec", "left_out"),
    [
        ({"ips": ["10.6.0.1-10.6.0.254"]}, None),
        ({"ips": ["10.6.0.0-10.6.0.255"]}, "10.6.0.0, 10.6.0.255"),
        ({"ips": ["10.6.0.0-10.6.0.255"], "excludeIPs": ["10.6.0.0"]}, "10.6.0.255"),
        ({"subnet": "10.6.0.0/31", "ips": ["10.6.0.0-10.6.0.1"]}, None),
        ({"subnet": "10.6.0.7/32", "ips": ["10.6.0.7"]}, None),
        ({"subnet": "fd00::/64", "ips": ["fd00::-fd00::ff"]}, None),
        ({"subnet": "10.6.0.1/24", "ips": ["10.6.0.0"]}, None),  # written before the rules; refused when it is changed
    ],
)
def test_addresses_that_no_pod_gets(spec: dict[str, Any], left_out: str | None) -> None:
    expected = [f"spec.ips: no pod gets {left_out}, as network or broadcast address of 10.6.0.0/24"] if left_out else []
    assert [each for each in ippool_warnings(pool(spec)) if "no pod" in each] == expected
    assert list(subnet_warnings(subnet(spec))) == expected


@pytest.mark.parametrize(
    "spec", [{}, {"ips": []}, {"ips": ["10.6.0.0"]}, {"ips": ["10.6.0.7"], "excludeIPs": ["10.6.0.7"]}]
)
def test_a_pool_without_addresses(spec: dict[str, Any]) -> None:
    assert list(ippool_warnings(pool(spec)))[-1] == "spec.ips: the pool has no address that a pod could get"
    assert list(subnet_warnings(subnet({}))) == []  # its pools may come later, with their addresses


@pytest.mark.parametrize(("text", "count"), [("10.0.0", 1), ("fd00::1", 1), ("10.6.0.5", 0)])
def test_addresses_that_pods_move_away_from_and_that_cannot_be_read(text: str, count: int) -> None:
    marked = pool({})
    marked.metadata.annotations = {POOL_MOVING_ANNOTATION: text}
    found = [each for each in ippool_warnings(marked) if POOL_MOVING_ANNOTATION in each]
    assert len(found) == count
    assert all("has no effect" in each for each in found)


def test_the_objects_that_a_pool_is_for() -> None:
    spec = {"nodeName": ["a", "b"], "namespaceName": ["shop"], "multusName": ["kube-system/x", "y"]}
    assert [str(each) for each in names_in(pool(spec), "ours")] == [
        "spec.nodeName[0]: there is no Node a yet",
        "spec.nodeName[1]: there is no Node b yet",
        "spec.namespaceName[0]: there is no Namespace shop yet",
        "spec.multusName[0]: there is no NetworkAttachmentDefinition kube-system/x yet",
        "spec.multusName[1]: there is no NetworkAttachmentDefinition ours/y yet",
    ]
    assert list(names_in(pool({}), "ours")) == []


@pytest.mark.parametrize(
    ("spec", "devices", "said"),
    [
        ({"cniType": "ipvlan", "ipvlan": {"master": ["eth7"]}}, None, []),
        ({"cniType": "ipvlan", "ipvlan": {"master": ["eth1"]}}, {"eth0", "eth1"}, []),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["eth1", "eth7"], "bond": {"name": "b", "mode": 1}}},
            {"eth0", "eth1"},
            ["spec.macvlan.master: no node reports a NIC eth7; reported are eth0, eth1"],
        ),
        (
            {"cniType": "ipoib", "ipoib": {"master": "ib0"}},
            {"eth0"},
            ["spec.ipoib.master: no node reports a NIC ib0; reported are eth0"],
        ),
        (
            {"cniType": "sriov", "sriov": {"ippools": {"ipv4": ["a", "a*", "b?", "b"], "ipv6": ["c"]}}},
            {"eth0"},
            [
                "spec.sriov.ippools.ipv4[2]: there is no SpiderIPPool b? yet",
                "spec.sriov.ippools.ipv4[3]: there is no SpiderIPPool b yet",
                "spec.sriov.ippools.ipv6[0]: there is no SpiderIPPool c yet",
            ],
        ),
        (
            {"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "auto"}},
            None,
            [
                "spec.vlan.vlanMode: auto is not served, pods of this network will not start; write manual, and vlanID",
            ],
        ),
        (
            {"cniType": "sriov", "sriov": {"ippools": {"matchMasterSubnet": True}}},
            None,
            ["spec.sriov.ippools.matchMasterSubnet: is not served, pods of this network will not start; remove it"],
        ),
        ({"cniType": "custom"}, {"eth0"}, []),
        (None, None, []),
    ],
)
def test_networks_that_name_what_is_not_there(
    spec: dict[str, Any] | None, devices: set[str] | None, said: list[str]
) -> None:
    config = msgspec.convert({"metadata": {"name": "n", "namespace": "ns"}, "spec": spec}, SpiderMultusConfig)
    assert list(multusconfig_warnings(config, ["a", "a2"], devices)) == said


IPVLAN = {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}, "coordinator": {"ipamCIDR": ["10.3.0.0/16"]}}
CHAIN = {"chainCNIJsonData": ['{"type": "other"}']}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "has no effect, since this network has Spiderpool's IPAM, whose addresses are always routed; it is for"),
        ({"disableIPAM": True}, "has no effect, since this network gives no addresses; it is for other IPAM plugins"),
        (CHAIN, None),  # that plugin may give addresses
        ({"disableIPAM": True, **CHAIN}, None),
        (CHAIN | {"enableCoordinator": False}, "has no effect with enableCoordinator: false"),
        (CHAIN | {"coordinator": {"mode": "disabled", "ipamCIDR": ["10.3.0.0/16"]}}, "has no effect with mode: disab"),
        (CHAIN | {"coordinator": {"ipamCIDR": ["169.254.7.0/24", "10.3.0.0/16"]}}, "169.254.7.0/24 has no effect, si"),
        ({"coordinator": {"mode": "disabled"}, "enableCoordinator": False}, None),
        ({"coordinator": {"ipamCIDR": []}}, None),
    ],
)
def test_a_network_whose_ipam_cidr_has_no_effect(changes: dict[str, Any], said: str | None) -> None:
    document = {"metadata": {"name": "n", "namespace": "ns"}, "spec": IPVLAN | changes}
    warnings = list(multusconfig_warnings(msgspec.convert(document, SpiderMultusConfig), [], None))
    assert len(warnings) == (0 if said is None else 1)
    assert all(each.startswith(f"spec.coordinator.ipamCIDR: {said}") for each in warnings)


@pytest.mark.parametrize(
    ("spec", "removed"),
    [
        ({"cniType": "custom", "coordinator": {"ipamCIDR": ["10.3.0.0/16"]}}, True),
        ({"coordinator": {}}, True),
        ({"cniType": "custom"}, False),
        (IPVLAN, False),
        (None, False),
    ],
)
def test_a_coordinator_that_the_defaults_remove(spec: dict[str, Any] | None, removed: bool) -> None:
    config = msgspec.convert({"metadata": {"name": "n", "namespace": "ns"}, "spec": spec}, SpiderMultusConfig)
    assert any(removed_coordinator_warnings(config)) is removed


@pytest.mark.parametrize(
    ("subnets", "others", "said"),
    [
        (["10.3.0.0/16", "fd00:40::/64", "0.0.0.0/0", "ten"], ["default", "later"], []),
        (
            ["127.0.0.1/32", "10.3.0.0/16", "fe80::/64", "100.100.100.200/32"],
            [],
            [
                "spec.ipamCIDR: 127.0.0.1/32, fe80::/64, 100.100.100.200/32 has no effect, "
                "since no pod may have an address of that kind"
            ],
        ),
        (
            None,
            ["default", "a"],
            ["spec: has no effect while there is SpiderCoordinator a, since nodes follow the first by name"],
        ),
    ],
)
def test_a_coordinator_of_which_something_has_no_effect(
    subnets: list[str] | None, others: list[str], said: list[str]
) -> None:
    coordinator = msgspec.convert({"metadata": {"name": "default"}, "spec": {"ipamCIDR": subnets}}, SpiderCoordinator)
    assert list(coordinator_warnings(coordinator, others)) == said
