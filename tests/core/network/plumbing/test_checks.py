"""What an attachment may not ask for, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.values import Coordination
from spiderpool.errors import AddressHeld, BadConfig, KernelFailure
from tests.core.pods import IDLE_NODE, NODE, POD_ETH0

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "bridge"}, "kind 'bridge' is none of ipvlan, macvlan, vlan, host-device"),
        ({"mode": "bridge"}, "mode 'bridge' of ipvlan is none of l2, l3, l3s"),
        ({"mtu": 9000}, "mtu 9000 is more than the 1500 of eth0"),
        ({"mtu": -1}, "mtu -1 is below the 68 that IPv4 needs"),
        (
            {"mtu": 1279, "addresses": (*POD_ETH0.addresses, ip_interface("2001:db8::7/64"))},
            "mtu 1279 is below the 1280 that IPv6 needs",
        ),
        ({"coordination": Coordination(mode="l2")}, "'l2' is none of auto, underlay, overlay, disabled"),
        ({"coordination": Coordination(mode="overlay")}, "overlay is for interfaces beside another CNI plugin's"),
        ({"coordination": Coordination(mode="auto", veth_mtu=67)}, "vethMTU 67 is not between 68"),
        ({"coordination": Coordination(mode="auto", pod_mac_prefix="0a:1b")}, "leave podMACPrefix .* or use macvlan"),
        ({"mac": "0a:1b:2c:3d:4e:5f"}, "ipvlan children carry their NIC's"),
        ({"kind": "macvlan", "mac": "01:1b:2c:3d:4e:5f"}, "'01:1b:2c:3d:4e:5f' is not a unicast MAC"),
        (
            {"kind": "macvlan", "coordination": Coordination("auto", pod_mac_prefix="0b:1b")},
            "not two bytes of a unicast",
        ),
        ({"kind": "vlan", "vlan_id": 4095}, "vlanId 4095 of eth0 is not between 0 and 4094"),
        ({"gateways": (ip_address("2001:db8::1"),)}, "gateway 2001:db8::1 of eth0 is of a family of which it has no"),
        ({"kind": "host-device"}, f"eth0 carries {NODE} of this node, which would lose it"),
    ],
)
def test_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        plan(replace(POD_ETH0, **change), IDLE_NODE)  # type: ignore[arg-type]


def test_an_address_of_the_node_is_for_no_pod() -> None:
    with pytest.raises(AddressHeld, match=f"{NODE} is configured on eth0 of this node"):
        plan(replace(POD_ETH0, addresses=(ip_interface(f"{NODE}/20"),)), IDLE_NODE)


def test_missing_nic_names_those_that_exist() -> None:
    seen = replace(IDLE_NODE, master=None, links=("lo", "eth0", "eth1", "veth123", "docker0"))
    with pytest.raises(KernelFailure) as caught:
        plan(replace(POD_ETH0, master="eth7"), seen)
    assert caught.value.message == (
        "NIC eth7 does not exist on this node; its NICs are eth0, eth1: correct spec.ipvlan.master of the network"
    )
