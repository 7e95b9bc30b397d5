"""What a look at all ENIs costs grows with their number, not with its square, and heartbeats cause none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from bench.scale import QuietCloud
from bench.scale_cluster import Size, cluster, node

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloudcontroller.addresses import TICK, AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.core.cloud.preallocation import PreallocationPolicy
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.support.caches import fill, note, unused_client
from tests.support.calls import counted_calls
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

POLICY = PreallocationPolicy(low=5, high=8, idle=0.0)
"""Of the ten free addresses of each ENI some could be returned, had we registered them."""


@asynccontextmanager
async def reconciler(size: Size) -> AsyncIterator[tuple[AddressReconciler, AddressListers]]:
    async with unused_client() as client:
        servers = NodeServers(Informer(client, SpiderServer))
        nodes, pools, ips = Informer(client, Node), Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        listers = AddressListers(nodes, servers, pools, ips)
        fill({Node: nodes, SpiderServer: servers.informer, SpiderIPPool: pools, SpiderIP: ips}, cluster(size))
        rules = AddressRules(POLICY, 60.0)
        cloud = QuietCloud(size)
        yield AddressReconciler(Cluster(client, Recorder(client, "test")), cloud, listers, rules), listers


async def cost(size: Size) -> float:
    """Calls for each node when nothing is to be done."""
    async with reconciler(size) as (addresses, _):
        await addresses.step()
        with counted_calls() as calls:
            await addresses.step()
        return calls.count / size.nodes


async def test_a_look_costs_each_node_the_same_however_many_there_are() -> None:
    assert await cost(Size(200, 400)) < 1.2 * await cost(Size(20, 40))


async def test_heartbeats_cause_no_look() -> None:
    size = Size(5, 10)
    async with reconciler(size) as (addresses, listers):
        looking = asyncio.create_task(addresses.run())
        await asyncio.sleep(1.5)  # for the objects that were there
        with counted_calls() as calls:
            for number in range(5):
                note(listers.nodes, node(number, size, ready=True), 1_000_000)
            await asyncio.sleep(1.0)
            assert not calls.of["step"]
            for number in range(5):
                note(listers.nodes, node(number, size, ready=False), 1_000_001)
            async with asyncio.timeout(TICK / 2):  # before the next regular look
                await eventually(lambda: calls.of["step"], "a look")
        looking.cancel()
