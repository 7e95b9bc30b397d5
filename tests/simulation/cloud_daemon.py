"""spiderpool-cloud as a simulated process, put together as `cloudcontroller.main` does it, and agents' discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from spiderpool import daemon
from spiderpool.agent.discovery import ENIDiscovery, InstanceCache, OwnServer
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloudcontroller.addresses import AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.nodes import NodeListers, NodeReconciler
from spiderpool.core.cloud.preallocation import PreallocationPolicy
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.lease import Election, LeaseLock, LeaseTimings
from spiderpool.kube.node_servers import NodeServers
from tests.simulation.api_server import SimulatedApiServer
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.cloud_provider import SimulatedMetadata, SimulatedProvider
from tests.simulation.daemons import NAMESPACE, Daemon
from tests.simulation.network import Link

READING = 5.0
"""Seconds between two readings of the metadata of a server."""
DESCRIPTION = 5.0
"""Seconds between two descriptions of all ENIs."""
SEARCH = 60.0
"""Seconds between two searches for lost servers: the default, longer than the cloud lacks a server that is there."""
POLICY = PreallocationPolicy(low=2, high=3, batch=3, idle=5.0, fence=25.0)
"""Small, since a run is short."""

Discovery = Callable[[OwnServer], Coroutine[Any, Any, None]]


def discovery(cloud: SimulatedCloud, node: str, directory: Path) -> Discovery:
    """As `agent.discovery.discover`."""
    metadata = SimulatedMetadata(cloud, node)

    async def discover(own: OwnServer) -> None:
        await ENIDiscovery(own, metadata, InstanceCache(directory / "instance.json"), READING, metadata.links).run()

    return discover


class CloudProcess(Daemon):
    """One replica of spiderpool-cloud."""

    def __init__(self, name: str, link: Link, api: SimulatedApiServer, cloud: SimulatedCloud) -> None:
        super().__init__(name, link, api)
        self._cloud = cloud

    async def serve(self, client: Client) -> None:
        """As `cloudcontroller.main.serve`."""
        lock = LeaseLock("spiderpool-cloud-leases", NAMESPACE, f"{self._name}-{self.restarts}")
        timings, clock = LeaseTimings(15.0, 10.0, 5.0), self.loop.time
        election = Election(client, lock, timings, clock=clock, wall_clock=clock)
        provider = SimulatedProvider(self._cloud)
        families = self._cloud.families
        await daemon.Replica(election, lambda: SimulatedCloudLeader(client, provider, families)).run()


class SimulatedCloudLeader:
    """The reconcilers of `cloudcontroller.main.CloudLeader`, without load balancers, on the clock of the simulation."""

    def __init__(self, client: Client, provider: SimulatedProvider, families: frozenset[int]) -> None:
        self.not_ready_reason: str | None = daemon.NOT_SYNCED
        nodes, pools, ips = Informer(client, Node), Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        servers = NodeServers(Informer(client, SpiderServer))
        self._informers: list[Informer[Any]] = [nodes, servers.informer, pools, ips]
        clock = asyncio.get_running_loop().time
        recorder = Recorder(client, "spiderpool-cloud", clock=clock)
        cluster = Cluster(client, recorder)
        rules = AddressRules(POLICY, DESCRIPTION, families, primary_eni=False)
        self._work = [
            recorder.run,
            NodeReconciler(cluster, provider, NodeListers(nodes, servers), SEARCH, clock=clock).run,
            AddressReconciler(cluster, provider, AddressListers(nodes, servers, pools, ips), rules, clock=clock).run,
        ]

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, self._informers)
            for run in self._work:
                group.create_task(run())
            self.not_ready_reason = None
