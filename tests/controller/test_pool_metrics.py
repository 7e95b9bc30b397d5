"""What the leader exports of pools and subnets, and that it exports nothing once it leads no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.subnet import APPLICATION_NAME_LABEL, OWNER_SUBNET_LABEL, SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.controller import pool_metrics
from spiderpool.controller.pool_metrics import PoolMetrics
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.subnets import adopted_pool
from spiderpool.kube.informer import Informer
from tests.support.caches import note, unused_client

pytestmark = pytest.mark.unit


def pool(
    name: str, used: int = 3, *, total: int = 9, disable: bool = False, subnet: str = "10.6.0.0/16"
) -> SpiderIPPool:
    spec = IPPoolSpec(subnet=subnet, ips=["10.6.0.1-10.6.0.9"], disable=disable)
    status = IPPoolStatus(totalIPCount=total, allocatedIPCount=used)
    return SpiderIPPool(metadata=ObjectMeta(name=name, uid=name), spec=spec, status=status)


def exported(prefix: str) -> dict[str, float]:
    """Metric and label → value, of the metrics that begin so."""
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name.startswith(prefix))
    return {" ".join((sample.name.removeprefix(prefix), *sample.labels.values())): sample.value for sample in samples}


@pytest.fixture
async def one() -> AsyncIterator[PoolMetrics]:
    async with unused_client() as client:
        pools, reserved = Informer(client, SpiderIPPool), Informer(client, SpiderReservedIP)
        yield PoolMetrics(pools, reserved, Informer(client, SpiderSubnet))


async def test_pools_that_give_addresses(one: PoolMetrics) -> None:
    fresh = SpiderIPPool(metadata=ObjectMeta(name="fresh", uid="fresh"), spec=pool("p").spec)
    for version, each in enumerate((pool("p"), pool("full", 9), pool("off", 9, disable=True), fresh), 1):
        note(one.pools, each, version)
    assert exported("spiderpool_ippool_") == {}
    with one.exported():
        found = exported("spiderpool_ippool_")
        assert found == {"addresses p": 9, "addresses full": 9, "free_addresses p": 6, "free_addresses full": 0}
        assert exported("spiderpool_total_") == {"ippool_counts": 4, "subnet_counts": 0}
    assert exported("spiderpool_ippool_") == {}


async def test_reserved_addresses_are_not_free(one: PoolMetrics) -> None:
    note(one.pools, pool("p"), 1)
    note(one.pools, pool("malformed", 9, subnet="10.6.0.0/99"), 2)
    spec = ReservedIPSpec(ips=["10.6.0.8-10.6.0.20", "fd00::1"])
    note(one.reserved, SpiderReservedIP(metadata=ObjectMeta(name="r", uid="r"), spec=spec), 3)
    with one.exported():
        assert exported("spiderpool_ippool_free_") == {"addresses p": 4, "addresses malformed": 0}


async def test_pools_of_applications_are_not_named(one: PoolMetrics) -> None:
    tenants = pool("auto4-web-eth0")
    tenants.metadata.labels = {APPLICATION_NAME_LABEL: "web"}
    for version, each in enumerate((pool("p"), tenants), 1):
        note(one.pools, each, version)
    with one.exported():
        assert exported("spiderpool_ippool_") == {"addresses p": 9, "free_addresses p": 6}
        assert exported("spiderpool_total_")["ippool_counts"] == 2


async def test_reserved_addresses_are_counted_anew_only_where_something_changed(
    one: PoolMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def usable(each: SpiderIPPool) -> AddressSet:
        parsed.append(each.name)
        return allocation.usable(each)

    def free() -> dict[str, float]:
        found = exported("spiderpool_ippool_free_")
        return {name.removeprefix("addresses "): value for name, value in found.items()}

    monkeypatch.setattr(pool_metrics, "usable", usable)
    for version, name in enumerate(("a", "b"), 1):
        note(one.pools, pool(name), version)
    spec = ReservedIPSpec(ips=["10.6.0.8"])
    note(one.reserved, SpiderReservedIP(metadata=ObjectMeta(name="r", uid="r"), spec=spec), 3)
    with one.exported():
        assert free() == free() == {"a": 5, "b": 5}
        assert sorted(parsed) == ["a", "b"]
        note(one.pools, pool("a", 4), 4)
        assert free() == {"a": 4, "b": 5}
        assert len(parsed) == 2, "its addresses are the same"
        larger = pool("a", 4)
        larger.spec.ips, larger.status = ["10.6.0.1-10.6.0.7"], IPPoolStatus(totalIPCount=7, allocatedIPCount=4)
        note(one.pools, larger, 5)
        assert free() == {"a": 3, "b": 5}
        assert parsed[2:] == ["a"]
        spec = ReservedIPSpec(ips=["10.6.0.7-10.6.0.8"])
        note(one.reserved, SpiderReservedIP(metadata=ObjectMeta(name="r", uid="r"), spec=spec), 6)
        assert free() == {"a": 2, "b": 4}
        assert sorted(parsed[3:]) == ["a", "b"]


async def test_subnets(one: PoolMetrics) -> None:
    status = SubnetStatus(totalIPCount=100, allocatedIPCount=40)
    spec = SubnetSpec(subnet="10.6.0.0/16", ips=["10.6.0.1-10.6.0.100"])
    note(one.subnets, SpiderSubnet(metadata=ObjectMeta(name="s", uid="s"), spec=spec, status=status), 1)
    with one.exported():
        assert exported("spiderpool_subnet_") == {"addresses s": 100, "free_addresses s": 60, "full_ippools s": 0}


async def test_full_pools_of_a_subnet_with_a_name_too_long_for_a_label(one: PoolMetrics) -> None:
    spec = SubnetSpec(subnet="10.6.0.0/16", ips=["10.6.0.1-10.6.0.100"])
    owner = SpiderSubnet(metadata=ObjectMeta(name="s" * 70, uid="s"), spec=spec)
    full = adopted_pool(pool("a", 9), owner)
    assert full is not None
    full.metadata.labels = {**(full.metadata.labels or {}), APPLICATION_NAME_LABEL: "web"}
    note(one.pools, full, 1)
    note(one.subnets, owner, 2)
    with one.exported():
        assert exported("spiderpool_subnet_") == {f"full_ippools {owner.name}": 1}


async def test_full_pools_of_applications_are_counted_by_their_subnet(one: PoolMetrics) -> None:
    labels = {APPLICATION_NAME_LABEL: "web", OWNER_SUBNET_LABEL: "s"}
    found = [pool("a", 9), pool("b", 9), pool("roomy", 8), pool("off", 9, disable=True), pool("empty", 0, total=0)]
    for version, each in enumerate((*found, pool("of-nobody", 9)), 1):
        each.metadata.labels = labels if each in found else {OWNER_SUBNET_LABEL: "s"}
        note(one.pools, each, version)
    for version, name in enumerate(("s", "other"), 1):
        spec = SubnetSpec(subnet="10.6.0.0/16", ips=["10.6.0.1-10.6.0.100"])
        note(one.subnets, SpiderSubnet(metadata=ObjectMeta(name=name, uid=name), spec=spec), version)
    with one.exported():
        assert exported("spiderpool_subnet_") == {"full_ippools s": 2, "full_ippools other": 0}
