"""Which addresses of a vSwitch are free: pure arithmetic over what is in use.

The first address and the last three of a block cannot be assigned; the third from the end is the router.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice

_RESERVED_FIRST = 1
_RESERVED_LAST = 3
_IPV6_FIRST = 0x100
"""Where automatic IPv6 addresses begin in a block, clear of what people write by hand."""

PREFIX_LENGTH = 28
"""Length in bits of the blocks that an ENI can have."""


def capacity(block: str) -> int:
    """How many addresses a block can give."""
    return IPv4Network(block).num_addresses - _RESERVED_FIRST - _RESERVED_LAST


def assignable(block: str, address: str) -> bool:
    """Whether an address is of the block and not reserved."""
    network = IPv4Network(block)
    number = int(IPv4Address(address)) - int(network.network_address)
    return _RESERVED_FIRST <= number < network.num_addresses - _RESERVED_LAST


def free(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` free addresses, or fewer if the block has no more."""
    return list(islice((address for address in _hosts(block) if address not in used), count))


def free_ipv6(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` free IPv6 addresses from offset 0x100 on."""
    base = int(IPv6Network(block).network_address) + _IPV6_FIRST
    candidates = (str(IPv6Address(base + number)) for number in range(len(used) + count))
    return list(islice((address for address in candidates if address not in used), count))


def free_prefixes(block: str, used: Collection[str], count: int) -> list[str]:
    """The lowest ``count`` /28 blocks none of whose addresses is in use or reserved."""
    blocks = IPv4Network(block).subnets(new_prefix=PREFIX_LENGTH)
    return list(islice((str(prefix) for prefix in blocks if _clear(block, prefix, used)), count))


def inside(prefix: str) -> list[str]:
    """Every address of a prefix."""
    return [str(address) for address in IPv4Network(prefix)]


def _clear(block: str, prefix: IPv4Network, used: Collection[str]) -> bool:
    return all(assignable(block, str(address)) and str(address) not in used for address in prefix)


def _hosts(block: str) -> Iterator[str]:
    network = IPv4Network(block)
    base = int(network.network_address)
    numbers = range(_RESERVED_FIRST, network.num_addresses - _RESERVED_LAST)
    return (str(IPv4Address(base + number)) for number in numbers)
