"""Look at a node and a pod: what the decisions of core.plumbing depend on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from spiderpool.core.network.plumbing.drift import PresentState
from spiderpool.core.network.plumbing.naming import MAIN_TABLE, VETH, host_interface, is_nic
from spiderpool.core.network.plumbing.nics import NICAddress, NodeState, Reply
from spiderpool.core.network.plumbing.refresh import PodLink
from spiderpool.core.network.plumbing.removal import LeftoverState
from spiderpool.core.network.plumbing.routing import NodePath
from spiderpool.core.network.plumbing.steps import (
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateVeth,
    LoadMarks,
    SetSysctl,
    Step,
    Where,
)
from spiderpool.core.network.plumbing.sweeping import PodPaths
from spiderpool.core.network.plumbing.values import (
    Address,
    Attachment,
    Link,
    NodeAddress,
    Observation,
    PodState,
    is_global,
)
from spiderpool.kernel import marks, sysctl
from spiderpool.kernel import messages as say
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Kernel, Side, all_links, find_link, link_at

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}

FAR: dict[int, Address] = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8:ffff:ffff::1")}
"""Addresses for documentation (RFC 5737, RFC 3849), which stand for any far client."""


def observe(kernel: Kernel, attachment: Attachment) -> Observation:
    """What `core.plumbing.plan` needs to know before it gives the pod this interface."""
    node = kernel.node
    master = find_link(node, attachment.master)
    pod = observe_pod(kernel.side("pod"))
    host_end = find_host_end(node, pod, attachment.container_id)
    not_forwarding, advertised = _forwarding(kernel, attachment)
    addresses = node_addresses(node)
    return Observation(
        master=master,
        links=() if master else tuple(link.name for link in all_links(node)),
        taken=find_link(node, attachment.ifname) is not None,
        addresses=addresses,
        sources=_first_node_addresses(node, pod, attachment, addresses),
        not_forwarding=not_forwarding,
        advertised=advertised,
        host_end=host_end,
        pod=pod,
    )


def observe_pod(pod: Side) -> PodState:
    """What a pod's namespace holds; a new one that has only ``lo`` is asked for its rules alone."""
    links = all_links(pod)
    rules = tuple(say.read_rules("pod", pod.route.request(rt.GETRULE, say.rules_wanted(), rt.DUMP)))
    if all(link.name == "lo" for link in links):
        return PodState(links, rules=rules)
    names = {link.index: link.name for link in links if link.name != "lo"}
    return PodState(
        links,
        tuple(say.read_addresses("pod", pod.route.request(rt.GETADDR, say.addresses_wanted(), rt.DUMP), names)),
        routes_of(pod, names),
        rules,
        tuple(say.read_neighbours("pod", pod.route.request(rt.GETNEIGH, say.neighbours_wanted(), rt.DUMP), names)),
    )


def observe_remains(kernel: Kernel, container_id: str, ifname: str) -> LeftoverState:
    """What `core.plumbing.removal` needs to know."""
    if kernel.pod is None:
        return LeftoverState(None, lent=tuple(link for link in all_links(kernel.node) if link.alias))
    pod = observe_pod(kernel.pod)
    others = [one for one in pod.addresses if one.link not in (VETH, ifname)]
    end = find_host_end(kernel.node, pod, container_id) if others else None
    if end is None:
        return LeftoverState(pod)
    names = {end.index: end.name}
    wanted = kernel.node.route.request(rt.GETNEIGH, say.neighbours_wanted(end.index), rt.DUMP)
    routes = routes_of(kernel.node, names, end.index)
    return LeftoverState(
        pod,
        end.name,
        tuple(route for route in routes if route.table != MAIN_TABLE),
        tuple(say.read_neighbours("node", wanted, names)),
    )


def observe_wiring(kernel: Kernel, container_id: str, first_nic: str) -> PodLink:
    """What `core.plumbing.refresh` needs to know."""
    pod = observe_pod(kernel.side("pod"))
    end = find_host_end(kernel.node, pod, container_id)
    link = pod.link(VETH) or pod.link(first_nic)
    path = NodePath(link.name, link.mac, end.name, end.mac) if link and end else None
    return PodLink(pod, path, node_addresses(kernel.node))


def observe_paths(kernel: Kernel, tables: Collection[int]) -> PodPaths:
    """What `core.plumbing.sweeping` needs to know: the node's ways to pods, as far as they are in ``tables``."""
    links = all_links(kernel.node)
    names = {link.index: link.name for link in links}
    wanted = kernel.node.route.request(rt.GETNEIGH, say.neighbours_wanted(), rt.DUMP)
    return PodPaths(
        links,
        tuple(
            route
            for route in routes_of(kernel.node, names)
            if route.table in tables and route.gateway is None and route.destination.num_addresses == 1
        ),
        tuple(say.read_neighbours("node", wanted, names)),
    )


def routes_of(side: Side, names: dict[int, str], index: int = 0) -> tuple[AddRoute, ...]:
    """Unicast routes of both families by known links, asking for those of one link if given."""
    return tuple(
        route
        for version in say.FAMILIES
        for route in say.read_routes(
            side.where, side.route.request(rt.GETROUTE, say.routes_wanted(version, index), rt.DUMP), names
        )
    )


def node_addresses(node: Side) -> tuple[NodeAddress, ...]:
    """The node's addresses that other machines can use, and the links that hold them."""
    names = {link.index: link.name for link in node.links.values()}
    found = []
    for index, address, _ in say.raw_addresses(node.route.request(rt.GETADDR, say.addresses_wanted(), rt.DUMP)):
        name = _name(node, index, names) if is_global(address) else ""
        found += [NodeAddress(name, address)] if name else []
    return tuple(found)


def _name(side: Side, index: int, names: dict[int, str]) -> str:
    """The name of a link by index, remembered in ``names``; empty if it is gone by now."""
    if index not in names:
        link = link_at(side, index)
        if link is None:
            return ""
        names[index] = link.name
    return names[index]


def find_host_end(node: Side, pod: PodState, container_id: str) -> Link | None:
    """The node's end of a pod's path: of the veth pair, or the peer of an interface that another CNI plugin made."""
    ours = find_link(node, host_interface(container_id))
    if ours is not None or pod.link(VETH) is not None:
        return ours
    veth = next((link for link in pod.links if link.kind == "veth" and link.parent), None)
    peer = link_at(node, veth.parent) if veth else None
    return peer if peer and veth and (peer.kind, peer.parent) == ("veth", veth.index) else None


def _first_node_addresses(
    node: Side, pod: PodState, attachment: Attachment, addresses: tuple[NodeAddress, ...]
) -> tuple[Address, ...]:
    """The node's address towards each address of the pod.

    A pod that has its path already tells by its gateways what was chosen; the node's own table does not, since its
    route to the pod then leads over the veth, which has no address.
    """
    held = {one.address for one in addresses}
    chosen = tuple(dict.fromkeys(one.gateway for one in pod.routes if one.gateway and one.gateway in held))
    known = {gateway.version for gateway in chosen}
    asked = (way_to(node, one.ip) for one in attachment.addresses if one.version not in known)
    return (*chosen, *(way.source for way in asked if way and way.source))


def way_to(side: Side, to: Address, source: Address | None = None, mark: int = 0) -> say.RouteLookup | None:
    """Which way a packet would go; None: nowhere."""
    try:
        return say.read_way(side.route.request(rt.GETROUTE, say.route_to(to, source, mark))[0])
    except rt.NetlinkError:
        return None


def observe_nics(kernel: Kernel) -> NodeState:
    """What `core.network.plumbing.nics` needs to know of the node."""
    node = kernel.node
    kernel.enter("node")
    names = {link.index: link.name for link in all_links(node) if is_nic(link.name)}
    found = node.route.request(rt.GETADDR, say.addresses_wanted(), rt.DUMP)
    addresses = tuple(NICAddress(one.link, one.address) for one in say.read_addresses("node", found, names))
    rules = tuple(say.read_rules("node", node.route.request(rt.GETRULE, say.rules_wanted(), rt.DUMP)))
    nics = marks.nics_loaded()
    return NodeState(
        addresses=addresses,
        routes=routes_of(node, names),
        rules=rules,
        strict=tuple(name for name in names.values() if _reverse_path_filter(name) == 1),
        forwarding=tuple(version for version, path in FORWARDING.items() if sysctl.read(path) == "1"),
        replies=tuple(_replies(node, names, addresses, rules, nics)),
    )


def _reverse_path_filter(link: str) -> int:
    values = (sysctl.read(f"net/ipv4/conf/{scope}/rp_filter") for scope in ("all", link))
    return max(int(value or 0) for value in values)


def _replies(
    node: Side,
    names: dict[int, str],
    addresses: tuple[NICAddress, ...],
    rules: tuple[AddRule, ...],
    nics: tuple[str, ...],
) -> Iterator[Reply]:
    """By which NIC the node answers a far client that asked each address, itself and for a pod."""
    for one in addresses:
        far, source = FAR[one.address.version], one.address.ip
        yield Reply(one.link, source, _nic_towards(node, names, far, source))
        mark = next((rule.mark or 0 for rule in rules if _marks_nic(rule, one, rules)), 0) if one.link in nics else 0
        yield Reply(one.link, source, _nic_towards(node, names, far, mark=mark), for_pods=True)


def _marks_nic(rule: AddRule, held: NICAddress, rules: tuple[AddRule, ...]) -> bool:
    """Whether a rule sends marked packets to the table of a NIC's address."""
    tables = {other.table for other in rules if other.source == ip_network(held.address.ip)}
    return bool(rule.mark) and rule.version == held.address.version and rule.table in tables


def _nic_towards(
    node: Side, names: dict[int, str], to: Address, source: Address | None = None, mark: int = 0
) -> str | None:
    way = way_to(node, to, source, mark)
    return names.get(way.index) if way else None


def _forwarding(kernel: Kernel, attachment: Attachment) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Families of the attachment that the node does not forward, and links that would stop to follow advertisements."""
    kernel.enter("node")
    versions = attachment.versions()
    off = tuple(version for version, path in FORWARDING.items() if version in versions and sysctl.read(path) == "0")
    if 6 not in off:
        return off, ()
    scopes = sysctl.scopes("net/ipv6/conf")
    return off, tuple(link for link in scopes if sysctl.read(f"net/ipv6/conf/{link}/accept_ra") == "1")


def present(kernel: Kernel, steps: Iterable[Step]) -> PresentState:
    """What is there of the things that ``steps`` speak of."""
    steps = tuple(steps)
    pod = observe_pod(kernel.side("pod"))
    names = {step.name for step in steps if isinstance(step, CreateVeth)}
    names |= {step.link for step in steps if isinstance(step, AddRoute | AddNeighbour) and step.where == "node"}
    found = [find_link(kernel.node, name) for name in names]
    node = _node_things(kernel.node, [link for link in found if link])
    links: list[tuple[Where, Link]] = [("pod", link) for link in pod.links]
    links += [("node", link) for link in found if link]
    sysctls = _sysctls(kernel, steps)
    there: set[Step] = {*pod.addresses, *pod.routes, *pod.rules, *pod.neighbours, *node, *sysctls}
    loaded: tuple[int, ...] = ()
    if any(isinstance(step, LoadMarks) for step in steps):
        kernel.enter("pod")
        loaded = marks.loaded()
    return PresentState(tuple(links), frozenset(there), loaded)


def _node_things(node: Side, links: Sequence[Link]) -> Iterator[Step]:
    yield from say.read_rules("node", node.route.request(rt.GETRULE, say.rules_wanted(), rt.DUMP))
    for link in links:
        names = {link.index: link.name}
        yield from routes_of(node, names, link.index)
        wanted = node.route.request(rt.GETNEIGH, say.neighbours_wanted(link.index), rt.DUMP)
        yield from say.read_neighbours("node", wanted, names)


def _sysctls(kernel: Kernel, steps: Iterable[Step]) -> Iterator[SetSysctl]:
    for step in steps:
        if isinstance(step, SetSysctl):
            kernel.enter(step.where)
            yield replace(step, value=sysctl.read(step.path))
