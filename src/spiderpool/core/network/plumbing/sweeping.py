"""GC: the steps that remove what deleted pods left on the node."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, DeleteLink, Remove, Step
from spiderpool.core.network.plumbing.values import Address, Link

_HOST_END_NAME = re.compile(r"veth[0-9a-f]{11}")


@dataclass(frozen=True, slots=True)
class PodPaths:
    """The node's links, its routes to single addresses in the tables for pods, and its permanent neighbours."""

    links: tuple[Link, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    neighbours: tuple[AddNeighbour, ...] = ()


def plan_sweep(observed: PodPaths, containers: Collection[str], addresses: Collection[Address]) -> tuple[Step, ...]:
    """The steps that remove host ends without a container, and routes to addresses that no pod has.

    ``containers`` and ``addresses`` are those of existing pods. A host end with a route to one of the addresses stays.
    """
    in_use = {host_interface(container) for container in containers}
    in_use |= {route.link for route in observed.routes if _target(route) in addresses}
    stale = [link.name for link in observed.links if _is_host_end(link) and link.name not in in_use]
    return (*(DeleteLink("node", name) for name in stale), *_stale_routes(observed, addresses))


def _stale_routes(observed: PodPaths, addresses: Collection[Address]) -> Iterator[Step]:
    """Routes through links of another CNI plugin to further interfaces that are gone, while the pod's eth0 remains."""
    veths = {link.name for link in observed.links if link.kind == "veth" and not _is_host_end(link)}
    for route in observed.routes:
        if route.link in veths and _target(route) not in addresses:
            yield Remove(route)
            for neighbour in observed.neighbours:
                if (neighbour.link, neighbour.address) == (route.link, _target(route)):
                    yield Remove(neighbour)


def _is_host_end(link: Link) -> bool:
    """Whether a link is a host end of ours: named after a container's ID, and not a port of a bridge."""
    return link.kind == "veth" and not link.master and _HOST_END_NAME.fullmatch(link.name) is not None


def _target(route: AddRoute) -> Address:
    return route.destination.network_address
