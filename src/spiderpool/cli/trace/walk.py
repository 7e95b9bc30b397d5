"""The way of a packet from place to place. Each place is a function of the packet that comes to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

from spiderpool.api.core_v1 import Service
from spiderpool.cli.trace import arrival, cloud_network
from spiderpool.cli.trace.balancers import BalancerServers, balancer_servers, source_note
from spiderpool.cli.trace.node_sites import TracedNode
from spiderpool.cli.trace.pod_sites import TracedPod
from spiderpool.cli.trace.sites import SiteMap, is_proxied, kind_of
from spiderpool.cli.trace.values import Drop, Hop, Packet, PacketPath
from spiderpool.cloud import registry
from spiderpool.core.addresses import Address, with_port
from spiderpool.core.network.plumbing.lookup import Flow, RouteChoice, look_up, look_up_unbound, source_of
from spiderpool.core.network.plumbing.naming import VETH, host_interface
from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.core.network.service_proxy import (
    ClientPlace,
    ServiceAddressKind,
    ServiceClient,
    ServiceEndpoint,
    ServiceFrontend,
    decide,
)

MOST_HOPS = 24
"""Beyond these a packet goes round in circles, as by Services whose endpoints are addresses of Services."""

APART = ("private", "vepa")
"""Modes of macvlan in which the kernel passes nothing from one interface of a NIC to another."""


@dataclass(frozen=True, slots=True)
class Departure:
    """How a packet leaves a node for the network: by a NIC, to a gateway or to a machine on the link."""

    node: TracedNode
    nic: str
    gateway: Address | None
    child: Attachment | None = None
    """The pod's interface on the NIC, past the node's own routing; None: the node sends it."""

    def stays_in_nic(self, site: TracedPod, address: Address) -> bool:
        """Whether the receiver's interface is on the same NIC, so that nothing leaves by the wire."""
        interface = site.interface_with(address)
        if self.child is None or self.gateway is not None or interface is None:
            return False
        return (site.node, interface.master) == (self.node.name, self.nic)


class Walker:
    """Follows packets through a cluster."""

    def __init__(self, sites: SiteMap) -> None:
        self._sites = sites
        self._policy = sites.objects.policies.nodes
        provider = registry.PROVIDERS.get(sites.objects.provider)
        self._metadata = provider.metadata_address if provider else None

    # --- where connections begin

    def from_pod(self, site: TracedPod, packet: Packet) -> tuple[PacketPath, ...]:
        """The paths of a connection that a pod opens."""
        if site.stopped:
            remedy = arrival.STOPPED.format(pod=site.pod.key)
            return packet.dropped(site.place, f"{site.stopped}, so it sends nothing", remedy)
        if site.unknown:
            return packet.lost(site.unknown)
        if site.pod.spec.hostNetwork:
            hop = site.hop(f"it is in the network of node {site.node} (hostNetwork)")
            return self.from_node(self._sites.node(site.node), packet.after(hop))
        version = packet.destination.version
        if not site.routing.held(version):
            remedy = f"give the pod an IPv{version} address (pools of that family), or use the server's other address"
            return packet.dropped(site.place, f"it has no IPv{version} address", remedy)
        if site.routing.holds(packet.destination):
            return (self._end(replace(packet, source=packet.destination), site.hop("the address is its own")),)
        found = look_up_unbound(packet.destination, site.routing)
        if found is None:
            return self._without_route(site, packet)
        return self._leave_pod(site, packet, *found)

    def _without_route(self, site: TracedPod, packet: Packet) -> tuple[PacketPath, ...]:
        version = packet.destination.version
        pools = dict.fromkeys(pool for address, pool in site.pools.items() if address.version == version)
        named = ", ".join(pools)
        reason = f"it has no route to {packet.destination}: no gateway in pool {named}"
        return packet.dropped(site.place, reason, arrival.NO_GATEWAY.format(pool=next(iter(pools), "")))

    def _leave_pod(
        self, site: TracedPod, packet: Packet, choice: RouteChoice, source: Address | None
    ) -> tuple[PacketPath, ...]:
        link = choice.route.link
        to = f"to {choice.next_hop}" if choice.next_hop else "on the link"
        hop = site.hop(f"it leaves by {link}, {to}").by(choice, source)
        sent = replace(packet.after(hop), source=source)
        node = self._sites.node(site.node)
        if link == VETH:
            return self.on_node(node, sent, ClientPlace.POD)
        child = site.attachments[link]
        return self._on_network(Departure(node, child.master, choice.next_hop, child), sent)

    def from_node(self, node: TracedNode, packet: Packet) -> tuple[PacketPath, ...]:
        """The paths of a connection that a node itself opens."""
        version = packet.destination.version
        if not node.routing.held(version):
            remedy = f"give the node an IPv{version} address, or use the server's other address"
            return packet.dropped(node.place, f"it has no IPv{version} address", remedy)
        found = look_up_unbound(packet.destination, self._sites.routing(node.name, packet.destination))
        source = found[1] if found else node.routing.held(version)[0]
        return self.on_node(node, replace(packet, source=source), ClientPlace.NODE)

    # --- nodes

    def on_node(self, node: TracedNode, packet: Packet, place: ClientPlace) -> tuple[PacketPath, ...]:
        """The paths of a packet that a node has: from one of its pods, from itself, or from the network."""
        if len(packet.hops) > MOST_HOPS:
            return packet.lost(f"it goes on for more than {MOST_HOPS} hops, perhaps in circles")
        match self._frontend(node, packet, place):
            case ServiceFrontend() as frontend if not self._sites.serves(node, packet.destination, frontend.kind):
                key = frontend.service.key
                reason = f"NodePort {packet.port} of Service {key} is not served on {packet.destination} but on other"
                reason += " addresses of the node (nodePortAddresses of kube-proxy): the connection is refused"
                return packet.dropped(node.place, reason, "use another address of it, or set nodePortAddresses")
            case ServiceFrontend() as frontend:
                return self._by_proxy(node, packet, place, frontend)
            case Service() as service:
                return self._without_port(node.place, packet, service)
        if self._is_service_range(packet.destination):
            reason = f"no Service has {packet.destination}, which is in the cluster's Service CIDR"
            return packet.dropped(node.place, reason, "look for the Service's present address: kubectl get services -A")
        return self._forward(node, packet, place, masquerade="")

    @staticmethod
    def _without_port(place: str, packet: Packet, service: Service) -> tuple[PacketPath, ...]:
        ports = ", ".join(f"{each.port}/{each.protocol}" for each in service.spec.ports or ())
        reason = f"Service {service.key} has no port {packet.port}/{packet.protocol}, only {ports}"
        return packet.dropped(place, reason, "use one of its ports, or add the port to the Service")

    def _frontend(self, node: TracedNode, packet: Packet, place: ClientPlace) -> ServiceFrontend | Service | None:
        """What kube-proxy does something with; the Service alone where it refuses the port."""
        address = packet.destination
        found = self._sites.frontend(address, packet.port, packet.protocol)
        if isinstance(found, ServiceFrontend):
            return found if is_proxied(found.service, address) else None
        if node.routing.holds(address):
            return self._sites.node_port(packet.port, packet.protocol, address.version)
        if found is None or kind_of(found, address) is ServiceAddressKind.CLUSTER_IP:
            return found
        somebody = self._sites.node_with(address) or self._sites.pod_with(address)
        led_here = place is ClientPlace.POD and is_proxied(found, address) and not somebody
        return found if led_here else None

    def _by_proxy(
        self, node: TracedNode, packet: Packet, place: ClientPlace, frontend: ServiceFrontend
    ) -> tuple[PacketPath, ...]:
        client = ServiceClient(place, node.name, packet.source)
        slices = self._sites.objects.slices_of(frontend.service)
        decision = decide(frontend, client, slices, self._sites.objects.proxy)
        if decision.refusal:
            return packet.dropped(node.place, f"kube-proxy: {decision.refusal}", decision.remedy)
        entered = packet.destination if node.routing.holds(packet.destination) else packet.entered
        paths: list[PacketPath] = []
        for endpoint in decision.endpoints:
            own = endpoint.address == packet.source
            why = decision.because if decision.masquerades else "the client is the endpoint itself" if own else ""
            sent = packet.after(self._translation(node, frontend, endpoint, len(decision.endpoints)))
            sent = replace(sent, destination=endpoint.address, port=endpoint.port, translated=True, entered=entered)
            drop = self._drop_of_answers(node, packet.source, sent) if place is ClientPlace.NETWORK else None
            ways = self._forward(node, sent, place, masquerade=why)
            paths += [replace(way, drop=drop) if drop and way.goes_through else way for way in ways]
        return tuple(paths)

    def _drop_of_answers(self, node: TracedNode, client: Address | None, sent: Packet) -> Drop | None:
        """What drops answers to a client beyond the node, whether its address is masqueraded or not."""
        if client is not None and node.routing.holds(client):
            return None
        return arrival.drop_of_translated(node, self._sites.routing(node.name, client), sent)

    @staticmethod
    def _translation(node: TracedNode, frontend: ServiceFrontend, endpoint: ServiceEndpoint, count: int) -> Hop:
        service, port = frontend.service, frontend.port
        number = port.nodePort if frontend.kind is ServiceAddressKind.NODE_PORT else port.port
        one = f", one of {count} endpoints" if count > 1 else ", its only endpoint"
        kept = "; a client keeps its endpoint (sessionAffinity)" if service.spec.sessionAffinity == "ClientIP" else ""
        does = f"kube-proxy: {frontend.kind} of Service {service.key}, port {number}: to {endpoint}{one}{kept}"
        return Hop(node.place, does)

    def _forward(
        self, node: TracedNode, packet: Packet, place: ClientPlace, *, masquerade: str
    ) -> tuple[PacketPath, ...]:
        """The paths of a packet whose destination is final for this node. ``masquerade``: why kube-proxy does it."""
        routing = self._sites.routing(node.name, packet.destination, packet.source)
        if node.routing.holds(packet.destination):
            who = self._host_pod(packet) or node.place
            entered = packet.entered or packet.destination
            return (arrival.on_node(node, routing, replace(packet, entered=entered), who),)
        if place is ClientPlace.POD and packet.destination == self._metadata and self._is_kept_from_metadata(packet):
            return self._metadata_drop(packet, node.place)
        choice = look_up(Flow(packet.destination, packet.source), routing)
        if choice is None:
            return packet.lost(f"the route of node {node.name} to {packet.destination} is not readable from here")
        to_pod = choice.route.link.startswith(host_interface(""))
        if place is ClientPlace.POD and packet.translated and not to_pod:
            masquerade = masquerade or "the endpoint is beyond this node"
        sent = self._sent_by_node(node, packet, choice, masquerade)
        if to_pod:
            site = self._sites.pod_with(packet.destination)
            assert site is not None, "the route is one of its own"
            return (arrival.in_pod(self._sites, site, sent, VETH),)
        return self._on_network(Departure(node, choice.route.link, choice.next_hop), sent)

    @staticmethod
    def _sent_by_node(node: TracedNode, packet: Packet, choice: RouteChoice, masquerade: str) -> Packet:
        source = packet.source
        if masquerade:
            source = source_of(replace(choice.route, source=None), packet.destination, node.routing)
        to = f", to {choice.next_hop}" if choice.next_hop else ""
        as_whom = f", masqueraded as {source}: {masquerade}" if masquerade else ""
        hop = Hop(node.place, f"it leaves by {choice.route.link}{to}{as_whom}", masquerade=bool(masquerade))
        return replace(packet.after(hop.by(choice, source)), source=source)

    def _host_pod(self, packet: Packet) -> str:
        """The pod in the node's network that is an endpoint at this address and port; empty: none is known."""
        for each in self._sites.objects.slices:
            numbers = {(listed.port, listed.protocol or "TCP") for listed in each.ports or ()}
            for endpoint in each.endpoints or () if (packet.port, packet.protocol) in numbers else ():
                target = endpoint.targetRef
                if target and target.kind == "Pod" and str(packet.destination) in endpoint.addresses:
                    return f"pod {target.namespace}/{target.name}"
        return ""

    def _is_service_range(self, address: Address) -> bool:
        coordinator = self._sites.objects.coordinator
        status = coordinator.status if coordinator else None
        return any(address in ip_network(each) for each in (status.serviceCIDR if status else None) or ())

    # --- the metadata service

    def _is_kept_from_metadata(self, packet: Packet) -> bool:
        allowed = packet.namespace is None or packet.namespace in self._policy.metadata_namespaces
        return self._policy.block_metadata and not allowed

    def _metadata_drop(self, packet: Packet, place: str) -> tuple[PacketPath, ...]:
        reason = f"{packet.destination} is the metadata service, which gives the keys of the server's role: agents keep"
        remedy = "add its Namespace to metadataService.allowedNamespaces, after a look at docs/security.md"
        return packet.dropped(place, f"{reason} pods of Namespace {packet.namespace} from it", remedy)

    # --- the network between

    def _on_network(self, by: Departure, packet: Packet) -> tuple[PacketPath, ...]:
        if packet.destination == self._metadata:
            if by.child is not None and self._is_kept_from_metadata(packet):
                return self._metadata_drop(packet, f"NIC {by.nic} of {by.node.place}")
            return (self._end(packet, Hop("metadata service", "it answers")),)
        site = self._sites.pod_with(packet.destination)
        if site and by.stays_in_nic(site, packet.destination):
            return self._within_nic(by, packet, site)
        if drop := cloud_network.drop_of_source(by.node, by.nic, packet):
            return packet.dropped_by(drop)
        if by.gateway:
            packet = packet.after(Hop(f"router {by.gateway}", f"it passes the packet on to {packet.destination}"))
        return self._to_pod(packet, site) if site else self._past_pods(by, packet)

    def _past_pods(self, by: Departure, packet: Packet) -> tuple[PacketPath, ...]:
        """The paths of a packet on the network to an address that no pod has."""
        if name := self._sites.node_with(packet.destination):
            return self._to_node(by, packet, name)
        found = self._sites.frontend(packet.destination, packet.port, packet.protocol)
        return self._elsewhere(by, packet) if found is None else self._to_service(by, packet, found)

    def _within_nic(self, by: Departure, packet: Packet, site: TracedPod) -> tuple[PacketPath, ...]:
        """The path between two pods on one NIC, of which the network outside sees nothing."""
        interface = site.interface_with(packet.destination)
        assert interface is not None
        assert by.child is not None
        place = f"NIC {by.nic} of {by.node.place}"
        apart = next((each.mode for each in (by.child, interface) if each.mode in APART), None)
        if interface.kind == "macvlan" and apart:
            reason = (
                f"macvlan interfaces of mode {apart} on one NIC do not reach each other: the kernel keeps them apart"
            )
            return packet.dropped(place, reason, "use mode bridge in the networks of both pods, or ipvlan")
        hop = Hop(place, f"it stays in the NIC, from one {interface.kind} interface to the other")
        return (arrival.in_pod(self._sites, site, packet.after(hop), interface.ifname),)

    def _to_pod(self, packet: Packet, site: TracedPod) -> tuple[PacketPath, ...]:
        if site.unknown:
            return packet.lost(site.unknown)
        interface = site.interface_with(packet.destination)
        if interface is None:
            return packet.lost(f"no interface of pod {site.pod.key} is known to have {packet.destination}")
        return (arrival.by_network(self._sites, site, packet, interface),)

    def _to_node(self, by: Departure, packet: Packet, name: str) -> tuple[PacketPath, ...]:
        if name == by.node.name and by.child is not None and by.gateway is None:
            reason = f"{by.child.kind} on {by.nic} does not reach the node that has the NIC: the kernel separates them"
            return packet.dropped(by.node.place, reason, "enable the coordinator on the network of the pod")
        arriving = replace(packet, translated=False, entered=None)
        return self.on_node(self._sites.node(name), arriving, ClientPlace.NETWORK)

    def _to_service(self, by: Departure, packet: Packet, found: ServiceFrontend | Service) -> tuple[PacketPath, ...]:
        service = found.service if isinstance(found, ServiceFrontend) else found
        if isinstance(found, ServiceFrontend) and found.kind is ServiceAddressKind.BALANCER:
            return self.by_balancer(packet, found)
        match None if isinstance(found, ServiceFrontend) else kind_of(service, packet.destination):
            case ServiceAddressKind.EXTERNAL_IP:
                return self._elsewhere(by, packet)
            case ServiceAddressKind.BALANCER:
                return self._without_port(f"load balancer {packet.destination}", packet, service)
        reason = f"{packet.destination} of Service {service.key} leaves by {by.nic}, where no kube-proxy translates it"
        remedy = "enable the coordinator on the network of the pod, which leads Services through the node"
        return packet.dropped(by.node.place, reason, remedy)

    def by_balancer(self, packet: Packet, frontend: ServiceFrontend) -> tuple[PacketPath, ...]:
        """The paths of a packet that the cloud's load balancer of a Service gets."""
        servers = balancer_servers(frontend, self._sites.objects)
        if not servers.nodes and not servers.pods:
            notes = f" ({'; '.join(servers.notes)})" if servers.notes else ""
            remedy = "look at the Service's endpoints and Events, and at the labels and taints of nodes"
            place = f"{servers.name} {packet.destination}"
            return packet.dropped(place, f"the balancer of Service {frontend.service.key} has no server{notes}", remedy)
        return tuple(self._from_balancer(packet, frontend, servers))

    def _from_balancer(
        self, packet: Packet, frontend: ServiceFrontend, servers: BalancerServers
    ) -> Iterator[PacketPath]:
        place = f"{servers.name} {packet.destination}"
        note = source_note(frontend.service, packet.source)
        for endpoint in servers.pods:
            hop = Hop(place, f"it chooses pod {endpoint}, past every kube-proxy{f'; {note}' if note else ''}")
            sent = replace(packet.after(hop), destination=endpoint.address, port=endpoint.port)
            site = self._sites.pod_with(endpoint.address)
            interface = site.interface_with(endpoint.address) if site else None
            if site is None or interface is None:
                yield from sent.lost(f"no pod is known to have {endpoint.address}")
            else:
                yield arrival.by_network(self._sites, site, sent, interface)
        for name in servers.nodes:
            yield from self._node_port_of(packet, frontend, name, Hop(place, note))

    def _node_port_of(self, packet: Packet, frontend: ServiceFrontend, name: str, hop: Hop) -> tuple[PacketPath, ...]:
        node, port = self._sites.node(name), frontend.port.nodePort or 0
        address = next(iter(node.routing.held(packet.destination.version)), None)
        if address is None:
            return packet.lost(f"node {name} has no known IPv{packet.destination.version} address")
        does = f"it chooses {node.place}, at {with_port(address, port)}{f'; {hop.does}' if hop.does else ''}"
        sent = replace(packet.after(replace(hop, does=does)), destination=address, port=port)
        return self.on_node(node, sent, ClientPlace.NETWORK)

    def _elsewhere(self, by: Departure, packet: Packet) -> tuple[PacketPath, ...]:
        """An address that no object has: of a router, of a machine on the link, or of somebody outside."""
        if pool := self._sites.pool_of_gateway(packet.destination):
            hop = Hop(f"router {packet.destination}", f"it arrives at the gateway of pool {pool}")
            return (self._end(packet, hop),)
        if pool := self._sites.pool_with(packet.destination):
            reason = f"nobody has {packet.destination}: pool {pool} gives it to pods, and none has it now"
            return packet.dropped("the network", reason, f"see spiderpoolctl who {packet.destination}")
        if by.gateway is None:
            does = "it arrives if a machine has the address: no object of the cluster says so"
            return (self._end(packet, Hop("the network", does)),)
        does = "it goes on outside of the cluster: routes, NAT and filters there are not readable from here"
        return (self._end(packet, Hop("outside", does)),)

    @staticmethod
    def _end(packet: Packet, hop: Hop) -> PacketPath:
        seen = str(packet.source or "the client")
        return PacketPath(packet.target, (*packet.hops, hop), seen_as=seen)
