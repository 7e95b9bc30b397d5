"""Subnets, against a real API server and under our own roles."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import FINALIZER, ObjectMeta, OwnerReference
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.controller.subnets import SubnetReconciler
from spiderpool.core.ipam.subnets import owner_reference
from spiderpool.kube.client import Client
from spiderpool.kube.conditions import StatusTimings
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.controller.subnet_objects import LABEL, PATIENCE, hold, make_subnet
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually


@pytest.mark.control_plane
@pytest.mark.usefixtures("controller")
class TestSubnets:
    async def test_pools_are_adopted_and_counted(self, client: Client, namespace: str) -> None:
        del namespace
        spec = IPPoolSpec("10.40.0.0/16", ips=["10.40.0.1-10.40.0.10"])
        await client.create(SpiderIPPool(metadata=ObjectMeta(name="before"), spec=spec))
        subnet = await make_subnet(
            client,
            "s40",
            "10.40.0.0/16",
            "10.40.0.1-10.40.0.100",
            excludeIPs=["10.40.0.100"],
            gateway="10.40.255.254",
            routes=[Route("10.7.0.0/16", "10.40.0.254")],
        )
        later = IPPoolSpec("10.40.0.0/16", ips=["10.40.0.20", "10.40.0.22"], gateway="10.40.255.253")
        await client.create(SpiderIPPool(metadata=ObjectMeta(name="later"), spec=later))

        async def adopted(name: str) -> bool:
            pool = await client.get(SpiderIPPool, name)
            owners = [(owner.uid, owner.controller) for owner in pool.metadata.ownerReferences or ()]
            label = (pool.metadata.labels or {}).get(f"{LABEL}owner-spider-subnet")
            return owners == [(subnet.metadata.uid, True)] and label == "s40"

        await eventually(lambda: adopted("before"), timeout=PATIENCE)
        await eventually(lambda: adopted("later"), timeout=PATIENCE)
        inherited = (await client.get(SpiderIPPool, "before")).spec
        assert (inherited.gateway, inherited.routes) == ("10.40.255.254", [Route("10.7.0.0/16", "10.40.0.254")])
        assert (await client.get(SpiderIPPool, "later")).spec.gateway == "10.40.255.253"

        async def counted() -> bool:
            status = (await client.get(SpiderSubnet, "s40")).status
            wanted = {"before": {"ips": ["10.40.0.1-10.40.0.10"]}, "later": {"ips": ["10.40.0.20", "10.40.0.22"]}}
            return (
                status is not None
                and json.loads(status.controlledIPPools or "{}") == wanted
                and (status.totalIPCount, status.allocatedIPCount) == (99, 12)
            )

        await eventually(counted, timeout=PATIENCE)

    async def test_a_deleted_subnet_goes_after_its_pools_and_they_after_their_addresses(
        self, client: Client, namespace: str
    ) -> None:
        await make_subnet(client, "s41", "10.41.0.0/16", "10.41.0.1-10.41.0.9")
        for name, ip in (("idle41", "10.41.0.1"), ("used41", "10.41.0.2")):
            spec = IPPoolSpec("10.41.0.0/16", ips=[ip])
            await client.create(SpiderIPPool(metadata=ObjectMeta(name=name), spec=spec))
        used = await client.get(SpiderIPPool, "used41")
        held = await hold(client, used, "10.41.0.2", namespace)
        await client.delete(SpiderSubnet, "s41")

        async def left() -> tuple[set[str], set[str]]:
            pools = {pool.name for pool in await client.list(SpiderIPPool)}
            return pools, {subnet.name for subnet in await client.list(SpiderSubnet)}

        async def waiting() -> bool:
            return await left() == ({"used41"}, {"s41"}) and (await client.get(SpiderIPPool, "used41")).terminating

        async def all_gone() -> bool:
            return await left() == (set(), set())

        await eventually(waiting, timeout=PATIENCE)
        await client.delete(SpiderIP, held.name)
        await eventually(all_gone, timeout=PATIENCE)

    async def test_a_subnet_deleted_without_its_pools_leaves_them(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        del namespace
        await make_subnet(client, "s48", "10.48.0.0/16", "10.48.0.1-10.48.0.9")
        spec = IPPoolSpec("10.48.0.0/16", ips=["10.48.0.1"])
        await client.create(SpiderIPPool(metadata=ObjectMeta(name="stays48"), spec=spec))
        await self._collector_knows_pools(client)
        control_plane.kubectl("delete", "spidersubnet", "s48", "--cascade=orphan", "--timeout=80s", timeout=90)
        pool = await client.get(SpiderIPPool, "stays48")
        assert not pool.terminating
        assert not pool.metadata.ownerReferences

    @staticmethod
    async def _collector_knows_pools(client: Client) -> None:
        """Kubernetes' collector takes up to half a minute to notice the kinds of a new cluster.

        Until then it deletes no pool whose owner does not exist, and orphans none.
        """
        gone = OwnerReference(SpiderSubnet.KIND.api_version, SpiderSubnet.KIND.name, "gone", "never-there")
        metadata = ObjectMeta(name="collected", ownerReferences=[gone])
        await client.create(SpiderIPPool(metadata=metadata, spec=IPPoolSpec("10.99.0.0/16")))

        async def collected() -> bool:
            return await client.find(SpiderIPPool, "collected") is None

        await eventually(collected, timeout=60)


@pytest.mark.unit
async def test_a_pool_that_was_orphaned_is_not_deleted_because_our_watch_is_late() -> None:
    """The collector takes the owner out of the pools, then its finalizer off the subnet: two kinds, two watches."""
    leaving = ObjectMeta(name="s", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=[FINALIZER])
    spec = IPPoolSpec("10.7.0.0/16", ips=["10.7.0.1"])
    async with ApiServer(SpiderSubnet.KIND, SpiderIPPool.KIND) as server, server.client() as client:
        server.put(
            SpiderSubnet(metadata=leaving, spec=SubnetSpec("10.7.0.0/16")),
            SpiderIPPool(metadata=ObjectMeta(name="p"), spec=spec),
        )
        subnet, orphan = server.stored(SpiderSubnet)["s"], server.stored(SpiderIPPool)["p"]
        subnets, pools = Informer(client, SpiderSubnet), Informer(client, SpiderIPPool)
        reconciler = SubnetReconciler(client, subnets, pools, Recorder(client, "test"), timings=StatusTimings(0.0))
        subnets.note(subnet)
        before = replace(orphan.metadata, ownerReferences=[owner_reference(subnet)])
        pools.note(replace(orphan, metadata=before))
        task = asyncio.create_task(reconciler.run())
        await eventually(lambda: not server.stored(SpiderSubnet))
        task.cancel()
        assert list(server.stored(SpiderIPPool)) == ["p"]


@pytest.mark.unit
async def test_a_pool_that_cannot_be_adopted_keeps_no_other_from_it() -> None:
    spec = IPPoolSpec("10.7.0.0/16", ips=["10.7.0.1"])
    async with ApiServer(SpiderSubnet.KIND, SpiderIPPool.KIND) as server, server.client() as client:
        server.put(
            SpiderSubnet(metadata=ObjectMeta(name="s"), spec=SubnetSpec("10.7.0.0/16", ips=["10.7.0.1-10.7.0.9"]))
        )
        server.put(*(SpiderIPPool(metadata=ObjectMeta(name=name), spec=spec) for name in ("a", "b")))
        subnets, pools = Informer(client, SpiderSubnet), Informer(client, SpiderIPPool)
        reconciler = SubnetReconciler(client, subnets, pools, Recorder(client, "test"), timings=StatusTimings(0.0))
        for pool in server.stored(SpiderIPPool).values():
            pools.note(pool)
        server.put(replace(server.stored(SpiderIPPool)["a"], spec=replace(spec, ips=["10.7.0.2"])))  # not noticed
        subnets.note(server.stored(SpiderSubnet)["s"])
        task = asyncio.create_task(reconciler.run())
        await eventually(lambda: server.stored(SpiderSubnet)["s"].status)
        task.cancel()
        assert [pool.controller is not None for pool in server.stored(SpiderIPPool).values()] == [False, True]
