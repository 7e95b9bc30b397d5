"""A pod's interface: make it, take it away, check it. observe → plan → apply, and undone when it fails.

``node`` is the path of the node's network namespace; None means the agent's own, as on a real node.
The caller sees to it that no two calls for one container run at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from spiderpool.core.plumbing import (
    Attachment,
    DeleteLink,
    Step,
    drift,
    host_interface,
    plan,
    removal,
)
from spiderpool.errors import BadNamespace, Drift, KernelFailure
from spiderpool.kernel.netlink import Kernel, apply, find_link, observe, opened_kernel, present

UNDO_TIMEOUT = 10.0
"""Seconds that the removal of a half-made interface may take."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What the runtime is told of a finished interface; ``host_interface`` is the node's end of the veth pair."""

    mac: str
    mtu: int
    sandbox: str
    host_interface: str | None


async def add(attachment: Attachment, *, node: Path | None = None) -> Attached:
    """Give the pod its interface; after a failure nothing of it is left. May be repeated.

    Raises:
        BadNamespace: the pod's namespace is missing or none.
        BadConfig, NotReady: the attachment cannot work on this node, or not yet.
        KernelFailure: the kernel refused a step.
    """
    async with opened_kernel(attachment.netns, node) as kernel:
        steps = plan(attachment, await observe(kernel, attachment))
        await _apply_or_undo(kernel, attachment, steps)
        link = await find_link(kernel.side("pod"), attachment.ifname)
        if link is None:
            raise KernelFailure(f"{attachment.ifname} disappeared from the pod right after it was made")
        coordinated = attachment.coordination is not None and attachment.coordination.mode == "underlay"
        host = host_interface(attachment.container_id) if coordinated else None
        return Attached(link.mac, link.mtu, attachment.netns, host)


async def remove(container_id: str, netns: str, ifname: str, *, node: Path | None = None) -> None:
    """Take the interface and the pod's path to its node away; what is gone already is success.

    ``netns`` may be empty, missing, or a mere file that was left where a namespace had been.

    Raises:
        KernelFailure: the kernel refused a deletion.
    """
    steps = removal(container_id, ifname)
    if not netns:
        await _remove_from_node(steps, node)
        return
    try:
        async with opened_kernel(netns, node) as kernel:
            await apply(kernel, steps)
    except BadNamespace:
        await _remove_from_node(steps, node)


async def check(attachment: Attachment, *, node: Path | None = None) -> None:
    """Compare the pod's interface with what `add` would make.

    Raises:
        Drift: names all that is missing or changed.
        BadNamespace: the pod's namespace is missing or none.
        BadConfig, NotReady, KernelFailure: as for `add`.
    """
    async with opened_kernel(attachment.netns, node) as kernel:
        seen = await observe(kernel, attachment)
        steps = plan(attachment, seen)
        assert seen.master is not None  # or plan would have refused
        faults = drift(steps, await present(kernel, steps), seen.master)
    if faults:
        raise Drift(f"interface {attachment.ifname}: {'; '.join(faults)}")


async def _apply_or_undo(kernel: Kernel, attachment: Attachment, steps: tuple[Step, ...]) -> None:
    try:
        await apply(kernel, steps)
    except BaseException as error:
        await _undo(kernel, attachment, error)
        raise


async def _undo(kernel: Kernel, attachment: Attachment, cause: BaseException) -> None:
    """Remove what was made, and let the failure that led here be the one that is reported."""
    try:
        async with asyncio.timeout(UNDO_TIMEOUT):
            await apply(kernel, removal(attachment.container_id, attachment.ifname))
    except (KernelFailure, TimeoutError) as error:
        cause.add_note(f"and what was made could not be removed: {error}")


async def _remove_from_node(steps: tuple[DeleteLink, ...], node: Path | None) -> None:
    async with opened_kernel(None, node) as kernel:
        await apply(kernel, [step for step in steps if step.where == "node"])
