"""Wait for duplicate address detection (RFC 4862, section 5.4): before it has ended no route may name the address."""

from __future__ import annotations

import time
from collections.abc import Callable

from spiderpool.core.network.plumbing.values import Address
from spiderpool.errors import AddressInUse, NotReady
from spiderpool.kernel import messages as say
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Side, index_of

PATIENCE = 5.0
"""Seconds; the kernel takes one or two."""
PAUSE = 0.02


def settle(side: Side, link: str, check: Callable[[], None]) -> None:
    """Return once the IPv6 addresses of a link can be used, with ``check`` between two looks, which may raise.

    Raises:
        AddressInUse: somebody else on the link's network has one.
        NotReady: it takes too long.
    """
    deadline = time.monotonic() + PATIENCE
    while unsettled := _unsettled(side, link):
        for address, failed in unsettled:
            if failed:
                raise AddressInUse(f"{address} of {link} is used by somebody else on its network, who answered for it")
        if time.monotonic() > deadline:
            raise NotReady(f"{unsettled[0][0]} of {link} is still being probed for duplicates after {PATIENCE:.0f} s")
        check()
        time.sleep(PAUSE)


def _unsettled(side: Side, link: str) -> list[tuple[Address, bool]]:
    bodies = side.route.request(rt.GETADDR, say.addresses_wanted(), rt.DUMP)
    return list(say.unsettled_addresses(bodies, index_of(side, link)))
