"""Which kinds of links this kernel can make, and whether we may make any."""

from __future__ import annotations

import contextlib
import errno

from spiderpool.errors import KernelFailure
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import enter_new, run_inside

KINDS = ("ipvlan", "macvlan", "vlan", "veth")
"""The kinds of links that pods get, by us or by a plugin that we execute."""


async def missing_kinds() -> tuple[str, ...]:
    """The kinds of links that this kernel has not; found out in a new namespace, for which modules are loaded.

    Raises:
        KernelFailure: we may not make namespaces or links.
    """
    return await run_inside(None, _missing_kinds)


def _missing_kinds() -> tuple[str, ...]:
    enter_new()
    with contextlib.closing(rt.Socket()) as socket:
        return tuple(kind for kind in KINDS if not _has(socket, kind))


def _has(socket: rt.Socket, kind: str) -> bool:
    """Whether the kernel knows a kind: it refuses an unknown one, before it looks at the rest of the request."""
    try:
        socket.request(rt.NEWLINK, messages.create_bare(kind), rt.CREATE | rt.EXCLUSIVE)
    except rt.NetlinkError as error:
        if error.code == errno.EPERM:
            raise KernelFailure(f"no {kind} may be made: {error.reason}") from error
        return error.code != errno.EOPNOTSUPP
    return True
