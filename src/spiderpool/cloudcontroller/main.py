"""spiderpool-cloud: several equal processes of which one, the leader, works with the cloud, until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from spiderpool import daemon
from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cloud import registry
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.cloud.registry import CloudConnection
from spiderpool.cloudcontroller.addresses import AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.nodes import NodeReconciler
from spiderpool.cloudcontroller.services import ServiceListers, ServiceReconciler, ServiceTimings, region_of, slice_kind
from spiderpool.core.cloud.preallocation import PreallocationPolicy
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.lease import Election, LeaseTimings
from spiderpool.settings import CloudSettings, cloud_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-cloud"
LEASE = "spiderpool-cloud-leases"
SYNC_TIMEOUT = 60.0
"""Seconds until the first lists must have arrived; then we end, and are started again."""

log = logger("cloud")


class CloudLeader:
    """What one replica does for all."""

    def __init__(self, client: Client, settings: CloudSettings, cloud: CloudConnection) -> None:
        self._client = client
        self._settings = settings
        self._cloud = cloud
        self._recorder = Recorder(client, COMPONENT)
        self._cluster = Cluster(client, self._recorder)
        self._nodes = Informer(client, Node)
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        self.working = False
        """Whether all first lists have arrived."""

    async def run(self) -> None:
        """Watch and reconcile until cancelled. Raises NotReady."""
        informers = self._informers()
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.synced(SYNC_TIMEOUT)
            for task in self._reconcilers():
                group.create_task(task)
            self.working = True
            log.info("reconciling", assigns=self._settings.preallocation.enabled)

    def _informers(self) -> list[Informer[Any]]:
        of_addresses: list[Informer[Any]] = [self._pools, self._ips]
        return [self._nodes, *(of_addresses if self._settings.preallocation.enabled else [])]

    async def _balance(self) -> None:
        """Give Services their load balancers, in the region of the nodes."""
        balancing, settings = self._settings.balancing, self._settings
        region = settings.region or await region_of(self._nodes, self._cloud.servers.parse_provider_id)
        listers = ServiceListers(
            Informer(self._client, Service), Informer(self._client, await slice_kind(self._client)), self._nodes
        )
        services = ServiceReconciler(
            self._cluster,
            listers,
            self._cloud.balancers(region, balancing.vpc),
            configuration_of(settings),
            ServiceTimings(period=balancing.period),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(listers.services.run())
            group.create_task(listers.slices.run())
            await listers.services.synced(SYNC_TIMEOUT)
            await listers.slices.synced(SYNC_TIMEOUT)
            group.create_task(services.run())
            log.info("balancing", region=region, cluster=settings.cluster_id)

    def _reconcilers(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._recorder.run(),
            NodeReconciler(self._cluster, self._cloud.servers, self._nodes, self._settings.node_period).run(),
            *([self._addresses().run()] if self._settings.preallocation.enabled else []),
            *([self._balance()] if self._settings.balancing.enabled else []),
        ]

    def _addresses(self) -> AddressReconciler:
        given, common = self._settings.preallocation, self._settings.common
        policy = PreallocationPolicy(low=given.low, high=given.high, idle=given.idle, fence=given.fence)
        rules = AddressRules(policy, given.period, common.families, common.cloud.primary_eni)
        listers = AddressListers(self._nodes, self._pools, self._ips)
        return AddressReconciler(self._cluster, self._cloud.servers, listers, rules)


class Replica:
    """One of several equal processes, of which one leads."""

    def __init__(self, client: Client, settings: CloudSettings) -> None:
        self._client = client
        self._settings = settings
        self._cloud = registry.provider(settings.common.cloud.provider).connect(settings)
        terms = LeaseTimings(settings.leader_duration, settings.leader_renew_deadline, settings.leader_retry_period)
        self._election = Election(client, LEASE, settings.common.namespace, settings.identity, terms)
        self._leader: CloudLeader | None = None

    async def run(self) -> None:
        """Lead when it is our turn, until cancelled. Raises NotReady."""
        await self._election.run(self._lead)

    async def _lead(self) -> None:
        self._leader = CloudLeader(self._client, self._settings, self._cloud)
        try:
            await self._leader.run()
        finally:
            self._leader = None

    @property
    def lack(self) -> str | None:
        """Why this replica is not ready; None when it is."""
        if self._leader is not None:
            return None if self._leader.working else "leading, caches are not synced"
        return None if self._election.leader else "no leader is known"

    @property
    def leading(self) -> bool:
        """Whether this replica leads."""
        return self._leader is not None


async def serve(settings: CloudSettings) -> None:
    """Run a replica until cancelled. Raises SpiderpoolError, alone or in a group."""
    async with Client.load(settings.common.kubeconfig) as client:
        replica = Replica(client, settings)
        async with daemon.listening(daemon.runtime(replica), None, settings.health_port):
            await replica.run()


def main() -> None:
    """Entry point: settings, then a replica until SIGTERM. Exits 1 with log lines on errors of ours."""

    def begin() -> Coroutine[Any, Any, None]:
        settings = cloud_settings(load_source())
        configure(settings.common.log_level)
        return serve(settings)

    daemon.run(begin)


if __name__ == "__main__":
    main()
