"""Carry out the steps of core.plumbing.

Steps that need no netlink (sysctls, marks, announcements) run inside the namespace on the same thread.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    InsideStep,
    LoadMarks,
    LoadNICMarks,
    MoveLink,
    NetlinkStep,
    Remove,
    SetLink,
    SetSysctl,
    Step,
)
from spiderpool.errors import KernelFailure
from spiderpool.kernel import frames, marks, sysctl
from spiderpool.kernel import messages as say
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Kernel, Side, all_links, find_link, index_of


def apply(kernel: Kernel, steps: Sequence[Step], check: Callable[[], None] = lambda: None) -> None:
    """Carry out steps in order, with ``check`` before each, which may raise.

    A route, rule or neighbour that is right already, or a link that is gone, is success.

    Raises:
        KernelFailure: names the step and the kernel's answer.
    """
    for step in steps:
        check()
        try:
            _execute(kernel, step)
        except rt.NetlinkError as refusal:
            raise KernelFailure(_sentence(step, refusal, steps), f"step: {step}") from refusal


def _execute(kernel: Kernel, step: Step) -> None:
    if isinstance(step, InsideStep):
        kernel.enter(step.where)
        _execute_inside(step, kernel.finish)
    else:
        _execute_netlink(kernel, step)


def _execute_netlink(kernel: Kernel, step: NetlinkStep) -> None:
    side = kernel.side(step.where)
    route = side.route
    match step:
        case CreateLink():
            _create_link(kernel, step)
        case CreateVeth():
            kernel.node.route.request(
                rt.NEWLINK, say.veth(step, kernel.side("pod").namespace), rt.CREATE | rt.EXCLUSIVE
            )
        case CreateBond():
            indexes = {link.name: link.index for link in all_links(side)}
            route.request(rt.NEWLINK, say.bond(step, indexes), rt.CREATE | rt.EXCLUSIVE)
        case Enslave():
            _enslave(side, step)
        case MoveLink():
            _move_link(kernel, step)
        case DeleteLink():
            _forget_links(kernel)
            _gone(route, rt.DELLINK, say.by_name(step.name))
        case SetLink():
            body = say.up(index_of(side, step.name), queue=step.tx_queue_len, mtu=step.mtu, mac=step.mac)
            route.request(rt.NEWLINK, body)
        case AddAddress():
            route.request(rt.NEWADDR, say.address(step, index_of(side, step.link)), rt.CREATE | rt.REPLACE)
        case AddRoute():
            route.request(rt.NEWROUTE, say.route(step, index_of(side, step.link)), rt.CREATE | rt.REPLACE)
        case AddRule():
            _there(route, rt.NEWRULE, say.rule(step))
        case AddNeighbour():
            route.request(rt.NEWNEIGH, say.neighbour(step, index_of(side, step.link)), rt.CREATE | rt.REPLACE)
        case Remove():
            _remove(side, step.what)
        case _:
            assert_never(step)


def _there(route: rt.Socket, kind: int, body: bytes) -> None:
    try:
        route.request(kind, body, rt.CREATE | rt.EXCLUSIVE)
    except rt.NetlinkError as refusal:
        if refusal.code != errno.EEXIST:
            raise


def _gone(route: rt.Socket, kind: int, body: bytes) -> None:
    try:
        route.request(kind, body)
    except rt.NetlinkError as refusal:
        if not rt.is_absent(refusal):
            raise


def _remove(side: Side, what: AddRoute | AddRule | AddNeighbour) -> None:
    match what:
        case AddRule():
            _gone(side.route, rt.DELRULE, say.rule(what))
        case AddRoute():
            link = find_link(side, what.link)
            if link is not None:
                _gone(side.route, rt.DELROUTE, say.old_route(what, link.index))
        case AddNeighbour():
            link = find_link(side, what.link)
            if link is not None:
                _gone(side.route, rt.DELNEIGH, say.neighbour(what, link.index))
        case _:
            assert_never(what)


def _create_link(kernel: Kernel, step: CreateLink) -> None:
    side, master = kernel.side(step.where), index_of(kernel.node, step.master)
    namespace = side.namespace if step.where == "pod" else None
    name = step.temporary or step.name
    kernel.node.route.request(rt.NEWLINK, say.child(step, name, master, namespace), rt.CREATE | rt.EXCLUSIVE)
    if step.temporary:
        side.route.request(rt.NEWLINK, say.renamed(index_of(side, name), step.name))
        side.links[step.name] = replace(side.links.pop(name), name=step.name)


def _enslave(side: Side, step: Enslave) -> None:
    index = index_of(side, step.name)
    side.route.request(rt.NEWLINK, say.down(index))
    side.route.request(rt.NEWLINK, say.enslaved(index, index_of(side, step.bond)))
    side.route.request(rt.NEWLINK, say.up(index))


def _move_link(kernel: Kernel, step: MoveLink) -> None:
    """Set the alias first: a device that is lost half way can then be told from others."""
    target = kernel.side(step.where)
    # With its namespace gone, the kernel has given the device back, if under another name.
    origin = kernel.node if kernel.pod is None or step.where == "pod" else kernel.pod
    index = index_of(origin, step.name)
    if step.alias:
        origin.route.request(rt.NEWLINK, say.aliased(index, step.alias))
    body = say.renamed(index, step.new_name) if origin is target else say.moved(index, step.new_name, target.namespace)
    origin.route.request(rt.NEWLINK, body)
    _forget_links(kernel)
    if not step.alias:
        target.route.request(rt.NEWLINK, say.aliased(index_of(target, step.new_name), ""))


def _forget_links(kernel: Kernel) -> None:
    """A veth takes its peer along, which may be on the other side."""
    kernel.node.links.clear()
    if kernel.pod is not None:
        kernel.pod.links.clear()


def _execute_inside(step: InsideStep, finish: contextlib.ExitStack) -> None:
    match step:
        case SetSysctl():
            sysctl.write(step.path, step.value, required=step.required)
        case LoadMarks():
            marks.load(step.link, step.mark, step.versions, afresh=step.afresh)
        case LoadNICMarks():
            marks.load_nics(step.nics, step.mask, step.versions)
        case DropNICMarks():
            marks.drop_nics()
        case Announce():
            frames.announce(step.link, step.address, finish)
        case _:
            assert_never(step)


def _sentence(step: Step, refusal: rt.NetlinkError, steps: Sequence[Step]) -> str:
    child = next((one for one in steps if isinstance(one, CreateLink)), None)
    match step, refusal.code:
        case AddAddress(), errno.EADDRINUSE if child is not None:
            return (
                f"{step.address.ip} is already assigned to an {child.kind} device on {child.master}:"
                f" another sandbox still holds it"
            )
        case CreateLink(), errno.EBUSY:
            return (
                f"{step.master} cannot have a {step.kind} child: it has children of another kind (macvlan and ipvlan"
                f" exclude each other on one NIC) or belongs to a bridge or bond"
            )
        case CreateLink() | CreateBond(), errno.EOPNOTSUPP:
            kind = step.kind if isinstance(step, CreateLink) else "bond"
            module = {"vlan": "8021q", "bond": "bonding"}.get(kind, kind)
            return f"this kernel has no {kind}: load the module {module} on the node"
    return f"{step}: {refusal.reason}"
