"""Read the state of a node and a pod on which the decisions of core.network.plumbing depend. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from spiderpool.core.network.plumbing.drift import PresentState
from spiderpool.core.network.plumbing.leftovers import strict_sources
from spiderpool.core.network.plumbing.naming import MAIN_TABLE, VETH, host_interface, is_nic
from spiderpool.core.network.plumbing.nics import NICAddress, NodeState, Reply
from spiderpool.core.network.plumbing.refresh import PathSettings, PodLink
from spiderpool.core.network.plumbing.removal import LeftoverState
from spiderpool.core.network.plumbing.routing import NodePath
from spiderpool.core.network.plumbing.steps import (
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateVeth,
    LoadMarks,
    SetSysctl,
    Side,
    Step,
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
from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks, messages, sysctl
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Kernel, Netns, all_links, find_link, link_at, lookup_route, namespace_number

IPVS_LINK = "kube-ipvs0"
"""The link that kube-proxy makes in its mode ipvs."""
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}

_FAR_CLIENT: dict[int, Address] = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8:ffff:ffff::1")}
"""IP version → an address reserved for documentation (RFC 5737, RFC 3849), as the address of any outside client."""


def observe(kernel: Kernel, attachment: Attachment) -> Observation:
    """The input of `planning.plan` for this interface."""
    node = kernel.node
    master = find_link(node, attachment.master)
    pod = observe_pod(kernel.netns("pod"))
    host_end = find_host_end(kernel, pod, attachment.container_id)
    not_forwarding, advertised = _forwarding(kernel, attachment)
    addresses = node_addresses(node)
    return Observation(
        master=master,
        links=() if master else tuple(link.name for link in all_links(node)),
        taken=find_link(node, attachment.ifname) is not None,
        addresses=addresses,
        sources=_node_sources(node, pod, attachment, addresses),
        not_forwarding=not_forwarding,
        advertised=advertised,
        host_end=host_end,
        pod=pod,
        gateways=node_gateways(node) if attachment.ownership.foreign else (),
    )


def observe_pod(pod: Netns) -> PodState:
    """The state of a pod's namespace. A new pod has only ``lo``: for it, reads the rules alone, which is faster."""
    links = all_links(pod)
    rules = tuple(messages.read_rules("pod", pod.dump(rt.GETRULE, messages.rule_dump())))
    if all(link.name == "lo" for link in links):
        return PodState(links, rules=rules)
    names = {link.index: link.name for link in links if link.name != "lo"}
    return PodState(
        links,
        tuple(messages.read_addresses("pod", pod.dump(rt.GETADDR, messages.address_dump()), names)),
        routes_of(pod, names),
        rules,
        tuple(messages.read_neighbours("pod", pod.dump(rt.GETNEIGH, messages.neighbour_dump()), names)),
    )


def observe_path(kernel: Kernel, container_id: str, *, with_addresses: bool) -> tuple[PodState, Link | None]:
    """The input of `removal.is_foreign`: the pod's end of its path, and the link with the container's name."""
    pod = kernel.netns("pod")
    veth = find_link(pod, VETH)
    state = observe_pod(pod) if with_addresses else PodState((veth,) if veth else ())
    return state, find_link(kernel.node, host_interface(container_id))


def observe_leftovers(kernel: Kernel, container_id: str, ifname: str, *, is_lent: bool = False) -> LeftoverState:
    """The input of `removal.plan_removal`."""
    if kernel.pod is None:
        return LeftoverState(None, links=all_links(kernel.node) if is_lent else ())
    pod = observe_pod(kernel.pod)
    has_others = any(held.link not in (VETH, ifname) for held in pod.addresses)
    end = find_host_end(kernel, pod, container_id) if has_others else None
    if end is None:
        return LeftoverState(pod)
    names = {end.index: end.name}
    neighbours = kernel.node.dump(rt.GETNEIGH, messages.neighbour_dump(end.index))
    routes = routes_of(kernel.node, names, end.index)
    return LeftoverState(
        pod,
        end.name,
        tuple(route for route in routes if route.table != MAIN_TABLE),
        tuple(messages.read_neighbours("node", neighbours, names)),
    )


def observe_pod_link(kernel: Kernel, container_id: str, settings: PathSettings) -> PodLink:
    """The input of `refresh.plan_refresh`."""
    pod = observe_pod(kernel.netns("pod"))
    end = find_host_end(kernel, pod, container_id)
    link = pod.link(VETH) or pod.link(settings.first_nic)
    path = NodePath(link.name, link.mac, end.name, end.mac) if link and end else None
    present = frozenset(
        (*_node_objects(kernel.node, [end]), *_sysctls(kernel, [strict_sources(end.name)])) if end else ()
    )
    gateways = node_gateways(kernel.node) if settings.foreign else ()
    return PodLink(pod, path, node_addresses(kernel.node), present, settings, gateways)


def observe_pod_paths(kernel: Kernel, tables: Collection[int]) -> PodPaths:
    """The input of `sweeping.plan_sweep`: the node's routes to pods in ``tables``."""
    links = all_links(kernel.node)
    names = {link.index: link.name for link in links}
    neighbours = kernel.node.dump(rt.GETNEIGH, messages.neighbour_dump())
    return PodPaths(
        links,
        tuple(
            route
            for route in routes_of(kernel.node, names)
            if route.table in tables and route.gateway is None and route.destination.num_addresses == 1
        ),
        tuple(messages.read_neighbours("node", neighbours, names)),
    )


def routes_of(netns: Netns, names: dict[int, str], index: int = 0) -> tuple[AddRoute, ...]:
    """Unicast routes of both families through the links in ``names`` (index → name), or only through link ``index``."""
    return tuple(
        route
        for version in messages.FAMILIES
        for route in messages.read_routes(
            netns.side, netns.dump(rt.GETROUTE, messages.route_dump(version, index)), names
        )
    )


def node_addresses(node: Netns) -> tuple[NodeAddress, ...]:
    """The node's global addresses and the links that hold them."""
    names = {link.index: link.name for link in node.links.values()}
    found = []
    for index, address, _ in messages.raw_addresses(node.dump(rt.GETADDR, messages.address_dump())):
        name = _name(node, index, names) if is_global(address) else ""
        found += [NodeAddress(name, address)] if name else []
    return tuple(found)


def node_gateways(node: Netns) -> tuple[Address, ...]:
    """The gateways of the node's routes, in all tables."""
    routes = routes_of(node, {link.index: link.name for link in all_links(node)})
    return tuple(dict.fromkeys(route.gateway for route in routes if route.gateway is not None))


def _name(netns: Netns, index: int, names: dict[int, str]) -> str:
    """The name of a link by index, cached in ``names``; empty if the link is gone by now."""
    if index not in names:
        link = link_at(netns, index)
        if link is None:
            return ""
        names[index] = link.name
    return names[index]


def find_host_end(kernel: Kernel, pod: PodState, container_id: str) -> Link | None:
    """The node's end of a pod's path: of our veth pair, or the peer of a veth that another CNI plugin made."""
    host_end = find_link(kernel.node, host_interface(container_id))
    if host_end is not None or pod.link(VETH) is not None:
        return host_end
    veth = next((link for link in pod.links if link.kind == "veth" and link.parent), None)
    return _peer_of(kernel, veth) if veth else None


def _peer_of(kernel: Kernel, veth: Link) -> Link | None:
    """The peer on the node of the pod's veth; None where it is elsewhere.

    A pod chooses the indexes of the pairs that it makes, which may be those of another pod's pair. So the kernel's word
    counts that the other end of the node's link is in this pod.
    """
    peer = link_at(kernel.node, veth.parent)
    if peer is None or (peer.kind, peer.parent) != ("veth", veth.index) or peer.parent_netns is None:
        return None
    return peer if peer.parent_netns == namespace_number(kernel.node, kernel.netns("pod")) else None


def _node_sources(
    node: Netns, pod: PodState, attachment: Attachment, addresses: tuple[NodeAddress, ...]
) -> tuple[Address, ...]:
    """The source addresses that the node uses towards the addresses of the pod.

    In a pod that has its path to the node, the gateways show which addresses an earlier plan chose. The node's routes
    no longer do: they then lead over the host end of the veth pair, which has no address.
    """
    node_ips = {held.address for held in addresses}
    chosen = tuple(dict.fromkeys(route.gateway for route in pod.routes if route.gateway and route.gateway in node_ips))
    known = {gateway.version for gateway in chosen}
    lookups = (lookup_route(node, address.ip) for address in attachment.addresses if address.version not in known)
    return (*chosen, *(lookup.source for lookup in lookups if lookup and lookup.source))


def observe_nics(kernel: Kernel) -> NodeState:
    """The input of `nics.plan_nics` and `nics.diagnose`."""
    node = kernel.node
    kernel.enter("node")
    links = {link.index: link.name for link in all_links(node)}
    names = {index: name for index, name in links.items() if is_nic(name)}
    dumped = messages.read_addresses("node", node.dump(rt.GETADDR, messages.address_dump()), names)
    addresses = tuple(NICAddress(held.link, held.address) for held in dumped)
    rules = tuple(messages.read_rules("node", node.dump(rt.GETRULE, messages.rule_dump())))
    return NodeState(
        addresses=addresses,
        routes=routes_of(node, names),
        rules=rules,
        strict=tuple(name for name in names.values() if _reverse_path_filter(name) == 1),
        forwarding=tuple(version for version, path in _FORWARDING.items() if sysctl.read(path) == "1"),
        replies=tuple(_replies(node, names, addresses, rules)),
        untracked=IPVS_LINK in links.values() and sysctl.read("net/ipv4/vs/conntrack") == "0",
    )


def _reverse_path_filter(link: str) -> int:
    """The effective rp_filter: the kernel uses the greater of ``all`` and the link's own value."""
    values = (sysctl.read(f"net/ipv4/conf/{scope}/rp_filter") for scope in ("all", link))
    return max(int(value or 0) for value in values)


def _replies(
    node: Netns,
    names: dict[int, str],
    addresses: tuple[NICAddress, ...],
    rules: tuple[AddRule, ...],
) -> Iterator[Reply]:
    """For each address, the NIC by which answers to a client outside leave: the node's own, and those of a pod."""
    marked = marks.nics_loaded()
    for held in addresses:
        client, source = _FAR_CLIENT[held.address.version], held.address.ip
        yield Reply(held.link, source, _nic_towards(node, names, client, source))
        mark = next((rule.mark or 0 for rule in rules if _marks_nic(rule, held, rules)), 0)
        if held.link not in marked:
            mark = 0
        yield Reply(held.link, source, _nic_towards(node, names, client, mark=mark), for_pods=True)


def _marks_nic(rule: AddRule, held: NICAddress, rules: tuple[AddRule, ...]) -> bool:
    """Whether a rule sends marked packets to the table of a NIC's address."""
    tables = {other.table for other in rules if other.source == ip_network(held.address.ip)}
    return bool(rule.mark) and rule.version == held.address.version and rule.table in tables


def _nic_towards(
    node: Netns, names: dict[int, str], destination: Address, source: Address | None = None, mark: int = 0
) -> str | None:
    lookup = lookup_route(node, destination, source, mark)
    return names.get(lookup.index) if lookup else None


def _forwarding(kernel: Kernel, attachment: Attachment) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The attachment's families that the node does not forward, and the links that follow router advertisements.

    Raises KernelFailure for IPv6 on a kernel without it.

    Once the node forwards IPv6, a link with accept_ra 1 ignores router advertisements.
    """
    kernel.enter("node")
    versions = attachment.versions()
    if 6 in versions and not sysctl.read(_FORWARDING[6]):
        raise KernelFailure(
            f"this kernel has no IPv6 for {attachment.ifname}: load the module ipv6 and start the kernel without "
            "ipv6.disable=1, or give the pod's network IPv4 pools only"
        )
    off = tuple(version for version, path in _FORWARDING.items() if version in versions and sysctl.read(path) == "0")
    if 6 not in off:
        return off, ()
    scopes = sysctl.scopes("net/ipv6/conf")
    return off, tuple(link for link in scopes if sysctl.read(f"net/ipv6/conf/{link}/accept_ra") == "1")


def observe_present(kernel: Kernel, steps: Iterable[Step], master: Link | None) -> PresentState:
    """The present state of the objects that ``steps`` would create on a NIC: the input of `drift.find_drift`."""
    steps = tuple(steps)
    pod = observe_pod(kernel.netns("pod"))
    names = {step.name for step in steps if isinstance(step, CreateVeth)}
    names |= {step.link for step in steps if isinstance(step, AddRoute | AddNeighbour) and step.side == "node"}
    found = [find_link(kernel.node, name) for name in names]
    node = _node_objects(kernel.node, [link for link in found if link])
    links: list[tuple[Side, Link]] = [("pod", link) for link in pod.links]
    links += [("node", link) for link in found if link]
    sysctls = _sysctls(kernel, steps)
    objects: set[Step] = {*pod.addresses, *pod.routes, *pod.rules, *pod.neighbours, *node, *sysctls}
    loaded: tuple[int, ...] = ()
    if any(isinstance(step, LoadMarks) for step in steps):
        kernel.enter("pod")
        loaded = marks.loaded()
    return PresentState(tuple(links), frozenset(objects), loaded, master)


def _node_objects(node: Netns, links: Sequence[Link]) -> Iterator[Step]:
    yield from messages.read_rules("node", node.dump(rt.GETRULE, messages.rule_dump()))
    for link in links:
        names = {link.index: link.name}
        yield from routes_of(node, names, link.index)
        neighbours = node.dump(rt.GETNEIGH, messages.neighbour_dump(link.index))
        yield from messages.read_neighbours("node", neighbours, names)


def _sysctls(kernel: Kernel, steps: Iterable[Step]) -> Iterator[SetSysctl]:
    """The sysctls that ``steps`` would write, with their present values."""
    for step in steps:
        if isinstance(step, SetSysctl):
            kernel.enter(step.side)
            yield replace(step, value=sysctl.read(step.path))
