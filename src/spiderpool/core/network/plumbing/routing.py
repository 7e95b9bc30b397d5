"""Which path leads to the node, which table an interface has, and which interface has the default route."""

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
    default_destination,
    is_default,
    is_global,
)
from spiderpool.errors import BadConfig, KernelFailure, NotReady

Role: TypeAlias = Literal["alone", "first", "later", "overlay"]
"""What an interface does for the pod's path to its node.

``alone``: no coordinator, so no path. ``first``: creates the veth pair. ``later``: uses that pair. ``overlay``: uses
the eth0 that another CNI plugin made.
"""


@dataclass(frozen=True, slots=True)
class NodePath:
    """The pod's path to its node: a link in the pod, its far end on the node, and the MACs of both."""

    link: str
    mac: str
    host_link: str
    host_mac: str


def role_of(attachment: Attachment, observed: Observation) -> Role:
    """The role of an interface. Raises BadConfig when the coordinator's mode does not fit the pod's interfaces."""
    coordination = attachment.coordination
    if coordination is None or coordination.mode in DISABLED:
        return "alone"
    first = attachment.ifname == coordination.first_nic
    has_veth = observed.pod.link(VETH) is not None
    mode = coordination.mode
    if mode == "auto":
        mode = "underlay" if first or has_veth else "overlay"
    if mode == "underlay":
        return "first" if first else _later(attachment.ifname, coordination.first_nic, has_veth)
    return _overlay(attachment.ifname, first, has_veth)


def _later(ifname: str, first_nic: str, has_veth: bool) -> Role:
    if not has_veth:
        raise BadConfig(
            f"mode underlay of {ifname} needs {VETH}, which the pod lacks, as its {first_nic} was made without"
            f" coordinator: enable the coordinator on that network, or use mode overlay or auto"
        )
    return "later"


def _overlay(ifname: str, first: bool, has_veth: bool) -> Role:
    if first:
        raise BadConfig(f"mode overlay is for interfaces beside another CNI plugin's, and {ifname} is the pod's first")
    if has_veth:
        raise BadConfig(f"mode overlay of {ifname} does not fit a pod whose first interface is underlay: use auto")
    return "overlay"


def node_path(role: Role, attachment: Attachment, coordination: Coordination, observed: Observation) -> NodePath:
    """The path between pod and node. Raises KernelFailure when the link that it needs has no far end on this node."""
    container = attachment.container_id
    if role == "first":
        return NodePath(VETH, veth_mac(container, "pod"), host_interface(container), veth_mac(container, "node"))
    name = VETH if role == "later" else coordination.first_nic
    link = observed.pod.link(name)
    if link is None or observed.host_end is None:
        raise KernelFailure(
            f"the pod's {name} has no far end on this node, so {attachment.ifname} cannot use it to reach the node:"
            f" set the coordinator of this network to mode disabled"
        )
    return NodePath(name, link.mac, observed.host_end.name, observed.host_end.mac)


def node_addresses(observed: Observation, version: int) -> tuple[Address, ...]:
    """All addresses of the node of one family; first the source address that the node uses towards the pod.

    The pod needs all: the host end of the veth pair has no address, so the kernel may choose any of them as source.
    """
    addresses = reachable(observed.addresses)
    sources = [source for source in observed.sources if source in addresses]
    return tuple(dict.fromkeys(address for address in (*sources, *addresses) if address.version == version))


def reachable(addresses: Iterable[NodeAddress]) -> tuple[Address, ...]:
    """The addresses under which a pod may reach its node: global ones, on NICs."""
    return tuple(held.address for held in addresses if is_nic(held.link) and is_global(held.address))


def routes_to_node(
    path: NodePath, node: tuple[Address, ...], coordination: Coordination, source: Address, table: int = MAIN_TABLE
) -> Iterator[Step]:
    """The pod's routes to the node itself, and through it to Services, overlay pods and hijackCIDR ranges."""
    for address in node:
        yield AddNeighbour("pod", path.link, address, path.host_mac)
        yield AddRoute("pod", ip_network(address), path.link, source=source, table=table)
    for cidr in (*coordination.overlay_cidrs, *coordination.service_cidrs, *coordination.hijack_cidrs):
        if cidr.version == source.version:
            yield AddRoute("pod", cidr, path.link, node[0], source, table)


def routes_from_node(path: NodePath, addresses: tuple[Address, ...], table: int) -> Iterator[Step]:
    """The node's rule and routes to a pod's addresses of one family."""
    for address in addresses:
        yield AddNeighbour("node", path.host_link, address, path.mac)
        yield AddRoute("node", ip_network(address), path.host_link, table=table)
    yield AddRule("node", addresses[0].version, RULE_PRIORITY, table)


def required_node_addresses(observed: Observation, version: int) -> tuple[Address, ...]:
    """As `node_addresses`, at least one. Raises NotReady when there is none."""
    node = node_addresses(observed, version)
    if not node:
        raise NotReady(f"the node has no global IPv{version} address yet, so its pods could not reach it")
    return node


def families_with_path(pod: PodState, path: NodePath) -> set[int]:
    """Families in which the pod already has the path to its node."""
    table = MARK_TABLE if path.link == VETH else MAIN_TABLE
    known = {held.address for held in pod.neighbours if (held.link, held.mac) == (path.link, path.host_mac)}
    return {
        route.destination.version
        for route in pod.routes
        if (route.table, route.link) == (table, path.link)
        and (route.gateway in known if table == MARK_TABLE else route.destination.network_address in known)
    }


def own_table(pod: PodState, ifname: str, first_nic: str, path_link: str, besides: Iterable[int] = ()) -> int:
    """The table of an interface: fixed for the first; for others the one that it has, or else the lowest free one."""
    if ifname == first_nic:
        return FIRST_TABLE if path_link == VETH else MARK_TABLE
    present = tables_of(pod, ifname)
    if present:
        return min(present)
    taken = {*besides, *_tables_in_use(pod, ifname, path_link)}
    return next(table for table in INTERFACE_TABLES if table not in taken)


def tables_of(pod: PodState, ifname: str) -> set[int]:
    """The tables that an interface has, by its routes and by the source rules for its addresses."""
    sources = {ip_network(address) for address in pod.held_by(ifname)}
    by_rule = {rule.table for rule in source_rules(pod) if rule.source in sources}
    by_route = {route.table for route in pod.routes if route.link == ifname}
    return {table for table in by_rule | by_route if table in INTERFACE_TABLES}


def _tables_in_use(pod: PodState, ifname: str, path_link: str) -> set[int]:
    by_rule = {rule.table for rule in source_rules(pod) if rule not in orphan_rules(pod, ifname)}
    return by_rule | {route.table for route in pod.routes if route.link not in (path_link, ifname)}


def source_rules(pod: PodState) -> tuple[AddRule, ...]:
    """The pod's rules of ours that choose a table by source address."""
    return tuple(rule for rule in pod.rules if rule.priority == SOURCE_PRIORITY and rule.source is not None)


def orphan_rules(pod: PodState, ifname: str) -> tuple[AddRule, ...]:
    """Source rules for addresses that no interface but ``ifname`` has: its own, and those of links that are gone."""
    others = {ip_network(held.address.ip) for held in pod.addresses if held.link != ifname}
    return tuple(rule for rule in source_rules(pod) if rule.source not in others)


def default_route_holder(pod: PodState, version: int, ifname: str) -> str | None:
    """The link, other than ``ifname``, that has the default route of one family."""
    defaults = (route for route in pod.routes if is_default(route) and route.destination.version == version)
    return next((route.link for route in defaults if route.link != ifname), None)


def takes_default_route(attachment: Attachment, holder: str | None) -> bool:
    """Whether an interface gets the default route in ``main``: no other has it, or the settings give it to this one."""
    coordination = attachment.coordination
    if holder is None or coordination is None:
        return holder is None
    chosen = coordination.default_route_nic if coordination.tune_pod_routes else ""
    return attachment.ifname == (chosen or coordination.first_nic)


def copy_to_own_table(ifname: str, version: int, path: NodePath, table: int, pod: PodState) -> Iterator[Step]:
    """Source rules and a table for an interface whose routes are in ``main``: copies of them and of the node's path."""
    for address in pod.held_by(ifname):
        if address.version == version:
            yield source_rule(address, table)
    for route in sorted(pod.routes, key=lambda route: route.gateway is not None):
        if (route.table, route.destination.version) == (MAIN_TABLE, version) and route.link in (ifname, path.link):
            yield replace(route, table=table, source=None if route.link == ifname else route.source)


def source_rule(address: Address, table: int) -> AddRule:
    """The rule that sends packets from an address to its interface's table."""
    return AddRule("pod", address.version, SOURCE_PRIORITY, table, source=ip_network(address))


def own_table_routes(attachment: Attachment, version: int, table: int) -> Iterator[AddRoute]:
    """The routes in an interface's own table that lead through the interface itself."""
    name = attachment.ifname
    for address in attachment.addresses:
        if address.version == version:
            yield AddRoute("pod", address.network, name, table=table)
    coordination = attachment.coordination
    policy = coordination.policy_routes if coordination else ()
    yield from routes_through(name, (*attachment.routes, *policy), version, table)
    for gateway in attachment.gateways:
        if gateway.version == version:
            yield AddRoute("pod", default_destination(version), name, gateway, table=table)


def routes_through(
    name: str, routes: Iterable[tuple[Network, Address]], version: int, table: int = MAIN_TABLE
) -> Iterator[AddRoute]:
    """Routes of one family through an interface."""
    for destination, gateway in routes:
        if destination.version == version:
            yield AddRoute("pod", destination, name, gateway, table=table)
