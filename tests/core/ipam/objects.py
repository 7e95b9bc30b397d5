"""Subnets, pools and applications for the tests of their addresses."""

from __future__ import annotations

from typing import Any

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.core.addresses import AddressSet
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.applications import PoolClaim, PoolSlot
from spiderpool.core.ipam.owners import Controller

NOW = "2026-01-01T00:00:00Z"
UID = "d1c9a3f0-5f2b-4a5e-9a3e-0a1b2c3d4e5f"
WEB = Controller("apps/v1", "Deployment", "shop", "web", UID)
ETH0 = PoolSlot("eth0", 4, "blue")
PLUS_ONE = IPNumber(1, True)


def subnet(*ips: str, name: str = "blue", uid: str = "s-1", **spec: Any) -> SpiderSubnet:
    """SpiderSubnet blue with 10.6.0.1-10.6.0.100 of 10.6.0.0/16, unless the arguments differ."""
    labels = {"ipam.spidernet.io/subnet-cidr": "10-6-0-0-16"}
    return SpiderSubnet(
        metadata=ObjectMeta(name=name, uid=uid, labels=labels),
        spec=SubnetSpec("10.6.0.0/16", 4, list(ips) or ["10.6.0.1-10.6.0.100"], **spec),
    )


def pool(name: str, *ips: str, cidr: str = "10.6.0.0/16", **spec: Any) -> SpiderIPPool:
    """A pool without an owner."""
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(cidr, ips=list(ips), **spec))


def addresses(*numbers: int) -> AddressSet:
    """The IPv4 addresses of these numbers."""
    return AddressSet.of_addresses(numbers, 4)


def web_claim(number: IPNumber = PLUS_ONE, *, reclaim: bool = True, pods: int = 2) -> PoolClaim:
    """What Deployment shop/web claims: one IPv4 pool for eth0."""
    return PoolClaim(WEB, (ETH0,), number, reclaim, pods)
