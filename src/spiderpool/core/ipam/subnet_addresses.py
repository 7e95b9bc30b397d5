"""Which addresses a subnet and its pools hold, and which addresses a pool shall hold when its size changes.

An address of a subnet is taken if a pool holds it; ``status`` of the subnet only shows that.
"""

from __future__ import annotations

from collections.abc import Iterable

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.addresses import AddressSet, Interval, RangeError, parse_subnet
from spiderpool.core.ipam.allocation import assignable, usable


def parse_subnet_addresses(subnet: SpiderSubnet) -> AddressSet:
    """The addresses of a subnet that pods may get. Raises ValueError when one cannot be read."""
    return assignable(subnet.spec.ips, subnet.spec.excludeIPs, parse_subnet(subnet.spec.subnet))


def subnet_addresses(subnet: SpiderSubnet, version: int) -> AddressSet:
    """The addresses of a stored subnet; empty when they cannot be read or are of the other family."""
    try:
        return _of_family(parse_subnet_addresses(subnet), version)
    except ValueError:  # written past the admission webhook
        return AddressSet(version)


def pool_addresses(pool: SpiderIPPool, version: int) -> AddressSet:
    """The addresses of a stored pool; empty when they cannot be read or are of the other family.

    Agents take no address from a pool that they cannot read either.
    """
    try:
        return _of_family(usable(pool), version)
    except ValueError:  # written past the admission webhook
        return AddressSet(version)


def _of_family(addresses: AddressSet, version: int) -> AddressSet:
    return addresses if addresses.version == version else AddressSet(version)


def reserved_addresses(reserved: Iterable[SpiderReservedIP], version: int) -> AddressSet:
    """The reserved addresses of a family, which no pool may hold. Skips entries that cannot be read."""
    ranges = (text for each in reserved if not each.terminating for text in each.spec.ips or ())
    return _union((_parse_or_empty(text, version) for text in ranges), version)


def _parse_or_empty(text: str, version: int) -> AddressSet:
    try:
        return AddressSet.parse((text,), version)
    except RangeError:
        return AddressSet(version)


def why_subnet_unusable(subnet: SpiderSubnet, version: int) -> str | None:
    """Why a subnet cannot give addresses of a family, as the end of a sentence about the subnet; None when it can."""
    if subnet.terminating:
        return "is being deleted"
    try:
        found = parse_subnet_addresses(subnet).version
    except ValueError as error:
        return f"cannot be read: {error}"
    return None if found == version else f"is IPv{found}, the annotation wants IPv{version}"


def available_addresses(subnet: AddressSet, others: Iterable[AddressSet], reserved: AddressSet) -> AddressSet:
    """The addresses of a subnet that one pool may hold: neither reserved nor in any of the ``others``."""
    return subnet - _union(others, subnet.version) - reserved


def _union(sets: Iterable[AddressSet], version: int) -> AddressSet:
    return AddressSet.of(version, (interval for each in sets for interval in each.intervals))


def resize(current: AddressSet, size: int, available: AddressSet, in_use: AddressSet) -> AddressSet:
    """The addresses that a pool of ``current`` addresses shall hold to have ``size`` of them.

    Addresses in use always stay, other addresses as long as they are available. The pool grows by the lowest free
    addresses, as far as there are any. It shrinks by the lowest idle addresses once enough of them are idle to reach
    ``size``, and until then keeps all.
    """
    stay = current & (available | in_use)
    missing = size - stay.size
    if missing >= 0:
        return stay | lowest(available - stay - in_use, missing)
    idle = stay - in_use
    return stay - lowest(idle, -missing) if idle.size >= -missing else stay


def lowest(addresses: AddressSet, count: int) -> AddressSet:
    """The lowest ``count`` addresses, or all when there are fewer."""
    taken: list[Interval] = []
    for first, last in addresses.intervals:
        if count <= 0:
            break
        taken.append((first, min(last, first + count - 1)))
        count -= last - first + 1
    return AddressSet(addresses.version, tuple(taken))
