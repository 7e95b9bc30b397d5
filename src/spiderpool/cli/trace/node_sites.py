"""A node as it routes: its NICs, addresses and gateways, as its server's report, its Node and the pools say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.api.core_v1 import Node
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.spiderserver import ENI
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.core.addresses import FAMILIES, Address, Network
from spiderpool.core.network.chains import Chain, read_network
from spiderpool.core.network.plumbing.expected import connected_route
from spiderpool.core.network.plumbing.lookup import RoutingState
from spiderpool.core.network.plumbing.nics import NICAddress, NodeState, nics_with_gateways, plan_nics
from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute, AddRule
from spiderpool.core.network.plumbing.values import NodeAddress, default_destination
from spiderpool.errors import SpiderpoolError

UNNAMED_NIC = "its NIC"
"""What a NIC is called whose name no object says."""


@dataclass(frozen=True, slots=True)
class TracedNode:
    """A node: its own rules and routes, without those to its pods."""

    name: str
    routing: RoutingState
    enis: Mapping[str, ENI] = field(default_factory=dict)
    """By device; empty outside of clouds."""
    primary: tuple[Address, ...] = ()
    """The address of each family that its Node names first."""

    @property
    def place(self) -> str:
        """How it is called."""
        return f"node {self.name}"

    @property
    def addresses(self) -> tuple[NodeAddress, ...]:
        """Its addresses with their links."""
        return tuple(NodeAddress(held.link, held.address.ip) for held in self.routing.addresses)


def node_site(name: str, objects: ClusterObjects) -> TracedNode:
    """The node of that name; without routes where nothing says how it is connected."""
    server = objects.servers.get(name)
    enis = {each.device: each for each in server.spec.enis if each.device} if server else {}
    held = tuple(_addresses(name, enis, objects))
    gateways = {**_gateways_of_pools(objects), **_gateways_of_enis(enis)}
    routes = (*(connected_route(each) for each in held), *_default_routes(held, gateways))
    routing = RoutingState((), routes, held)
    if objects.policies.nodes.tune_node:
        routing = _tuned(routing, gateways)
    return TracedNode(name, routing, enis, _primary(objects.nodes[name]))


def _primary(node: Node) -> tuple[Address, ...]:
    own = [ip_address(text) for text in node.internal_addresses]
    found = (next((each for each in own if each.version == version), None) for version in FAMILIES)
    return tuple(each for each in found if each is not None)


def _addresses(name: str, enis: Mapping[str, ENI], objects: ClusterObjects) -> Iterator[AddAddress]:
    """Those of its ENIs, the primary one first, and the others of its Node."""
    known: set[Address] = set()
    subnets = [ip_network(pool.spec.subnet) for pool in objects.pools.values()]
    for device, eni in sorted(enis.items(), key=lambda each: not each[1].primary):
        known.add(ip_address(eni.primary_address))
        yield _on_link(device, ip_address(eni.primary_address), [ip_network(eni.subnet)] if eni.subnet else subnets)
    for text in objects.nodes[name].internal_addresses:
        if (address := ip_address(text)) not in known:
            yield _on_link(_device(address, enis, objects.networks), address, subnets)


def _on_link(device: str, address: Address, subnets: list[Network]) -> AddAddress:
    length = next((net.prefixlen for net in subnets if address in net), address.max_prefixlen)
    return AddAddress("node", device, ip_interface(f"{address}/{length}"))


def _device(address: Address, enis: Mapping[str, ENI], networks: Mapping[str, NetworkAttachmentDefinition]) -> str:
    """The NIC that has an address of the Node: by the vSwitch, or where the networks of the cluster have but one."""
    blocks = {device: eni.subnet_of(address.version) for device, eni in enis.items()}
    for device, block in blocks.items():
        if block and address in ip_network(block):
            return device
    masters = {master for each in networks.values() if (master := _master(each))}
    return next(iter(enis or (masters if len(masters) == 1 else ())), UNNAMED_NIC)


def _master(network: NetworkAttachmentDefinition) -> str:
    try:
        chain = read_network(network.key, network)
    except SpiderpoolError:
        return ""
    return chain.master if isinstance(chain, Chain) else ""


def _gateways_of_pools(objects: ClusterObjects) -> dict[Network, Address]:
    specs = [pool.spec for pool in objects.pools.values()]
    return {ip_network(each.subnet): ip_address(each.gateway) for each in specs if each.gateway}


def _gateways_of_enis(enis: Mapping[str, ENI]) -> dict[Network, Address]:
    found = ((eni.subnet_of(version), eni.gateway_of(version)) for eni in enis.values() for version in FAMILIES)
    return {ip_network(subnet): ip_address(gateway) for subnet, gateway in found if subnet and gateway}


def _default_routes(held: tuple[AddAddress, ...], gateways: Mapping[Network, Address]) -> Iterator[AddRoute]:
    """One of each family, by the first NIC that has a gateway."""
    for version in FAMILIES:
        for each in held:
            if each.address.version == version and (gateway := gateways.get(each.address.network)):
                yield AddRoute("node", default_destination(version), each.link, gateway)
                break


def _tuned(routing: RoutingState, gateways: Mapping[Network, Address]) -> RoutingState:
    """The node with the rules and tables of each NIC, as its agent adds them."""
    nics = tuple(NICAddress(held.link, held.address) for held in routing.addresses)
    observed = NodeState(addresses=nics, routes=routing.routes)
    try:
        steps = plan_nics(nics_with_gateways(observed, gateways), observed)
    except SpiderpoolError:  # the agent changes nothing then, either
        return routing
    rules = tuple(step for step in steps if isinstance(step, AddRule))
    routes = tuple(step for step in steps if isinstance(step, AddRoute))
    return RoutingState((*routing.rules, *rules), (*routing.routes, *routes), routing.addresses)
