"""Addresses of another IPAM plugin: the node routes none to a pod that is somebody else's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.foreign import check_foreign, impossible
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.values import (
    EXISTING,
    Address,
    Attachment,
    ClusterRanges,
    Link,
    Ownership,
    PodState,
)
from spiderpool.errors import AddressHeld, BadConfig
from tests.core.pods import FIRST, GATEWAY, IDLE_NODE, NETNS, NODE, SECOND_NIC, SETTINGS
from tests.kernel.questions import CONTAINER

pytestmark = pytest.mark.unit

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
BALANCER: Address = ip_address("198.51.100.65")
SEEN = replace(IDLE_NODE, gateways=(ip_address(GATEWAY), ip_address("2001:db8:1::253")))


def part(address: str, ifname: str = "net1", **ownership: object) -> Attachment:
    """What another plugin has given to a pod, on a network whose administrator lets it give everything."""
    settings = replace(SETTINGS, ipam_cidrs=EVERYWHERE)
    pods = () if ifname == SETTINGS.first_nic else SETTINGS.overlay_cidrs
    cluster = ClusterRanges(SETTINGS.service_cidrs, (BALANCER,), pods)
    given = Ownership(reported=frozenset({ip_address(address)}), cluster=cluster, **ownership)  # type: ignore[arg-type]
    return Attachment(CONTAINER, NETNS, ifname, EXISTING, "", coordination=settings, ownership=given)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("100.100.100.200", "metadata service"),
        ("169.254.169.254", "link-local"),
        ("fe80::a9fe:a9fe", "link-local"),
        ("fd00:ec2::254", "metadata service"),
        ("fd20:ce::254", "metadata service"),
        ("fd00:c1::a9fe:a9fe", "metadata service"),
        ("168.63.129.16", "metadata service"),
        ("127.0.0.53", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "no single machine"),
        ("::", "no single machine"),
        ("224.0.0.1", "no single machine"),
        ("ff02::1", "no single machine"),
        ("255.255.255.255", "no single machine"),
        ("::ffff:100.100.100.200", "IPv6 notation"),
        (GATEWAY, "a gateway of this node"),
        ("2001:db8:1::253", "a gateway of this node"),
        ("10.233.0.1", "Service CIDR 10.233.0.0/18"),
        (str(BALANCER), "the address of a Service"),
        ("10.233.64.9", "pod CIDR 10.233.64.0/18"),
    ],
)
def test_an_address_of_somebody_else_is_refused_whatever_the_network_allows(address: str, words: str) -> None:
    with pytest.raises(BadConfig, match=words) as caught:
        check_foreign(part(address), SEEN)
    assert f"net1 has {ip_address(address)} of another IPAM plugin" in caught.value.message
    assert "leave it out" in caught.value.message


def test_what_no_pod_can_have_is_known_without_a_look_at_the_node() -> None:
    assert "metadata service" in impossible(part("100.100.100.200"))
    assert impossible(part("100.100.2.136")) == ""
    assert impossible(part("172.31.199.187")) == ""
    assert impossible(part("100.100.100.200", granted=frozenset({ip_address("100.100.100.200")}))) == ""


@pytest.mark.parametrize("address", [NODE, SECOND_NIC])
def test_an_address_of_the_node_is_refused_also_where_the_interface_has_it_not(address: str) -> None:
    pod = PodState((Link("net1", 3),))
    with pytest.raises(AddressHeld, match="is configured on eth"):
        plan(part(address), replace(SEEN, pod=pod))


def test_an_address_of_another_pod_is_refused() -> None:
    taken = {ip_address("172.31.199.77"): "pod default/other"}
    with pytest.raises(AddressHeld, match="pod default/other has it"):
        check_foreign(part("172.31.199.77", taken=taken), SEEN)


def test_the_clusters_own_network_may_have_its_pod_cidr() -> None:
    check_foreign(part("10.233.64.9", "eth0"), SEEN)


@pytest.mark.parametrize(("declared", "words"), [((), "is empty"), (("10.9.0.0/16", "fd09::/64"), "10.9.0.0/16, fd09")])
def test_other_plugins_give_addresses_of_declared_subnets_alone(declared: tuple[str, ...], words: str) -> None:
    wished = part("172.31.199.187")
    assert wished.coordination is not None
    settings = replace(wished.coordination, ipam_cidrs=tuple(map(ip_network, declared)))
    with pytest.raises(BadConfig, match=words) as caught:
        check_foreign(replace(wished, coordination=settings), SEEN)
    assert "add its subnet to ipamCIDR" in caught.value.message
    inside = replace(settings, ipam_cidrs=(*settings.ipam_cidrs, ip_network("172.31.192.0/20")))
    check_foreign(replace(wished, coordination=inside), SEEN)


def test_a_site_may_have_addresses_beside_those_of_a_metadata_service() -> None:
    """100.100.0.0/16 has services of Alibaba Cloud; elsewhere it is a range as any other."""
    wished = part("100.100.2.136")
    assert wished.coordination is not None
    undeclared = replace(wished, coordination=replace(wished.coordination, ipam_cidrs=()))
    with pytest.raises(BadConfig, match="add its subnet to ipamCIDR"):
        check_foreign(undeclared, SEEN)
    check_foreign(wished, SEEN)


def test_spiderpools_own_addresses_are_not_asked_about() -> None:
    """Neither of interfaces that the agent makes, nor of those that a plugin makes with Spiderpool's IPAM."""
    granted = Ownership(frozenset({ip_address("10.233.64.9")}), frozenset({ip_address("10.233.64.9")}))
    check_foreign(Attachment(CONTAINER, NETNS, "net1", EXISTING, "", coordination=SETTINGS, ownership=granted), SEEN)
    check_foreign(replace(FIRST, addresses=(ip_interface("10.233.64.9/18"),)), SEEN)


def test_without_a_path_there_is_no_route_to_refuse() -> None:
    check_foreign(replace(part("100.100.100.200"), coordination=None), SEEN)
