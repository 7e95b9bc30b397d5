"""spiderpool-cloud: builds a replica from its settings. Only the leader calls the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from spiderpool import daemon
from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud import registry
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.cloud.registry import CloudConnection
from spiderpool.cloudcontroller.addresses import AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.nodes import NodeListers, NodeReconciler
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.cloudcontroller.services import ServiceReconciler
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.core.cloud.preallocation import PreallocationPolicy
from spiderpool.kernel.nic_path import NICPath
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.settings import CloudSettings, cloud_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-cloud"
LEASE = "spiderpool-cloud-leases"
REGION_PAUSE = 5.0
"""Seconds between two checks whether any Node has a provider ID."""
PROGRAM = daemon.Program(
    COMPONENT,
    "Keeps Nodes, addresses of ENIs and load balancers of Services in step with the cloud, in one leading replica.",
)

log = logger("cloud")


class CloudLeader:
    """The work of the leading replica: nodes, addresses in advance, and load balancers."""

    def __init__(self, client: Client, settings: CloudSettings, cloud: CloudConnection) -> None:
        self._client = client
        self._settings = settings
        self._cloud = cloud
        self._recorder = Recorder(client, COMPONENT)
        self._cluster = Cluster(client, self._recorder)
        self._nodes = Informer(client, Node)
        self._servers = NodeServers(Informer(client, SpiderServer, optional=True))  # Helm adds no CRDs in an update
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        self.not_ready_reason: str | None = daemon.NOT_SYNCED
        """None when all first lists have arrived."""

    async def run(self) -> None:
        """Watch and reconcile until cancelled. Raises NotReady."""
        reconcilers = self._reconcilers()  # before the lists, which they follow page by page instead of all at once
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, self._informers())
            for run in reconcilers:
                group.create_task(run())
            self.not_ready_reason = None
            log.info("reconciling", assigns=self._settings.preallocation.enabled)

    def _informers(self) -> list[Informer[Any]]:
        """The informers that the enabled features need, but for those of load balancers."""
        preallocation: list[Informer[Any]] = [self._pools, self._ips]
        return [self._nodes, self._servers.informer, *(preallocation if self._settings.preallocation.enabled else [])]

    def _reconcilers(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The tasks of the enabled features."""
        return [
            self._recorder.run,
            NodeReconciler(
                self._cluster, self._cloud.servers, NodeListers(self._nodes, self._servers), self._settings.node_period
            ).run,
            *([self._address_reconciler().run] if self._settings.preallocation.enabled else []),
            *([self._reconcile_services] if self._settings.balancing.enabled else []),
        ]

    async def _reconcile_services(self) -> None:
        """Keep the load balancers of Services in step, as soon as the region of the nodes is known."""
        balancing, settings = self._settings.balancing, self._settings
        region = settings.region or await _region_of(self._nodes, self._cloud.servers.parse_provider_id)
        listers = ServiceListers(
            Informer(self._client, Service),
            Informer(self._client, EndpointSlice),
            self._nodes,
            self._servers,
            Informer(self._client, SpiderLoadBalancerGrant, optional=True),  # its CRD may come after us
        )
        services = ServiceReconciler(
            self._cluster,
            listers,
            self._cloud.balancers(region, balancing.vpc),
            configuration_of(settings),
            ServiceTimings(period=balancing.period),
        )
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, (listers.services, listers.slices, listers.grants))
            group.create_task(services.run())
            log.info("balancing", region=region, cluster=settings.cluster_id)

    def _address_reconciler(self) -> AddressReconciler:
        preallocation, common = self._settings.preallocation, self._settings.common
        policy = PreallocationPolicy(
            low=preallocation.low, high=preallocation.high, idle=preallocation.idle, fence=preallocation.fence
        )
        rules = AddressRules(policy, preallocation.period, common.families, common.cloud.primary_eni)
        listers = AddressListers(self._nodes, self._servers, self._pools, self._ips)
        return AddressReconciler(self._cluster, self._cloud.servers, listers, rules)


async def _region_of(nodes: Informer[Node], parse: ProviderIDParser) -> str:
    """Returns the region of the nodes, as soon as one of them has a provider ID."""
    while True:
        for node in nodes.items():
            if named := parse(node.spec.providerID or ""):
                return named[0]
        log.warning("no node has a provider ID yet; load balancers wait")
        await asyncio.sleep(REGION_PAUSE)


async def serve(settings: CloudSettings) -> None:
    """Run a replica until cancelled. Raises SpiderpoolError, alone or in a group."""
    async with Client.load(settings.common.kubeconfig) as client:
        cloud = registry.provider(settings.common.cloud.provider).connect(settings, NICPath())
        replica = daemon.Replica(daemon.election(client, LEASE, settings), lambda: CloudLeader(client, settings, cloud))
        async with daemon.listening(daemon.runtime(replica), None, settings.health_port):
            await replica.run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a replica until SIGTERM. Exits 1 with log lines on errors of ours, 2 on unknown arguments."""
    daemon.parse_arguments(PROGRAM, arguments)

    def begin() -> Coroutine[Any, Any, None]:
        settings = cloud_settings(load_source())
        configure(settings.common.log_level)
        return serve(settings)

    daemon.run(begin)


if __name__ == "__main__":
    main()
