"""What would a packet do? Plans of a pod's first interface, judged by a pretend kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.core.plumbing import (
    MAIN_TABLE,
    MARK,
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    Announce,
    Attachment,
    Coordination,
    CreateLink,
    CreateVeth,
    DeleteLink,
    Link,
    LoadMarks,
    NodeAddress,
    Observation,
    PodState,
    SetLink,
    SetSysctl,
    Step,
    Where,
    host_interface,
    plan,
    pod_mac,
    temporary_name,
    veth_mac,
)
from spiderpool.core.plumbing.drift import Present, drift
from spiderpool.core.plumbing.removal import Remains, removal
from spiderpool.core.plumbing.routing import node_addresses
from spiderpool.errors import BadConfig, KernelFailure, NotReady
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    Question,
    Way,
    ask,
    interface,
    one_interface,
)

pytestmark = pytest.mark.unit

CONTAINER = "4f1c2d3e5a6b7c8d"
VETH_ON_NODE = "veth4f1c2d3e5a6"
NODE, SECOND_CARD, OTHER_NODE = "172.31.199.183", "192.168.0.154", "172.31.199.184"
POD, GATEWAY = "172.31.199.187", "172.31.207.253"

UNDERLAY = Coordination(
    mode="underlay",
    service_cidrs=(ip_network("10.233.0.0/18"),),
    overlay_cidrs=(ip_network("10.233.64.0/18"),),
    hijack_cidrs=(ip_network("169.254.0.0/16"),),
)
POD_ETH0 = Attachment(
    container_id=CONTAINER,
    netns="/run/netns/cni-1",
    ifname="eth0",
    kind="ipvlan",
    master="eth0",
    addresses=(ip_interface(f"{POD}/20"),),
    gateways=(ip_address(GATEWAY),),
    coordination=UNDERLAY,
)
DUAL = (*POD_ETH0.addresses, ip_interface("2001:db8::7/64"))
CARD = Link("eth0", 2, mac="00:16:3e:00:01:02", mtu=1500)
IDLE_NODE = Observation(
    master=CARD,
    addresses=(
        NodeAddress("eth1", ip_address(SECOND_CARD)),
        NodeAddress("eth0", ip_address(NODE)),
        NodeAddress("docker0", ip_address("172.17.0.1")),
        NodeAddress("eth0", ip_address("fe80::1")),
    ),
    sources=(ip_address(NODE),),
)


def made(attachment: Attachment = POD_ETH0) -> Pretend:
    """A node and the pod after the addition."""
    world = Pretend()
    world.apply(plan(attachment, world.observe(attachment)))
    return world


def path(world: Pretend, destination: str, **of: object) -> Way | None:
    return world.route_of(Question("pod", destination, None, **of))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ipvlan", "macvlan"])
@pytest.mark.parametrize("versions", [(4,), (6,), (4, 6)])
def test_packets_of_pod_and_node(kind: str, versions: tuple[int, ...]) -> None:
    world = made(interface("/run/netns/p", kind, versions=versions))
    for version in versions:
        ask(world.route_of, one_interface(version))
    assert world.sides["pod"].marks == set(versions)


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("172.31.199.193", Way("eth0")),
        ("192.168.0.161", Way("eth0", GATEWAY)),
        ("172.17.0.1", Way("eth0", GATEWAY)),
        ("10.233.64.9", Way("veth0", NODE)),
    ],
)
def test_packet_of_the_pod(destination: str, expected: Way) -> None:
    assert path(made(), destination, source=POD) == expected


def test_packet_of_the_node_to_the_pod_ignores_rules_that_choose_a_card_by_source() -> None:
    world = made()
    for number, source in enumerate((NODE, SECOND_CARD)):
        theirs = AddRule("node", 4, 3000, 1000 + number, source=ip_network(source))
        world.apply([theirs, AddRoute("node", ip_network("0.0.0.0/0"), "eth0", ip_address(GATEWAY), table=1000)])
    to_pod = (Question("node", POD, Way(VETH_ON_NODE), source=source) for source in (NODE, SECOND_CARD, ""))
    ask(world.route_of, [*to_pod, Question("node", CLIENT[4], Way("eth0", GATEWAY), source=NODE)])


def test_nobody_on_the_veth_pair_needs_arp() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    pair = next(step for step in steps if isinstance(step, CreateVeth))
    assert {(step.where, str(step.address), step.mac) for step in steps if isinstance(step, AddNeighbour)} == {
        ("pod", NODE, pair.mac),
        ("pod", SECOND_CARD, pair.mac),
        ("node", POD, pair.peer_mac),
    }


def test_veth0_is_used_with_the_address_of_the_card() -> None:
    with_address = replace(UNDERLAY, veth_link_address=IPv4Address("169.254.100.1"))
    steps = plan(replace(POD_ETH0, coordination=with_address), IDLE_NODE)
    assert AddAddress("pod", "veth0", IPv4Interface("169.254.100.1/32")) in steps
    by_veth = [step for step in steps if isinstance(step, AddRoute) and step.where == "pod" and step.link == "veth0"]
    assert {str(step.source) for step in by_veth if step.table == MAIN_TABLE} == {POD}


def test_reverse_path_filter() -> None:
    def written(value: int | None) -> set[Step]:
        steps = plan(replace(POD_ETH0, coordination=replace(UNDERLAY, pod_rp_filter=value)), IDLE_NODE)
        return {step for step in steps if isinstance(step, SetSysctl) and "rp_filter" in step.path}

    assert written(None) == set()
    assert written(0) == {SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", "0") for link in ("all", "eth0", "veth0")}


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
    assert path(made(replace(POD_ETH0, gateways=(), coordination=None)), "203.0.113.10") is None


def test_a_route_of_the_network_goes_before_the_coordinators_and_the_subnet_before_both() -> None:
    own = (ip_network("10.233.0.0/18"), ip_address("172.31.192.9"))
    subnet = replace(UNDERLAY, hijack_cidrs=(ip_network("172.31.192.0/20"), ip_network("0.0.0.0/0")))
    world = made(replace(POD_ETH0, routes=(own,), coordination=subnet))
    assert path(world, "10.233.0.1") == Way("eth0", "172.31.192.9")
    assert path(world, "172.31.193.1") == Way("eth0")
    assert path(world, "203.0.113.10") == Way("eth0", GATEWAY)


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
        ({"mac": "0a:1b:2c:3d:4e:5f"}, "ipvlan children carry their card's"),
        ({"kind": "macvlan", "mac": "01:1b:2c:3d:4e:5f"}, "'01:1b:2c:3d:4e:5f' is not a unicast MAC"),
        (
            {"kind": "macvlan", "coordination": Coordination("auto", pod_mac_prefix="0b:1b")},
            "not two bytes of a unicast",
        ),
        ({"kind": "vlan"}, "vlanId 0 of eth0 is not between 1 and 4094"),
        ({"gateways": (ip_address("2001:db8::1"),)}, "gateway 2001:db8::1 of eth0 is of a family of which it has no"),
        ({"kind": "host-device"}, f"eth0 carries {NODE} of this node, which would lose it"),
        ({"addresses": (ip_interface(f"{NODE}/20"),)}, f"{NODE} is configured on eth0 of this node"),
    ],
)
def test_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        plan(replace(POD_ETH0, **change), IDLE_NODE)  # type: ignore[arg-type]


def test_missing_card_names_those_that_exist() -> None:
    seen = replace(IDLE_NODE, master=None, links=("lo", "eth0", "eth1", "veth123", "docker0"))
    with pytest.raises(KernelFailure) as caught:
        plan(replace(POD_ETH0, master="eth7"), seen)
    assert caught.value.message == (
        "card eth7 does not exist on this node; its cards are eth0, eth1: correct spec.ipvlan.master of the network"
    )


def test_node_without_address() -> None:
    with pytest.raises(NotReady, match="no global IPv4 address yet"):
        plan(POD_ETH0, replace(IDLE_NODE, addresses=(), sources=()))


def test_first_node_address_is_the_one_that_the_node_speaks_from() -> None:
    assert [str(one) for one in node_addresses(IDLE_NODE, 4)] == [NODE, SECOND_CARD]
    assert [str(one) for one in node_addresses(replace(IDLE_NODE, sources=()), 4)] == [SECOND_CARD, NODE]
    stranger = replace(IDLE_NODE, sources=(ip_address("172.17.0.1"),))
    assert [str(one) for one in node_addresses(stranger, 4)] == [SECOND_CARD, NODE]


def test_leftovers_go_first() -> None:
    temporary = temporary_name(CONTAINER, "eth0")
    left = (Link("lo", 1), Link("eth0", 2, "ipvlan"), Link(temporary, 3, "ipvlan"), Link("veth0", 4, "veth"))
    marked = (AddRule("pod", 4, 1000, 100, MARK),)
    steps = plan(POD_ETH0, replace(IDLE_NODE, pod=PodState(left, rules=marked), host_end=Link(VETH_ON_NODE, 9)))
    clear = (DeleteLink("pod", "eth0"), DeleteLink("pod", temporary), DeleteLink("node", VETH_ON_NODE))
    assert steps[:3] == clear
    fresh = plan(POD_ETH0, IDLE_NODE)
    assert [step for step in steps[3:] if not isinstance(step, LoadMarks)] == [
        step for step in fresh if not isinstance(step, LoadMarks)
    ]
    assert LoadMarks("pod", "veth0", MARK, afresh=True) in steps


def test_link_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(KernelFailure, match="already has eth0, a veth that was not made here"):
        plan(POD_ETH0, replace(IDLE_NODE, pod=PodState((Link("eth0", 2, "veth"),))))


def test_removal_frees_the_address_first() -> None:
    assert removal(CONTAINER, "eth0", Remains(PodState())) == (
        DeleteLink("pod", "eth0"),
        DeleteLink("pod", temporary_name(CONTAINER, "eth0")),
        DeleteLink("node", VETH_ON_NODE),
    )


def test_removal_of_a_pod_that_is_gone() -> None:
    assert removal(CONTAINER, "eth0", Remains(None)) == (DeleteLink("node", VETH_ON_NODE),)


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
    written = [step for step in plan(pod, seen) if isinstance(step, SetSysctl) and step.where == "node"]
    assert written[-2:] == [
        SetSysctl("node", "net/ipv6/conf/eth0/accept_ra", "2"),
        SetSysctl("node", "net/ipv6/conf/all/forwarding", "1"),
    ]


def test_name_that_is_free_on_the_node_needs_no_temporary_one() -> None:
    links = [step for step in plan(POD_ETH0, replace(IDLE_NODE, taken=False)) if isinstance(step, CreateLink)]
    assert [link.temporary for link in links] == [""]


@pytest.mark.parametrize(
    ("prefix", "addresses", "mac"),
    [
        ("0a:1b", ("172.31.199.187",), "0a:1b:ac:1f:c7:bb"),
        ("0A-1B", ("2001:db8::7", "172.31.199.187"), "0a:1b:ac:1f:c7:bb"),
        ("0a:1b", ("2001:db8::a:7",), "0a:1b:00:0a:00:07"),
    ],
)
def test_mac_from_prefix_and_address(prefix: str, addresses: tuple[str, ...], mac: str) -> None:
    assert pod_mac(prefix, map(ip_address, addresses)) == mac


def test_macvlan_gets_the_mac_that_is_asked_for() -> None:
    prefixed = replace(POD_ETH0, kind="macvlan", coordination=replace(UNDERLAY, pod_mac_prefix="0a:1b"))
    assert made(prefixed).sides["pod"].links["eth0"].mac == "0a:1b:ac:1f:c7:bb"
    asked = made(replace(prefixed, mac="0A:00:00:00:00:01"))
    assert asked.sides["pod"].links["eth0"].mac == "0a:00:00:00:00:01"


def test_vlan_child() -> None:
    made_link = made(replace(POD_ETH0, kind="vlan", vlan_id=100)).sides["pod"].links["eth0"]
    assert (made_link.kind, made_link.vlan_id, made_link.parent) == ("vlan", 100, CARD.index)


@given(container=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,80}", fullmatch=True))
def test_names_and_macs_fit_the_kernel(container: str) -> None:
    assert len(host_interface(container)) <= 15
    assert len(temporary_name(container, "eth0")) <= 15
    mac = bytes.fromhex(veth_mac(container, "pod").replace(":", ""))
    assert len(mac) == 6
    assert mac[0] & 0x03 == 0x02
    assert veth_mac(container, "pod") != veth_mac(container, "node")


def test_steps_print_as_one_line() -> None:
    printed = [str(step) for step in plan(POD_ETH0, IDLE_NODE)]
    assert "pod: route 10.233.0.0/18 via 172.31.199.183 dev veth0 src 172.31.199.187" in printed
    assert "pod: ipv4 rule 1000 fwmark 0x1 lookup 100" in printed
    assert f"node: route 172.31.199.187/32 dev {VETH_ON_NODE} table 500" in printed
    assert len(set(printed)) == len(printed)
    assert not any("\n" in line for line in printed)


def _as_present(steps: Iterable[Step]) -> Present:
    """The state after all steps succeeded."""
    steps = tuple(steps)
    pair = next(step for step in steps if isinstance(step, CreateVeth))
    links: list[tuple[Where, Link]] = [
        ("pod", Link("eth0", 2, "ipvlan", "l2", CARD.mac, 1500, parent=CARD.index)),
        ("pod", Link(pair.peer, 3, "veth", mac=pair.peer_mac)),
        ("node", Link(pair.name, 9, "veth", mac=pair.mac)),
    ]
    return Present(tuple(links), frozenset(steps), marks=(4,))


def test_no_drift_right_after_the_plan() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    assert drift(steps, _as_present(steps), CARD) == ()


def test_drift_names_what_is_missing() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    there = _as_present(steps)
    lasting = [step for step in steps if isinstance(step, AddAddress | AddRoute | AddRule | AddNeighbour | SetSysctl)]
    lasting = [step for step in lasting if not isinstance(step, SetSysctl) or step.required]
    for step in lasting:
        assert drift(steps, replace(there, steps=there.steps - {step}), CARD) == (f"missing or changed: {step}",)
    assert drift(steps, replace(there, marks=()), CARD) == ("missing: pod: mark 0x1 on connections from veth0",)
    assert drift(steps, replace(there, links=there.links[:2]), CARD) == (f"{VETH_ON_NODE} is missing",)
    assert drift(steps, replace(there, links=there.links[1:]), CARD) == ("eth0 is missing in the pod",)


def test_drift_names_what_changed_on_the_link() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    there = _as_present(steps)
    other: tuple[Where, Link] = ("pod", Link("eth0", 2, "ipvlan", "l3", CARD.mac, 1400, up=False, parent=5))
    assert drift(steps, replace(there, links=(other, *there.links[1:])), CARD) == (
        "eth0 is ipvlan l3, not ipvlan l2",
        "eth0 does not lie on eth0",
        "mtu of eth0 is 1400, not 1500",
        "eth0 (pod) is down",
    )


def test_networks_in_the_plan_are_exact() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    hosts = [step.destination for step in steps if isinstance(step, AddRoute) and step.destination.prefixlen == 32]
    assert IPv4Network(f"{POD}/32") in hosts
