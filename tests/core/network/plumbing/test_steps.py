"""A plan in print: one line for each step, as people and logs read it."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    Announce,
    CreateBond,
    CreateLink,
    CreateVeth,
    DeleteLink,
    DropNICMarks,
    Enslave,
    LoadMarks,
    LoadNICMarks,
    MoveLink,
    Remove,
    SetLink,
    SetSysctl,
    Step,
)
from tests.core.pods import IDLE_NODE, POD_ETH0
from tests.kernel.questions import HOST_END

pytestmark = pytest.mark.unit

FAR, GATEWAY, OWN = ip_network("10.233.0.0/18"), ip_address("172.31.199.183"), ip_address("172.31.199.187")
ROUTE = AddRoute("pod", FAR, "veth0", GATEWAY, OWN)


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            CreateLink("pod", "net1", "ipvlan", "l2", "eth1", 1500),
            "pod: create ipvlan net1 on eth1 mode l2 mtu 1500",
        ),
        (
            CreateLink("node", "eth1.9", "vlan", "", "eth1", 1400, mac="0a:00:00:00:00:01", vlan_id=9),
            "node: create vlan eth1.9 on eth1 id 9 mtu 1400 mac 0a:00:00:00:00:01",
        ),
        (
            CreateVeth("node", "veth4f", "0a:01", "veth0", "0a:02", 1500),
            "node: create veth veth4f 0a:01, peer veth0 0a:02 mtu 1500",
        ),
        (CreateBond("node", "bond0", 1, (("miimon", "100"),)), "node: create bond bond0 mode 1 miimon 100"),
        (Enslave("node", "eth1", "bond0"), "node: enslave eth1 to bond0"),
        (MoveLink("pod", "vf3", "net1"), "pod: take vf3 from the node as net1"),
        (MoveLink("node", "net1", "vf3"), "node: take net1 from the pod as vf3"),
        (DeleteLink("node", "veth4f"), "node: delete veth4f"),
        (SetLink("pod", "net1"), "pod: set net1 up"),
        (SetLink("pod", "net1", 9, 1400, "0a:03"), "pod: set net1 up txqueuelen 9 mtu 1400 mac 0a:03"),
        (AddAddress("pod", "net1", ip_interface("10.6.0.9/24")), "pod: address 10.6.0.9/24 on net1"),
        (ROUTE, "pod: route 10.233.0.0/18 via 172.31.199.183 dev veth0 src 172.31.199.187"),
        (AddRoute("node", FAR, "eth0", table=500), "node: route 10.233.0.0/18 dev eth0 table 500"),
        (AddRule("pod", 4, 1000, 100, 1), "pod: ipv4 rule 1000 fwmark 0x1 lookup 100"),
        (AddRule("node", 4, 990, 501, 16, mask=240), "node: ipv4 rule 990 fwmark 0x10/0xf0 lookup 501"),
        (AddRule("pod", 6, 1001, 101, source=ip_network("fd00::1")), "pod: ipv6 rule 1001 from fd00::1/128 lookup 101"),
        (AddNeighbour("pod", "veth0", GATEWAY, "0a:04"), "pod: neighbour 172.31.199.183 lladdr 0a:04 dev veth0"),
        (Remove(ROUTE), "pod: remove route 10.233.0.0/18 via 172.31.199.183 dev veth0 src 172.31.199.187"),
        (SetSysctl("node", "net/ipv4/ip_forward", "1"), "node: sysctl net/ipv4/ip_forward = 1"),
        (LoadMarks("pod", "veth0", 1), "pod: mark 0x1 on connections from veth0"),
        (
            LoadNICMarks("node", (("eth0", 16), ("eth1", 32)), 240),
            "node: mark connections by NIC: eth0 0x10, eth1 0x20 (mask 0xf0)",
        ),
        (DropNICMarks("node"), "node: no marks by NIC"),
        (Announce("pod", "net1", OWN), "pod: announce 172.31.199.187 from net1"),
    ],
)
def test_a_step_in_print(step: Step, line: str) -> None:
    assert str(step) == line


def test_what_is_taken_back_is_where_it_was_made() -> None:
    assert [Remove(one).side for one in (ROUTE, AddRoute("node", FAR, "eth0"))] == ["pod", "node"]


def test_a_plan_in_print_says_each_thing_once() -> None:
    printed = [str(step) for step in plan(POD_ETH0, IDLE_NODE)]
    assert "pod: route 10.233.0.0/18 via 172.31.199.183 dev veth0 src 172.31.199.187" in printed
    assert "pod: ipv4 rule 1000 fwmark 0x1 lookup 100" in printed
    assert f"node: route 172.31.199.187/32 dev {HOST_END} table 500" in printed
    assert len(set(printed)) == len(printed)
    assert not any("\n" in line for line in printed)
