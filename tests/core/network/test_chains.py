"""What a network's plugins ask for, and which of them the agent leaves to executables."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.core.network.chains import Chain, DelegatedNetwork, Invocation, configuration, read_network
from spiderpool.core.network.coordinator import OwnCIDRs
from spiderpool.core.network.plumbing.parents import ParentLink
from spiderpool.errors import BadConfig, Refused, Undecodable, UnknownPlugin, Unsupported

pytestmark = pytest.mark.unit

IPAM = {"type": "spiderpool"}
IPVLAN = {"type": "ipvlan", "master": "eth1", "mtu": 1400, "ipam": IPAM}
MACVLAN = {"type": "macvlan", "master": "eth1", "ipam": IPAM}
VLAN = {"type": "vlan", "master": "eth1", "ipam": IPAM}
COORDINATOR = {"type": "coordinator", "mode": "auto"}


def read(*plugins: dict[str, Any], **keys: Any) -> Chain | DelegatedNetwork:
    config = {"name": "net", "cniVersion": "0.3.1", "plugins": list(plugins)} | keys
    definition = NetworkAttachmentDefinition(
        metadata=ObjectMeta(name="nad", namespace="ns"), spec=NADSpec(config=json.dumps(config))
    )
    return read_network("ns/nad", definition)


def chain(*plugins: dict[str, Any], **keys: Any) -> Chain:
    found = read(*plugins, **keys)
    assert isinstance(found, Chain)
    return found


def test_the_walkthroughs_network() -> None:
    found = chain(IPVLAN, COORDINATOR)
    assert (found.name, found.version, found.kind, found.master) == ("net", "0.3.1", "ipvlan", "eth1")
    assert (found.interface.mtu, found.ipam and found.ipam.type) == (1400, "spiderpool")
    assert found.coordinator is not None
    assert (found.coordinator.mode, found.parent) == ("auto", None)


def test_a_single_plugin_and_what_is_not_said() -> None:
    definition = NetworkAttachmentDefinition(
        metadata=ObjectMeta(name="nad"), spec=NADSpec(config=json.dumps({"type": "macvlan", "master": "eth0"}))
    )
    found = read_network("ns/nad", definition)
    assert isinstance(found, Chain)
    assert (found.name, found.version, found.ipam, found.coordinator) == ("nad", "1.0.0", None, None)
    assert all(chain(IPVLAN | {"ipam": ipam}).ipam is None for ipam in ({"type": ""}, {}))


@pytest.mark.parametrize(
    ("plugin", "master"),
    [
        ({"type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": IPAM}, "eth1"),
        ({"type": "vlan", "master": "eth1", "vlanId": 7, "ipam": IPAM}, "eth1"),
        ({"type": "host-device", "device": "eth2", "ipam": IPAM}, "eth2"),
    ],
)
def test_kinds_that_the_agent_makes(plugin: dict[str, Any], master: str) -> None:
    found = chain(plugin)
    assert (found.kind, found.master, found.interface.vlanId) == (plugin["type"], master, plugin.get("vlanId", 0))


@pytest.mark.parametrize(
    "plugin",
    [
        IPVLAN | {"linkInContainer": False, "mode": "l2", "dns": {}, "args": {"cni": {}}},
        MACVLAN | {"linkInContainer": False, "bcqueuelen": 0, "capabilities": {"mac": True, "ips": True}},
        {"type": "vlan", "master": "eth1", "vlanId": 7, "linkInContainer": False},
        {"type": "host-device", "device": "eth2", "pciBusID": "", "hwaddr": "", "useInterfaceNetwork": False},
    ],
)
def test_keys_of_the_reference_plugins_whose_value_changes_nothing(plugin: dict[str, Any]) -> None:
    assert chain(plugin, COORDINATOR).kind == plugin["type"]


@pytest.mark.parametrize(
    ("ifacer", "parent"),
    [
        ({"interfaces": ["eth1"], "vlanID": 100}, ParentLink(("eth1",), 100)),
        (
            {"interfaces": ["eth1", "eth2"], "bond": {"name": "b0", "mode": 1, "options": "miimon=100"}},
            ParentLink(("eth1", "eth2"), 0, "b0", 1, (("miimon", "100"),)),
        ),
        ({"interfaces": ["eth1", "eth2"], "bond": {}}, ParentLink(("eth1", "eth2"))),
    ],
)
def test_what_has_to_be_made_before(ifacer: dict[str, Any], parent: ParentLink) -> None:
    assert chain({"type": "ifacer"} | ifacer, IPVLAN, COORDINATOR).parent == parent


@pytest.mark.parametrize(
    "plugins",
    [
        ({"type": "bridge", "ipam": {"type": "host-local"}},),
        (IPVLAN | {"ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}, COORDINATOR),
        (IPVLAN, {"type": "tuning", "sysctl": {}}),
        (IPVLAN | {"colour": "red"}, {"type": "tuning"}),
        # what the reference plugins can and the agent cannot
        (IPVLAN | {"linkInContainer": True}, COORDINATOR),
        ({"type": "ipvlan", "ipam": IPAM},),
        (MACVLAN | {"bcqueuelen": 5000},),
        ({"type": "macvlan", "ipam": IPAM},),
        ({"type": "vlan", "master": "eth1", "vlanId": 7, "linkInContainer": True},),
        ({"type": "host-device", "hwaddr": "0a:00:00:00:00:01"},),
        ({"type": "host-device", "kernelpath": "/sys/devices/x"},),
        ({"type": "host-device", "pciBusID": "0000:03:02.1"},),
        ({"type": "host-device", "capabilities": {"deviceID": True}},),
        ({"type": "host-device", "device": "eth2", "useInterfaceNetwork": True},),
    ],
)
def test_what_is_left_to_executables(plugins: tuple[dict[str, Any], ...]) -> None:
    found = read(*plugins)
    assert isinstance(found, DelegatedNetwork)
    assert (found.name, found.version, [json.loads(raw) for raw in found.plugins]) == ("net", "0.3.1", list(plugins))


@pytest.mark.parametrize(
    ("plugins", "error", "message"),
    [
        ((), BadConfig, "holds no plugin"),
        ((COORDINATOR,), BadConfig, "it holds coordinator"),
        ((COORDINATOR, IPVLAN), BadConfig, "it holds coordinator, ipvlan"),
        ((IPVLAN, IPVLAN), BadConfig, "it holds ipvlan, ipvlan"),
        ((IPVLAN, COORDINATOR, COORDINATOR), BadConfig, "at most one coordinator"),
        ((IPVLAN | {"colour": "red"},), UnknownPlugin, "unknown field 'colour'"),
        ((IPVLAN | {"bcqueuelen": -1},), BadConfig, "bcqueuelen"),
        ((VLAN | {"vlanMode": "auto"},), BadConfig, "set vlanMode to manual"),
        ((VLAN | {"vlanMode": "both"},), BadConfig, "vlanMode"),
        ((IPVLAN | {"ipam": "spiderpool"},), BadConfig, "ipam"),
        (({"master": "eth0"},), BadConfig, "has no type"),
        (({"type": "ifacer", "interfaces": ["eth1"], "vlanID": "x"}, IPVLAN), BadConfig, "vlanID"),
    ],
)
def test_what_cannot_be_right(plugins: tuple[dict[str, Any], ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(*plugins)


def test_the_table_of_the_node_that_a_network_names() -> None:
    own, tuned = COORDINATOR | {"hostRuleTable": 600}, {"type": "tuning"}
    made = [read(*plugins).host_rule_table for plugins in ((IPVLAN,), (IPVLAN, COORDINATOR), (IPVLAN, own))]
    executed = (IPVLAN, tuned), (IPVLAN, tuned, COORDINATOR), (IPVLAN, tuned, own)
    assert [read(*plugins).host_rule_table for plugins in executed] == made == [0, 0, 600]
    assert read(IPVLAN, tuned, COORDINATOR | {"hostRuleTable": "six"}).host_rule_table == 0


def test_the_clusters_cidrs_as_a_network_names_them() -> None:
    own, tuned = COORDINATOR | {"serviceCIDR": ["10.8.0.0/16"]}, {"type": "tuning"}
    for more in ((), (tuned,)):  # made by the agent itself, and executed
        assert read(IPVLAN, *more).cidrs == read(IPVLAN, *more, COORDINATOR).cidrs == OwnCIDRs()
        assert read(IPVLAN, *more, own).cidrs == OwnCIDRs(service=("10.8.0.0/16",))
    for wrong in ("10.8.0.0/16", [8]):
        assert read(IPVLAN, tuned, COORDINATOR | {"serviceCIDR": wrong}).cidrs == OwnCIDRs()


def test_a_network_that_is_not_there_yet() -> None:
    with pytest.raises(Refused, match="ns/nad does not exist"):
        read_network("ns/nad", None)
    for spec in (None, NADSpec(), NADSpec(config="")):
        with pytest.raises(Refused, match="has no configuration yet"):
            read_network("ns/nad", NetworkAttachmentDefinition(metadata=ObjectMeta(name="nad"), spec=spec))
    with pytest.raises(Undecodable):
        read_network("ns/nad", NetworkAttachmentDefinition(metadata=ObjectMeta(name="nad"), spec=NADSpec(config="{")))


def test_what_is_known_of_a_chain_that_is_executed() -> None:
    tuned = {"type": "tuning"}
    plain, coordinated = read(IPVLAN, tuned), read(IPVLAN, tuned, COORDINATOR)
    unchecked = [read(IPVLAN, tuned, disableCheck=value) for value in (True, "true", False, "false")]
    assert isinstance(plain, DelegatedNetwork)
    assert isinstance(coordinated, DelegatedNetwork)
    assert (plain.coordinated, plain.disable_check, coordinated.coordinated) == (False, False, True)
    assert [isinstance(one, DelegatedNetwork) and one.disable_check for one in unchecked] == [True, True, False, False]
    with pytest.raises(Unsupported, match=r"'0\.2\.0' is not supported"):
        read(IPVLAN, tuned, cniVersion="0.2.0")


PLUGIN = {"type": "bridge", "capabilities": {"ips": True, "mac": False}, "args": {"cni": {"a": 1}}}
ABOUT = Invocation("c1", "/ns", "net1", "")


def told(about: Invocation, previous: bytes = b"", plugin: dict[str, Any] = PLUGIN) -> dict[str, Any]:
    network = DelegatedNetwork("net", "0.4.0", (json.dumps(plugin).encode(),))
    return configuration(network, network.plugins[0], about, previous)


def test_a_plugin_is_told_its_network_and_the_result_before() -> None:
    assert told(ABOUT) == PLUGIN | {"name": "net", "cniVersion": "0.4.0"}
    assert told(ABOUT, b'{"ips": []}')["prevResult"] == {"ips": []}


def test_a_network_declares_what_one_of_its_plugins_can() -> None:
    network = DelegatedNetwork("net", "0.4.0", (b'{"type": "tuning"}', json.dumps(PLUGIN).encode()))
    assert [network.declares(name) for name in ("ips", "mac", "bandwidth")] == [True, False, False]


def test_a_plugin_is_told_the_requests_that_it_declares() -> None:
    asked = replace(ABOUT, capabilities={"ips": ["10.0.0.7"], "mac": "0a:00:00:00:00:01", "bandwidth": {}})
    assert told(asked)["runtimeConfig"] == {"ips": ["10.0.0.7"]}


def test_a_device_and_arguments_are_told_undeclared() -> None:
    device = told(replace(ABOUT, capabilities={"deviceID": "0000:03:02.1"}))
    assert (device["deviceID"], device["pciBusID"]) == ("0000:03:02.1", "0000:03:02.1")
    assert told(replace(ABOUT, arguments={"k": "v"}))["args"] == {"cni": {"a": 1, "k": "v"}}
    assert told(replace(ABOUT, arguments={"k": "v"}), plugin={"type": "x"})["args"] == {"cni": {"k": "v"}}
