"""The pool of an ENI whose Node is gone goes after a while, and only if a fresh read shows no address of it in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from bench.scale_cluster import NAMESPACE, Size, cluster

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.controller.eni_pools import ENIPoolReconciler, ENIPoolRules
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from tests.support.api_server import ApiServer
from tests.support.eni_listers import eni_listers
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

WHILE = 0.3
"""Seconds for what must not happen."""


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    kinds = (Node, SpiderIPPool, SpiderIP, SpiderMultusConfig, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server:
        server.put(*(each for each in cluster(Size(1, 0)) if isinstance(each, SpiderIPPool)))
        yield server


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


def reconciler(server: ApiServer, client: Client, node_grace: float = 0.0) -> ENIPoolReconciler:
    """A reconciler that knows the pools of this moment, and no Node."""
    listers = eni_listers(client)
    for pool in server.stored(SpiderIPPool).values():
        listers.pools.note(pool)
    rules = ENIPoolRules(frozenset({4}), NAMESPACE, primary_eni=True, node_grace=node_grace)
    return ENIPoolReconciler(client, listers, Recorder(client, "test"), rules)


async def stays(server: ApiServer, pools: ENIPoolReconciler, after: str | None = None) -> bool:
    """Whether the pool is still there a while after a request of this verb, or after the beginning."""
    task = asyncio.create_task(pools.run())
    if after is not None:
        await eventually(lambda: server.requests[after])
    await asyncio.sleep(WHILE)
    task.cancel()
    await asyncio.wait([task])
    return bool(server.stored(SpiderIPPool))


async def test_an_empty_one_goes(server: ApiServer, client: Client) -> None:
    task = asyncio.create_task(reconciler(server, client).run())
    await eventually(lambda: not server.stored(SpiderIPPool))
    task.cancel()
    await asyncio.wait([task])


async def test_a_node_may_come_back(server: ApiServer, client: Client) -> None:
    assert await stays(server, reconciler(server, client, node_grace=60.0))


async def test_one_that_keeps_addresses_from_pods_stays_while_a_report_may_show_them_again(
    server: ApiServer, client: Client
) -> None:
    (found,) = server.stored(SpiderIPPool).values()
    annotations = {RELEASING_ANNOTATION: "10.0.1.2"}
    metadata = msgspec.structs.replace(found.metadata, annotations=annotations)
    server.put(msgspec.structs.replace(found, metadata=metadata))
    assert await stays(server, reconciler(server, client))


async def test_an_address_that_was_taken_a_moment_ago_keeps_it(server: ApiServer, client: Client) -> None:
    pools = reconciler(server, client)
    (pool,) = server.stored(SpiderIPPool)
    spec = IPSpec("10.0.1.2/8", pool, "n", "default", "a", "uid-a", "eth0")
    server.put(SpiderIP(metadata=ObjectMeta(name="10.0.1.2", labels={IP_POOL_LABEL: pool}), spec=spec))
    assert await stays(server, pools, after="list")


async def test_one_that_was_made_anew_stays(server: ApiServer, client: Client) -> None:
    pools = reconciler(server, client)
    (pool,) = server.stored(SpiderIPPool).values()
    server.remove(pool)
    pool.metadata.uid = "another"
    server.put(pool)
    assert await stays(server, pools, after="delete")
