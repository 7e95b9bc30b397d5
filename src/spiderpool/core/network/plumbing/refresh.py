"""The node's addresses changed: the steps that bring what a pod knows of its node up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

from spiderpool.core.network.plumbing.naming import MARK_TABLE
from spiderpool.core.network.plumbing.routing import NodePath, reachable
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, Remove, Step
from spiderpool.core.network.plumbing.values import Address, NodeAddress, PodState


@dataclass(frozen=True, slots=True)
class PodLink:
    """A pod's state, its path to the node (None: it has none), and the node's present addresses."""

    pod: PodState
    path: NodePath | None
    node: tuple[NodeAddress, ...]


def refresh(seen: PodLink) -> tuple[Step, ...]:
    """Add routes and neighbours to new addresses, lead off old gateways, then remove what led to old addresses.

    Empty when all is right. A family that lost its last address is left alone: it may be between two addresses.
    """
    if seen.path is None:
        return ()
    return tuple(step for version in (4, 6) for step in _family(seen, seen.path, version))


def _family(seen: PodLink, path: NodePath, version: int) -> Iterator[Step]:
    present = tuple(address for address in reachable(seen.node) if address.version == version)
    neighbours = [one for one in seen.pod.neighbours if (one.link, one.mac) == (path.link, path.host_mac)]
    known = {one.address for one in neighbours if one.address.version == version}
    if not present or not known:
        return
    routes = [route for route in seen.pod.routes if route.link == path.link and route.destination.version == version]
    yield from _added(path, present, known, routes)
    yield from _gateways(present, routes)
    stale = known - set(present)
    yield from (Remove(route) for route in routes if route.destination in {ip_network(one) for one in stale})
    yield from (Remove(one) for one in neighbours if one.address in stale)


def _added(path: NodePath, present: tuple[Address, ...], known: set[Address], routes: list[AddRoute]) -> Iterator[Step]:
    yield from (AddNeighbour("pod", path.link, one, path.host_mac) for one in present if one not in known)
    there = {(route.table, route.destination) for route in routes}
    for table, source in _tables(routes, known).items():
        for address in present:
            if (table, ip_network(address)) not in there:
                yield AddRoute("pod", ip_network(address), path.link, source=source, table=table)


def _tables(routes: list[AddRoute], known: set[Address]) -> dict[int, Address | None]:
    """The tables that say where the node is, and the source address that each names for it."""
    return {
        route.table: route.source
        for route in routes
        if route.gateway is None and route.destination.network_address in known and route.table != MARK_TABLE
    }


def _gateways(present: tuple[Address, ...], routes: list[AddRoute]) -> Iterator[Step]:
    for route in routes:
        if route.gateway is not None and route.gateway not in present and not route.gateway.is_link_local:
            yield replace(route, gateway=present[0])
