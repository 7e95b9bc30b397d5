"""A real API server, a simulated account, and the parts of ours that make pools of what nodes report."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.containers import Containers
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.api.core_v1 import Event, Node, NodeSpec, Taint
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.core.addresses import AddressSet, from_int, object_name
from spiderpool.core.cloud.eni_pools import is_known_to_agent
from spiderpool.core.ipam.allocation import usable
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.ports import free_ports
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.cloudcontroller.pretend_cluster import pretended
from tests.cloudcontroller.service_cluster import Clock, cluster
from tests.support.environment import bare_environment
from tests.support.eventually import eventually
from tests.support.running import running
from tests.support.servers import describe

__all__ = ["cluster", "pretended"]

REGION = "cn-hangzhou"
BLOCK, BLOCK6 = "172.31.192.0/20", "2408:4005:1::/64"

TAGS = itertools.count()
"""Node objects get names of their own: the cluster remembers how it last heard of a name, and calls it silent."""


@dataclass
class CloudCluster:
    """A cluster in an account."""

    client: Client
    simulated: SimulatedCloud
    cluster: Cluster
    """With the token of spiderpool-cloud."""
    directory: Path
    clock: Clock = field(default_factory=Clock)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """End with the test."""

    def __post_init__(self) -> None:
        self.tag = next(TAGS)
        self.nodes = Informer(self.client, Node)
        self.servers = NodeServers(Informer(self.client, SpiderServer))
        self.pools = Informer(self.client, SpiderIPPool)
        self.ips = Informer(self.client, SpiderIP)
        self.networks = Informer(self.client, SpiderMultusConfig)

    def node_name(self, name: str) -> str:
        """Name of the Node object of a server."""
        return f"{name}-{self.tag}"

    async def node(self, name: str) -> Node:
        """The Node object of a server, read now."""
        return await self.client.get(Node, self.node_name(name))

    def is_there(self, name: str) -> bool:
        """Whether a server has a Node object."""
        return self.nodes.get(self.node_name(name)) is not None

    def add_server(self, name: str, enis: int = 1, kind: str = "ecs.g7.large") -> str:
        """A server with ENIs; its identity."""
        server = self.simulated.account.add_instance(name, instance_type=kind, identity=f"i-{name}").identity
        for number in range(enis):
            self.simulated.account.add_eni("vsw-1", instance=server, identity=f"eni-{name}-{number}")
        return server

    def instance(self, name: str) -> Instance:
        """What the server's metadata says now."""
        server = self.simulated.account.tables.instances.get(f"i-{name}")
        assert server is not None
        enis = tuple(
            ENI(
                eni.identity,
                eni.mac,
                eni.primary,
                eni.address,
                eni.secondaries,
                eni.ipv6_addresses,
                eni.vswitch,
                BLOCK,
                BLOCK6,
                None,
                None,
                f"eth{number}",
            )
            for number, eni in enumerate(self.simulated.account.enis_of(server.identity))
        )
        return Instance("alibaba", REGION, server.zone, server.identity, server.instance_type, enis)

    async def add_node(
        self, name: str, *, ready: str = "True", provider_id: str | None = None, taints: list[Taint] | None = None
    ) -> None:
        """The Node of a server, whose agent has reported."""
        metadata, spec = ObjectMeta(name=self.node_name(name)), NodeSpec(providerID=provider_id, taints=taints)
        await self.client.create(Node(metadata=metadata, spec=spec))
        await describe(self.client, self.node_name(name), self.instance(name))
        await eventually(lambda: self.servers.informer.get(self.node_name(name)) is not None)
        await self.set_ready(name, ready)

    def publish(self, name: str) -> None:
        """The node's agent publishes its account from now on."""
        cluster, files = ClusterCache(self.client, self.node_name(name)), self.directory / name
        sandboxes = NodeSandboxes(AttachmentStore(files / "a"), AttachmentStore(files / "c"), Containers(files / "i"))
        publisher = AccountPublisher(self.client, cluster, sandboxes, "boot-1")

        async def run() -> None:
            await cluster.listed(10.0)
            await publisher.run()

        self.tasks += [asyncio.create_task(each) for each in (cluster.run(), run())]

    async def noticed(self, name: str) -> None:
        """Wait until the node's agent says that it knows the pools of its ENIs as they are now."""

        async def is_known() -> bool:
            account = await self.client.find(SpiderNode, self.node_name(name))
            pools = await self.client.list(SpiderIPPool)
            return all(is_known_to_agent(eni.identity, pools, account) for eni in self.instance(name).enis)

        await eventually(is_known)

    async def set_ready(self, name: str, ready: str) -> None:
        """Say of a Node whether it is ready."""
        body = {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
        await self.client.patch(Node, self.node_name(name), body, sub="status")
        await eventually(lambda: self._shows(name, ready))

    def _shows(self, name: str, ready: str) -> bool:
        node = self.nodes.get(self.node_name(name))
        return node is not None and any(each.status == ready for each in node.status.conditions or [])

    async def report(self, name: str) -> None:
        """The node's agent reads its metadata and reports; the pools follow."""
        instance = self.instance(name)
        await describe(self.client, self.node_name(name), instance)
        desired = {each for eni in instance.enis for each in eni.addresses}
        enis = {eni.identity for eni in instance.enis}
        await eventually(lambda: desired == self._in_pools(enis))

    def _in_pools(self, enis: set[str]) -> set[str]:
        return {
            each
            for eni in enis
            for pool in self.pools.items()
            if (pool.metadata.labels or {}).get("cloud.spidernet.io/card") == eni and ":" not in pool.spec.subnet
            for each in _texts(pool.spec.ips or [])
        }

    async def hold(self, address: str, pool: str = "some") -> None:
        """A pod holds an address."""
        spec = IPSpec(f"{address}/20", pool, "n", "default", f"pod-{address}", f"uid-{address}", "eth0")
        metadata = ObjectMeta(name=object_name(address), labels={IP_POOL_LABEL: pool})
        await self.client.create(SpiderIP(metadata=metadata, spec=spec))
        await eventually(lambda: self.ips.get(object_name(address)) is not None)

    async def let_go(self, address: str) -> None:
        """The pod no longer holds it."""
        await self.client.delete(SpiderIP, object_name(address))
        await eventually(lambda: self.ips.get(object_name(address)) is None)

    def registered(self, eni: str) -> set[str]:
        """Secondary IPv4 addresses that the cloud has on an ENI."""
        found = self.simulated.account.tables.enis.get(eni)
        assert found is not None
        return set(found.secondaries)

    def gives(self, address: str) -> bool:
        """Whether a pod can get an address from a pool."""
        pools = [pool for pool in self.pools.items() if ":" not in pool.spec.subnet]
        return any(address in _texts(usable(pool).ranges()) for pool in pools)

    async def events(self, reason: str) -> list[str]:
        """Messages of the events of a reason."""
        return [event.message for event in await self.client.list(Event) if event.reason == reason]


def _texts(ranges: list[str]) -> set[str]:
    intervals = AddressSet.parse(ranges, 4).intervals
    return {from_int(value, 4) for first, last in intervals for value in range(first, last + 1)}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the machine's proxy."""
    simulation.without_proxy(monkeypatch)


@pytest.fixture
def account() -> Account:
    """An account with one vSwitch."""
    return simulation.new_account()


@pytest.fixture
async def simulated(account: Account, tmp_path: Path) -> AsyncIterator[SimulatedCloud]:
    """The served account."""
    async with simulation.served(account, tmp_path) as simulated:
        yield simulated


@pytest.fixture
async def cloud_cluster(
    control_plane: ControlPlane, simulated: SimulatedCloud, tmp_path: Path
) -> AsyncIterator[CloudCluster]:
    """The cluster, empty; emptied again at the end."""
    account = control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")
    async with Client.load(control_plane.admin_kubeconfig) as client, Client.load(account) as own:
        recorder = Recorder(own, "spiderpool-cloud")
        cloud_cluster = CloudCluster(client, simulated, Cluster(own, recorder), tmp_path)
        informers: list[Informer[Any]] = [
            cloud_cluster.nodes,
            cloud_cluster.servers.informer,
            cloud_cluster.pools,
            cloud_cluster.ips,
            cloud_cluster.networks,
        ]
        listers = ENIPoolListers(
            cloud_cluster.nodes,
            cloud_cluster.servers,
            cloud_cluster.pools,
            cloud_cluster.ips,
            cloud_cluster.networks,
        )
        rules = ENIPoolRules(frozenset({4}), "kube-system", True, 60.0)
        discovery = ENIPoolReconciler(client, listers, recorder, rules)
        work = [*(informer.run() for informer in informers), recorder.run(), discovery.run()]
        try:
            async with running(*work) as cloud_cluster.tasks:
                for informer in informers:
                    await informer.synced(10)
                yield cloud_cluster
        finally:
            # Not waited for: pools of other tests may have a finalizer, and nobody here to remove it.
            everything = ("nodes,spidernodes,spiderservers,spiderips,spiderippools", "--all", "--wait=false")
            control_plane.kubectl("delete", *everything, timeout=60)
            networks = ("spidermultusconfigs", "--all", "--all-namespaces", "--wait=false")
            control_plane.kubectl("delete", *networks, timeout=60)
            control_plane.delete_events()


# --- spiderpool-cloud as a process

CONFIG = """
cloud: {provider: alibaba, region: cn-hangzhou, alibaba: {assign: true, minFreeAddresses: 2, maxFreeAddresses: 4}}
"""


@dataclass(frozen=True)
class Running:
    """A running replica."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    async def get(self, path: str) -> str:
        """The text of a page; empty when there is none."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}{path}") as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def is_leading(self) -> bool:
        """Whether it leads."""
        return await self.get("/v1/runtime/liveness") == "leading"

    async def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        return await self.get("/v1/runtime/readiness") == "ok"


Start = Callable[[CloudCluster], Running]


@pytest.fixture
def start(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Start]:
    """Starts replicas; ends them with the test."""
    running: list[Running] = []
    (tmp_path / "conf.yml").write_text(CONFIG)

    def begin(cloud_cluster: CloudCluster) -> Running:
        (port,) = free_ports(1)
        log = tmp_path / f"cloud-{port}.log"
        environment = {
            **bare_environment(),
            "KUBECONFIG": str(control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")),
            "SPIDERPOOL_CONFIG": str(tmp_path / "conf.yml"),
            "SPIDERPOOL_CLOUD_ENDPOINT": str(cloud_cluster.simulated.access.override),
            "SPIDERPOOL_CLOUD_CA": str(cloud_cluster.simulated.access.authority),
            "SPIDERPOOL_CLOUD_SECRET_DIR": str(cloud_cluster.simulated.secret),
            "SPIDERPOOL_CLOUD_CREDENTIALS": "secret",
            "SPIDERPOOL_HEALTH_PORT": str(port),
            "SPIDERPOOL_LEADER_DURATION": "3",
            "SPIDERPOOL_LEADER_RENEW_DEADLINE": "2",
            "SPIDERPOOL_LEADER_RETRY_PERIOD": "0.5",
            "SPIDERPOOL_POD_NAME": f"cloud-{port}",
        }
        with log.open("wb") as out:
            words = [sys.executable, "-m", "spiderpool.cloudcontroller.main"]
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT)
        running.append(Running(process, f"http://127.0.0.1:{port}", log))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait(timeout=10)
