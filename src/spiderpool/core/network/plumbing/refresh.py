"""The steps that keep the path between a running pod and its node right.

Addresses of the node or of Services have changed: the pod's routes and neighbours follow. Another program has removed
rules or routes from the node: they are made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from spiderpool.core.addresses import Network
from spiderpool.core.network.plumbing.leftovers import strict_sources
from spiderpool.core.network.plumbing.naming import MAIN_TABLE, MARK_TABLE, SERVICE_TABLE, VETH
from spiderpool.core.network.plumbing.routing import NodePath, reachable, routes_from_node
from spiderpool.core.network.plumbing.services import reserved_addresses, service_changes
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, Remove, Step
from spiderpool.core.network.plumbing.values import Address, NodeAddress, PodState, default_destination


@dataclass(frozen=True, slots=True)
class PathSettings:
    """What the kernel's state does not tell of a pod's path.

    ``first_nic`` is the name of the pod's first interface. ``services`` are the addresses of Services outside the
    Service CIDRs; None: not known, so their routes stay. ``service_cidrs`` are all that the cluster has now; the pod
    has routes to those of its ADD. ``tables`` are the tables of the node with the routes to the addresses of
    interfaces, by interface, and ``addresses`` those that were given to them: a pod can have any others, to which the
    node gets no routes. Nor to those of ``foreign``, given by another IPAM plugin, that the node itself has or uses as
    gateways by now.
    """

    first_nic: str = "eth0"
    services: tuple[Address, ...] | None = None
    service_cidrs: tuple[Network, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[Address]] = field(default_factory=dict)
    foreign: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class PodLink:
    """A pod's state, its path to the node (None: it has none), and the node's present addresses.

    ``present`` are the node's rules, and the routes, neighbours and sysctls of its end of the path. ``gateways`` are
    those of its routes, where the pod has addresses of another IPAM plugin.
    """

    pod: PodState
    path: NodePath | None
    node: tuple[NodeAddress, ...]
    present: frozenset[Step] = frozenset()
    settings: PathSettings = PathSettings()
    gateways: tuple[Address, ...] = ()


def plan_refresh(observed: PodLink) -> tuple[Step, ...]:
    """Add routes and neighbours for new addresses, replace old gateways, then remove those of old addresses.

    And add what the node lacks of its own. Empty when nothing has changed. A family without any address is left alone:
    it may be between two addresses.
    """
    if observed.path is None:
        return ()
    node = dict.fromkeys(_missing_on_node(observed, observed.path))
    return (*node, *(step for version in (4, 6) for step in _family(observed, observed.path, version)))


def _missing_on_node(observed: PodLink, path: NodePath) -> Iterator[Step]:
    """The node's rules, routes and neighbours of the pod that are missing.

    Only for interfaces with the path: the pod has routes through it whose source is an address of theirs. The end of a
    pair of ours is strict about sources, also where udev has applied sysctl.d to it meanwhile.
    """
    if path.link == VETH and strict_sources(path.host_link) not in observed.present:
        yield strict_sources(path.host_link)
    sources = {route.source for route in observed.pod.routes if route.link == path.link}
    used = observed.settings.foreign & {*observed.gateways, *(held.address for held in observed.node)}
    for link, table in observed.settings.tables.items():
        for version in (4, 6):
            given = observed.settings.addresses.get(link, frozenset()) - used
            addresses = tuple(one for one in observed.pod.held_by(link) if one.version == version and one in given)
            if link != path.link and not sources.isdisjoint(addresses):
                steps = routes_from_node(path, addresses, table)
                yield from (step for step in steps if step not in observed.present)


def _family(observed: PodLink, path: NodePath, version: int) -> Iterator[Step]:
    present = tuple(address for address in reachable(observed.node) if address.version == version)
    neighbours = [held for held in observed.pod.neighbours if (held.link, held.mac) == (path.link, path.host_mac)]
    known = {neighbour.address for neighbour in neighbours if neighbour.address.version == version}
    if not present or not known:
        return
    routes = [
        route
        for route in observed.pod.routes
        if route.link == path.link
        and route.destination.version == version
        and (route.table != SERVICE_TABLE or observed.settings.services is None)
    ]
    yield from _additions(path, present, known, routes)
    yield from _gateway_replacements(present, known, routes)
    stale = known - set(present)
    yield from (Remove(route) for route in routes if route.destination in {ip_network(address) for address in stale})
    yield from (Remove(neighbour) for neighbour in neighbours if neighbour.address in stale)
    yield from _services(observed, path, present, _tables(routes, known).get(MAIN_TABLE), routes)


def _services(
    observed: PodLink, path: NodePath, present: tuple[Address, ...], source: Address | None, routes: list[AddRoute]
) -> Iterator[Step]:
    """Routes to addresses of Services as ADD makes them: by the gateway that is in use, unless the node has lost it.

    To Service CIDRs as well, where they are newer than the pod.
    """
    if observed.settings.services is None or source is None:
        return
    gateway = next((route.gateway for route in routes if route.gateway in present), present[0])
    template = AddRoute("pod", default_destination(source.version), path.link, gateway, source)
    reserved = reserved_addresses(observed.pod, path.link, observed.node)
    own = {route.destination for route in observed.pod.routes if route.table == MAIN_TABLE}
    newer = (cidr for cidr in observed.settings.service_cidrs if cidr not in own)
    yield from service_changes(observed.pod, template, (*observed.settings.services, *newer), reserved)


def _additions(
    path: NodePath, present: tuple[Address, ...], known: set[Address], routes: list[AddRoute]
) -> Iterator[Step]:
    for address in present:
        if address not in known:
            yield AddNeighbour("pod", path.link, address, path.host_mac)
    existing = {(route.table, route.destination) for route in routes}
    for table, source in _tables(routes, known).items():
        for address in present:
            if (table, ip_network(address)) not in existing:
                yield AddRoute("pod", ip_network(address), path.link, source=source, table=table)


def _tables(routes: list[AddRoute], known: set[Address]) -> dict[int, Address | None]:
    """Table with routes to the node's addresses → the source address of those routes."""
    return {
        route.table: route.source
        for route in routes
        if route.gateway is None and route.destination.network_address in known and route.table != MARK_TABLE
    }


def _gateway_replacements(present: tuple[Address, ...], known: set[Address], routes: list[AddRoute]) -> Iterator[Step]:
    """Routes by an address that the node has lost; gateways that another CNI plugin chose were never the node's."""
    for route in routes:
        lost = route.gateway in known and route.gateway not in present
        if route.gateway is not None and lost and not route.gateway.is_link_local:
            yield replace(route, gateway=present[0])
