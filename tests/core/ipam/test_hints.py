"""The hint in a pool's status: short, exact as long as that is possible, and never an error."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import hints

pytestmark = pytest.mark.unit


def published(status: IPPoolStatus | None, version: int = 4) -> AddressSet:
    subnet = "10.0.0.0/8" if version == 4 else "fd00::/64"
    return hints.read(SpiderIPPool(spec=IPPoolSpec(subnet=subnet), status=status), version)


def written(taken: AddressSet) -> IPPoolStatus:
    ranges, compressed = hints.write(taken)
    assert (ranges is None) != (compressed is None)
    return IPPoolStatus(allocatedRanges=ranges, compressedRanges=compressed)


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, []),
        (IPPoolStatus(), []),
        (IPPoolStatus(allocatedRanges=["10.0.0.1-10.0.0.2"]), ["10.0.0.1-10.0.0.2"]),
        (IPPoolStatus(allocatedRanges=["nonsense"]), []),
        (IPPoolStatus(allocatedRanges=[], compressedRanges=packed(b"\x05\x01")), []),
        (IPPoolStatus(compressedRanges=packed(b"\x05\x01\x02\x00")), ["0.0.0.5-0.0.0.6", "0.0.0.8"]),
        (IPPoolStatus(compressedRanges="nonsense"), []),
        (IPPoolStatus(compressedRanges=base64.b64encode(b"nonsense").decode()), []),
        (IPPoolStatus(compressedRanges=packed(b"\xff" * 100)), []),
        (IPPoolStatus(compressedRanges=packed(b"\xff\xff\xff\xff\x7f")), []),
    ],
)
def test_a_hint_is_used_where_it_makes_sense(status: IPPoolStatus | None, expected: list[str]) -> None:
    assert published(status).ranges() == expected


def test_a_hint_has_a_key_that_changes_with_it() -> None:
    pool = SpiderIPPool(spec=IPPoolSpec(subnet="10.0.0.0/8"))
    statuses = (None, IPPoolStatus(), IPPoolStatus(allocatedRanges=[]), IPPoolStatus(compressedRanges="x"))
    keys = []
    for pool.status in statuses:
        keys.append(hints.key(pool))
    assert keys == [None, None, (), "x"]


@given(st.sets(st.integers(0, 2**32 - 1), min_size=hints.MAX_RANGES + 1, max_size=hints.MAX_RANGES + 20))
def test_scattered_addresses_are_read_as_they_were_written(addresses: set[int]) -> None:
    taken = AddressSet.of_addresses(addresses, 4)
    assert published(written(taken)) == taken


@pytest.mark.parametrize("version", [4, 6])
def test_every_second_address_of_a_large_pool(version: int) -> None:
    first = 10 << 24 if version == 4 else 0xFD << 120
    taken = AddressSet.of_addresses((first + offset for offset in range(0, 65_536, 2)), version)
    status = written(taken)
    assert len(status.compressedRanges or "") < 1_000
    assert published(status, version) == taken


def test_half_of_the_addresses_at_random_are_not_too_many() -> None:
    chosen = random.Random(1)
    taken = AddressSet.of_addresses((n for n in range(65_536) if chosen.random() < 0.5), 4)
    assert published(written(taken)) == taken


def test_too_many_scattered_addresses_lose_their_smallest_gaps() -> None:
    chosen = random.Random(1)
    taken = AddressSet.of_addresses((chosen.randrange(1 << 32) for _ in range(50_000)), 4)
    status = written(taken)
    assert len(status.compressedRanges or "") <= hints.MAX_COMPRESSED
    found = published(status)
    assert taken.issubset(found), "no address that is in use seems free"
    assert hints.MAX_RANGES < len(found.intervals) < 50_000
