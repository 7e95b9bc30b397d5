"""What cannot be undone is decided by a fresh read: the caches here are those of a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping

import msgspec
import pytest
from bench.scale import QuietCloud
from bench.scale_cluster import Size, cluster, node, node_name
from msgspec.structs import replace

from spiderpool.api.core_v1 import Event, Node, NodeCondition
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud.provider import CloudServer
from spiderpool.cloudcontroller.addresses import AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.nodes import NodeListers, NodeReconciler
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION, PreallocationPolicy
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.cloudcontroller.conftest import Clock
from tests.support.api_server import ApiServer, Fault
from tests.support.caches import note

pytestmark = pytest.mark.unit

SIZE = Size(2, 2)
LOST = node_name(1)
PERIOD = 60.0


class Cloud(QuietCloud):
    """A cloud in which the server of the node LOST is gone, and that takes addresses back."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.returned: set[str] = set()

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        found = await super().instances(region, identities)
        return {identity: each for identity, each in found.items() if identity != "i-1"}

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        self.returned |= {*addresses}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(Node.KIND, SpiderIPPool.KIND, SpiderIP.KIND, Event.KIND) as server:
        yield server


def lost(ready: str = "Unknown", uid: str = "n-1") -> Node:
    """The Node of the server that is gone."""
    made = node(1, SIZE)
    metadata = replace(made.metadata, uid=uid)
    return replace(made, metadata=metadata, status=replace(made.status, conditions=[NodeCondition("Ready", ready)]))


async def search(server: ApiServer, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Whether the Node of a server that is gone is still there after two searches."""
    server.put(node(0, SIZE), lost())
    async with server.client() as client:
        nodes, clock = Informer(client, Node), Clock()
        for each in server.stored(Node).values():
            nodes.note(each)
        listers = NodeListers(nodes, NodeServers(Informer(client, SpiderServer)))
        reconciler = NodeReconciler(Cluster(client, Recorder(client, "test")), Cloud(), listers, PERIOD, clock=clock)
        meanwhile()
        for _ in range(2):
            await reconciler.search_lost_servers()
            clock.now += PERIOD
    return LOST in server.stored(Node)


class TestNodes:
    async def test_one_whose_server_is_gone_is_deleted(self, server: ApiServer) -> None:
        assert not await search(server)

    async def test_one_that_reports_again_stays(self, server: ApiServer) -> None:
        assert await search(server, lambda: server.put(lost("True")))

    async def test_one_that_was_registered_anew_stays(self, server: ApiServer) -> None:
        def register() -> None:
            server.remove(lost())
            server.put(lost(uid="n-9"))

        assert await search(server, register)

    async def test_one_that_reports_again_during_its_deletion_stays(self, server: ApiServer) -> None:
        server.inject(Fault("delete", delay=0.2))
        asyncio.get_running_loop().call_later(0.1, server.put, lost("True"))
        assert await search(server)


async def give_back(server: ApiServer, meanwhile: Callable[[SpiderIPPool, str], None]) -> bool:
    """Whether an address that the caches show unused and excluded from its pool is removed from its ENI."""
    async with server.client() as client:
        servers = NodeServers(Informer(client, SpiderServer))
        pools, ips = Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        listers = AddressListers(Informer(client, Node), servers, pools, ips)
        objects = list(cluster(SIZE))
        (pool,) = (each for each in objects if isinstance(each, SpiderIPPool) and each.spec.nodeName == [LOST])
        address = (pool.spec.ips or [""])[0].rpartition("-")[2]
        assigned = {ASSIGNED_ANNOTATION: msgspec.json.encode({"eni-1-1": [address]}).decode()}
        owner = lost("True")
        owner.metadata.annotations = (owner.metadata.annotations or {}) | assigned
        metadata = replace(pool.metadata, annotations={RELEASING_ANNOTATION: address})
        server.put(owner, replace(pool, metadata=metadata, spec=replace(pool.spec, excludeIPs=[address])))
        node = server.stored(Node)[LOST]
        listers.nodes.note(node)
        described = (each.spec for each in objects if isinstance(each, SpiderServer) and each.name == LOST)
        note(servers.informer, SpiderServer.of(node, next(described)), 1)
        listers.pools.note(server.stored(SpiderIPPool)[pool.name])
        meanwhile(pool, address)
        cloud, clock = Cloud(), Clock()
        rules = AddressRules(PreallocationPolicy(low=0, high=100), period=3600.0)
        reconciler = AddressReconciler(Cluster(client, Recorder(client, "test")), cloud, listers, rules, clock=clock)
        await reconciler.step()
        assert not cloud.returned, "the pools must have excluded it for some time"
        clock.now += rules.policy.fence
        await reconciler.step()
    assert cloud.returned <= {address}
    return bool(cloud.returned)


class TestAddresses:
    async def test_an_unused_one_is_given_back(self, server: ApiServer) -> None:
        assert await give_back(server, lambda pool, address: None)

    async def test_one_that_its_pool_gives_again_stays(self, server: ApiServer) -> None:
        assert not await give_back(server, lambda pool, address: server.put(pool))

    async def test_one_that_a_pod_has_just_got_stays(self, server: ApiServer) -> None:
        def hold(pool: SpiderIPPool, address: str) -> None:
            spec = IPSpec(f"{address}/8", pool.name, LOST, "default", "a", "uid-a", "eth0")
            server.put(SpiderIP(metadata=ObjectMeta(name=address), spec=spec))

        assert not await give_back(server, hold)
