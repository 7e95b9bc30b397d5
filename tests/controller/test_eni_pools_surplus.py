"""Of several pools of one ENI and family all but one go, and no address is lost or given by two of them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from bench.scale_cluster import NAMESPACE, Size, cluster
from msgspec.structs import replace

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller import eni_pools
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.core.ipam.allocation import usable
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from tests.support.api_server import ApiServer
from tests.support.caches import note
from tests.support.eni_listers import eni_listers
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

SECOND = "z-second"
"""Made after the pool of the ENI, or in the same second: then its name decides."""
WHILE = 0.3
"""Seconds for what must not happen."""


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    kinds = (Node, SpiderIPPool, SpiderIP, SpiderMultusConfig, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server:
        yield server


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


@pytest.fixture
def listers(server: ApiServer, client: Client) -> ENIPoolListers:
    """Caches of a node whose ENI has a pool with one address, and a later one with another address."""
    made = list(cluster(Size(1, 0)))
    (pool,) = (each for each in made if isinstance(each, SpiderIPPool))
    listers = eni_listers(client)
    for name, last in ((pool.name, 1), (SECOND, 2)):
        metadata = ObjectMeta(name=name, labels=pool.metadata.labels)
        server.put(replace(pool, metadata=metadata, spec=replace(pool.spec, ips=[f"10.0.1.{last}"])))
        listers.pools.note(server.stored(SpiderIPPool)[name])
    (node,) = (each for each in made if isinstance(each, Node))
    listers.nodes.note(node)
    (described,) = (each for each in made if isinstance(each, SpiderServer))
    note(listers.servers.informer, described, 1)
    return listers


def reconciler(client: Client, listers: ENIPoolListers) -> ENIPoolReconciler:
    rules = ENIPoolRules(frozenset({4}), NAMESPACE, primary_eni=False, node_grace=0.0)
    return ENIPoolReconciler(client, listers, Recorder(client, "test"), rules)


def addresses(server: ApiServer) -> dict[str, int]:
    """How many addresses each pool gives."""
    return {name: usable(pool).size for name, pool in server.stored(SpiderIPPool).items()}


async def test_the_oldest_pool_takes_over_and_an_empty_one_stays_while_agents_may_hear_late(
    server: ApiServer, client: Client, listers: ENIPoolListers
) -> None:
    task = asyncio.create_task(reconciler(client, listers).run())
    await eventually(lambda: addresses(server).get(SECOND) == 0)
    (first,) = server.stored(SpiderIPPool).keys() - {SECOND}
    (eni,) = (eni for eni in listers.servers.informer.items()[0].spec.enis if not eni.primary)
    await eventually(lambda: addresses(server)[first] == len(eni.addresses))
    await asyncio.sleep(WHILE)
    task.cancel()
    assert SECOND in server.stored(SpiderIPPool)


async def test_one_that_is_empty_goes_and_one_that_has_an_address_in_use_does_not(
    server: ApiServer, client: Client, listers: ENIPoolListers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eni_pools, "SURPLUS_GRACE", 0.0)
    spec = IPSpec("10.0.1.2/8", SECOND, "node-00000", "default", "a", "uid-a", "eth0")
    metadata = ObjectMeta(name="10.0.1.2", uid="1", labels={IP_POOL_LABEL: SECOND})
    server.put(SpiderIP(metadata=metadata, spec=spec))
    record = server.stored(SpiderIP)["10.0.1.2"]
    listers.ips.note(record)
    task = asyncio.create_task(reconciler(client, listers).run())
    await eventually(lambda: addresses(server).get(SECOND) == 0)
    await asyncio.sleep(WHILE)
    assert server.stored(SpiderIPPool)[SECOND].spec.ips == ["10.0.1.2"]
    task.cancel()
    await asyncio.wait([task])
    server.remove(record)
    listers.ips.forget(record)
    task = asyncio.create_task(reconciler(client, listers).run())
    await eventually(lambda: SECOND not in server.stored(SpiderIPPool))
    task.cancel()
