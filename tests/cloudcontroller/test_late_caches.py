"""What cannot be undone is decided by a fresh read: the caches here are those of a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import replace as changed

import msgspec
import pytest
from bench.scale import QuietCloud
from bench.scale_cluster import Size, cluster, eni_of, node, node_name
from msgspec.structs import replace

from spiderpool.api.core_v1 import Event, Node, NodeCondition
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, ObservedPool, SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud.provider import CloudError, CloudServer, CloudUnavailable, NotPermitted, RegisteredENI, Throttled
from spiderpool.cloudcontroller.addresses import (
    FAILURE_PAUSE,
    PERMISSION_PAUSE,
    AddressListers,
    AddressReconciler,
    AddressRules,
)
from spiderpool.cloudcontroller.agent_delays import REPORT_AFTER
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.eni_descriptions import CONFIRMATION_LAG
from spiderpool.cloudcontroller.nodes import NodeListers, NodeReconciler
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION, PreallocationPolicy
from spiderpool.core.ipam.evidence import SHUTDOWN
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.cloudcontroller.service_cluster import Clock
from tests.support.api_server import ApiServer, Fault
from tests.support.caches import note
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

SIZE = Size(2, 2)
LOST = node_name(1)
PERIOD = 60.0
FENCE = 60.0
NO_ADDRESS = "10.0.0"


class Cloud(QuietCloud):
    """A cloud in which the server of the node LOST is gone, and that takes addresses back."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.returned: set[str] = set()
        self.is_silent = False
        self.refusal: CloudError | None = None
        self.stopped: set[str] = set()
        self.garbled = ""
        """An ENI that it describes with an address that is none."""

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        found = await super().instances(region, identities)
        found = {identity: each for identity, each in found.items() if identity != "i-1"}
        return {identity: changed(each, stopped=identity in self.stopped) for identity, each in found.items()}

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        found = dict(await super().enis(region, identities))
        for each in found.keys() & {self.garbled}:
            found[each] = changed(found[each], addresses=found[each].addresses | {NO_ADDRESS})
        return found

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.returned |= {*addresses}
        if self.is_silent:
            raise CloudUnavailable("no answer")

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        return ()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(Node.KIND, SpiderIPPool.KIND, SpiderIP.KIND, SpiderNode.KIND, Event.KIND) as server:
        yield server


def lost(ready: str = "Unknown", uid: str = "n-1") -> Node:
    """The Node of the server that is gone."""
    return silent(1, ready, uid)


def silent(number: int, ready: str, uid: str) -> Node:
    """A Node whose kubelet has stopped reporting, if it is not ``ready`` again."""
    made = node(number, SIZE)
    metadata = replace(made.metadata, uid=uid)
    return replace(made, metadata=metadata, status=replace(made.status, conditions=[NodeCondition("Ready", ready)]))


async def search(server: ApiServer, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Whether the Node of a server that is gone is still there after two searches."""
    async with searching(server, Cloud()) as look:
        meanwhile()
        for _ in range(2):
            await look()
    return LOST in server.stored(Node)


@asynccontextmanager
async def searching(server: ApiServer, cloud: Cloud, *others: Node) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A search for lost servers, which may be called again and again."""
    server.put(node(0, SIZE), lost(), *others)
    async with server.client() as client:
        nodes, clock = Informer(client, Node), Clock()
        for each in server.stored(Node).values():
            nodes.note(each)
        listers = NodeListers(nodes, NodeServers(Informer(client, SpiderServer)))
        reconciler = NodeReconciler(Cluster(client, Recorder(client, "test")), cloud, listers, PERIOD, clock=clock)

        async def look() -> None:
            await reconciler.search_lost_servers()
            clock.now += PERIOD

        yield look


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

    async def test_one_that_cannot_be_written_keeps_no_other_from_what_becomes_of_it(self, server: ApiServer) -> None:
        cloud, others = Cloud(), [silent(number, "Unknown", f"n-{number}") for number in (2, 3)]
        cloud.stopped = {"i-2", "i-3"}
        async with searching(server, cloud, *others) as look:
            for marked in (1, 1, 2):
                server.inject(*([Fault("patch", status=422)] if marked == 1 else []))
                await look()
                assert sum(SHUTDOWN in taints(each) for each in server.stored(Node).values()) == marked
        assert LOST not in server.stored(Node)


def taints(node: Node) -> set[str]:
    """The keys of the taints of a Node."""
    return {each.key for each in node.spec.taints or ()}


def account_of(pool: SpiderIPPool) -> SpiderNode:
    """What the agent of the node LOST publishes once it knows a pool."""
    observed = ObservedPool(pool.name, pool.metadata.generation or 0)
    return SpiderNode(metadata=ObjectMeta(name=LOST), status=NodeAccount(pools=[observed]))


@dataclass
class Returning:
    """A node one of whose addresses is unused, and excluded from its pool: by the caches, and for its agent."""

    reconciler: AddressReconciler
    cloud: Cloud
    clock: Clock
    pool: SpiderIPPool
    """As it was before the address was excluded."""
    address: str
    listers: AddressListers
    recorder: Recorder

    def hold_another(self) -> None:
        """A pod gets another address of the pool, so that there are too few."""
        first = (self.pool.spec.ips or [""])[0].partition("-")[0]
        spec = IPSpec(f"{first}/8", self.pool.name, LOST, "default", "a", "uid-a", "eth0")
        self.listers.ips.note(SpiderIP(metadata=ObjectMeta(name=first, uid="ip-1"), spec=spec))

    async def look(self, seconds: float) -> None:
        """One look of the reconciler, so many seconds later."""
        self.clock.now += seconds
        await self.reconciler.step()


@asynccontextmanager
async def returning(server: ApiServer) -> AsyncIterator[Returning]:
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
        server.put(account_of(server.stored(SpiderIPPool)[pool.name]))
        node = server.stored(Node)[LOST]
        listers.nodes.note(node)
        described = (each.spec for each in objects if isinstance(each, SpiderServer) and each.name == LOST)
        note(servers.informer, SpiderServer.of(node, next(described)), 1)
        listers.pools.note(server.stored(SpiderIPPool)[pool.name])
        cloud, clock = Cloud(), Clock()
        free = len(eni_of(1, SIZE).addresses) - 1
        rules = AddressRules(PreallocationPolicy(low=free, high=free, fence=FENCE), period=30.0)
        recorder = Recorder(client, "test")
        reconciler = AddressReconciler(Cluster(client, recorder), cloud, listers, rules, clock=clock)
        yield Returning(reconciler, cloud, clock, pool, address, listers, recorder)


def is_fenced(server: ApiServer, node: Returning) -> bool:
    """Whether the pool still leaves the address out."""
    annotations = server.stored(SpiderIPPool)[node.pool.name].metadata.annotations or {}
    return annotations.get(RELEASING_ANNOTATION) == node.address


async def give_back(
    server: ApiServer,
    meanwhile: Callable[[SpiderIPPool, str], None],
    later: Callable[[], None] = lambda: None,
) -> bool:
    """Whether an address that the caches show unused and excluded from its pool is removed from its ENI."""
    async with returning(server) as node:
        meanwhile(node.pool, node.address)
        await node.look(0.0)
        assert not node.cloud.returned, "the pools must have excluded it for some time"
        await node.look(FENCE)
        later()
        await node.look(FAILURE_PAUSE)
    assert node.cloud.returned <= {node.address}
    return bool(node.cloud.returned)


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

    async def test_one_stays_that_the_agent_may_still_give_to_a_pod(self, server: ApiServer) -> None:
        def exclude_anew(pool: SpiderIPPool, address: str) -> None:
            """The agent knows the pool before this change, in which it may have had the address."""
            present = server.stored(SpiderIPPool)[pool.name]
            server.put(replace(present, spec=replace(present.spec, excludeIPs=[address, "10.255.0.1"])))

        assert not await give_back(server, exclude_anew)

    async def test_one_stays_whose_node_has_said_nothing(self, server: ApiServer) -> None:
        assert not await give_back(server, lambda pool, address: server.remove(server.stored(SpiderNode)[LOST]))

    async def test_one_goes_once_the_agent_has_caught_up(self, server: ApiServer) -> None:
        waited: list[SpiderNode] = []

        def hang(pool: SpiderIPPool, address: str) -> None:
            waited.append(server.stored(SpiderNode)[LOST])
            server.remove(waited[0])

        assert await give_back(server, hang, lambda: server.put(*waited))

    async def test_one_that_waits_for_an_agent_for_minutes_is_reported_once(self, server: ApiServer) -> None:
        async with returning(server) as node, running(node.recorder.run()):
            known = server.stored(SpiderNode)[LOST]
            server.remove(known)
            await node.look(0.0)
            for _ in range(3):
                await node.look(FENCE)
                assert not server.stored(Event), "an agent may be away for a moment"
            for _ in range(3):
                await node.look(REPORT_AFTER)
            await eventually(lambda: server.stored(Event))
            (event,) = server.stored(Event).values()
            assert (event.involvedObject.name, event.reason, event.count) == (LOST, "AgentPoolsNotObserved", 1)
            assert "made no SpiderNode" in (event.message or "")
            server.put(known)
            await node.look(FAILURE_PAUSE)
            assert node.cloud.returned == {node.address}

    async def test_one_that_may_be_gone_is_given_to_no_pod_though_addresses_run_short(self, server: ApiServer) -> None:
        async with returning(server) as node:
            node.cloud.is_silent = True
            await node.look(0.0)
            await node.look(FENCE)
            assert node.cloud.returned == {node.address}
            node.hold_another()
            await node.look(CONFIRMATION_LAG - 1.0)
            assert is_fenced(server, node)

    async def test_one_whose_removal_was_refused_comes_back_when_addresses_run_short(self, server: ApiServer) -> None:
        async with returning(server) as node:
            node.cloud.refusal = NotPermitted("no", action="unassign")
            await node.look(0.0)
            await node.look(FENCE)
            assert not node.cloud.returned
            node.hold_another()
            await node.look(PERMISSION_PAUSE)
            assert not is_fenced(server, node)

    async def test_one_whose_removal_may_be_done_is_not_trusted_to_a_refusal(self, server: ApiServer) -> None:
        """The first request was carried out without an answer, and the second one is refused."""
        async with returning(server) as node:
            node.cloud.is_silent = True
            await node.look(0.0)
            await node.look(FENCE)
            node.cloud.refusal = Throttled("too many calls", retry_after=1.0)
            await node.look(FAILURE_PAUSE)
            node.hold_another()
            await node.look(FAILURE_PAUSE)
            assert is_fenced(server, node)

    async def test_one_of_which_no_agent_knows_comes_back_when_addresses_run_short(self, server: ApiServer) -> None:
        """As where agents of an earlier version publish no pools."""
        async with returning(server) as node:
            server.remove(server.stored(SpiderNode)[LOST])
            await node.look(0.0)
            node.hold_another()
            await node.look(CONFIRMATION_LAG)
            assert not is_fenced(server, node)

    async def test_one_that_a_former_leader_may_be_removing_does_not_come_back(self, server: ApiServer) -> None:
        async with returning(server) as node:
            node.hold_another()
            await node.look(0.0)
            await node.look(CONFIRMATION_LAG - 1.0)
            assert is_fenced(server, node)

    async def test_an_eni_that_cannot_be_planned_keeps_no_other_from_its_due(self, server: ApiServer) -> None:
        async with returning(server) as one:
            one.cloud.garbled = "eni-0-1"
            assigned = msgspec.json.encode({one.cloud.garbled: [NO_ADDRESS]}).decode()
            made = node(0, SIZE)
            annotations = (made.metadata.annotations or {}) | {ASSIGNED_ANNOTATION: assigned}
            one.listers.nodes.note(replace(made, metadata=replace(made.metadata, annotations=annotations)))
            await one.look(0.0)
            await one.look(FENCE)
            assert one.cloud.returned == {one.address}
