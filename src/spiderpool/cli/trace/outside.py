"""Connections from outside of the cluster to a Service: by its load balancer, or by the port of each node."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from spiderpool.cli.trace.balancers import addresses_of_balancer, hostnames_of_balancer
from spiderpool.cli.trace.node_sites import TracedNode
from spiderpool.cli.trace.sites import SiteMap
from spiderpool.cli.trace.values import Drop, Hop, Packet, PacketPath
from spiderpool.cli.trace.walk import Walker
from spiderpool.core.addresses import FAMILIES, Address
from spiderpool.core.network.service_addresses import has_family
from spiderpool.core.network.service_proxy import ClientPlace, ServiceAddressKind, ServiceFrontend, usable_endpoints

CLIENT = "the client"


def from_outside(walker: Walker, sites: SiteMap, frontend: ServiceFrontend) -> tuple[PacketPath, ...]:
    """The ways of a client that nobody has named to a Service."""
    service = frontend.service
    match service.spec.type:
        case "LoadBalancer":
            return _by_balancer(walker, sites, frontend)
        case "NodePort":
            return tuple(path for name in sites.objects.nodes for path in _by_node(walker, sites, frontend, name))
        case _:
            reason = f"Service {service.key} of type {service.spec.type or 'ClusterIP'} is for clients in the cluster"
            return (_dropped(service.key, reason, "make it a Service of type LoadBalancer or NodePort"),)


def _by_balancer(walker: Walker, sites: SiteMap, frontend: ServiceFrontend) -> tuple[PacketPath, ...]:
    service = frontend.service
    addresses = [ip_address(each) for each in addresses_of_balancer(service)]
    names = hostnames_of_balancer(service)
    if not addresses and names:
        slices = sites.objects.slices_of(service)
        families = [one for one in FAMILIES if usable_endpoints(replace(frontend, version=one), slices)]
        addresses = [arrival_address(families[0] if families else 4)]
    if not addresses:
        reason = f"Service {service.key} has no load balancer yet: its status has no address"
        remedy = f"see its Events: kubectl describe service -n {service.metadata.namespace} {service.name}"
        return (_dropped(service.key, reason, remedy),)
    paths: list[PacketPath] = []
    for address in addresses:
        packet = _packet(address, frontend.port.port, frontend)
        asked = replace(frontend, kind=ServiceAddressKind.BALANCER, version=address.version)
        begin = Hop(CLIENT, f"it connects to {names[0] if names else address}, port {frontend.port.port}")
        paths += walker.by_balancer(packet.after(begin), asked)
    return tuple(paths)


def arrival_address(version: int) -> Address:
    """Stands for the address that the name of a balancer has (RFC 5737, RFC 3849)."""
    return ip_address("198.51.100.1" if version == 4 else "2001:db8::2")


def _by_node(walker: Walker, sites: SiteMap, frontend: ServiceFrontend, name: str) -> tuple[PacketPath, ...]:
    node = sites.node(name)
    held = [address for version in FAMILIES for address in _node_port_addresses(sites, node, version)[:1]]
    found: list[PacketPath] = []
    for address in held:
        if has_family(frontend.service, address.version):
            packet = _packet(address, frontend.port.nodePort or 0, frontend)
            hop = Hop(CLIENT, f"it connects to {packet.target}, if routes and filters outside allow it")
            found += walker.on_node(node, packet.after(hop), ClientPlace.NETWORK)
    return tuple(found)


def _node_port_addresses(sites: SiteMap, node: TracedNode, version: int) -> tuple[Address, ...]:
    """Those where NodePorts are served, else all: then kube-proxy refuses."""
    held = node.routing.held(version)
    return tuple(each for each in held if sites.serves(node, each, ServiceAddressKind.NODE_PORT)) or held


def _packet(address: Address, port: int, frontend: ServiceFrontend) -> Packet:
    return Packet(address, port, frontend.port.protocol, None, CLIENT)


def _dropped(endpoint: str, reason: str, remedy: str) -> PacketPath:
    return PacketPath(endpoint, (), drop=Drop("Service", reason, remedy))
