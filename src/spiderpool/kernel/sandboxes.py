"""Read what is in the network namespaces of pod sandboxes, of all of them on one thread. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing

from spiderpool.api.spidernode import SandboxInterface
from spiderpool.core.network.plumbing.values import is_global
from spiderpool.errors import BadNamespace, KernelFailure, is_bug
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import enter, is_gone, opened, own, run_inside
from spiderpool.kernel.netlink import Netns, all_links
from spiderpool.telemetry import logger

MOST = 250
"""Links and addresses of one sandbox that are listed: with those of all, the account must fit into one object.

A program in a pod may add as many as it likes, as a proxy of Services does that runs in one.
"""

log = logger("sandboxes")

Readings = dict[str, list[SandboxInterface] | None]
"""Path of a namespace → the interfaces in it; None: it cannot be read. No entry: it is gone."""


async def read_namespaces(paths: Collection[str]) -> Readings:
    """The interfaces in network namespaces, the loopback left out, with their addresses but link-local ones.

    Raises:
        KernelFailure: the agent's own namespace cannot be read.
    """
    return await run_inside(None, lambda: _read_all(paths)) if paths else {}


def _read_all(paths: Collection[str]) -> Readings:
    """Leaves the calling thread in another namespace, so it must end with this call."""
    with own() as descriptor:
        node = _identity(descriptor)
    found: Readings = {}
    for path in paths:
        try:
            with opened(path) as descriptor:
                # Of a path below /proc the process may have ended, and another one of the node has its number.
                if _identity(descriptor) != node:
                    found[path] = _interfaces(descriptor)
        except BadNamespace:
            if not is_gone(path):
                found[path] = None
        except Exception as error:  # the others are read all the same
            log.warning("sandbox cannot be read", netns=path, error=str(error), exc_info=is_bug(error))
            found[path] = None
    return found


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _interfaces(descriptor: int) -> list[SandboxInterface]:
    enter(descriptor)
    with closing(rt.Socket()) as socket:
        netns = Netns("pod", socket, descriptor)
        links = [link for link in all_links(netns) if link.name != "lo"]
        addresses: dict[int, list[str]] = {}
        for index, address, _ in messages.raw_addresses(netns.dump(rt.GETADDR, messages.address_dump())):
            if is_global(address):
                addresses.setdefault(index, []).append(str(address))
    count = len(links) + sum(map(len, addresses.values()))
    if count > MOST:
        raise KernelFailure(f"{count} interfaces and addresses are more than {MOST}, so none of them is listed")
    return [SandboxInterface(link.name, link.mac or None, addresses.get(link.index)) for link in links]
