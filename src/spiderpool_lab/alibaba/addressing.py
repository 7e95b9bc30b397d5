"""Finds free addresses and prefixes of a vSwitch. Pure functions.

The first address and the last three of a block cannot be assigned; the third from the end is the router's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice

_RESERVED_FIRST = 1  # addresses at the beginning of a block that cannot be assigned
_RESERVED_LAST = 3  # addresses at its end that cannot be assigned
_IPV6_FIRST = 0x100
"""Offset of the first automatically chosen IPv6 address, so that low addresses stay free for manual use."""

PREFIX_LENGTH = 28
"""Length in bits of the IPv4 prefixes that ENIs are assigned."""


def capacity(block: str) -> int:
    """Number of assignable addresses of a block."""
    return IPv4Network(block).num_addresses - _RESERVED_FIRST - _RESERVED_LAST


def assignable(block: str, address: str) -> bool:
    """Whether an address is in the block and not one of its reserved addresses."""
    network = IPv4Network(block)
    number = int(IPv4Address(address)) - int(network.network_address)
    return _RESERVED_FIRST <= number < network.num_addresses - _RESERVED_LAST


def free(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` addresses that are not used; fewer if the block has no more."""
    return list(islice((address for address in _hosts(block) if address not in used), count))


def free_ipv6(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` IPv6 addresses from offset 0x100 on that are not used."""
    base = int(IPv6Network(block).network_address) + _IPV6_FIRST
    candidates = (str(IPv6Address(base + number)) for number in range(len(used) + count))
    return list(islice((address for address in candidates if address not in used), count))


def free_prefixes(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` /28 blocks of which every address is assignable and unused."""
    blocks = IPv4Network(block).subnets(new_prefix=PREFIX_LENGTH)
    return list(islice((str(prefix) for prefix in blocks if _is_free(block, prefix, used)), count))


def addresses_in(prefix: str) -> list[str]:
    """All addresses of a prefix."""
    return [str(address) for address in IPv4Network(prefix)]


def _is_free(block: str, prefix: IPv4Network, used: Collection[str]) -> bool:
    return all(assignable(block, str(address)) and str(address) not in used for address in prefix)


def _hosts(block: str) -> Iterator[str]:
    network = IPv4Network(block)
    base = int(network.network_address)
    numbers = range(_RESERVED_FIRST, network.num_addresses - _RESERVED_LAST)
    return (str(IPv4Address(base + number)) for number in numbers)
