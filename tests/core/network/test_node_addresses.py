"""Addresses of pods on the node itself."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.addresses import AddressSet
from spiderpool.core.network.node_addresses import known_subnets, misplaced
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


def test_nics_of_pools_and_of_the_servers_enis_are_known() -> None:
    """Also where a pool names no gateway; what is malformed hides nothing else."""
    subnets = ("10.0.0.0/24", "fd00::/64", "nonsense")
    pools = [SpiderIPPool(metadata=ObjectMeta(name=each), spec=IPPoolSpec(subnet=each)) for each in subnets]
    eni = ENI("eni-1", "00:16:3e:00:00:01", True, "172.31.199.183", (), (), "vsw-1", "172.31.192.0/20", "fd01::/64")
    found = known_subnets(pools, Instance("alibaba", "r", "r-i", "i-1", "ecs.g7.large", (eni,)))
    assert {*map(str, found)} == {"10.0.0.0/24", "fd00::/64", "172.31.192.0/20", "fd01::/64"}
