"""What a namespace has after a plan: the steps carried out on values, for who cannot look at the node's kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateLink,
    CreateVeth,
    DeleteLink,
    MoveLink,
    Remove,
    Step,
)
from spiderpool.core.network.plumbing.values import Link, PodState

T = TypeVar("T")


def after(pod: PodState, steps: Iterable[Step]) -> PodState:
    """The state of a pod's namespace once the steps of a plan are carried out. Those of the node change nothing."""
    for step in steps:
        pod = _after(pod, step)
    return pod


def _after(pod: PodState, step: Step) -> PodState:
    match step:
        case CreateVeth():
            return _with_link(pod, Link(step.peer, 0, "veth", mac=step.peer_mac, mtu=step.mtu))
        case _ if step.side == "node":
            return pod
        case CreateLink():
            made = Link(step.name, 0, step.kind, step.mode, step.mac, step.mtu, vlan_id=step.vlan_id)
            return _with_link(pod, made)
        case MoveLink():
            return _with_link(pod, Link(step.new_name, 0))
        case DeleteLink():
            return _without_link(pod, step.name)
        case AddAddress() | AddRoute() | AddRule() | AddNeighbour():
            return _with(pod, step)
        case Remove():
            return _without(pod, step.what)
        case _:
            return pod


def _with_link(pod: PodState, link: Link) -> PodState:
    index = max((each.index for each in pod.links), default=0) + 1
    return replace(pod, links=(*pod.links, replace(link, index=index)))


def _without_link(pod: PodState, name: str) -> PodState:
    return PodState(
        tuple(link for link in pod.links if link.name != name),
        tuple(held for held in pod.addresses if held.link != name),
        tuple(route for route in pod.routes if route.link != name),
        pod.rules,
        tuple(neighbour for neighbour in pod.neighbours if neighbour.link != name),
    )


def _with(pod: PodState, step: AddAddress | AddRoute | AddRule | AddNeighbour) -> PodState:
    match step:
        case AddAddress():
            held = replace(pod, addresses=(*pod.addresses, step))
            return _with(held, connected_route(step))
        case AddRoute():
            same = (each for each in pod.routes if (each.table, each.destination) != (step.table, step.destination))
            return replace(pod, routes=(*same, step))
        case AddRule():
            return replace(pod, rules=(*_others(pod.rules, step), step))
        case AddNeighbour():
            return replace(pod, neighbours=(*_others(pod.neighbours, step), step))


def connected_route(held: AddAddress) -> AddRoute:
    """The route that the kernel makes for the subnet of an address: of IPv4 with the address as source."""
    address = held.address
    return AddRoute(held.side, address.network, held.link, source=address.ip if address.version == 4 else None)


def _without(pod: PodState, what: AddRoute | AddRule | AddNeighbour) -> PodState:
    return replace(
        pod,
        routes=_others(pod.routes, what),
        rules=_others(pod.rules, what),
        neighbours=_others(pod.neighbours, what),
    )


def _others(present: tuple[T, ...], one: object) -> tuple[T, ...]:
    return tuple(each for each in present if each != one)
