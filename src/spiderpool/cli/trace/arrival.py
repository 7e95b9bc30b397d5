"""The last place of a packet: who gets it there, whose address it sees, and which way answers take."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from spiderpool.cli.trace import cloud_network
from spiderpool.cli.trace.node_sites import TracedNode
from spiderpool.cli.trace.pod_sites import TracedPod
from spiderpool.cli.trace.sites import SiteMap
from spiderpool.cli.trace.values import Drop, Hop, Packet, PacketPath
from spiderpool.core.addresses import Address
from spiderpool.core.network.plumbing.lookup import Flow, RouteChoice, RoutingState, look_up
from spiderpool.core.network.plumbing.naming import MARK, VETH
from spiderpool.core.network.plumbing.nics import NIC_MARK_PRIORITY
from spiderpool.core.network.plumbing.values import Attachment

OUTSIDE = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
"""Stand for a client outside of the cluster (RFC 5737, RFC 3849)."""
NO_GATEWAY = "set spec.gateway of pool {pool}, or a route in spec.routes, and restart the pod"
STOPPED = "see spiderpoolctl explain pod {pod}, and its Events"


def client_of(packet: Packet) -> Address:
    """The address to which answers go."""
    return packet.source or OUTSIDE[packet.destination.version]


def by_network(sites: SiteMap, site: TracedPod, packet: Packet, interface: Attachment) -> PacketPath:
    """The path of a packet that comes to a pod's NIC from the network."""
    drop = cloud_network.drop_of_destination(sites.node(site.node), interface, packet, site)
    path = in_pod(sites, site, packet, interface.ifname)
    if drop is None or site.stopped:
        return path
    return PacketPath(path.endpoint, packet.hops, drop=drop)


def in_pod(sites: SiteMap, site: TracedPod, packet: Packet, interface: str) -> PacketPath:
    """The path of a packet that comes into a pod by one of its interfaces."""
    path = PacketPath(f"{packet.target} ({site.place})", packet.hops)
    if site.stopped:
        why = f"{site.stopped}, so nothing answers at {packet.destination}"
        return replace(path, drop=Drop(site.place, why, STOPPED.format(pod=site.pod.key)))
    seen = str(packet.source or "the client")
    hop = site.hop(f"it arrives by {interface}, from {seen}", interface)
    path = replace(path, hops=(*packet.hops, hop), seen_as=seen)
    mark = MARK if interface == VETH else 0
    choice = look_up(Flow(client_of(packet), packet.destination, mark), site.routing)
    if choice is None:
        return replace(path, drop=_no_way_back(site, packet), seen_as="")
    hop = site.hop(f"answers leave by {choice.route.link}").by(choice, packet.destination, mark)
    path = replace(path, way_back=(hop,), asymmetric=choice.route.link != interface)
    if choice.route.link == VETH:
        return _back_by_the_node(sites, site, packet, path)
    return replace(path, drop=_drop_of_answers(sites, site, packet, choice))


def _no_way_back(site: TracedPod, packet: Packet) -> Drop:
    pool = site.pools.get(packet.destination, "")
    where = f"pool {pool} of its address has no gateway" if pool else "its interfaces have no gateway"
    reason = f"its answers to {client_of(packet)} have no route: {where}"
    return Drop(site.place, reason, NO_GATEWAY.format(pool=pool))


def _drop_of_answers(sites: SiteMap, site: TracedPod, packet: Packet, choice: RouteChoice) -> Drop | None:
    """Whether the cloud drops answers that leave by an interface on a NIC; it sees none that stay in the NIC."""
    link = choice.route.link
    client = sites.pod_with(packet.source) if packet.source is not None else None
    held = client.interface_with(client_of(packet)) if client else None
    same_nic = held is not None and client is not None and client.node == site.node
    if same_nic and held is not None and held.master == site.attachments[link].master and choice.next_hop is None:
        return None
    return cloud_network.drop_of_answers(sites.node(site.node), link, site, packet.destination)


def _back_by_the_node(sites: SiteMap, site: TracedPod, packet: Packet, path: PacketPath) -> PacketPath:
    """The path with what the node does with answers that come by the pod's path to it."""
    node = sites.node(site.node)
    if packet.source is not None and node.routing.holds(packet.source):
        does = "it translates them back, and passes them on" if packet.translated else "it is the client"
        return replace(path, way_back=(*path.way_back, Hop(node.place, does)))
    routing = sites.routing(site.node, packet.source)
    choice = look_up(Flow(client_of(packet), packet.destination, nic_mark(routing, packet)), routing)
    if choice is None:
        return path
    does = f"it {'translates them back and ' if packet.translated else ''}sends them by {choice.route.link}"
    hop = Hop(node.place, does).by(choice, packet.entered or packet.destination)
    return replace(path, way_back=(*path.way_back, hop))


def on_node(node: TracedNode, routing: RoutingState, packet: Packet, who: str) -> PacketPath:
    """The path of a packet to the node itself, or to a pod in its network."""
    seen = str(packet.source or "the client")
    hop = Hop(node.place, f"it arrives for {who}, from {seen}")
    path = PacketPath(f"{packet.target} ({who})", (*packet.hops, hop), seen_as=seen)
    if packet.source is not None and node.routing.holds(packet.source):
        return path
    choice = look_up(Flow(client_of(packet), packet.destination, 0), routing)
    if choice is None:
        why = f"answers of {node.place} to {client_of(packet)} have no route that can be read from here"
        return replace(path, unknown=why)
    back = Hop(node.place, f"answers leave by {choice.route.link}").by(choice, packet.destination)
    path = replace(path, way_back=(back,))
    return replace(path, drop=wrong_nic(node, packet, choice))


def drop_of_translated(node: TracedNode, routing: RoutingState, packet: Packet) -> Drop | None:
    """Whether the cloud drops answers that a node translates back: they are routed with the source of the endpoint."""
    choice = look_up(Flow(client_of(packet), packet.destination, nic_mark(routing, packet)), routing)
    return wrong_nic(node, packet, choice) if choice else None


def wrong_nic(node: TracedNode, packet: Packet, choice: RouteChoice) -> Drop | None:
    """Whether the cloud drops answers of a node, which leave by another NIC than that of their source address."""
    entered = packet.entered
    held = next((each.link for each in node.addresses if each.address == entered), None)
    if held is None or held not in node.enis or choice.route.link not in node.enis or choice.route.link == held:
        return None
    reason = f"answers from {entered} leave by {choice.route.link} and not by {held}, so the cloud drops them"
    remedy = "set SPIDERPOOL_TUNE_NODE of the agents to true, or use the address of the NIC with the default route"
    return Drop(node.place, reason, remedy)


def nic_mark(routing: RoutingState, packet: Packet) -> int:
    """The mark of connections that came in through the NIC of the address by which the packet entered the node."""
    links = {held.link for held in routing.addresses if held.address.ip == packet.entered}
    tables = {route.table for route in routing.routes if route.link in links}
    marks = (rule.mark for rule in routing.rules if rule.priority == NIC_MARK_PRIORITY and rule.table in tables)
    return next((mark for mark in marks if mark), 0)
