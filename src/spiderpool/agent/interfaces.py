"""Create, remove, check and refresh a pod's interfaces, and tune the node's NICs: observe → plan → apply.

``node`` is the path of the node's network namespace; None means the agent's own, as on a real node.
The caller must not run two calls for one container at once. It adds a pod's first interface first; it may remove and
add the others in any order.

Every call runs on one thread that blocks in the kernel. A cancelled call waits for its thread, and a cancelled `add`
removes what it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spiderpool.core.network.plumbing import probing
from spiderpool.core.network.plumbing.drift import find_drift
from spiderpool.core.network.plumbing.existing import (
    complete_attachment,
    missing_part,
    place_default_route,
    place_default_route_if_free,
)
from spiderpool.core.network.plumbing.nics import NIC, NodeState, plan_nics, undo_nics
from spiderpool.core.network.plumbing.parents import ParentLink, plan_parent
from spiderpool.core.network.plumbing.planning import full_plan, plan
from spiderpool.core.network.plumbing.refresh import PathSettings, plan_refresh
from spiderpool.core.network.plumbing.removal import is_foreign, plan_removal
from spiderpool.core.network.plumbing.steps import AddRoute, Step
from spiderpool.core.network.plumbing.sweeping import PodPaths
from spiderpool.core.network.plumbing.values import EXISTING, Address, Attachment, Loan, is_default
from spiderpool.errors import BadConfig, BadNamespace, Drift, KernelFailure
from spiderpool.kernel import observing
from spiderpool.kernel.applying import apply, apply_all
from spiderpool.kernel.dad import wait_for_dad
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import Kernel, all_links, find_link, opened_kernel
from spiderpool.kernel.probing import send_probes
from spiderpool.telemetry import logger

T = TypeVar("T")

log = logger("interfaces")


class _AddAbandonedError(Exception):
    """The caller of `add` was cancelled, so the thread stops between two steps."""


@dataclass(frozen=True, slots=True)
class AttachedInterface:
    """The part of the CNI result about one interface; ``host_interface`` is the node's end of the pod's path."""

    mac: str
    mtu: int
    sandbox: str
    host_interface: str | None


async def add(attachment: Attachment, *, node: Path | None = None) -> AttachedInterface:
    """Give the pod the interface. Removes what it made after a failure or a cancellation. May be repeated.

    An interface of kind ``EXISTING``, which another plugin made, gets only the pod's path to its node.

    Raises:
        BadNamespace: the pod's namespace is missing or is no network namespace.
        BadConfig, NotReady: the attachment cannot work on this node, or not yet.
        AddressInUse, AddressHeld: another machine, or another sandbox of this node, has an address.
        KernelFailure: the kernel refused a step.
    """

    def undo(kernel: Kernel) -> None:
        _remove_attachment(kernel, attachment)

    return await _operate(attachment.netns, node, lambda kernel, stop: _add(kernel, attachment, stop), undo)


async def probe(attachment: Attachment, detection: probing.Detection, *, node: Path | None = None) -> None:
    """Check, before the interface is created, that its addresses are free and its gateways answer.

    Raises:
        AddressInUse: another machine answers for an address; names its MAC.
        GatewaySilent: a gateway does not answer.
        KernelFailure: the NIC is missing or down.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> None:
        probes = probing.plan_probes(attachment, detection, observing.node_addresses(kernel.node))
        nic = find_link(kernel.node, attachment.master)
        if not probes or nic is None:
            return
        # An interface that an earlier ADD left in the pod: a macvlan child answers its master.
        leftover = find_link(kernel.netns("pod"), attachment.ifname)
        own_macs = frozenset(link.mac for link in (nic, leftover) if link)
        kernel.enter("node")
        answers = send_probes(nic.name, probes, kernel.finish)
        probing.check_answers(probes, answers, own_macs, nic.name)

    await _operate(attachment.netns, node, work)


async def remove(
    container_id: str, netns: str, ifname: str, loan: Loan | None = None, *, node: Path | None = None
) -> None:
    """Remove the interface, and with the last one the pod's path to its node. Success if nothing of it exists.

    ``netns`` may be empty, missing, a plain file in place of a deleted namespace, or by now the namespace of another
    container: then removes what is left on the node. A device that the interface borrowed by ``loan`` goes back to the
    node; what the pod says of its links does not count.

    Raises:
        KernelFailure: deletions that the kernel refused; all others have been carried out.
    """
    await _removed(container_id, netns, ifname, node, lambda kernel: _remove(kernel, container_id, ifname, loan))


async def remove_path(container_id: str, netns: str, ifname: str, *, node: Path | None = None) -> None:
    """As `remove`, but leaves the link itself to the plugin that made it."""
    await _removed(
        container_id, netns, ifname, node, lambda kernel: _remove(kernel, container_id, ifname, None, keep_link=True)
    )


async def _removed(
    container_id: str, netns: str, ifname: str, node: Path | None, remove_from: Callable[[Kernel], None]
) -> None:
    def work(kernel: Kernel, _stop: threading.Event) -> None:
        if kernel.pod is not None and _is_foreign(kernel, container_id, ifname):
            kernel.pod = None
        remove_from(kernel)

    try:
        await _operate(netns or None, node, work)
    except BadNamespace:  # the pod is gone
        await _operate(None, node, work)


async def is_of_another(
    container_id: str, netns: str, ifname: str, others: Collection[Address], *, node: Path | None = None
) -> bool:
    """Whether a namespace belongs to another container by now; ``others`` are the addresses of other pods.

    False where it is gone. Raises KernelFailure when it cannot be read.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> bool:
        return _is_foreign(kernel, container_id, ifname, others)

    try:
        return await _operate(netns, node, work)
    except BadNamespace:
        return False


async def loan_of(device: str, *, node: Path | None = None) -> Loan | None:
    """The loan of a device that a pod is about to borrow; None where the node has it not. Raises KernelFailure."""

    def work(kernel: Kernel, _stop: threading.Event) -> Loan | None:
        link = find_link(kernel.node, device)
        return Loan(device, link.kind, link.permanent_mac) if link else None

    return await _operate(None, node, work)


async def has_link(netns: str, ifname: str, *, node: Path | None = None) -> bool:
    """Whether a pod has a link of a name; false where its namespace is gone. Raises KernelFailure."""
    try:
        return await _operate(netns, node, lambda kernel, _: find_link(kernel.netns("pod"), ifname) is not None)
    except BadNamespace:
        return False


async def check(attachment: Attachment, *, node: Path | None = None) -> None:
    """Compare the pod's interface with the result of `add`.

    Raises:
        Drift: names everything that is missing or changed.
        BadNamespace: the pod's namespace is missing or is no network namespace.
        BadConfig, NotReady, KernelFailure: as for `add`.
    """
    faults = await _operate(attachment.netns, node, lambda kernel, _: _find_faults(kernel, attachment))
    if faults:
        raise Drift(f"interface {attachment.ifname}: {'; '.join(faults)}")


async def refresh(
    container_id: str, netns: str, settings: PathSettings | None = None, *, node: Path | None = None
) -> tuple[Step, ...]:
    """Update the pod's path to its node and the node's to it; returns the steps taken, none if nothing had changed.

    Call it for each pod when an address of the node, or of Services outside the Service CIDRs, was added or removed,
    or when another program has removed rules or routes from the node.

    Raises:
        BadNamespace: the pod's namespace is missing or is no network namespace.
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> tuple[Step, ...]:
        return _apply(
            kernel, plan_refresh(observing.observe_pod_link(kernel, container_id, settings or PathSettings()))
        )

    return await _operate(netns, node, work)


async def place_default(
    netns: str, ifname: str, gateways: tuple[Address, ...] | None, *, if_free: bool = False, node: Path | None = None
) -> frozenset[int]:
    """Give an interface of another plugin the default route that the pod's annotation requests.

    ``gateways`` None: no default route through this interface. Empty: as the plugin left it; with ``if_free`` only if
    no other interface has one. Else through these gateways. Returns the families whose default route it has then.

    Raises:
        BadNamespace: the pod's namespace is missing or is no network namespace.
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> frozenset[int]:
        pod = observing.observe_pod(kernel.netns("pod"))
        steps = place_default_route_if_free(pod, ifname) if if_free else place_default_route(pod, ifname, gateways)
        apply(kernel, steps)
        routes = observing.observe_pod(kernel.netns("pod")).routes
        return frozenset(route.destination.version for route in routes if is_default(route) and route.link == ifname)

    return await _operate(netns, node, work)


async def pod_paths(tables: Collection[int], *, node: Path | None = None) -> PodPaths:
    """What the node has of paths to pods: its links, and its routes and neighbours in some routing tables.

    Raises:
        KernelFailure: it cannot be read.
    """
    return await _operate(None, node, lambda kernel, _: observing.observe_pod_paths(kernel, tables))


async def remove_paths(steps: Sequence[Step], *, node: Path | None = None) -> None:
    """Carry out the steps of `plan_sweep`.

    Raises:
        KernelFailure: deletions that the kernel refused; all others have been carried out.
    """
    await _operate(None, node, lambda kernel, _: apply_all(kernel, steps))


async def ensure_parent(parent: ParentLink, *, node: Path | None = None) -> str:
    """Create what the node lacks of the bond or VLAN that is the parent of pods' interfaces; returns its name.

    Raises:
        BadConfig: the request is wrong, or would take an address from the node.
        KernelFailure: a NIC is missing, a name is taken by something else, or the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> str:
        _apply(kernel, plan_parent(parent, all_links(kernel.node), observing.node_addresses(kernel.node)))
        return parent.name

    return await _operate(None, node, work)


async def tune_node(nics: Sequence[NIC], *, node: Path | None = None) -> tuple[Step, ...]:
    """Make every NIC of the node answer for itself; returns the steps taken. Undoes NICs that are not in ``nics``.

    Raises:
        BadConfig: too many NICs, or a gateway that no address of its NIC reaches.
        KernelFailure: the kernel refused a step.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> tuple[Step, ...]:
        return _apply(kernel, plan_nics(tuple(nics), observing.observe_nics(kernel)))

    return await _operate(None, node, work)


async def node_state(*, node: Path | None = None) -> NodeState:
    """The state of the node's NICs and of its routing. Raises KernelFailure when it cannot be read."""
    return await _operate(None, node, lambda kernel, _: observing.observe_nics(kernel))


async def untune_node(*, node: Path | None = None) -> tuple[Step, ...]:
    """Undo `tune_node`; returns the steps taken.

    Raises:
        KernelFailure: deletions that the kernel refused; all others have been carried out.
    """

    def work(kernel: Kernel, _stop: threading.Event) -> tuple[Step, ...]:
        steps = undo_nics(observing.observe_nics(kernel))
        apply_all(kernel, steps)
        return steps

    return await _operate(None, node, work)


async def _operate(
    netns: str | None,
    node: Path | None,
    work: Callable[[Kernel, threading.Event], T],
    undo: Callable[[Kernel], None] | None = None,
) -> T:
    """Run ``work`` on a thread of its own.

    When cancelled, sets the event that ``work`` should obey and waits for the thread. If ``work`` has succeeded by
    then, runs ``undo``. Logs failures that the cancellation hides from the caller.
    """
    stop = threading.Event()
    task = _start_thread(netns, node, lambda kernel: work(kernel, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        _log_hidden_failure(task)
        if undo is not None and not task.exception():
            undone = _start_thread(netns, node, undo)
            await asyncio.wait([undone])
            _log_hidden_failure(undone)
        raise


def _log_hidden_failure(task: asyncio.Future[T]) -> None:
    error = task.exception()
    if error is None:
        return
    notes: list[str] = getattr(error, "__notes__", [])
    if notes or not isinstance(error, _AddAbandonedError):
        log.warning("cancelled operation has failed", error="; ".join([str(error), *notes]))


def _start_thread(netns: str | None, node: Path | None, work: Callable[[Kernel], T]) -> asyncio.Future[T]:
    finish = contextlib.ExitStack()  # what the thread still does once the caller has its result

    def body() -> T:
        with opened_kernel(netns, node, finish) as kernel:
            return work(kernel)

    return asyncio.ensure_future(run_inside(None, body, finish.close))


def _add(kernel: Kernel, attachment: Attachment, stop: threading.Event) -> AttachedInterface:
    attachment, fault = _complete(kernel, attachment)
    if fault:
        raise BadConfig(fault)
    if attachment.kind == EXISTING:
        wait_for_dad(kernel.netns("pod"), attachment.ifname, lambda: _raise_if_abandoned(stop))
    steps = plan(attachment, observing.observe(kernel, attachment))
    try:
        apply(kernel, steps, lambda: _raise_if_abandoned(stop))
        return _attached(kernel, attachment, steps)
    except BaseException as error:
        _undo(kernel, attachment, error)
        raise


def _complete(kernel: Kernel, attachment: Attachment) -> tuple[Attachment, str]:
    """The attachment, completed if another plugin made its interface, and a sentence about what it lacks."""
    if attachment.kind != EXISTING:
        return attachment, ""
    pod = observing.observe_pod(kernel.netns("pod"))
    return complete_attachment(attachment, pod), missing_part(attachment, pod)


def _raise_if_abandoned(stop: threading.Event) -> None:
    if stop.is_set():
        raise _AddAbandonedError("the caller gave up")


def _attached(kernel: Kernel, attachment: Attachment, steps: tuple[Step, ...]) -> AttachedInterface:
    pod = kernel.netns("pod")
    pod.links.pop(attachment.ifname, None)  # the steps have changed its MAC and MTU
    link = find_link(pod, attachment.ifname)
    if link is None:
        raise KernelFailure(f"{attachment.ifname} disappeared from the pod right after it was made")
    host = next((step.link for step in steps if isinstance(step, AddRoute) and step.side == "node"), None)
    return AttachedInterface(link.mac, link.mtu, attachment.netns, host)


def _undo(kernel: Kernel, attachment: Attachment, cause: BaseException) -> None:
    """Remove what a failed `add` made. The caller gets the first failure; one of the removal becomes a note of it."""
    try:
        _remove_attachment(kernel, attachment)
    except KernelFailure as error:
        note = f"and what was made could not be removed: {error}"
        cause.add_note(note)
        if isinstance(cause, KernelFailure):
            cause.details = "\n".join(filter(None, (cause.details, note)))


def _remove_attachment(kernel: Kernel, attachment: Attachment) -> None:
    keep_link = attachment.kind == EXISTING
    _remove(kernel, attachment.container_id, attachment.ifname, attachment.loan, keep_link=keep_link)


def _is_foreign(kernel: Kernel, container_id: str, ifname: str, others: Collection[Address] = ()) -> bool:
    pod, host_end = observing.observe_path(kernel, container_id, with_addresses=bool(others))
    return is_foreign(container_id, ifname, pod, host_end, others)


def _remove(kernel: Kernel, container_id: str, ifname: str, loan: Loan | None, *, keep_link: bool = False) -> None:
    leftover = observing.observe_leftovers(kernel, container_id, ifname, is_lent=loan is not None)
    apply_all(kernel, plan_removal(container_id, ifname, leftover, loan, keep_link=keep_link))


def _find_faults(kernel: Kernel, attachment: Attachment) -> tuple[str, ...]:
    attachment, fault = _complete(kernel, attachment)
    if fault:
        return (fault,)
    observed = observing.observe(kernel, attachment)
    steps = full_plan(attachment, observed)
    return find_drift(steps, observing.observe_present(kernel, steps, observed.master))


def _apply(kernel: Kernel, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Carry out steps and return them. Raises KernelFailure at the first step that fails."""
    apply(kernel, steps)
    return steps
