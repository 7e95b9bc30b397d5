"""DEL: the steps that remove one interface, given the container's ID and whatever is left of the pod."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from spiderpool.core.network.plumbing.leftovers import empty_tables, other_interfaces
from spiderpool.core.network.plumbing.naming import (
    MAIN_TABLE,
    SERVICE_TABLE,
    VETH,
    host_interface,
    temporary_name,
    veth_mac,
)
from spiderpool.core.network.plumbing.steps import (
    AddNeighbour,
    AddRoute,
    DeleteLink,
    MoveLink,
    Remove,
    Step,
)
from spiderpool.core.network.plumbing.values import Address, Link, Loan, PodState, is_default


@dataclass(frozen=True, slots=True)
class LeftoverState:
    """What is left of a pod when an interface is to be removed.

    ``pod`` is None when its namespace is gone. ``routes`` and ``neighbours`` are the node's through ``host_end``, the
    node's end of the pod's path. ``links`` are the node's, where the pod is gone and had borrowed one.
    """

    pod: PodState | None
    host_end: str = ""
    routes: tuple[AddRoute, ...] = ()
    neighbours: tuple[AddNeighbour, ...] = ()
    links: tuple[Link, ...] = ()


def is_foreign(
    container_id: str, ifname: str, pod: PodState, host_end: Link | None, others: Collection[Address] = ()
) -> bool:
    """Whether a namespace belongs to another container by now, so that nothing of it may be touched.

    The pod's path to its node tells: its MAC is derived from the container, or else its other end is ``host_end``, the
    link with the container's name. Without such a path the interface's addresses tell: ``others`` are other pods'.
    """
    veth = pod.link(VETH)
    if veth is None:
        return not {*others}.isdisjoint(pod.held_by(ifname))
    return veth.mac != veth_mac(container_id, "pod") and not (host_end and veth.parent == host_end.index)


def plan_removal(
    container_id: str, ifname: str, leftover: LeftoverState, loan: Loan | None = None, *, keep_link: bool = False
) -> tuple[Step, ...]:
    """The steps that remove an interface, complete or not, and with the last interface the veth pair.

    ``loan`` is that of the interface, from the agent's own record. ``keep_link`` is for an interface that another
    plugin of the chain made and removes itself. The pod's link is deleted explicitly and first: the kernel deletes a
    namespace only after the last socket in it is closed, and until then no other pod can have an ipvlan address of it.
    """
    if leftover.pod is None:
        return (*_return_device(loan, leftover.links), DeleteLink("node", host_interface(container_id)))
    steps: list[Step] = [
        *(() if keep_link else _remove_links(container_id, ifname, leftover.pod, loan)),
        *empty_tables(leftover.pod, ifname),
    ]
    others = other_interfaces(leftover.pod, container_id, ifname)
    if others:
        steps += _restore_default(leftover.pod, ifname, others)
        steps += _remove_service_routes(leftover.pod, ifname)
        steps += _remove_stale_paths(container_id, ifname, leftover, others)
    else:
        steps.append(DeleteLink("node", host_interface(container_id)))
    return tuple(steps)


def _remove_links(container_id: str, ifname: str, pod: PodState, loan: Loan | None) -> Iterator[Step]:
    device = loan.find(pod.links, ifname) if loan else None
    if loan and device:
        yield MoveLink("node", device.name, loan.device)
    if device is None or device.name != ifname:
        yield DeleteLink("pod", ifname)
    yield DeleteLink("pod", temporary_name(container_id, ifname))


def _return_device(loan: Loan | None, links: tuple[Link, ...]) -> Iterator[Step]:
    """Rename a device that the kernel moved back to the node, under some name, when it deleted the namespace."""
    device = loan.find(links, loan.device) if loan else None
    if loan and device and device.name != loan.device:
        yield MoveLink("node", device.name, loan.device)


def _restore_default(pod: PodState, ifname: str, others: tuple[str, ...]) -> Iterator[Step]:
    """Give the default route in ``main`` back to the interface that had it before: its own table still has it."""
    for lost in pod.routes:
        if not is_default(lost) or lost.link != ifname:
            continue
        candidates = (
            route
            for route in sorted(pod.routes, key=lambda route: route.table)
            if route.destination == lost.destination and route.link in others and route.table != MAIN_TABLE
        )
        yield from (replace(route, table=MAIN_TABLE) for route in list(candidates)[:1])


def _remove_service_routes(pod: PodState, ifname: str) -> Iterator[Step]:
    """Remove the routes to Services that have the interface's address as source: older kernels keep them."""
    gone = set(pod.held_by(ifname))
    yield from (Remove(route) for route in pod.routes if route.table == SERVICE_TABLE and route.source in gone)


def _remove_stale_paths(
    container_id: str, ifname: str, leftover: LeftoverState, others: tuple[str, ...]
) -> Iterator[Step]:
    """Remove the node's routes and neighbours to addresses of the pod that no remaining interface has."""
    assert leftover.pod is not None  # it has the other interfaces
    gone = set(leftover.pod.held_by(ifname))
    remaining = {address for name in others for address in leftover.pod.held_by(name)} - gone
    ours = leftover.host_end == host_interface(container_id)
    for route in leftover.routes:
        if route.destination.network_address in gone or (ours and route.destination.network_address not in remaining):
            yield Remove(route)
    for neighbour in leftover.neighbours:
        if neighbour.address in gone or (ours and neighbour.address not in remaining):
            yield Remove(neighbour)
