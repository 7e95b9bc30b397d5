"""The status of pools, computed from their SpiderIPs, and the finalizers of pools and subnets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Condition, ObjectMeta
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.controller.pools import MAX_RANGES, MAX_VIEW, PoolReconciler, status_of
from spiderpool.controller.subnets import SubnetReconciler
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pool(subnet: str = "10.6.0.0/16", *ips: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec(subnet=subnet, ips=list(ips)))


def holder(address: str) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=address), spec=IPSpec(f"{address}/16", "p", "n", "ns", "web", "u", "eth0"))


class TestPoolStatus:
    def test_nobody(self) -> None:
        assert status_of(pool("10.6.0.0/16", "10.6.0.1-10.6.0.9"), [], NOW) == IPPoolStatus(None, 9, 0, [])

    def test_some(self) -> None:
        holders = [holder(f"10.6.0.{n}") for n in (9, 10, 2)]
        entry = '{"pod":"ns/web","podUid":"u"}'
        view = f'{{"10.6.0.10":{entry},"10.6.0.2":{entry},"10.6.0.9":{entry}}}'
        assert status_of(pool(), holders, NOW) == IPPoolStatus(view, 0, 3, ["10.6.0.2", "10.6.0.9-10.6.0.10"])

    def test_too_many_for_the_hint_and_the_view(self) -> None:
        scattered = [holder(f"10.6.{n // 100}.{n % 100 * 2}") for n in range(MAX_RANGES + 1)]
        status = status_of(pool(), scattered, NOW)
        assert status.allocatedRanges is None
        assert status.allocatedIPs is not None
        assert status.conditions is not None
        assert "allocatedRanges" in status.conditions[0].message
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        status = status_of(pool(), dense, NOW)
        assert status.allocatedRanges == ["10.6.0.0-10.6.7.208"]
        assert status.allocatedIPs is None
        assert status.allocatedIPCount == MAX_VIEW + 1
        (condition,) = status.conditions or [Condition("", "", "", "")]
        assert (condition.type, condition.status) == ("AllocationsPublished", "False")
        assert "allocatedIPs" in condition.message
        assert "ipam.spidernet.io/ippool=p" in condition.message
        assert condition.lastTransitionTime == "2026-01-01T00:00:00Z"

    def test_what_is_left_out_has_been_so_since_it_began(self) -> None:
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        before = replace(pool(), status=status_of(pool(), dense, NOW))
        assert status_of(before, dense, NOW + timedelta(hours=1)) == before.status
        assert status_of(before, dense[:-1], NOW).conditions is None

    def test_sizes_that_no_integer_of_the_api_holds_and_pools_that_cannot_be_read(self) -> None:
        assert status_of(pool("fd00::/64", "fd00::-fd00::ffff:ffff:ffff:ffff"), [], NOW).totalIPCount == 2**63 - 1
        assert status_of(pool("10.6.0.0/16", "x"), [], NOW).totalIPCount == 0


@pytest.mark.parametrize("names", [(FINALIZER,), (FORMER_FINALIZER,), (FORMER_FINALIZER, FINALIZER)])
async def test_idle_pools_and_subnets_go_whatever_our_finalizer_was_called(names: tuple[str, ...]) -> None:
    async with ApiServer(SpiderIPPool.KIND, SpiderIP.KIND, SpiderSubnet.KIND) as server, server.client() as client:
        metadata = ObjectMeta(name="p", finalizers=[*names])
        await client.create(replace(pool(), metadata=metadata))
        await client.create(SpiderSubnet(metadata=replace(metadata, name="s"), spec=SubnetSpec("10.7.0.0/16")))
        pools, ips = Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        subnets = Informer(client, SpiderSubnet)
        reconcilers = PoolReconciler(client, pools, ips, 0.0), SubnetReconciler(client, subnets, pools, 0.0)
        tasks = [asyncio.create_task(each.run()) for each in (pools, ips, subnets, *reconcilers)]
        try:
            for informer in (pools, ips, subnets):
                await informer.synced(5)
            await client.delete(SpiderIPPool, "p")
            await client.delete(SpiderSubnet, "s")
            await eventually(lambda: not server.stored(SpiderIPPool) and not server.stored(SpiderSubnet))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
