"""Addresses of Services to which a pod has no other routes: of load balancers, externalIPs, and newer Service CIDRs.

A pod has a table for them with one route each, through the node, where kube-proxy knows them. The rule of that table
precedes those by source address, so one table serves all interfaces of a pod; nothing else is in it, so what does not
belong there can be told and removed. Addresses of the node, and gateways of the pod, keep the routes that they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from spiderpool.core.addresses import Network
from spiderpool.core.network.plumbing.naming import SERVICE_PRIORITY, SERVICE_TABLE
from spiderpool.core.network.plumbing.routing import reachable
from spiderpool.core.network.plumbing.steps import AddRoute, AddRule, Remove, Step
from spiderpool.core.network.plumbing.values import Address, NodeAddress, PodState


def reserved_addresses(pod: PodState, path_link: str, node: Iterable[NodeAddress]) -> frozenset[Address]:
    """Addresses to which a pod must not get a route through its node: the node's on NICs, and gateways of other links.

    kube-proxy in mode ipvs gives the node the addresses of Services too, on a link that is no NIC.
    """
    gateways = {route.gateway for route in pod.routes if route.gateway is not None and route.link != path_link}
    return frozenset({*gateways, *reachable(node)})


def service_steps(
    template: AddRoute, addresses: Iterable[Address | Network], reserved: frozenset[Address]
) -> Iterator[Step]:
    """The rule and the routes for addresses of the template's family. ``template`` has link, gateway and source."""
    version = template.destination.version
    routes = _routes(template, addresses, reserved)
    if routes:
        yield AddRule("pod", version, SERVICE_PRIORITY, SERVICE_TABLE)
    yield from routes


def service_changes(
    pod: PodState, template: AddRoute, addresses: Iterable[Address | Network], reserved: frozenset[Address]
) -> Iterator[Step]:
    """As `service_steps`, in a pod that has been attached: what is missing or different, then what must go."""
    version = template.destination.version
    present = {
        route.destination: route
        for route in pod.routes
        if (route.table, route.destination.version) == (SERVICE_TABLE, version)
    }
    known = {*present.values(), *pod.rules}
    steps = tuple(service_steps(template, addresses, reserved))
    yield from (step for step in steps if step not in known)
    wanted = {step.destination for step in steps if isinstance(step, AddRoute)}
    yield from (Remove(route) for destination, route in present.items() if destination not in wanted)


def _routes(template: AddRoute, addresses: Iterable[Address | Network], reserved: frozenset[Address]) -> list[AddRoute]:
    version = template.destination.version
    return [
        AddRoute("pod", ip_network(address), template.link, template.gateway, template.source, SERVICE_TABLE)
        for address in addresses
        if address.version == version and address not in reserved
    ]
