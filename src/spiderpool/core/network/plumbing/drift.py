"""CHECK: how the present state of a pod differs from its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
    Side,
    Step,
)
from spiderpool.core.network.plumbing.values import Link


@dataclass(frozen=True, slots=True)
class PresentState:
    """The present state of node and pod, for a comparison with a plan.

    ``links`` holds (side, link). ``steps`` holds each address, route, rule, neighbour and sysctl as the step that would
    create it. ``marks`` holds the families whose mark rules are loaded. ``master`` is the NIC of the interface.
    """

    links: tuple[tuple[Side, Link], ...] = ()
    steps: frozenset[Step] = frozenset()
    marks: tuple[int, ...] = ()
    master: Link | None = None

    def link(self, side: Side, name: str) -> Link | None:
        """A link by name."""
        return next((link for of, link in self.links if of == side and link.name == name), None)


def find_drift(steps: Iterable[Step], present: PresentState) -> tuple[str, ...]:
    """A sentence fragment for each result of a step that is missing or different; empty when all is well."""
    return tuple(fault for step in steps for fault in _CHECKS[type(step)](step, present))


def _check_child(step: CreateLink, present: PresentState) -> Iterator[str]:
    link = present.link("pod", step.name)
    if link is None:
        yield f"{step.name} is missing in the pod"
        return
    if (link.kind, link.mode) != (step.kind, step.mode):
        yield f"{step.name} is {link.kind} {link.mode}, not {step.kind} {step.mode}"
    if present.master is not None and link.parent != present.master.index:
        yield f"{step.name} does not lie on {step.master}"
    if link.mtu != step.mtu:
        yield f"mtu of {step.name} is {link.mtu}, not {step.mtu}"
    if step.mac and link.mac != step.mac:
        yield f"MAC of {step.name} is {link.mac}, not {step.mac}"
    if step.kind == "vlan" and link.vlan_id != step.vlan_id:
        yield f"{step.name} has VLAN id {link.vlan_id}, not {step.vlan_id}"


def _check_moved(step: MoveLink, present: PresentState) -> Iterator[str]:
    if present.link("pod", step.new_name) is None:
        yield f"{step.new_name} is missing in the pod"


def _check_veth(step: CreateVeth, present: PresentState) -> Iterator[str]:
    yield from _check_veth_end(step.name, step.mac, present.link("node", step.name))
    yield from _check_veth_end(step.peer, step.peer_mac, present.link("pod", step.peer))


def _check_veth_end(name: str, mac: str, link: Link | None) -> Iterator[str]:
    if link is None:
        yield f"{name} is missing"
    elif link.mac != mac:
        yield f"MAC of {name} is {link.mac}, not {mac}"


def _check_settings(step: SetLink, present: PresentState) -> Iterator[str]:
    link = present.link(step.side, step.name)
    if link is not None and not link.up:
        yield f"{step.name} ({step.side}) is down"
    if link is not None and step.mac and link.mac != step.mac:
        yield f"MAC of {step.name} is {link.mac}, not {step.mac}"


def _check_present(step: Step, present: PresentState) -> Iterator[str]:
    if step not in present.steps:
        yield f"missing or changed: {step}"


def _check_sysctl(step: SetSysctl, present: PresentState) -> Iterator[str]:
    if step.required:
        yield from _check_present(step, present)


def _check_marks(step: LoadMarks, present: PresentState) -> Iterator[str]:
    if not set(step.versions) <= set(present.marks):
        yield f"missing: {step}"


def _nothing_to_check(_step: Step, _present: PresentState) -> Iterator[str]:
    return iter(())


_CHECKS: Mapping[type[Step], Callable[[Any, PresentState], Iterator[str]]] = {
    CreateLink: _check_child,
    MoveLink: _check_moved,
    CreateVeth: _check_veth,
    SetLink: _check_settings,
    AddAddress: _check_present,
    AddRoute: _check_present,
    AddRule: _check_present,
    AddNeighbour: _check_present,
    SetSysctl: _check_sysctl,
    LoadMarks: _check_marks,
    # Steps that remove something, that leave nothing to compare, or that no pod's plan contains.
    DeleteLink: _nothing_to_check,
    Remove: _nothing_to_check,
    Announce: _nothing_to_check,
    CreateBond: _nothing_to_check,
    Enslave: _nothing_to_check,
    LoadNICMarks: _nothing_to_check,
    DropNICMarks: _nothing_to_check,
}
"""Type of step → the function that looks for its result; a test checks that none is missing."""
