from __future__ import annotations

from ipaddress import ip_address

import pytest

from spiderpool.core.network.plumbing.parents import ParentLink, bond_options, plan_parent
from spiderpool.core.network.plumbing.steps import CreateBond, CreateLink, Enslave, SetLink
from spiderpool.core.network.plumbing.values import Link, NodeAddress
from spiderpool.errors import BadConfig, KernelFailure

pytestmark = pytest.mark.unit

NICS = (Link("eth1", 2, mtu=9000), Link("eth2", 3))
BOND = Link("sp_bond0", 9, "bond")


def test_one_nic_needs_nothing() -> None:
    assert plan_parent(ParentLink(("eth1",)), NICS) == ()


def test_vlan_of_a_nic() -> None:
    parent = ParentLink(("eth1",), vlan_id=100)
    assert parent.name == "eth1.100"
    assert plan_parent(parent, NICS) == (
        SetLink("node", "eth1"),
        CreateLink("node", "eth1.100", "vlan", "", "eth1", 9000, vlan_id=100),
        SetLink("node", "eth1.100"),
    )


def test_vlan_that_exists_is_used() -> None:
    there = (*NICS, Link("eth1.100", 7, "vlan", parent=2, vlan_id=100))
    assert plan_parent(ParentLink(("eth1",), 100), there) == (SetLink("node", "eth1"), SetLink("node", "eth1.100"))


def test_same_vlan_of_another_nic_is_no_hindrance() -> None:
    there = (*NICS, Link("eth2.100", 7, "vlan", parent=3, vlan_id=100))
    assert len(plan_parent(ParentLink(("eth1",), 100), there)) == 3


def test_bond_and_its_vlan() -> None:
    parent = ParentLink(("eth1", "eth2"), 5, bond_mode=1, bond_options=(("miimon", "100"),))
    assert plan_parent(parent, NICS) == (
        CreateBond("node", "sp_bond0", 1, (("miimon", "100"),)),
        Enslave("node", "eth1", "sp_bond0"),
        Enslave("node", "eth2", "sp_bond0"),
        SetLink("node", "sp_bond0"),
        SetLink("node", "sp_bond0"),
        CreateLink("node", "sp_bond0.5", "vlan", "", "sp_bond0", 1500, vlan_id=5),
        SetLink("node", "sp_bond0.5"),
    )


def test_bond_that_exists_is_used() -> None:
    there = (Link("eth1", 2, master=9), Link("eth2", 3, master=9), BOND)
    assert plan_parent(ParentLink(("eth1", "eth2")), there) == (SetLink("node", "sp_bond0"),)


@pytest.mark.parametrize(
    ("parent", "links", "words"),
    [
        (ParentLink(()), NICS, "names no interfaces"),
        (ParentLink(("eth1",), 4095), NICS, "vlanID 4095 is not between 0"),
        (ParentLink(("eth7",)), NICS, "NIC eth7 does not exist"),
        (ParentLink(("eth1", "eth2"), bond_mode=7), NICS, "bond mode 7 is not between 0 and 6"),
        (ParentLink(("eth1", "eth2")), (*NICS, Link("sp_bond0", 9, "bridge")), "exists and is a bridge"),
        (
            ParentLink(("eth1", "eth2")),
            (Link("eth1", 2, master=4), NICS[1], BOND),
            "belongs to another bond or bridge",
        ),
        (ParentLink(("eth1",), 5), (*NICS, Link("eth1.5", 7, "vlan", parent=3, vlan_id=5)), "is not VLAN 5 of eth1"),
        (ParentLink(("eth1",), 5), (*NICS, Link("lan", 7, "vlan", parent=2, vlan_id=5)), "exists under the name lan"),
    ],
)
def test_refused(parent: ParentLink, links: tuple[Link, ...], words: str) -> None:
    with pytest.raises((BadConfig, KernelFailure), match=words):
        plan_parent(parent, links)


def test_a_nic_with_an_address_of_the_node_joins_no_bond() -> None:
    held = (NodeAddress("eth2", ip_address("192.168.0.154")),)
    with pytest.raises(BadConfig, match=r"eth2 carries 192\.168\.0\.154 of this node"):
        plan_parent(ParentLink(("eth1", "eth2")), NICS, held)


def test_bond_options() -> None:
    assert bond_options("miimon=100; up_delay=5;arp_ip_target=[10.0.0.1,10.0.0.2]") == (
        ("miimon", "100"),
        ("updelay", "5"),
        ("arp_ip_target", "[10.0.0.1,10.0.0.2]"),
    )
    for text in ("miimon", "speed=9"):
        with pytest.raises(BadConfig, match=f"bond options hold '{text}'"):
            bond_options(text)
