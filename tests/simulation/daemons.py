"""The product's daemons as simulated processes, put together as `agent.main` and `controller.main` do it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from spiderpool import daemon
from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.addresses import STICKY_OWNER_TIMEOUT, PodAddresses, PodPolicy
from spiderpool.agent.allocator import Allocator
from spiderpool.agent.api import AgentAPI
from spiderpool.agent.attach import Attacher, AttachmentEffects
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.containers import Containers
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.discovery import OwnServer
from spiderpool.agent.gc import NodeGC
from spiderpool.agent.hostports import HostPorts
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.agent.kernel_probe import KernelProbe
from spiderpool.agent.main import ADDRESSED, ATTACHED, CHAINED, FIRST_LISTS, HOST_PORTS, LOCK
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.record_store import ClusterReads
from spiderpool.agent.repair import RecordRepair
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.agent.server import CNIServer, Plugins
from spiderpool.agent.sole_agent import SoleAgent
from spiderpool.agent.takeover import TakeOvers
from spiderpool.api.cni import CNICall
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.endpoints import EndpointListers, EndpointReconciler
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.controller.gc import ClusterGC, GCListers, GCTimings
from spiderpool.controller.network_status import NetworkStatusReconciler
from spiderpool.controller.pools import PoolListers, PoolReconciler
from spiderpool.controller.subnets import SubnetReconciler
from spiderpool.core.ipam.gc import GCPolicy
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.kube.conditions import StatusTimings
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.lease import Election, LeaseLock, LeaseTimings
from spiderpool.kube.node_servers import NodeServers
from tests.simulation.api_server import SimulatedApiServer
from tests.simulation.kernel import SimulatedKernel
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.network import REQUESTS, Link, Requests

ADD_TIMEOUT = 60.0
NAMESPACE = "kube-system"
Clock = Callable[[], float]


class Daemon:
    """A process that is started again some seconds after it has ended by itself."""

    def __init__(self, name: str, link: Link, api: SimulatedApiServer) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.loop = loop
        self.link = link
        self.process = Process(name)
        self.restarts = 0
        self._api = api
        self._name = name
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin to run, unless it was killed while it waited for its restart."""
        if self.process.dead:
            return
        self._task = self.loop.start(self.process, self._run())
        self._task.add_done_callback(self._ended)

    def kill(self) -> None:
        """End it for good, as SIGKILL does."""
        self.process.kill()
        self.link.drop(self.process)

    async def _run(self) -> None:
        async with self._api.client(self.link) as client:
            await self.serve(client)

    async def serve(self, client: Client) -> None:
        """What it does until it is cancelled."""

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self.process.dead:
            self.restarts += 1
            self.loop.failures += [] if _is_expected(error) else [f"{self._name} has ended: {error!r}"]
            self.loop.call_later(5.0, self.start)


class ConnectionRefused(Exception):
    """No agent listens, or it died during the call."""


@dataclass(frozen=True)
class AgentOptions:
    """What an agent is told at its start."""

    policy: PodPolicy
    clock: Clock
    boot_id: str
    discover: Callable[[OwnServer], Coroutine[Any, Any, None]]
    """Its report of the server's ENIs."""


class AgentProcess(Daemon):
    """The agent of one node."""

    def __init__(
        self,
        kernel: SimulatedKernel,
        link: Link,
        api: SimulatedApiServer,
        *,
        directory: Path,
        settings: AgentOptions,
    ) -> None:
        super().__init__(f"agent of {kernel.node}", link, api)
        self._kernel = kernel
        self._directory = directory
        self._settings = settings
        self._lock = SoleAgent(directory / LOCK)
        self._server: CNIServer | None = None
        self._calls: dict[asyncio.Future[Any], None] = {}

    @property
    def listening(self) -> bool:
        """Whether it takes calls."""
        return self._server is not None and not self.process.dead

    def kill(self) -> None:
        """End it for good, and the calls that it serves; the kernel takes its lock back."""
        super().kill()
        self._lock.release()
        calls, self._calls = self._calls, {}
        for future in calls:
            if not future.done():
                future.set_exception(ConnectionRefused())

    async def call(self, call: CNICall, requests: Requests) -> dict[str, Any] | None:
        """Have it serve a call. Raises SpiderpoolError, or ConnectionRefused."""
        if not self.listening:
            raise ConnectionRefused
        answer: asyncio.Future[Any] = self.loop.create_future()
        self._calls[answer] = None
        context = self.process.context()
        context.run(REQUESTS.set, requests)
        assert self._server is not None
        task: asyncio.Task[Any] = context.run(self.loop.create_task, self._server.serve(call))
        task.add_done_callback(lambda done: _hand_over(done, answer))
        try:
            return await answer  # type: ignore[no-any-return]
        finally:
            self._calls.pop(answer, None)

    async def serve(self, client: Client) -> None:
        """As `agent.main.run`."""
        async with self._lock.held():
            await self._serve(client)

    async def _serve(self, client: Client) -> None:
        cluster = ClusterCache(client, self._kernel.node)
        attached = AttachmentStore(self._directory / ATTACHED, self._kernel.is_gone)
        chained = AttachmentStore(self._directory / CHAINED, self._kernel.is_gone)
        containers = Containers(self._directory / ADDRESSED, self._kernel.is_gone)
        sandboxes = NodeSandboxes(attached, chained, containers, self._kernel.read)
        account = AccountPublisher(client, cluster, sandboxes, self._settings.boot_id, clock=self._settings.clock)
        recorder = Recorder(client, "spiderpool-agent", self._kernel.node, clock=self._settings.clock)
        repair = RecordRepair(cluster, sandboxes, recorder, self._settings.policy.addresses)
        take_overs = TakeOvers(client, self._kernel.node, sandboxes)
        reads = ClusterReads(
            partial(cluster.owners.is_needed, timeout=STICKY_OWNER_TIMEOUT),
            cluster.is_held,
            take_overs.until_given_up,
            take_overs.why_not,
            take_overs.why_not_moved,
            take_overs.still_moving,
            cluster.read_pool,
            cluster.read_node,
        )
        pools = NodePools(self._kernel.node, cluster.pools, cluster.reserved, repair.occupied, cluster.exhausted_quota)
        allocator = Allocator(cluster.records, pools, reads=reads, clock=self._settings.clock)
        addresses = PodAddresses(cluster, allocator, recorder, self._settings.policy, account)
        ipam = IPAMPlugin(cluster, addresses, containers, account)
        delegates = DelegateExecutor((self._directory,), self._directory / "socket")
        effects = AttachmentEffects(delegates, HostPorts(self._directory / HOST_PORTS), account, recorder, self._kernel)
        attacher = Attacher(cluster, addresses, attached, effects)
        coordinator = CoordinatorPlugin(cluster, chained, attached)
        gc = NodeGC(cluster, addresses, attacher, coordinator, ipam)
        plugins = Plugins(attacher, ipam, coordinator, gc, KernelProbe())
        self._server = CNIServer(cluster, plugins, AgentAPI(cluster, addresses, ipam, ADD_TIMEOUT), ADD_TIMEOUT)
        try:
            async with asyncio.TaskGroup() as group:
                for work in (cluster.run(), allocator.run(), recorder.run()):
                    group.create_task(work)
                await cluster.synced(FIRST_LISTS)
                discovering = self._settings.discover(
                    OwnServer(client, cluster.nodes, cluster.servers, self._kernel.node)
                )
                for work in (discovering, gc.run(), repair.run(account), account.run()):
                    group.create_task(work)
                await asyncio.Event().wait()
        finally:
            self._server = None


class ControllerProcess(Daemon):
    """One replica of the controller; of its leader only what concerns addresses."""

    def __init__(self, name: str, link: Link, api: SimulatedApiServer, clock: Clock, families: frozenset[int]) -> None:
        super().__init__(name, link, api)
        self._clock = clock
        self._families = families
        self._replica: daemon.Replica | None = None
        self.collections = 0

    @property
    def leading(self) -> bool:
        """Whether it leads."""
        return self._replica is not None and self._replica.leading and not self.process.dead

    async def serve(self, client: Client) -> None:
        """As `controller.main.serve`."""
        lock = LeaseLock("spiderpool-controller-leases", NAMESPACE, f"{self._name}-{self.restarts}")
        timings = LeaseTimings(15.0, 10.0, 5.0)
        election = Election(client, lock, timings, clock=self.loop.time, wall_clock=self._clock)
        self._replica = daemon.Replica(election, lambda: SimulatedLeader(client, self._clock, self._families))
        try:
            await self._replica.run()
        finally:
            self._replica = None


class SimulatedLeader:
    """The reconcilers of `controller.main.ControllerLeader` that read or write addresses."""

    def __init__(self, client: Client, clock: Clock, families: frozenset[int]) -> None:
        self.not_ready_reason: str | None = daemon.NOT_SYNCED
        pools, ips = Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        pods, nodes = Informer(client, Pod), Informer(client, Node)
        networks, endpoints = Informer(client, NetworkAttachmentDefinition), Informer(client, SpiderEndpoint)
        subnets, accounts = Informer(client, SpiderSubnet), Informer(client, SpiderNode)
        configs, servers = Informer(client, SpiderMultusConfig), NodeServers(Informer(client, SpiderServer))
        self._informers: list[Informer[Any]] = [
            *(pools, ips, pods, nodes, networks, endpoints, subnets, accounts, configs, servers.informer)
        ]
        recorder = Recorder(client, "spiderpool-controller", clock=clock)
        listers = PoolListers(pools, ips, nodes, networks)
        collection = GCListers(ips, pods, nodes, accounts, pools)
        enis = ENIPoolListers(nodes, servers, pools, ips, configs)
        eni_rules = ENIPoolRules(families, NAMESPACE, primary_eni=False, node_grace=60.0)
        self._work = [
            recorder.run,
            PoolReconciler(client, listers, recorder, namespace=NAMESPACE, timings=StatusTimings(0.3, clock)).run,
            EndpointReconciler(client, EndpointListers(endpoints, ips, pods, pools)).run,
            SubnetReconciler(client, subnets, pools, recorder, timings=StatusTimings(0.3, clock)).run,
            ClusterGC(client, collection, recorder, GCTimings(clock=clock), GCPolicy()).run,
            ENIPoolReconciler(client, enis, recorder, eni_rules).run,
            NetworkStatusReconciler(client, accounts, pods).run,
        ]

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, self._informers)
            for run in self._work:
                group.create_task(run())
            self.not_ready_reason = None


def skewed(clock: Clock, random: Random, most: float) -> Clock:
    """A clock that is wrong by up to so many seconds."""
    offset = random.uniform(-most, most)
    return lambda: clock() + offset


def _hand_over(done: asyncio.Task[Any], answer: asyncio.Future[Any]) -> None:
    if answer.done():
        with suppress(asyncio.CancelledError):
            done.exception()
    elif done.cancelled():
        answer.set_exception(ConnectionRefused())
    elif error := done.exception():
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _is_expected(error: BaseException | None) -> bool:
    """Whether a daemon may end by an error: it could not begin, or its lease is lost."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_expected(each) for each in error.exceptions)
    return isinstance(error, SpiderpoolError)
