"""What would a packet do? Plans are judged by a pretend kernel that only knows longest prefix match."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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
    Present,
    SetLink,
    SetSysctl,
    Step,
    Where,
    drift,
    host_interface,
    node_addresses,
    plan,
    removal,
    temporary_name,
    veth_mac,
)
from spiderpool.errors import BadConfig, KernelFailure, NotReady

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
    gateway=ip_address(GATEWAY),
    coordination=UNDERLAY,
)
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


@dataclass(frozen=True)
class Path:
    """Where a packet goes: out of a link, to a gateway or straight."""

    link: str
    gateway: str | None = None


@dataclass(frozen=True)
class SourceRule:
    """The node's own rule that chooses a card by source address."""

    priority: int
    source: str
    table: int


def route_of(
    steps: Iterable[Step],
    where: Where,
    destination: str,
    *,
    source: str = "",
    mark: int = 0,
    rules: Iterable[SourceRule] = (),
    routes: Iterable[AddRoute] = (),
) -> Path | None:
    """The path of a packet by the planned rules and routes and those that the node has already."""
    steps = [*steps, *routes]
    tables = [(rule.priority, rule.table) for rule in rules if rule.source == source]
    tables += [
        (step.priority, step.table)
        for step in steps
        if isinstance(step, AddRule) and step.where == where and step.mark in (None, mark)
    ]
    for _, table in sorted([*tables, (32766, MAIN_TABLE)]):
        path = _longest_match(steps, where, table, ip_address(destination))
        if path is not None:
            return path
    return None


def _longest_match(steps: Iterable[Step], where: Where, table: int, destination: object) -> Path | None:
    candidates = [
        (step.destination.prefixlen, Path(step.link, str(step.gateway) if step.gateway else None))
        for step in steps
        if isinstance(step, AddRoute) and (step.where, step.table) == (where, table) and destination in step.destination
    ]
    if table == MAIN_TABLE:
        candidates += [
            (step.address.network.prefixlen, Path(step.link))
            for step in steps
            if isinstance(step, AddAddress) and step.where == where and destination in step.address.network
        ]
    return max(candidates, key=lambda one: one[0], default=(0, None))[1]


@pytest.mark.parametrize(
    ("destination", "path"),
    [
        (NODE, Path("veth0")),
        (SECOND_CARD, Path("veth0")),
        (OTHER_NODE, Path("eth0")),
        ("172.31.199.193", Path("eth0")),
        (GATEWAY, Path("eth0")),
        ("192.168.0.161", Path("eth0", GATEWAY)),
        ("203.0.113.10", Path("eth0", GATEWAY)),
        ("172.17.0.1", Path("eth0", GATEWAY)),
        ("10.233.0.1", Path("veth0", NODE)),
        ("10.233.64.9", Path("veth0", NODE)),
        ("169.254.25.10", Path("veth0", NODE)),
    ],
)
def test_packet_of_the_pod(destination: str, path: Path) -> None:
    assert route_of(plan(POD_ETH0, IDLE_NODE), "pod", destination, source=POD) == path


@pytest.mark.parametrize("destination", ["203.0.113.77", OTHER_NODE, GATEWAY])
def test_answer_to_a_client_that_came_by_the_node(destination: str) -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    assert route_of(steps, "pod", destination, source=POD, mark=MARK) == Path("veth0", NODE)
    assert LoadMarks("pod", "veth0", MARK) in steps


def test_packet_of_the_node_to_the_pod_ignores_rules_that_choose_a_card_by_source() -> None:
    by_card = [SourceRule(3000, NODE, 1000), SourceRule(3000, SECOND_CARD, 1001)]
    theirs = [AddRoute("node", ip_network("0.0.0.0/0"), "eth0", ip_address(GATEWAY), table=1000)]
    steps = plan(POD_ETH0, IDLE_NODE)
    for source in (NODE, SECOND_CARD, "", "203.0.113.77"):
        assert route_of(steps, "node", POD, source=source, rules=by_card, routes=theirs) == Path(VETH_ON_NODE)
    assert route_of(steps, "node", OTHER_NODE, source=NODE, rules=by_card, routes=theirs) == Path("eth0", GATEWAY)


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
    assert {str(step.source) for step in by_veth} == {POD}


def test_reverse_path_filter() -> None:
    def written(value: int | None) -> set[Step]:
        steps = plan(replace(POD_ETH0, coordination=replace(UNDERLAY, pod_rp_filter=value)), IDLE_NODE)
        return {step for step in steps if isinstance(step, SetSysctl)}

    assert written(None) == set()
    assert written(0) == {SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", "0") for link in ("all", "veth0")}


def test_forwarding_is_turned_on_only_where_it_is_off() -> None:
    step = SetSysctl("node", "net/ipv4/ip_forward", "1")
    assert step not in plan(POD_ETH0, IDLE_NODE)
    assert step in plan(POD_ETH0, replace(IDLE_NODE, forwarding=False))


@pytest.mark.parametrize("coordination", [None, Coordination(mode="disabled")])
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
    steps = plan(replace(POD_ETH0, gateway=None, coordination=None), IDLE_NODE)
    assert route_of(steps, "pod", "203.0.113.10") is None


def test_a_route_of_the_network_goes_before_the_coordinators_and_the_subnet_before_both() -> None:
    own = (ip_network("10.233.0.0/18"), ip_address("172.31.192.9"))
    subnet = replace(UNDERLAY, hijack_cidrs=(ip_network("172.31.192.0/20"), ip_network("0.0.0.0/0")))
    steps = plan(replace(POD_ETH0, routes=(own,), coordination=subnet), IDLE_NODE)
    assert route_of(steps, "pod", "10.233.0.1") == Path("eth0", "172.31.192.9")
    assert route_of(steps, "pod", "172.31.193.1") == Path("eth0")
    assert route_of(steps, "pod", "203.0.113.10") == Path("eth0", GATEWAY)


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
        ({"kind": "bridge"}, "kind 'bridge' is none of ipvlan, macvlan"),
        ({"mode": "bridge"}, "mode 'bridge' of ipvlan is none of l2, l3, l3s"),
        ({"mtu": 9000}, "mtu 9000 is more than the 1500 of eth0"),
        ({"mtu": -1}, "mtu -1 is negative"),
        ({"coordination": Coordination(mode="auto")}, "'auto' is neither underlay nor disabled"),
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
    steps = plan(POD_ETH0, replace(IDLE_NODE, pod_links=left, host_interface=True, marked=True))
    clear = (DeleteLink("pod", "eth0"), DeleteLink("pod", temporary), DeleteLink("node", VETH_ON_NODE))
    assert steps[:3] == clear
    fresh = plan(POD_ETH0, IDLE_NODE)
    assert steps[3:-2] == fresh[:-2]
    assert LoadMarks("pod", "veth0", MARK, afresh=True) in steps


def test_link_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(KernelFailure, match="already has eth0, a veth that was not made here"):
        plan(POD_ETH0, replace(IDLE_NODE, pod_links=(Link("eth0", 2, "veth"),)))


def test_removal_frees_the_address_first() -> None:
    assert removal(CONTAINER, "eth0") == (
        DeleteLink("pod", "eth0"),
        DeleteLink("pod", temporary_name(CONTAINER, "eth0")),
        DeleteLink("node", VETH_ON_NODE),
    )


def test_two_families() -> None:
    both = replace(
        POD_ETH0,
        addresses=(*POD_ETH0.addresses, ip_interface("2001:db8::7/64")),
        coordination=replace(UNDERLAY, service_cidrs=(ip_network("10.233.0.0/18"), ip_network("fd00:10::/108"))),
    )
    seen = replace(IDLE_NODE, addresses=(*IDLE_NODE.addresses, NodeAddress("eth0", ip_address("2001:db8::1"))))
    steps = plan(both, seen)
    assert route_of(steps, "pod", "fd00:10::1") == Path("veth0", "2001:db8::1")
    assert route_of(steps, "pod", "2001:db8:9::1", mark=MARK) == Path("veth0", "2001:db8::1")
    assert route_of(steps, "pod", "10.233.0.1") == Path("veth0", NODE)
    assert route_of(steps, "node", "2001:db8::7") == Path(VETH_ON_NODE)


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
    return Present(tuple(links), frozenset(steps), marks=True)


def test_no_drift_right_after_the_plan() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    assert drift(steps, _as_present(steps), CARD) == ()


def test_drift_names_what_is_missing() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    there = _as_present(steps)
    lasting = [step for step in steps if isinstance(step, AddAddress | AddRoute | AddRule | AddNeighbour | SetSysctl)]
    for step in lasting:
        assert drift(steps, replace(there, steps=there.steps - {step}), CARD) == (f"missing or changed: {step}",)
    assert drift(steps, replace(there, marks=False), CARD) == ("missing: pod: mark 0x1 on connections from veth0",)
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
