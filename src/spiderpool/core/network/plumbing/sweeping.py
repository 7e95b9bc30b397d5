"""GC: what is left on the node of pods that are gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, DeleteLink, Remove, Step
from spiderpool.core.network.plumbing.values import Address, Link

_HOST_END = re.compile(r"veth[0-9a-f]{11}")


@dataclass(frozen=True, slots=True)
class PodPaths:
    """The node's links, its routes to single addresses in the tables for pods, and its permanent neighbours."""

    links: tuple[Link, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    neighbours: tuple[AddNeighbour, ...] = ()


def sweep(seen: PodPaths, containers: Collection[str], addresses: Collection[Address]) -> tuple[Step, ...]:
    """The steps that remove host ends without a container, and routes to addresses that no pod has.

    A host end that leads to one of ``addresses``, those of pods that live, stays, whosever it is.
    """
    kept = {host_interface(container) for container in containers}
    kept |= {route.link for route in seen.routes if _target(route) in addresses}
    doomed = [link.name for link in seen.links if _is_host_end(link) and link.name not in kept]
    return (*(DeleteLink("node", name) for name in doomed), *_strays(seen, addresses))


def _strays(seen: PodPaths, addresses: Collection[Address]) -> Iterator[Step]:
    """By links of another CNI plugin: a pod whose further interface is gone, while its first one is there."""
    veths = {link.name for link in seen.links if link.kind == "veth" and not _is_host_end(link)}
    for route in seen.routes:
        if route.link in veths and _target(route) not in addresses:
            yield Remove(route)
            yield from (
                Remove(one) for one in seen.neighbours if (one.link, one.address) == (route.link, _target(route))
            )


def _is_host_end(link: Link) -> bool:
    """Whether a link is a host end of ours by its name, which holds a container's identifier; ours are on no bridge."""
    return link.kind == "veth" and not link.master and _HOST_END.fullmatch(link.name) is not None


def _target(route: AddRoute) -> Address:
    return route.destination.network_address
