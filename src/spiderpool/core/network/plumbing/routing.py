"""Which path leads to the node, which table an interface has, and which interface owns the default route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Literal, TypeAlias

from spiderpool.core.network.plumbing.naming import (
    FIRST_TABLE,
    INTERFACE_TABLES,
    MAIN_TABLE,
    MARK_TABLE,
    RULE_PRIORITY,
    SOURCE_PRIORITY,
    VETH,
    host_interface,
    is_nic,
    veth_mac,
)
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, AddRule, Step
from spiderpool.core.network.plumbing.values import (
    DISABLED,
    Address,
    Attachment,
    Coordination,
    Network,
    NodeAddress,
    Observation,
    PodState,
    everything,
    is_default,
    is_global,
)
from spiderpool.errors import BadConfig, KernelFailure, NotReady

Role: TypeAlias = Literal["alone", "first", "later", "overlay"]
"""What an interface is to its pod.

``alone``: no coordinator. ``first``: makes the veth pair. ``later``: uses the pair of the first. ``overlay``: uses
the eth0 that another CNI plugin made.
"""


@dataclass(frozen=True, slots=True)
class NodePath:
    """The pod's way to its node: a link in the pod, its far end on the node, and the MACs of both."""

    link: str
    mac: str
    host_link: str
    host_mac: str


def role_of(attachment: Attachment, seen: Observation) -> Role:
    """The role of an interface. Raises BadConfig when the coordinator's mode does not fit what the pod has."""
    coordination = attachment.coordination
    if coordination is None or coordination.mode in DISABLED:
        return "alone"
    first = attachment.ifname == coordination.first_nic
    paired = seen.pod.link(VETH) is not None
    mode = coordination.mode
    if mode == "auto":
        mode = "underlay" if first or paired else "overlay"
    if mode == "underlay":
        return "first" if first else _later(attachment.ifname, coordination.first_nic, paired)
    return _overlay(attachment.ifname, first, paired)


def _later(ifname: str, first_nic: str, paired: bool) -> Role:
    if not paired:
        raise BadConfig(
            f"mode underlay of {ifname} needs {VETH}, which the pod lacks, as its {first_nic} was made without"
            f" coordinator: enable the coordinator on that network, or use mode overlay or auto"
        )
    return "later"


def _overlay(ifname: str, first: bool, paired: bool) -> Role:
    if first:
        raise BadConfig(f"mode overlay is for interfaces beside another CNI plugin's, and {ifname} is the pod's first")
    if paired:
        raise BadConfig(f"mode overlay of {ifname} does not fit a pod whose first interface is underlay: use auto")
    return "overlay"


def node_path(role: Role, attachment: Attachment, coordination: Coordination, seen: Observation) -> NodePath:
    """How the pod reaches its node and the node the pod."""
    container = attachment.container_id
    if role == "first":
        return NodePath(VETH, veth_mac(container, "pod"), host_interface(container), veth_mac(container, "node"))
    name = VETH if role == "later" else coordination.first_nic
    link = seen.pod.link(name)
    if link is None or seen.host_end is None:
        raise KernelFailure(
            f"the pod's {name} has no far end on this node, so {attachment.ifname} cannot use it to reach the node:"
            f" set the coordinator of this network to mode disabled"
        )
    return NodePath(name, link.mac, seen.host_end.name, seen.host_end.mac)


def node_addresses(seen: Observation, version: int) -> tuple[Address, ...]:
    """The node's addresses of one family, first the one from which it speaks to the pod.

    All of them matter: the host end of the veth pair has no address, so the kernel may choose any as source.
    """
    held = reachable(seen.addresses)
    chosen = [source for source in seen.sources if source in held]
    return tuple(dict.fromkeys(one for one in (*chosen, *held) if one.version == version))


def reachable(addresses: Iterable[NodeAddress]) -> tuple[Address, ...]:
    """The addresses by which a pod may mean its node."""
    return tuple(one.address for one in addresses if is_nic(one.link) and is_global(one.address))


def to_node(
    path: NodePath, node: tuple[Address, ...], coordination: Coordination, source: Address, table: int = MAIN_TABLE
) -> Iterator[Step]:
    """Routes to the node itself, and through it to Services, overlay pods and hijacked ranges."""
    for address in node:
        yield AddNeighbour("pod", path.link, address, path.host_mac)
        yield AddRoute("pod", ip_network(address), path.link, source=source, table=table)
    for cidr in (*coordination.overlay_cidrs, *coordination.service_cidrs, *coordination.hijack_cidrs):
        if cidr.version == source.version:
            yield AddRoute("pod", cidr, path.link, node[0], source, table)


def from_node(path: NodePath, addresses: tuple[Address, ...], table: int) -> Iterator[Step]:
    """The node's way to a pod's addresses of one family."""
    for address in addresses:
        yield AddNeighbour("node", path.host_link, address, path.mac)
        yield AddRoute("node", ip_network(address), path.host_link, table=table)
    yield AddRule("node", addresses[0].version, RULE_PRIORITY, table)


def required_node_addresses(seen: Observation, version: int) -> tuple[Address, ...]:
    """As `node_addresses`. Raises NotReady when there is none."""
    node = node_addresses(seen, version)
    if not node:
        raise NotReady(f"the node has no global IPv{version} address yet, so its pods could not reach it")
    return node


def served(pod: PodState, path: NodePath) -> set[int]:
    """Families for which the pod can reach its node already."""
    table = MARK_TABLE if path.link == VETH else MAIN_TABLE
    known = {one.address for one in pod.neighbours if (one.link, one.mac) == (path.link, path.host_mac)}
    return {
        route.destination.version
        for route in pod.routes
        if (route.table, route.link) == (table, path.link)
        and (route.gateway in known if table == MARK_TABLE else route.destination.network_address in known)
    }


def own_table(pod: PodState, ifname: str, first_nic: str, path_link: str, besides: Iterable[int] = ()) -> int:
    """The table of an interface: the one that it has, or else the lowest that no other has; not so for the first."""
    if ifname == first_nic:
        return FIRST_TABLE if path_link == VETH else MARK_TABLE
    mine = tables_of(pod, ifname)
    if mine:
        return min(mine)
    taken = {*besides, *_tables_in_use(pod, ifname, path_link)}
    return next(table for table in INTERFACE_TABLES if table not in taken)


def tables_of(pod: PodState, ifname: str) -> set[int]:
    """The tables that belong to an interface, by its routes and by the rules from its addresses."""
    sources = {ip_network(address) for address in pod.held_by(ifname)}
    by_rule = {rule.table for rule in source_rules(pod) if rule.source in sources}
    by_route = {route.table for route in pod.routes if route.link == ifname}
    return {table for table in by_rule | by_route if table in INTERFACE_TABLES}


def _tables_in_use(pod: PodState, ifname: str, path_link: str) -> set[int]:
    by_rule = {rule.table for rule in source_rules(pod) if rule not in orphans(pod, ifname)}
    return by_rule | {route.table for route in pod.routes if route.link not in (path_link, ifname)}


def source_rules(pod: PodState) -> tuple[AddRule, ...]:
    """The pod's rules that choose a table by source address."""
    return tuple(rule for rule in pod.rules if rule.priority == SOURCE_PRIORITY and rule.source is not None)


def orphans(pod: PodState, ifname: str) -> tuple[AddRule, ...]:
    """Source rules for addresses that no interface but ``ifname`` holds: its own, and those of links that are gone."""
    others = {ip_network(one.address.ip) for one in pod.addresses if one.link != ifname}
    return tuple(rule for rule in source_rules(pod) if rule.source not in others)


def holder_of_default(pod: PodState, version: int, ifname: str) -> str | None:
    """The link, other than ``ifname``, that owns the default route of one family."""
    held = (route for route in pod.routes if is_default(route) and route.destination.version == version)
    return next((route.link for route in held if route.link != ifname), None)


def takes_default(attachment: Attachment, holder: str | None) -> bool:
    """Whether an interface gets the default route in ``main``: nobody has it, or it is the one that is to have it."""
    coordination = attachment.coordination
    if holder is None or coordination is None:
        return holder is None
    chosen = coordination.default_route_nic if coordination.tune_pod_routes else ""
    return attachment.ifname == (chosen or coordination.first_nic)


def keep_apart(ifname: str, version: int, path: NodePath, table: int, pod: PodState) -> Iterator[Step]:
    """Give an interface that lived in ``main`` a table of its own, a copy of what ``main`` says of it."""
    for address in pod.held_by(ifname):
        if address.version == version:
            yield from_address(address, table)
    for route in sorted(pod.routes, key=lambda one: one.gateway is not None):
        if (route.table, route.destination.version) == (MAIN_TABLE, version) and route.link in (ifname, path.link):
            yield replace(route, table=table, source=None if route.link == ifname else route.source)


def from_address(address: Address, table: int) -> AddRule:
    """The rule that sends what comes from an address to its interface's table."""
    return AddRule("pod", address.version, SOURCE_PRIORITY, table, source=ip_network(address))


def own_routes(attachment: Attachment, version: int, table: int) -> Iterator[AddRoute]:
    """All that an interface's own table says of the interface itself."""
    name = attachment.ifname
    for address in attachment.addresses:
        if address.version == version:
            yield AddRoute("pod", address.network, name, table=table)
    coordination = attachment.coordination
    policy = coordination.policy_routes if coordination else ()
    yield from routes_by(name, (*attachment.routes, *policy), version, table)
    for gateway in attachment.gateways:
        if gateway.version == version:
            yield AddRoute("pod", everything(version), name, gateway, table=table)


def routes_by(
    name: str, routes: Iterable[tuple[Network, Address]], version: int, table: int = MAIN_TABLE
) -> Iterator[AddRoute]:
    """Routes of one family through an interface."""
    for destination, gateway in routes:
        if destination.version == version:
            yield AddRoute("pod", destination, name, gateway, table=table)
