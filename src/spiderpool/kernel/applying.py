"""Carry out the steps of core.network.plumbing in the node's and the pod's network namespace.

Each type of step has one function, found in ``_EXECUTORS``. Steps without netlink (sysctls, marks, announcements) act
in the namespace of the calling thread, which enters it first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

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
)
from spiderpool.errors import AddressHeld, KernelFailure
from spiderpool.kernel import frames, marks, messages, sysctl
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Kernel, Netns, all_links, find_link, index_of

_HELD = (errno.EADDRINUSE, errno.EEXIST)  # the kernel's answers for an address that another link has
_MODULES = {"vlan": "8021q", "bond": "bonding"}  # kind of link → its kernel module, where the names differ


def apply(kernel: Kernel, steps: Sequence[Step], check: Callable[[], None] = lambda: None) -> None:
    """Carry out steps in order and stop at the first failure. Calls ``check``, which may raise, before each step.

    Adding a rule that exists and removing an object that does not exist succeed.

    Raises:
        KernelFailure: names the step and the kernel's answer.
        AddressHeld: the kernel refuses an address that another link has (ipvlan: also one in another namespace).
    """
    for step in steps:
        check()
        _execute(kernel, step, steps)


def apply_all(kernel: Kernel, steps: Sequence[Step]) -> None:
    """Carry out every step, also after a failure: for removals, which should leave as little behind as possible.

    Raises:
        KernelFailure: names every step that failed and the kernel's answers.
    """
    failures: list[KernelFailure] = []
    for step in steps:
        try:
            _execute(kernel, step, steps)
        except KernelFailure as failure:
            failures.append(failure)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        message = "; ".join(failure.message for failure in failures)
        details = "\n".join(failure.details for failure in failures if failure.details)
        raise KernelFailure(message, details) from ExceptionGroup("steps that failed", failures)


def _execute(kernel: Kernel, step: Step, steps: Sequence[Step]) -> None:
    try:
        _EXECUTORS[type(step)](kernel, step)
    except rt.NetlinkError as error:
        held = isinstance(step, AddAddress) and error.code in _HELD
        failure = AddressHeld if held else KernelFailure
        raise failure(_explain(step, error, steps), f"step: {step}") from error


def _create_link(kernel: Kernel, step: CreateLink) -> None:
    netns, master = kernel.netns(step.side), index_of(kernel.node, step.master)
    descriptor = netns.descriptor if step.side == "pod" else None
    name = step.temporary or step.name
    body = messages.create_child(step, name, master, descriptor)
    kernel.node.socket.request(rt.NEWLINK, body, rt.CREATE | rt.EXCLUSIVE)
    if step.temporary:
        netns.socket.request(rt.NEWLINK, messages.rename_link(index_of(netns, name), step.name))
        netns.links[step.name] = replace(netns.links.pop(name), name=step.name)


def _create_veth(kernel: Kernel, step: CreateVeth) -> None:
    body = messages.create_veth(step, kernel.netns("pod").descriptor)
    kernel.node.socket.request(rt.NEWLINK, body, rt.CREATE | rt.EXCLUSIVE)


def _create_bond(kernel: Kernel, step: CreateBond) -> None:
    netns = kernel.netns(step.side)
    indexes = {link.name: link.index for link in all_links(netns)}
    netns.socket.request(rt.NEWLINK, messages.create_bond(step, indexes), rt.CREATE | rt.EXCLUSIVE)


def _enslave(kernel: Kernel, step: Enslave) -> None:
    netns = kernel.netns(step.side)
    index = index_of(netns, step.name)
    netns.socket.request(rt.NEWLINK, messages.link_down(index))
    netns.socket.request(rt.NEWLINK, messages.add_to_bond(index, index_of(netns, step.bond)))
    netns.socket.request(rt.NEWLINK, messages.link_up(index))


def _move_link(kernel: Kernel, step: MoveLink) -> None:
    """Move and rename a link."""
    target = kernel.netns(step.side)
    # Without the pod's namespace the kernel has put the device back on the node, under some free name.
    origin = kernel.node if kernel.pod is None or step.side == "pod" else kernel.pod
    index = index_of(origin, step.name)
    if origin is target:
        body = messages.rename_link(index, step.new_name)
    else:
        body = messages.move_link(index, step.new_name, target.descriptor)
    origin.socket.request(rt.NEWLINK, body)
    _clear_link_caches(kernel)


def _delete_link(kernel: Kernel, step: DeleteLink) -> None:
    """Delete a link. In a pod, one that cannot be deleted is none of ours: hardware, or ``lo`` under another name."""
    _clear_link_caches(kernel)
    try:
        _delete(kernel.netns(step.side), rt.DELLINK, messages.link_by_name(step.name))
    except rt.NetlinkError as error:
        if step.side != "pod" or error.code != errno.EOPNOTSUPP:
            raise


def _set_link(kernel: Kernel, step: SetLink) -> None:
    netns = kernel.netns(step.side)
    index = index_of(netns, step.name)
    body = messages.link_up(index, queue=step.tx_queue_len, mtu=step.mtu, mac=step.mac)
    netns.socket.request(rt.NEWLINK, body)


def _add_address(kernel: Kernel, step: AddAddress) -> None:
    netns = kernel.netns(step.side)
    body = messages.address(step, index_of(netns, step.link))
    netns.socket.request(rt.NEWADDR, body, rt.CREATE | rt.REPLACE)


def _add_route(kernel: Kernel, step: AddRoute) -> None:
    netns = kernel.netns(step.side)
    body = messages.route(step, index_of(netns, step.link))
    netns.socket.request(rt.NEWROUTE, body, rt.CREATE | rt.REPLACE)


def _add_rule(kernel: Kernel, step: AddRule) -> None:
    try:
        kernel.netns(step.side).socket.request(rt.NEWRULE, messages.rule(step), rt.CREATE | rt.EXCLUSIVE)
    except rt.NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _add_neighbour(kernel: Kernel, step: AddNeighbour) -> None:
    netns = kernel.netns(step.side)
    body = messages.neighbour(step, index_of(netns, step.link))
    netns.socket.request(rt.NEWNEIGH, body, rt.CREATE | rt.REPLACE)


def _remove(kernel: Kernel, step: Remove) -> None:
    netns, what = kernel.netns(step.side), step.what
    if isinstance(what, AddRule):
        _delete(netns, rt.DELRULE, messages.rule(what))
        return
    link = find_link(netns, what.link)
    if link is None:
        return  # the kernel has removed the link's routes and neighbours with it
    match what:
        case AddRoute():
            _delete(netns, rt.DELROUTE, messages.delete_route(what, link.index))
        case AddNeighbour():
            _delete(netns, rt.DELNEIGH, messages.neighbour(what, link.index))
        case _:
            assert_never(what)


def _delete(netns: Netns, kind: int, body: bytes) -> None:
    """Delete an object; success if it does not exist."""
    try:
        netns.socket.request(kind, body)
    except rt.NetlinkError as error:
        if not error.is_absent:
            raise


def _clear_link_caches(kernel: Kernel) -> None:
    """A veth takes its peer along, which may be in the other namespace."""
    kernel.node.links.clear()
    if kernel.pod is not None:
        kernel.pod.links.clear()


def _set_sysctl(kernel: Kernel, step: SetSysctl) -> None:
    kernel.enter(step.side)
    sysctl.write(step.path, step.value, required=step.required)


def _load_marks(kernel: Kernel, step: LoadMarks) -> None:
    kernel.enter(step.side)
    marks.load(step.link, step.mark, step.versions, flush=step.flush)


def _load_nic_marks(kernel: Kernel, step: LoadNICMarks) -> None:
    kernel.enter(step.side)
    marks.load_nics(step.nics, step.mask, step.versions)


def _drop_nic_marks(kernel: Kernel, step: DropNICMarks) -> None:
    kernel.enter(step.side)
    marks.drop_nics()


def _announce(kernel: Kernel, step: Announce) -> None:
    kernel.enter(step.side)
    frames.announce(step.link, step.address, kernel.finish)


_EXECUTORS: Mapping[type[Step], Callable[[Kernel, Any], None]] = {
    CreateLink: _create_link,
    CreateVeth: _create_veth,
    CreateBond: _create_bond,
    Enslave: _enslave,
    MoveLink: _move_link,
    DeleteLink: _delete_link,
    SetLink: _set_link,
    AddAddress: _add_address,
    AddRoute: _add_route,
    AddRule: _add_rule,
    AddNeighbour: _add_neighbour,
    Remove: _remove,
    SetSysctl: _set_sysctl,
    LoadMarks: _load_marks,
    LoadNICMarks: _load_nic_marks,
    DropNICMarks: _drop_nic_marks,
    Announce: _announce,
}
"""Type of step → the function that carries it out; a test checks that none is missing."""


def _kind(step: CreateLink | CreateVeth | CreateBond) -> str:
    match step:
        case CreateLink():
            return step.kind
        case CreateVeth():
            return "veth"
        case CreateBond():
            return "bond"
        case _:
            assert_never(step)


def _explain(step: Step, error: rt.NetlinkError, steps: Sequence[Step]) -> str:
    """A sentence for the operator: the likely cause where the errno has one, else the step and the kernel's answer."""
    child = next((other for other in steps if isinstance(other, CreateLink)), None)
    match step, error.code:
        case AddAddress(), errno.EADDRINUSE | errno.EEXIST if child is not None:
            return (
                f"{step.address.ip} is already assigned to an {child.kind} device on {child.master}:"
                f" another sandbox still holds it"
            )
        case CreateLink(), errno.EBUSY:
            return (
                f"{step.master} cannot have a {step.kind} child: it has children of another kind (macvlan and ipvlan"
                f" exclude each other on one NIC) or belongs to a bridge or bond"
            )
        case CreateLink() | CreateVeth() | CreateBond(), errno.EOPNOTSUPP:
            kind = _kind(step)
            return f"this kernel has no {kind}: load the module {_MODULES.get(kind, kind)} on the node"
    return f"{step}: {error.reason}"
