"""Sets of addresses as sorted intervals of integers: operations cost the same for a /8 or a /64 as for a /24.

The module `socket` parses and formats addresses only: ten times faster than `ipaddress`, and opens no socket.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Interval = tuple[int, int]
Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_BYTES = {4: 4, 6: 16}
"""Length of an address by family."""
FAMILIES = (4, 6)
"""All address families."""


class RangeError(ValueError):
    """An entry of a list of ranges is wrong: its ``index``, its ``text`` and the ``reason`` with the remedy."""

    def __init__(self, index: int, text: str, reason: str) -> None:
        super().__init__(f"entry {index} ({text!r}): {reason}")
        self.index = index
        self.text = text
        self.reason = reason


def to_int(text: str, version: int) -> int:
    """An address as an integer. Raises ValueError for anything but an address of that family without prefix or zone."""
    try:
        return int.from_bytes(socket.inet_pton(_FAMILY[version], text))
    except (OSError, ValueError, KeyError) as error:  # KeyError: a user's ``ipVersion`` before the schema is checked
        raise ValueError(f"not an IPv{version} address") from error


def from_int(value: int, version: int) -> str:
    """The canonical text of an address (RFC 5952 for IPv6)."""
    return socket.inet_ntop(_FAMILY[version], value.to_bytes(_BYTES[version]))


def version_of_text(address: str) -> int:
    """The family of an address as text, 4 or 6."""
    return 6 if ":" in address else 4


def canonical(text: str) -> str:
    """An address in canonical text. Raises ValueError."""
    version = version_of_text(text)
    return from_int(to_int(text, version), version)


def with_port(address: Address | str, port: int) -> str:
    """An address and a port as one writes them: IPv6 in brackets (RFC 3986, section 3.2.2)."""
    text = str(address)
    return f"[{text}]:{port}" if version_of_text(text) == 6 else f"{text}:{port}"


def parse_address(text: str, version: int) -> Address:
    """An address of the given family. Raises ValueError."""
    to_int(text, version)
    return ip_address(text)


def parse_subnet(text: str) -> Network:
    """A subnet. Raises ValueError, with the form to write, unless the text is a CIDR in canonical form."""
    if "/" not in text:
        raise ValueError("not a CIDR: the prefix length is missing, as in 10.6.0.0/16")
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"not a CIDR: {error}") from error
    if str(network) != text:
        raise ValueError(f"not in canonical form: write {network}")
    return network


def object_name(address: str) -> str:
    """The SpiderIP name of an address: IPv4 as it is, IPv6 exploded with dashes, since names may not hold colons."""
    parsed = ip_address(address)
    return str(parsed) if parsed.version == 4 else parsed.exploded.replace(":", "-")


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A set of addresses of one family: disjoint, sorted, non-adjacent intervals, both ends included.

    Operators expect two sets of the same family.
    """

    version: int
    """Address family, 4 or 6."""
    intervals: tuple[Interval, ...] = ()

    @classmethod
    def parse(cls, ranges: Iterable[str], version: int) -> AddressSet:
        """A set from texts: single addresses and ranges ``a-b``. Raises RangeError."""
        return cls.of(version, (_parse_range(index, text, version) for index, text in enumerate(ranges)))

    @classmethod
    def of(cls, version: int, intervals: Iterable[Interval]) -> AddressSet:
        """A set from intervals in any order, which may overlap or touch."""
        return cls(version, tuple(_merge(sorted(intervals))))

    @classmethod
    def of_addresses(cls, addresses: Iterable[int], version: int) -> AddressSet:
        """A set from single addresses as integers."""
        return cls.of(version, ((address, address) for address in addresses))

    @classmethod
    def of_network(cls, network: Network) -> AddressSet:
        """The set of all addresses of a subnet, network and broadcast address included."""
        return cls(network.version, ((int(network.network_address), int(network.broadcast_address)),))

    @classmethod
    def unassignable(cls, network: Network) -> AddressSet:
        """The network and the broadcast address of an IPv4 subnet; empty for IPv6 and for /31 (RFC 3021) and /32."""
        if network.version == 6 or network.prefixlen > 30:
            return cls(network.version)
        return cls.of_addresses((int(network.network_address), int(network.broadcast_address)), 4)

    @property
    def size(self) -> int:
        """The number of addresses, which may exceed 64 bits."""
        return sum(last - first + 1 for first, last in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __contains__(self, address: int) -> bool:
        index = bisect_right(self.intervals, address, key=_first) - 1
        return index >= 0 and address <= self.intervals[index][1]

    def __or__(self, other: AddressSet) -> AddressSet:
        return AddressSet.of(self.version, (*self.intervals, *other.intervals))

    def __sub__(self, other: AddressSet) -> AddressSet:
        return AddressSet(self.version, tuple(_subtract(self.intervals, other.intervals)))

    def __and__(self, other: AddressSet) -> AddressSet:
        return self - (self - other)

    def issubset(self, other: AddressSet) -> bool:
        """Whether every address of this set is in the other."""
        return not self - other

    def ranges(self) -> list[str]:
        """Canonical text: single addresses and ranges ``a-b``, in order."""
        return [_range_text(first, last, self.version) for first, last in self.intervals]

    def rotated(self, start: int) -> Iterator[Interval]:
        """The intervals from ``start`` upwards, then those below; an interval that holds ``start`` is split there."""
        index = bisect_right(self.intervals, start, key=_first) - 1
        if index >= 0 and start <= self.intervals[index][1]:
            first, last = self.intervals[index]
            yield start, last
            yield from self.intervals[index + 1 :]
            yield from self.intervals[:index]
            if first < start:
                yield first, start - 1
        else:
            yield from self.intervals[index + 1 :]
            yield from self.intervals[: index + 1]

    def nth(self, position: int) -> int:
        """The address at a position, counted from 0 upwards. Raises IndexError."""
        for first, last in self.intervals:
            if position <= last - first:
                return first + position
            position -= last - first + 1
        raise IndexError("position outside the set")


def _first(interval: Interval) -> int:
    return interval[0]


def _parse_range(index: int, text: str, version: int) -> Interval:
    first_text, dash, last_text = text.partition("-")
    try:
        first = to_int(first_text, version)
        last = to_int(last_text, version) if dash else first
    except ValueError as error:
        raise RangeError(index, text, f"{error}; write one address, or two joined by '-'") from error
    if last < first:
        raise RangeError(index, text, f"the range is reversed; write {last_text}-{first_text}")
    return first, last


def _range_text(first: int, last: int, version: int) -> str:
    return from_int(first, version) if first == last else f"{from_int(first, version)}-{from_int(last, version)}"


def _merge(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """Sorted intervals, with those that overlap or touch merged."""
    current: Interval | None = None
    for first, last in intervals:
        if current is None:
            current = (first, last)
        elif first <= current[1] + 1:
            current = (current[0], max(current[1], last))
        else:
            yield current
            current = (first, last)
    if current is not None:
        yield current


def _subtract(minuend: tuple[Interval, ...], subtrahend: tuple[Interval, ...]) -> Iterator[Interval]:
    """The difference of two sorted sequences, in one pass over both."""
    index = 0  # of the first interval of the subtrahend that does not end below the current one of the minuend
    for interval_first, last in minuend:
        first = interval_first
        while index < len(subtrahend) and subtrahend[index][1] < first:
            index += 1
        overlapping = index
        while overlapping < len(subtrahend) and subtrahend[overlapping][0] <= last:
            if first < subtrahend[overlapping][0]:
                yield first, subtrahend[overlapping][0] - 1
            first = subtrahend[overlapping][1] + 1
            overlapping += 1
        if first <= last:
            yield first, last
