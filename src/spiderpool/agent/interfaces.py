"""A pod's interfaces: make, take away, check, refresh one. observe → plan → apply, and undone when it fails.

``node`` is the path of the node's network namespace; None means the agent's own, as on a real node.
The caller sees to it that no two calls for one container run at once. A pod's first interface comes first; the others
may come, go and come again in any order.

Every call is one thread that waits for the kernel. A call that is cancelled ends in order before the cancellation goes
on: an addition takes back what it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spiderpool.core.network.plumbing.adopting import adopted, default_by_wish, default_if_free, lacking
from spiderpool.core.network.plumbing.drift import drift
from spiderpool.core.network.plumbing.nics import NIC, NodeState, diagnose, plan_nics, undo_nics
from spiderpool.core.network.plumbing.parents import ParentLink, plan_parent
from spiderpool.core.network.plumbing.planning import plan, wanted
from spiderpool.core.network.plumbing.probing import Detection, judge, probes
from spiderpool.core.network.plumbing.refresh import refresh as plan_refresh
from spiderpool.core.network.plumbing.removal import removal
from spiderpool.core.network.plumbing.steps import AddRoute, Step
from spiderpool.core.network.plumbing.sweeping import sweep as plan_sweep
from spiderpool.core.network.plumbing.values import PRESENT, Address, Attachment, is_default
from spiderpool.errors import BadConfig, BadNamespace, Drift, KernelFailure
from spiderpool.kernel.applying import apply
from spiderpool.kernel.dad import settle
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import Kernel, all_links, find_link, opened_kernel
from spiderpool.kernel.observing import (
    node_addresses,
    observe,
    observe_nics,
    observe_paths,
    observe_pod,
    observe_remains,
    observe_wiring,
    present,
)
from spiderpool.kernel.probing import ask

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttachedInterface:
    """What the runtime is told of a finished interface; ``host_interface`` is the node's end of the pod's path."""

    mac: str
    mtu: int
    sandbox: str
    host_interface: str | None


async def add(attachment: Attachment, *, node: Path | None = None) -> AttachedInterface:
    """Give the pod the interface; after a failure nothing of it is left. May be repeated.

    To an interface that another plugin made it gives the coordination alone.

    Raises:
        BadNamespace: the pod's namespace is missing or none.
        BadConfig, NotReady: the attachment cannot work on this node, or not yet.
        KernelFailure: the kernel refused a step.
    """

    def undo(kernel: Kernel) -> None:
        _take_back(kernel, attachment)

    return await _operate(attachment.netns, node, lambda kernel, stop: _add(kernel, attachment, stop), undo)


async def probe(attachment: Attachment, detection: Detection, *, node: Path | None = None) -> None:
    """Look whether the attachment's addresses are free and their gateways there, before it is made.

    Raises:
        AddressInUse, GatewaySilent: they are not; names who answered.
        KernelFailure: the NIC is missing or down.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> None:
        asked = probes(attachment, detection, node_addresses(kernel.node))
        nic = find_link(kernel.node, attachment.master)
        there = find_link(kernel.side("pod"), attachment.ifname)  # of an earlier attempt; macvlan answers its master
        if asked and nic is not None:
            kernel.enter("node")
            ours = frozenset(link.mac for link in (nic, there) if link)
            judge(asked, ask(nic.name, asked, kernel.finish), ours, nic.name)

    await _operate(attachment.netns, node, work)


async def remove(
    container_id: str, netns: str, ifname: str, *, keep_link: bool = False, node: Path | None = None
) -> None:
    """Take the interface away, and with the last one the pod's path to its node; what is gone already is success.

    ``netns`` may be empty, missing, or a mere file that was left where a namespace had been. ``keep_link`` leaves the
    interface itself to the plugin that made it.

    Raises:
        KernelFailure: the kernel refused a deletion.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> None:
        _remove(kernel, container_id, ifname, keep_link)

    try:
        await _operate(netns or None, node, work)
    except BadNamespace:
        await _operate(None, node, work)


async def check(attachment: Attachment, *, node: Path | None = None) -> None:
    """Compare the pod's interface with what `add` would make.

    Raises:
        Drift: names all that is missing or changed.
        BadNamespace: the pod's namespace is missing or none.
        BadConfig, NotReady, KernelFailure: as for `add`.
    """
    faults = await _operate(attachment.netns, node, lambda kernel, _: _faults(kernel, attachment))
    if faults:
        raise Drift(f"interface {attachment.ifname}: {'; '.join(faults)}")


async def refresh(
    container_id: str, netns: str, *, first_nic: str = "eth0", node: Path | None = None
) -> tuple[Step, ...]:
    """Bring what the pod knows of its node's addresses up to date; returns what was done, nothing if all was right.

    To be called for each pod when an address of the node came or went.

    Raises:
        BadNamespace: the pod's namespace is missing or none.
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> tuple[Step, ...]:
        return _applied(kernel, plan_refresh(observe_wiring(kernel, container_id, first_nic)))

    return await _operate(netns, node, work)


async def place_default(
    netns: str, ifname: str, gateways: tuple[Address, ...] | None, *, if_free: bool = False, node: Path | None = None
) -> frozenset[int]:
    """Let an interface that a plugin made have the default route only as the pod wishes; for which families it has it.

    ``gateways`` None: not by this interface. Empty: as the plugin left it, with ``if_free`` only where no other
    interface has it. Else by these.

    Raises:
        BadNamespace: the pod's namespace is missing or none.
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> frozenset[int]:
        pod = observe_pod(kernel.side("pod"))
        apply(kernel, default_if_free(pod, ifname) if if_free else default_by_wish(pod, ifname, gateways))
        routes = observe_pod(kernel.side("pod")).routes
        return frozenset(route.destination.version for route in routes if is_default(route) and route.link == ifname)

    return await _operate(netns, node, work)


async def sweep(
    containers: Collection[str],
    addresses: Collection[Address],
    tables: Collection[int],
    *,
    node: Path | None = None,
) -> tuple[Step, ...]:
    """Remove what is left on the node of pods that are gone; returns what was done.

    What belongs to one of ``containers`` or leads to one of ``addresses`` stays. ``tables`` are those that may lead to
    pods.

    Raises:
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> tuple[Step, ...]:
        return _applied(kernel, plan_sweep(observe_paths(kernel, tables), containers, addresses))

    return await _operate(None, node, work)


async def ensure_parent(parent: ParentLink, *, node: Path | None = None) -> str:
    """Make the bond or VLAN on which pods' interfaces shall lie; returns its name. What is right is left alone.

    Raises:
        BadConfig: it cannot be right, or would cost the node an address.
        KernelFailure: a NIC is missing, a name is taken by something else, or the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> str:
        _applied(kernel, plan_parent(parent, all_links(kernel.node), node_addresses(kernel.node)))
        return parent.name

    return await _operate(None, node, work)


async def tune_node(nics: Sequence[NIC], *, node: Path | None = None) -> tuple[Step, ...]:
    """Make every NIC of the node answer for itself; returns what was done. NICs left out of a later call are undone.

    Raises:
        BadConfig: too many NICs, or a gateway that no address of its NIC reaches.
        KernelFailure: the kernel refused a step.
    """
    return await _operate(None, node, lambda kernel, _: _applied(kernel, plan_nics(tuple(nics), observe_nics(kernel))))


async def node_state(*, node: Path | None = None) -> NodeState:
    """What the node's NICs and its routing by them look like."""
    return await _operate(None, node, lambda kernel, _: observe_nics(kernel))


async def untune_node(*, node: Path | None = None) -> tuple[Step, ...]:
    """Undo `tune_node`; returns what was done."""
    return await _operate(None, node, lambda kernel, _: _applied(kernel, undo_nics(observe_nics(kernel))))


async def diagnose_node(*, node: Path | None = None) -> tuple[str, ...]:
    """What is missing on the node for its pods and NICs to be reached and to answer, in sentences."""
    return await _operate(None, node, lambda kernel, _: diagnose(observe_nics(kernel)))


async def _operate(
    netns: str | None,
    node: Path | None,
    work: Callable[[Kernel, threading.Event], T],
    undo: Callable[[Kernel], None] | None = None,
) -> T:
    """Run ``work`` on a thread of its own. When cancelled, ask it to stop and wait; if it was done already, undo it."""
    stop = threading.Event()
    task = _thread(netns, node, lambda kernel: work(kernel, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if undo is not None and not task.exception():
            await asyncio.wait([_thread(netns, node, undo)])
        raise


def _thread(netns: str | None, node: Path | None, work: Callable[[Kernel], T]) -> asyncio.Future[T]:
    finish = contextlib.ExitStack()

    def body() -> T:
        with opened_kernel(netns, node, finish) as kernel:
            return work(kernel)

    return asyncio.ensure_future(run_inside(None, body, finish.close))


def _add(kernel: Kernel, attachment: Attachment, stop: threading.Event) -> AttachedInterface:
    attachment, fault = _adopted(kernel, attachment)
    if fault:
        raise BadConfig(fault)
    if attachment.kind == PRESENT:
        settle(kernel.side("pod"), attachment.ifname, lambda: _go_on(stop))
    steps = plan(attachment, observe(kernel, attachment))
    try:
        apply(kernel, steps, lambda: _go_on(stop))
        return _attached(kernel, attachment, steps)
    except BaseException as error:
        _undo(kernel, attachment, error)
        raise


def _adopted(kernel: Kernel, attachment: Attachment) -> tuple[Attachment, str]:
    """The attachment with what its interface has already, and what that interface lacks."""
    if attachment.kind != PRESENT:
        return attachment, ""
    pod = observe_pod(kernel.side("pod"))
    return adopted(attachment, pod), lacking(attachment, pod)


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise InterruptedError("the caller gave up")


def _attached(kernel: Kernel, attachment: Attachment, steps: tuple[Step, ...]) -> AttachedInterface:
    pod = kernel.side("pod")
    pod.links.pop(attachment.ifname, None)
    link = find_link(pod, attachment.ifname)
    if link is None:
        raise KernelFailure(f"{attachment.ifname} disappeared from the pod right after it was made")
    host = next((step.link for step in steps if isinstance(step, AddRoute) and step.where == "node"), None)
    return AttachedInterface(link.mac, link.mtu, attachment.netns, host)


def _undo(kernel: Kernel, attachment: Attachment, cause: BaseException) -> None:
    """Remove what was made, and let the failure that led here be the one that is reported."""
    try:
        _take_back(kernel, attachment)
    except KernelFailure as error:
        cause.add_note(f"and what was made could not be removed: {error}")


def _take_back(kernel: Kernel, attachment: Attachment) -> None:
    _remove(kernel, attachment.container_id, attachment.ifname, attachment.kind == PRESENT)


def _remove(kernel: Kernel, container_id: str, ifname: str, keep_link: bool) -> None:
    left = observe_remains(kernel, container_id, ifname)
    apply(kernel, removal(container_id, ifname, left, keep_link=keep_link))


def _faults(kernel: Kernel, attachment: Attachment) -> tuple[str, ...]:
    attachment, fault = _adopted(kernel, attachment)
    if fault:
        return (fault,)
    seen = observe(kernel, attachment)
    steps = wanted(attachment, seen)
    return drift(steps, present(kernel, steps), seen.master)


def _applied(kernel: Kernel, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    apply(kernel, steps)
    return steps
