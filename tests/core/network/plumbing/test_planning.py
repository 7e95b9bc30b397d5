"""What would a packet do? Plans of a pod's first interface, judged by a pretend kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.naming import MAIN_TABLE, temporary_name
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    Announce,
    CreateLink,
    CreateVeth,
    SetLink,
    SetSysctl,
    Step,
)
from spiderpool.core.network.plumbing.values import Coordination
from tests.core.pods import (
    GATEWAY,
    IDLE_NODE,
    NIC,
    NODE,
    POD,
    POD_ETH0,
    SECOND_NIC,
    SETTINGS,
    with_pod,
)
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    CONTAINER,
    HOST_END,
    NextHop,
    Question,
    assert_next_hops,
    interface,
    one_interface,
)

pytestmark = pytest.mark.unit


def path(world: Pretend, destination: str, **of: object) -> NextHop | None:
    return world.route_of(Question("pod", destination, None, **of))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ipvlan", "macvlan"])
@pytest.mark.parametrize("versions", [(4,), (6,), (4, 6)])
def test_packets_of_pod_and_node(kind: str, versions: tuple[int, ...]) -> None:
    world = with_pod(interface("/run/netns/p", kind, versions=versions))
    for version in versions:
        assert_next_hops(world.route_of, one_interface(version))
    assert world.sides["pod"].marks == set(versions)


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("172.31.199.193", NextHop("eth0")),
        ("192.168.0.161", NextHop("eth0", GATEWAY)),
        ("172.17.0.1", NextHop("eth0", GATEWAY)),
        ("10.233.64.9", NextHop("veth0", NODE)),
    ],
)
def test_packet_of_the_pod(destination: str, expected: NextHop) -> None:
    assert path(with_pod(POD_ETH0), destination, source=POD) == expected


def test_packet_of_the_node_to_the_pod_ignores_rules_that_choose_a_nic_by_source() -> None:
    world = with_pod(POD_ETH0)
    for number, source in enumerate((NODE, SECOND_NIC)):
        theirs = AddRule("node", 4, 3000, 1000 + number, source=ip_network(source))
        world.apply([theirs, AddRoute("node", ip_network("0.0.0.0/0"), "eth0", ip_address(GATEWAY), table=1000)])
    to_pod = (Question("node", POD, NextHop(HOST_END), source=source) for source in (NODE, SECOND_NIC, ""))
    assert_next_hops(world.route_of, [*to_pod, Question("node", CLIENT[4], NextHop("eth0", GATEWAY), source=NODE)])


def test_nobody_on_the_veth_pair_needs_arp() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    pair = next(step for step in steps if isinstance(step, CreateVeth))
    assert {(step.side, str(step.address), step.mac) for step in steps if isinstance(step, AddNeighbour)} == {
        ("pod", NODE, pair.mac),
        ("pod", SECOND_NIC, pair.mac),
        ("node", POD, pair.peer_mac),
    }


def test_veth0_is_used_with_the_address_of_the_nic() -> None:
    with_address = replace(SETTINGS, veth_link_address=IPv4Address("169.254.100.1"))
    steps = plan(replace(POD_ETH0, coordination=with_address), IDLE_NODE)
    assert AddAddress("pod", "veth0", IPv4Interface("169.254.100.1/32")) in steps
    by_veth = [step for step in steps if isinstance(step, AddRoute) and step.side == "pod" and step.link == "veth0"]
    assert {str(step.source) for step in by_veth if step.table == MAIN_TABLE} == {POD}


def test_reverse_path_filter() -> None:
    def written(value: int | None) -> set[Step]:
        steps = plan(replace(POD_ETH0, coordination=replace(SETTINGS, pod_rp_filter=value)), IDLE_NODE)
        return {step for step in steps if isinstance(step, SetSysctl) and "rp_filter" in step.path}

    strict = {SetSysctl("node", f"net/ipv4/conf/{HOST_END}/rp_filter", "1", required=False)}
    pod = {SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", "0") for link in ("all", "eth0", "veth0")}
    assert written(None) == strict
    assert written(0) == strict | pod


def test_forwarding_is_turned_on_only_where_it_is_off() -> None:
    step = SetSysctl("node", "net/ipv4/ip_forward", "1")
    assert step not in plan(POD_ETH0, IDLE_NODE)
    assert step in plan(POD_ETH0, replace(IDLE_NODE, not_forwarding=(4,)))


@pytest.mark.parametrize("coordination", [None, Coordination(mode="disabled"), Coordination(mode="disable")])
def test_without_coordinator_the_interface_stands_alone(coordination: Coordination | None) -> None:
    steps = plan(replace(POD_ETH0, coordination=coordination), IDLE_NODE)
    temporary = temporary_name(CONTAINER, "eth0")
    assert steps == (
        CreateLink("pod", "eth0", "ipvlan", "l2", "eth0", 1500, temporary),
        SetLink("pod", "eth0"),
        AddAddress("pod", "eth0", ip_interface(f"{POD}/20")),
        AddRoute("pod", ip_network("0.0.0.0/0"), "eth0", ip_address(GATEWAY)),
        Announce("pod", "eth0", IPv4Address(POD)),
    )


def test_no_default_route_without_gateway() -> None:
    assert path(with_pod(replace(POD_ETH0, gateways=(), coordination=None)), "203.0.113.10") is None


def test_a_route_of_the_network_goes_before_the_coordinators_and_the_subnet_before_both() -> None:
    own = (ip_network("10.233.0.0/18"), ip_address("172.31.192.9"))
    subnet = replace(SETTINGS, hijack_cidrs=(ip_network("172.31.192.0/20"), ip_network("0.0.0.0/0")))
    world = with_pod(replace(POD_ETH0, routes=(own,), coordination=subnet))
    assert path(world, "10.233.0.1") == NextHop("eth0", "172.31.192.9")
    assert path(world, "172.31.193.1") == NextHop("eth0")
    assert path(world, "203.0.113.10") == NextHop("eth0", GATEWAY)


@pytest.mark.parametrize(
    ("kind", "mode", "made"),
    [
        ("ipvlan", "", "l2"),
        ("ipvlan", "l3", "l3"),
        ("ipvlan", "l3s", "l3s"),
        ("macvlan", "", "bridge"),
        ("macvlan", "bridge", "bridge"),
    ],
)
def test_kinds_and_modes(kind: str, mode: str, made: str) -> None:
    steps = plan(replace(POD_ETH0, kind=kind, mode=mode), IDLE_NODE)
    link = next(step for step in steps if isinstance(step, CreateLink))
    assert (link.kind, link.mode, link.master, link.mtu) == (kind, made, "eth0", 1500)
    assert (Announce("pod", "eth0", IPv4Address(POD)) in steps) == (made in ("l2", "bridge"))


def test_ipv6_is_ready_at_once() -> None:
    steps = plan(interface("/run/netns/p", "ipvlan"), Pretend().observe(interface("/run/netns/p", "ipvlan")))
    before = steps[: next(number for number, step in enumerate(steps) if isinstance(step, CreateLink))]
    assert before == (
        SetSysctl("pod", "net/ipv6/conf/all/disable_ipv6", "0"),
        SetSysctl("pod", "net/ipv6/conf/all/accept_dad", "0"),
        SetSysctl("pod", "net/ipv6/conf/default/accept_dad", "0"),
    )
    assert Announce("pod", "eth0", ip_address("2001:db8:1::187")) in steps


def test_a_node_that_begins_to_forward_ipv6_goes_on_to_follow_router_advertisements() -> None:
    pod = interface("/run/netns/p", "ipvlan")
    seen = replace(Pretend().observe(pod), not_forwarding=(6,), advertised=("eth0",))
    written = [step for step in plan(pod, seen) if isinstance(step, SetSysctl) and step.side == "node"]
    assert written[-2:] == [
        SetSysctl("node", "net/ipv6/conf/eth0/accept_ra", "2"),
        SetSysctl("node", "net/ipv6/conf/all/forwarding", "1"),
    ]


def test_name_that_is_free_on_the_node_needs_no_temporary_one() -> None:
    links = [step for step in plan(POD_ETH0, replace(IDLE_NODE, taken=False)) if isinstance(step, CreateLink)]
    assert [link.temporary for link in links] == [""]


def test_macvlan_gets_the_mac_that_is_asked_for() -> None:
    prefixed = replace(POD_ETH0, kind="macvlan", coordination=replace(SETTINGS, pod_mac_prefix="0a:1b"))
    assert with_pod(prefixed).sides["pod"].links["eth0"].mac == "0a:1b:ac:1f:c7:bb"
    asked = with_pod(replace(prefixed, mac="0A:00:00:00:00:01"))
    assert asked.sides["pod"].links["eth0"].mac == "0a:00:00:00:00:01"


def test_vlan_child() -> None:
    made_link = with_pod(replace(POD_ETH0, kind="vlan", vlan_id=100)).sides["pod"].links["eth0"]
    assert (made_link.kind, made_link.vlan_id, made_link.parent) == ("vlan", 100, NIC.index)


def test_networks_in_the_plan_are_exact() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    hosts = [step.destination for step in steps if isinstance(step, AddRoute) and step.destination.prefixlen == 32]
    assert IPv4Network(f"{POD}/32") in hosts
