"""Addresses of pods on the node itself."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.network.node_addresses import misplaced
from spiderpool.core.network.plumbing.nics import NICAddress

pytestmark = pytest.mark.unit


def pool(name: str, subnet: str, *ips: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet, ips=[*ips]))


POOLS = [
    pool("four", "10.9.0.0/16", "10.9.0.5-10.9.0.9"),
    pool("six", "fd00::/64", "fd00::5"),
    pool("nonsense", "nonsense", "nobody"),
]
RECORD = SpiderIP(spec=IPSpec("10.9.0.5/16", "four", "n1", "default", "web", "u", "eth0"))
COOLING = SpiderIP(spec=IPSpec("10.7.0.5/16", "gone", "n1", "default", "web", "u", "eth0", releasedAt="2026-01-01"))


def sentences(*held: str, reserved: str = "") -> list[str]:
    nics = [NICAddress("eth0", ip_interface(address)) for address in held]
    none = {4: AddressSet.parse([reserved] if reserved else [], 4), 6: AddressSet(6)}
    found = misplaced(nics, POOLS, [RECORD, COOLING], none.__getitem__)
    assert all(sentence.startswith(f"{address}, ") for address, sentence in found.items())
    return [sentence.partition(", ")[2].partition(", which answers")[0] for sentence in found.values()]


def test_addresses_of_pods_and_of_pools() -> None:
    assert sentences("10.9.0.5/16", "10.9.0.6/32", "fd00::5/64") == [
        "of pod default/web, is configured on eth0 of the node",
        "which pool four gives to pods, is configured on eth0 of the node",
        "which pool six gives to pods, is configured on eth0 of the node",
    ]


def test_a_record_tells_also_where_its_pool_is_not_known() -> None:
    nic = NICAddress("eth1", ip_interface("10.9.0.5/16"))
    assert list(misplaced([nic], [], [RECORD], AddressSet)) == [ip_address("10.9.0.5")]


def test_other_addresses_of_the_node() -> None:
    assert sentences("10.9.0.4/16", "10.9.0.10/16", "10.7.0.5/16", "fd00::6/64") == []
    assert sentences("10.9.0.6/16", reserved="10.9.0.6") == []
