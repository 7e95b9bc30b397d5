"""What the controller writes for a SpiderMultusConfig, the agent reads: each kind of network, field by field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from spiderpool.api.cni import CoordinatorConfig, IPAMConfig, parse_plugin, plugin_type
from spiderpool.api.coordinator import CoordinatorSpec
from spiderpool.api.multusconfig import CNI_TYPES, MultusConfigSpec, SpiderMultusConfig
from spiderpool.core.admission.multusconfig import default_multusconfig, validate_multusconfig
from spiderpool.core.network.chains import Chain, DelegatedNetwork, read_network
from spiderpool.core.network.multusconfig import BLOCK_FIELDS, interface_block
from spiderpool.core.network.nads import attachment
from spiderpool.core.network.plumbing.parents import ParentLink
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

Read = Chain | DelegatedNetwork

SMALLEST: dict[str, dict[str, Any]] = {
    "macvlan": {"master": ["eth1"]},
    "ipvlan": {"master": ["eth1"]},
    "vlan": {"master": ["eth1"], "vlanMode": "manual", "vlanID": 7},
    "sriov": {"resourceName": "intel.com/vf"},
    "ib-sriov": {"resourceName": "mellanox.com/vf"},
    "ipoib": {"master": "ib0"},
    "ovs": {"bridge": "br1"},
}
"""cniType → its block with the required fields alone."""
BOND = {"name": "bond0", "mode": 1, "options": "miimon=100"}
BONDED = {"master": ["eth1", "eth2"], "bond": BOND}
POOLS = {"ippools": {"ipv4": ["a"], "ipv6": ["b*"]}}


def stored(cni_type: str, block: dict[str, Any], **spec: Any) -> SpiderMultusConfig:
    """A network as the webhooks leave it."""
    whole = {"cniType": cni_type, BLOCK_FIELDS[cni_type]: block} | spec
    config = msgspec.convert({"metadata": {"name": "net", "namespace": "ns"}, "spec": whole}, SpiderMultusConfig)
    config = default_multusconfig(config)
    assert validate_multusconfig(config) == ()
    return config


def read(cni_type: str, block: dict[str, Any], **spec: Any) -> Read:
    return read_network("ns/net", attachment(stored(cni_type, SMALLEST[cni_type] | block, **spec)))


def plugin(found: Read, kind: str) -> dict[str, Any]:
    """The configuration of an executed plugin."""
    assert isinstance(found, DelegatedNetwork)
    plugins: list[dict[str, Any]] = [json.loads(raw) for raw in found.plugins]
    return next(each for each in plugins if each["type"] == kind)


def ipam(found: Read) -> IPAMConfig | None:
    """The block for our IPAM plugin, which the agent reads itself also where the interface's plugin is executed."""
    if isinstance(found, Chain):
        return found.ipam
    (block,) = (json.loads(raw)["ipam"] for raw in found.plugins if "ipam" in json.loads(raw))
    return msgspec.convert(block, IPAMConfig)


def coordinator(found: Read) -> CoordinatorConfig:
    if isinstance(found, Chain):
        assert found.coordinator is not None
        return found.coordinator
    return parse_plugin(next(raw for raw in found.plugins if plugin_type(raw) == "coordinator"), CoordinatorConfig)


def chain(found: Read) -> Chain:
    assert isinstance(found, Chain)
    return found


def pools(found: Read) -> tuple[list[str] | None, list[str] | None]:
    block = ipam(found)
    assert block is not None
    return block.default_ipv4_ippool, block.default_ipv6_ippool


Field = tuple[dict[str, Any], Callable[[Read], object], object]
"""What is written into the block, how to find it in what the agent reads, and what that has to be."""

NIC_FIELDS: dict[str, Field] = {
    "master": ({"master": ["eth7"]}, lambda found: chain(found).master, "eth7"),
    "mtu": ({"mtu": 1400}, lambda found: chain(found).interface.mtu, 1400),
    "bond": (
        BONDED,
        lambda found: (chain(found).master, chain(found).parent),
        ("bond0", ParentLink(("eth1", "eth2"), 0, "bond0", 1, (("miimon", "100"),))),
    ),
    "ippools": (POOLS, pools, (["a"], ["b*"])),
    # only for the webhook, which gives the resource to pods
    "rdmaResourceName": ({"rdmaResourceName": "r"}, lambda found: chain(found).master, "eth1"),
}
CHILD_FIELDS = NIC_FIELDS | {
    "vlanID": (
        {"vlanID": 7},
        lambda found: (chain(found).master, chain(found).parent),
        ("eth1.7", ParentLink(("eth1",), 7)),
    ),
}
FIELDS: dict[str, dict[str, Field]] = {
    "macvlan": CHILD_FIELDS,
    "ipvlan": CHILD_FIELDS,
    "vlan": NIC_FIELDS
    | {
        "vlanID": ({"vlanID": 4094}, lambda found: chain(found).interface.vlanId, 4094),
        "vlanMode": ({"vlanMode": "manual"}, lambda found: chain(found).interface.vlanMode, "manual"),
    },
    "sriov": {
        "vlanID": ({"vlanID": 7}, lambda found: plugin(found, "sriov")["vlan"], 7),
        "mtu": ({"mtu": 1400}, lambda found: plugin(found, "tuning")["mtu"], 1400),
        "minTxRateMbps": ({"minTxRateMbps": 1}, lambda found: plugin(found, "sriov")["min_tx_rate"], 1),
        "maxTxRateMbps": ({"maxTxRateMbps": 9}, lambda found: plugin(found, "sriov")["max_tx_rate"], 9),
        "rdmaIsolation": ({"rdmaIsolation": True}, lambda found: plugin(found, "rdma")["type"], "rdma"),
        "ippools": (POOLS, pools, (["a"], ["b*"])),
        "resourceName": ({}, lambda found: plugin(found, "sriov")["type"], "sriov"),  # an annotation names it
    },
    "ib-sriov": {
        "resourceName": ({}, lambda found: plugin(found, "ib-sriov")["type"], "ib-sriov"),  # an annotation names it
        "pkey": ({"pkey": "0x8001"}, lambda found: plugin(found, "ib-sriov")["pkey"], "0x8001"),
        "linkState": ({"linkState": "auto"}, lambda found: plugin(found, "ib-sriov")["link_state"], "auto"),
        "rdmaIsolation": (
            {"rdmaIsolation": False},
            lambda found: plugin(found, "ib-sriov")["rdmaIsolation"],
            False,
        ),
        "enableIbKubernetes": (
            {"enableIbKubernetes": True},
            lambda found: plugin(found, "ib-sriov")["ibKubernetesEnabled"],
            True,
        ),
        "ippools": (POOLS, pools, (["a"], ["b*"])),
    },
    "ipoib": {
        "master": ({"master": "ib7"}, lambda found: plugin(found, "ipoib")["master"], "ib7"),
        "ippools": (POOLS, pools, (["a"], ["b*"])),
    },
    "ovs": {
        "bridge": ({"bridge": "br7"}, lambda found: plugin(found, "ovs")["bridge"], "br7"),
        "vlan": ({"vlan": 7}, lambda found: plugin(found, "ovs")["vlan"], 7),
        "trunk": ({"trunk": [{"id": 7}]}, lambda found: plugin(found, "ovs")["trunk"], [{"id": 7}]),
        "deviceID": ({"deviceID": "0000:01:00.2"}, lambda found: plugin(found, "ovs")["deviceID"], "0000:01:00.2"),
        "ippools": (POOLS, pools, (["a"], ["b*"])),
    },
}


def fields_of(shape: type) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(shape)}


def test_each_kind_of_network_and_each_of_its_fields_is_in_the_table() -> None:
    assert {*FIELDS} == {*SMALLEST} == {*CNI_TYPES} - {"custom"}
    for cni_type, fields in FIELDS.items():
        block = interface_block(stored(cni_type, SMALLEST[cni_type]).spec or MultusConfigSpec())
        assert {*fields} == fields_of(type(block)), cni_type


@pytest.mark.parametrize(
    ("cni_type", "field"), [(cni_type, field) for cni_type, fields in FIELDS.items() for field in fields]
)
def test_a_field_arrives(cni_type: str, field: str) -> None:
    written, find, expected = FIELDS[cni_type][field]
    found = read(cni_type, written)
    assert find(found) == expected
    assert coordinator(found).mode == "auto"


@pytest.mark.parametrize("cni_type", FIELDS)
def test_networks_without_addresses_or_coordinator(cni_type: str) -> None:
    found = read(cni_type, {}, disableIPAM=True, enableCoordinator=False)
    if isinstance(found, Chain):
        assert (found.ipam, found.coordinator) == (None, None)
    else:
        (interface,) = map(json.loads, found.plugins)
        assert (interface["type"], interface.get("ipam")) == (cni_type, None)


@pytest.mark.parametrize("cni_type", FIELDS)
def test_a_chained_plugin_is_executed_with_the_others(cni_type: str) -> None:
    found = read(cni_type, {}, chainCNIJsonData=['{"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}'])
    assert plugin(found, "tuning")["sysctl"] == {"net.core.somaxconn": "500"}
    assert coordinator(found).type == "coordinator"


COORDINATOR: dict[str, tuple[object, str, object]] = {
    "mode": ("underlay", "mode", "underlay"),
    "hijackCIDR": (["10.1.0.1"], "hijackCIDR", ["10.1.0.1/32"]),
    "ipamCIDR": (["10.3.0.0/16"], "ipamCIDR", ["10.3.0.0/16"]),
    "policyRoutes": ([{"dst": "10.2.0.0/16", "gw": "10.0.0.1"}], "policyRoutes", None),
    "podMACPrefix": ("0a:1b", "podMACPrefix", "0a:1b"),
    "tunePodRoutes": (False, "tunePodRoutes", False),
    "podDefaultRouteNIC": ("net1", "podDefaultRouteNic", "net1"),
    "hostRuleTable": (600, "hostRuleTable", 600),
    "podRPFilter": (2, "podRPFilter", 2),
    "txQueueLen": (9, "txQueueLen", 9),
    "vethLinkAddress": ("169.254.100.1", "vethLinkAddress", "169.254.100.1"),
    "vethMTU": (1400, "vethMTU", 1400),
}
"""Field of the network's ``coordinator`` → what is written, the plugin's key, and what is read."""


def test_each_field_of_the_coordinator_is_in_the_table() -> None:
    # podCIDRType is for the whole cluster alone: the controller finds the CIDRs
    assert {*COORDINATOR} == fields_of(CoordinatorSpec) - {"podCIDRType"}


@pytest.mark.parametrize("cni_type", ["macvlan", "sriov"])
@pytest.mark.parametrize("field", COORDINATOR)
def test_a_field_of_the_coordinator_arrives(cni_type: str, field: str) -> None:
    written, key, expected = COORDINATOR[field]
    block = coordinator(read(cni_type, {}, coordinator={field: written}))
    if field == "policyRoutes":
        assert [(route.dst, route.gw) for route in block.policyRoutes or ()] == [("10.2.0.0/16", "10.0.0.1")]
    else:
        assert getattr(block, key) == expected


def test_the_vlan_that_a_provider_would_assign_is_refused_with_the_remedy() -> None:
    config = stored("vlan", {"master": ["eth1"], "vlanMode": "auto"})
    with pytest.raises(BadConfig, match="set vlanMode to manual, and vlanID"):
        read_network("ns/net", attachment(config))


def test_the_pools_of_the_physical_functions_subnet_are_asked_for() -> None:
    block = ipam(read("sriov", {"ippools": {"matchMasterSubnet": True}}))
    assert block is not None
    assert block.match_master_subnet
