"""The hint in a pool's status that tells agents where to look: the addresses in use, exact while that is short."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.core.addresses import AddressSet, Interval

MAX_RANGES = 512
"""Ranges that are written as text; more of them are compressed."""
MAX_COMPRESSED = 32_768
"""Characters of compressed ranges at most: with more, the smallest gaps count as in use. A pool of 65,536 addresses of
which every second one is chosen at random needs 16,000."""
MOST_BYTES = 1 << 20
"""Bytes that compressed ranges may unpack to: as many as we write, many times over."""


def write(taken: AddressSet) -> tuple[list[str] | None, str | None]:
    """``allocatedRanges`` and ``compressedRanges`` for the addresses in use: one of them."""
    if len(taken.intervals) <= MAX_RANGES:
        return taken.ranges(), None
    kept, text = taken, _compressed(taken.intervals)
    while len(text) > MAX_COMPRESSED:
        kept = _coarser(kept)
        text = _compressed(kept.intervals)
    return None, text


def read(pool: SpiderIPPool, version: int) -> AddressSet:
    """The addresses in use according to the status; empty when it says nothing, or nothing that can be read.

    The controller publishes them some seconds late. Where they are very scattered, some that are free are among them.
    """
    status = pool.status or IPPoolStatus()
    try:
        if status.allocatedRanges is None and status.compressedRanges:
            return AddressSet.of(version, _uncompressed(status.compressedRanges, 128 if version == 6 else 32))
        return AddressSet.parse(status.allocatedRanges or (), version)
    except (ValueError, zlib.error):
        return AddressSet(version)


def key(pool: SpiderIPPool) -> object:
    """What `read` depends on, to notice a new hint; None when there is none."""
    status = pool.status or IPPoolStatus()
    return status.compressedRanges if status.allocatedRanges is None else tuple(status.allocatedRanges)


def _coarser(taken: AddressSet) -> AddressSet:
    """The set with the smaller half of its gaps filled."""
    intervals = taken.intervals
    by_size = sorted(range(1, len(intervals)), key=lambda place: intervals[place - 1][1] - intervals[place][0])
    kept = sorted(by_size[: len(by_size) // 2])
    bounds = pairwise((0, *kept, len(intervals)))
    return AddressSet(taken.version, tuple((intervals[start][0], intervals[end - 1][1]) for start, end in bounds))


def _compressed(intervals: Iterable[Interval]) -> str:
    """Sorted intervals: the distance of each to the one before and its length, as varints, deflated, in Base64."""
    distances = pairwise(chain(((0, 0),), intervals))
    numbers = chain.from_iterable((first - before, last - first) for (_, before), (first, last) in distances)
    return base64.b64encode(zlib.compress(b"".join(map(_varint, numbers)))).decode()


def _uncompressed(text: str, bits: int) -> Iterator[Interval]:
    """The intervals of `_compressed`. Raises ValueError or zlib.error."""
    unpacked = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), MOST_BYTES)
    numbers, end = _numbers(unpacked), 0
    for distance in numbers:
        first = end + distance
        end = first + next(numbers, 0)
        if end >> bits:
            raise ValueError("an address is too large")
        yield first, end


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth bit says that more follow."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _numbers(content: bytes) -> Iterator[int]:
    """The numbers of varints. Raises ValueError for one that no address needs."""
    number = shift = 0
    for each in content:
        if shift > 128:
            raise ValueError("a number is too large")
        number |= (each & 127) << shift
        shift += 7
        if each < 128:
            yield number
            number = shift = 0
