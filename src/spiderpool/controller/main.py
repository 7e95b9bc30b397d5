"""The controller: several equal processes that serve admission, of which one reconciles, until told to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from spiderpool import daemon
from spiderpool.api.applications import WORKLOADS
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Node, Pod, Secret
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.applications import ApplicationListers, ApplicationPoolReconciler
from spiderpool.controller.certificates import STORE, CertificateLifetimes, Certificates
from spiderpool.controller.coordinator import KUBEADM_CONFIG, SYSTEM_NAMESPACE, CIDRSources, CoordinatorReconciler
from spiderpool.controller.endpoints import EndpointReconciler
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler
from spiderpool.controller.eni_pools import ENIPoolRules as ENIRules
from spiderpool.controller.gc import ClusterGC, GCListers, GCTimings
from spiderpool.controller.networks import NetworkReconciler
from spiderpool.controller.pools import PoolReconciler
from spiderpool.controller.registration import Registration, hosts, unregister
from spiderpool.controller.subnets import SubnetReconciler
from spiderpool.controller.webhooks import Webhooks
from spiderpool.core.ipam.gc import GCPolicy
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.lease import Election, LeaseTimings
from spiderpool.settings import ControllerSettings, controller_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-controller"
LEASE = "spiderpool-controller-leases"
SYNC_TIMEOUT = 60.0
"""Seconds until the first lists must have arrived; then we end, and are started again."""

log = logger("controller")


class ControllerLeader:
    """What one replica does for all: reconcile, collect, and keep the webhooks registered."""

    def __init__(self, client: Client, settings: ControllerSettings, certificates: Certificates) -> None:
        self._client = client
        self._settings = settings
        self._registration = Registration(client, settings, certificates)
        self._recorder = Recorder(client, COMPONENT)
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        self._pods = Informer(client, Pod)
        self._configs = Informer(client, SpiderMultusConfig)
        self._attachments = Informer(client, NetworkAttachmentDefinition)
        self._coordinators = Informer(client, SpiderCoordinator)
        self._kubeadm = Informer(client, ConfigMap, SYSTEM_NAMESPACE, fields=f"metadata.name={KUBEADM_CONFIG}")
        self._nodes = Informer(client, Node)
        self._endpoints = Informer(client, SpiderEndpoint)
        self._subnets = Informer(client, SpiderSubnet)
        self._reserved = Informer(client, SpiderReservedIP)
        auto_pools = settings.common.enable_spider_subnet and settings.common.enable_auto_pools
        self._workloads = {kind: Informer(client, kind, optional=True) for kind in WORKLOADS} if auto_pools else {}
        self.working = False
        """Whether all first lists have arrived and the API server knows our webhooks."""

    async def run(self) -> None:
        """Watch, register the webhooks, and reconcile until cancelled. Raises NotReady."""
        informers = self._informers()
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.synced(SYNC_TIMEOUT)
            group.create_task(self._registration.run())
            await self._registration.registered(SYNC_TIMEOUT)
            for task in self._reconcilers():
                group.create_task(task)
            self.working = True
            log.info("reconciling", webhooks=hosts(self._settings))

    def _informers(self) -> list[Informer[Any]]:
        return [
            self._pools,
            self._ips,
            self._pods,
            self._configs,
            self._attachments,
            self._coordinators,
            self._kubeadm,
            self._nodes,
            self._endpoints,
            *([self._subnets] if self._settings.common.enable_spider_subnet else []),
            *([self._reserved] if self._workloads else []),
            *self._workloads.values(),
        ]

    def _reconcilers(self) -> list[Coroutine[Any, Any, None]]:
        client, settings, recorder = self._client, self._settings, self._recorder
        sources = CIDRSources(settings.coordinator_name, settings.host_cni_dir, settings.cilium_config)
        return [
            recorder.run(),
            PoolReconciler(client, self._pools, self._ips, settings.status_debounce).run(),
            NetworkReconciler(client, self._configs, self._attachments, recorder).run(),
            CoordinatorReconciler(client, self._coordinators, self._kubeadm, recorder, sources).run(),
            EndpointReconciler(client, self._endpoints, self._ips, self._pods, self._pools).run(),
            *([self._collector().run()] if settings.gc_enabled else []),
            *([self._subnet_work().run()] if settings.common.enable_spider_subnet else []),
            *([self._applications().run()] if self._workloads else []),
            *([self._discovery().run()] if settings.common.cloud.provider else []),
        ]

    def _collector(self) -> ClusterGC:
        given = self._settings
        timing = GCTimings(given.gc_interval, given.gc_full_interval, given.gc_grace, given.gc_node_grace)
        policy = GCPolicy(given.gc_delay, given.gc_on_ready_node, given.gc_on_not_ready_node)
        copies = GCListers(self._ips, self._pods, self._nodes, self._pools)
        return ClusterGC(self._client, copies, self._recorder, timing, policy)

    def _discovery(self) -> ENIPoolReconciler:
        given = self._settings
        families, primary = given.common.families, given.common.cloud.primary_eni
        rules = ENIRules(families, given.common.namespace, primary, given.gc_node_grace)
        copies = ENIPoolListers(self._nodes, self._pools, self._ips, self._configs)
        return ENIPoolReconciler(self._client, copies, self._recorder, rules)

    def _subnet_work(self) -> SubnetReconciler:
        return SubnetReconciler(self._client, self._subnets, self._pools, self._settings.status_debounce)

    def _applications(self) -> ApplicationPoolReconciler:
        sight = ApplicationListers(self._subnets, self._pools, self._ips, self._reserved, self._pods, self._workloads)
        families, redundant = self._settings.common.families, self._settings.redundant_ips
        return ApplicationPoolReconciler(self._client, sight, self._recorder, families=families, redundant=redundant)


class Replica:
    """One of several equal controllers: all serve admission, one of them leads."""

    def __init__(self, client: Client, settings: ControllerSettings) -> None:
        self._client = client
        self._settings = settings
        lifetimes = CertificateLifetimes(
            timedelta(seconds=settings.authority_life), timedelta(seconds=settings.certificate_life)
        )
        self.certificates = Certificates(client, settings.common.namespace, hosts(settings), lifetimes)
        terms = LeaseTimings(settings.leader_duration, settings.leader_renew_deadline, settings.leader_retry_period)
        self._election = Election(client, LEASE, settings.common.namespace, settings.identity, terms)
        self._leader: ControllerLeader | None = None

    async def run(self) -> None:
        """Keep the certificates, and lead when it is our turn, until cancelled. Raises NotReady."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.certificates.run())
            group.create_task(self._election.run(self._lead))

    async def _lead(self) -> None:
        self._leader = ControllerLeader(self._client, self._settings, self.certificates)
        try:
            await self._leader.run()
        finally:
            self._leader = None

    @property
    def lack(self) -> str | None:
        """Why this replica is not ready; None when it is."""
        if self.certificates.trusted is None:
            return "no webhook certificate is loaded"
        if self._leader is not None:
            return None if self._leader.working else "leading, caches are not synced"
        return None if self._election.leader else "no leader is known"

    @property
    def leading(self) -> bool:
        """Whether this replica leads."""
        return self._leader is not None


async def serve(settings: ControllerSettings) -> None:
    """Run a replica until cancelled. Raises SpiderpoolError, alone or in a group."""
    async with Client.load(settings.common.kubeconfig) as client:
        replica = Replica(client, settings)
        admission = Webhooks(client, settings.common.families, settings).application()
        async with (
            daemon.listening(admission, settings.webhook_host, settings.webhook_port, replica.certificates.context),
            daemon.listening(daemon.runtime(replica), settings.webhook_host, settings.health_port),
        ):
            await replica.run()


async def clean(settings: ControllerSettings) -> None:
    """Take back what outlives us and would be in the way: registrations, certificates, Lease."""
    namespace = settings.common.namespace
    async with Client.load(settings.common.kubeconfig) as client:
        await unregister(client)
        for kind, name in ((Secret, STORE), (Lease, LEASE)):
            with suppress(NotFound):
                await client.delete(kind, name, namespace)
    log.info("webhooks unregistered")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: settings, then a replica until SIGTERM; with ``clean``, take back what outlives us.

    Exits 1 with log lines on errors of ours, 2 on other arguments.
    """
    command = {(): serve, ("clean",): clean}.get(tuple(sys.argv[1:] if arguments is None else arguments))
    if command is None:
        raise SystemExit(2)

    def begin() -> Coroutine[Any, Any, None]:
        settings = controller_settings(load_source())
        configure(settings.common.log_level)
        return command(settings)

    daemon.run(begin)


if __name__ == "__main__":
    main()
