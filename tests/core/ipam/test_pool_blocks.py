"""Which pools may have an address, by an index."""

from __future__ import annotations

from collections import defaultdict

import pytest

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.pool_blocks import EVERYWHERE, Block, blocks_of, pools_near

pytestmark = pytest.mark.unit


def pool(name: str, subnet: str, *ips: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet, ips=list(ips)))


@pytest.mark.parametrize(
    ("subnet", "ips", "blocks"),
    [
        ("10.0.0.0/8", ["10.0.0.255-10.0.1.0"], [(4, 0x0A0000), (4, 0x0A0001)]),
        ("10.0.0.0/8", [], []),
        ("10.0.0.0/8", ["nonsense"], [EVERYWHERE]),
        ("10.0.0.0/8", ["10.0.0.0-10.255.255.255"], [EVERYWHERE]),
        ("fd00::/64", ["fd00::1"], [(6, 0xFD << 112)]),
    ],
)
def test_the_blocks_of_a_pool(subnet: str, ips: list[str], blocks: list[Block]) -> None:
    assert blocks_of(pool("p", subnet, *ips)) == blocks


def test_pools_near_some_addresses_are_each_named_once() -> None:
    index: defaultdict[Block, list[SpiderIPPool]] = defaultdict(list)
    for each in (
        pool("wide", "10.0.0.0/8", "10.0.0.0-10.255.255.255"),
        pool("near", "10.0.0.0/8", "10.0.0.1-10.0.1.1"),
        pool("far", "10.0.0.0/8", "10.0.2.1"),
        pool("six", "fd00::/64", "fd00::1"),
    ):
        for block in blocks_of(each):
            index[block].append(each)
    addresses = AddressSet.parse(["10.0.0.7-10.0.1.9"], 4)
    assert [each.name for each in pools_near(index.__getitem__, addresses)] == ["wide", "near"]
