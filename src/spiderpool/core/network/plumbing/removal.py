"""DEL: the steps that take one interface away, from a container's identity and whatever is left of the pod."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from spiderpool.core.network.plumbing.leftovers import forget, other_interfaces
from spiderpool.core.network.plumbing.naming import (
    MAIN_TABLE,
    host_interface,
    loan,
    temporary_name,
)
from spiderpool.core.network.plumbing.steps import (
    AddNeighbour,
    AddRoute,
    DeleteLink,
    MoveLink,
    Remove,
    Step,
)
from spiderpool.core.network.plumbing.values import Link, PodState, is_default


@dataclass(frozen=True, slots=True)
class LeftoverState:
    """What is left of a pod when an interface is to go.

    ``pod`` is None when its namespace is gone. ``routes`` and ``neighbours`` are the node's by the pod's path, whose
    end on the node is ``host_end``. ``lent`` are devices of the node that bear the mark of a loan.
    """

    pod: PodState | None
    host_end: str = ""
    routes: tuple[AddRoute, ...] = ()
    neighbours: tuple[AddNeighbour, ...] = ()
    lent: tuple[Link, ...] = ()


def removal(container_id: str, ifname: str, left: LeftoverState, *, keep_link: bool = False) -> tuple[Step, ...]:
    """The steps that take an interface away, also a half-made one; with the last one goes the veth pair.

    ``keep_link`` is for an interface that another plugin made and will take away.
    The pod's link comes first and by name: the deletion of a namespace is put off while a socket in it is open, and
    until then an ipvlan address stays taken.
    """
    if left.pod is None:
        return (*_returned(container_id, ifname, left.lent), DeleteLink("node", host_interface(container_id)))
    steps: list[Step] = [*(() if keep_link else _links(container_id, ifname, left.pod)), *forget(left.pod, ifname)]
    others = other_interfaces(left.pod, container_id, ifname)
    if others:
        steps += _default_restored(left.pod, ifname, others)
        steps += _unreachable(container_id, ifname, left, others)
    else:
        steps.append(DeleteLink("node", host_interface(container_id)))
    return tuple(steps)


def _links(container_id: str, ifname: str, pod: PodState) -> Iterator[Step]:
    link = pod.link(ifname)
    mark = loan(container_id, ifname)
    if link is not None and link.alias.startswith(mark):
        yield MoveLink("node", ifname, link.alias.removeprefix(mark), alias="")
    else:
        yield DeleteLink("pod", ifname)
    yield DeleteLink("pod", temporary_name(container_id, ifname))


def _returned(container_id: str, ifname: str, lent: tuple[Link, ...]) -> Iterator[Step]:
    """The kernel gives a device of a dying namespace back to the node, under whatever name is free."""
    mark = loan(container_id, ifname)
    for link in lent:
        if link.alias.startswith(mark):
            yield MoveLink("node", link.name, link.alias.removeprefix(mark), alias="")


def _default_restored(pod: PodState, ifname: str, others: tuple[str, ...]) -> Iterator[Step]:
    """The default route goes back to the interface that had it before, whose own table still says where it led."""
    for lost in pod.routes:
        if not is_default(lost) or lost.link != ifname:
            continue
        kept = (
            route
            for route in sorted(pod.routes, key=lambda route: route.table)
            if route.destination == lost.destination and route.link in others and route.table != MAIN_TABLE
        )
        yield from (replace(route, table=MAIN_TABLE) for route in list(kept)[:1])


def _unreachable(container_id: str, ifname: str, left: LeftoverState, others: tuple[str, ...]) -> Iterator[Step]:
    """Of the node's routes to the pod, those to addresses that no interface holds any more."""
    assert left.pod is not None  # others are from it
    gone = set(left.pod.held_by(ifname))
    kept = {address for name in others for address in left.pod.held_by(name)} - gone
    ours = left.host_end == host_interface(container_id)
    for route in left.routes:
        if route.destination.network_address in gone or (ours and route.destination.network_address not in kept):
            yield Remove(route)
    for neighbour in left.neighbours:
        if neighbour.address in gone or (ours and neighbour.address not in kept):
            yield Remove(neighbour)
