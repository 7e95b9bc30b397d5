"""Duplicate address detection (RFC 4862 section 5.4): until it has ended, no route may use the address as source.

Link-local addresses are no source of a route of ours. Every interface has one, also in a pod with IPv4 alone, and its
detection takes more than a second, so nobody waits for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spiderpool.core.network.plumbing.values import Address
from spiderpool.errors import AddressInUse, NotReady
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Netns, index_of

TIMEOUT = 5.0
"""Seconds; detection takes the kernel one or two."""
INTERVAL = 0.02
"""Seconds between two reads of the addresses' flags."""


def wait_for_dad(netns: Netns, link: str, check: Callable[[], None]) -> None:
    """Return once the IPv6 addresses of a link, but link-local ones, can be used.

    Calls ``check``, which may raise, before each wait.

    Raises:
        AddressInUse: another machine on the link's network has one of the addresses.
        NotReady: detection takes longer than ``TIMEOUT``.
    """
    deadline = time.monotonic() + TIMEOUT
    while pending := _in_dad(netns, link):
        for address, is_duplicate in pending:
            if is_duplicate:
                raise AddressInUse(f"{address} of {link} is used by somebody else on its network, who answered for it")
        if time.monotonic() > deadline:
            raise NotReady(f"{pending[0][0]} of {link} is still being probed for duplicates after {TIMEOUT:.0f} s")
        check()
        time.sleep(INTERVAL)


def _in_dad(netns: Netns, link: str) -> list[tuple[Address, bool]]:
    """Addresses that cannot be used, and whether each is a duplicate; none that is link-local."""
    bodies = netns.dump(rt.GETADDR, messages.address_dump())
    found = messages.addresses_in_dad(bodies, index_of(netns, link))
    return [(address, is_duplicate) for address, is_duplicate in found if not address.is_link_local]
