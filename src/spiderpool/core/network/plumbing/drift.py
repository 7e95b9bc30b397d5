"""CHECK: what a plan wants that is not so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    Announce,
    CreateBond,
    CreateLink,
    CreateVeth,
    DeleteLink,
    DropNICMarks,
    Enslave,
    LoadMarks,
    LoadNICMarks,
    MoveLink,
    Remove,
    SetLink,
    SetSysctl,
    Step,
    Where,
)
from spiderpool.core.network.plumbing.values import Link


@dataclass(frozen=True, slots=True)
class PresentState:
    """What is there, for a comparison with a plan.

    ``links`` holds (where, link); ``steps`` every address, route, rule, neighbour and sysctl as the step
    that would make it; ``marks`` the families whose mark rules are loaded.
    """

    links: tuple[tuple[Where, Link], ...] = ()
    steps: frozenset[Step] = frozenset()
    marks: tuple[int, ...] = ()

    def link(self, where: Where, name: str) -> Link | None:
        """The link of that name on that side."""
        return next((link for side, link in self.links if side == where and link.name == name), None)


def drift(steps: Iterable[Step], present: PresentState, master: Link | None) -> tuple[str, ...]:
    """What a plan wants that is not so, one sentence fragment each; empty when all is well."""
    return tuple(fault for step in steps for fault in _faults(step, present, master))


def _faults(step: Step, present: PresentState, master: Link | None) -> Iterator[str]:
    match step:
        case CreateLink():
            yield from _link_faults(step, present.link("pod", step.name), master)
        case MoveLink():
            if present.link("pod", step.new_name) is None:
                yield f"{step.new_name} is missing in the pod"
        case CreateVeth():
            yield from _veth_faults(step.name, step.mac, present.link("node", step.name))
            yield from _veth_faults(step.peer, step.peer_mac, present.link("pod", step.peer))
        case SetLink():
            link = present.link(step.where, step.name)
            if link is not None and not link.up:
                yield f"{step.name} ({step.where}) is down"
            if link is not None and step.mac and link.mac != step.mac:
                yield f"MAC of {step.name} is {link.mac}, not {step.mac}"
        case AddAddress() | AddRoute() | AddRule() | AddNeighbour():
            if step not in present.steps:
                yield f"missing or changed: {step}"
        case SetSysctl():
            if step.required and step not in present.steps:
                yield f"missing or changed: {step}"
        case LoadMarks():
            if not set(step.versions) <= set(present.marks):
                yield f"missing: {step}"
        case DeleteLink() | Remove() | Announce() | CreateBond() | Enslave() | LoadNICMarks() | DropNICMarks():
            pass
        case _:
            assert_never(step)


def _link_faults(wanted: CreateLink, link: Link | None, master: Link | None) -> Iterator[str]:
    if link is None:
        yield f"{wanted.name} is missing in the pod"
        return
    if (link.kind, link.mode) != (wanted.kind, wanted.mode):
        yield f"{wanted.name} is {link.kind} {link.mode}, not {wanted.kind} {wanted.mode}"
    if master is not None and link.parent != master.index:
        yield f"{wanted.name} does not lie on {wanted.master}"
    if link.mtu != wanted.mtu:
        yield f"mtu of {wanted.name} is {link.mtu}, not {wanted.mtu}"
    if wanted.mac and link.mac != wanted.mac:
        yield f"MAC of {wanted.name} is {link.mac}, not {wanted.mac}"
    if wanted.kind == "vlan" and link.vlan_id != wanted.vlan_id:
        yield f"{wanted.name} has VLAN id {link.vlan_id}, not {wanted.vlan_id}"


def _veth_faults(name: str, mac: str, link: Link | None) -> Iterator[str]:
    if link is None:
        yield f"{name} is missing"
    elif link.mac != mac:
        yield f"MAC of {name} is {link.mac}, not {mac}"
