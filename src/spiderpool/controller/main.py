"""spiderpool-controller: builds a replica from its settings. All replicas serve admission, the leader reconciles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from spiderpool import daemon
from spiderpool.api.address_resources import AdvertisingNode, RequestingPod
from spiderpool.api.applications import WORKLOADS
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Namespace, Node, Pod, Service
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller import removal
from spiderpool.controller.admission_server import AdmissionServer, accept_client_certificates
from spiderpool.controller.advertising import AddressAdvertiser, AdvertisingListers
from spiderpool.controller.applications import ApplicationListers, ApplicationPoolReconciler
from spiderpool.controller.certificates import CertificateLifetimes, Certificates, WebhookCertificates, erase
from spiderpool.controller.cidr_detection import (
    KUBEADM_CONFIG,
    SYSTEM_NAMESPACE,
    CIDRDetector,
    CIDRSources,
    ServiceCIDR,
)
from spiderpool.controller.coordinator import CoordinatorListers, CoordinatorReconciler
from spiderpool.controller.endpoints import EndpointListers, EndpointReconciler
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.controller.gc import ClusterGC, GCListers, GCTimings
from spiderpool.controller.history import HistoryOptions, HistoryWriter
from spiderpool.controller.network_policies import UnenforcedPolicyReporter
from spiderpool.controller.network_status import NetworkStatusReconciler
from spiderpool.controller.networks import NetworkListers, NetworkReconciler
from spiderpool.controller.node_resources import withdraw
from spiderpool.controller.pool_metrics import PoolMetrics
from spiderpool.controller.pools import PoolListers, PoolReconciler
from spiderpool.controller.preparation import prepare
from spiderpool.controller.provided_certificates import ProvidedCertificates
from spiderpool.controller.quotas import NamespaceQuotas, QuotaReconciler
from spiderpool.controller.registration import Registration, hosts, unregister
from spiderpool.controller.reservedips import ReservedIPReconciler
from spiderpool.controller.service_addresses import ServiceAddressListers, ServiceAddressReconciler
from spiderpool.controller.startup_taints import StartupTaintReconciler
from spiderpool.controller.subnets import SubnetReconciler
from spiderpool.controller.webhook_trust import WebhookTrust
from spiderpool.controller.webhooks import Webhooks
from spiderpool.core.ipam.gc import GCPolicy
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.conditions import StatusTimings
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.policies import requirement_policies
from spiderpool.settings import ControllerSettings, controller_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-controller"
LEASE = "spiderpool-controller-leases"
LEASE_OF_CLOUD = "spiderpool-cloud-leases"
NOTHING_ADVERTISED = "none"
"""Of the setting that says what Nodes advertise: their resources are left as they are."""
PROGRAM = daemon.Program(
    COMPONENT,
    "Serves Spiderpool's admission webhooks and, as leader, reconciles its objects and collects leaked addresses.",
    {
        "prepare": "bring the custom resources up to date, make the initial objects where there are none, then end",
        "clean": "empty what outlives the controller (webhook registrations, certificates), delete Leases, then end",
    },
)

log = logger("controller")


class ControllerLeader:
    """The work of the leading replica: reconcilers, garbage collection, and the registration of the webhooks."""

    def __init__(self, client: Client, settings: ControllerSettings, certificates: WebhookCertificates) -> None:
        self._client = client
        self._settings = settings
        self._registration = Registration(client, settings, certificates)
        self._recorder = Recorder(client, COMPONENT)
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        counting = settings.node_resources != NOTHING_ADVERTISED
        self._pods: Informer[Pod] = Informer(client, RequestingPod if counting else Pod)
        self._configs = Informer(client, SpiderMultusConfig)
        self._attachments = Informer(client, NetworkAttachmentDefinition)
        self._coordinators = Informer(client, SpiderCoordinator)
        self._kubeadm = Informer(client, ConfigMap, SYSTEM_NAMESPACE, fields=f"metadata.name={KUBEADM_CONFIG}")
        self._service_cidrs = Informer(client, ServiceCIDR, optional=True)
        self._nodes: Informer[Node] = Informer(client, AdvertisingNode if counting else Node)
        self._all_namespaces = Informer(client, Namespace)
        self._accounts = Informer(client, SpiderNode, optional=True)  # Helm does not add CRDs during an update
        self._servers = NodeServers(Informer(client, SpiderServer, optional=True))
        self._services = Informer(client, Service)
        self._endpoints = Informer(client, SpiderEndpoint)
        self._subnets = Informer(client, SpiderSubnet)
        self._reserved = Informer(client, SpiderReservedIP)
        self._quotas = Informer(client, SpiderIPQuota, optional=True)
        self._namespaces = NamespaceQuotas(self._quotas, self._ips, self._pools)
        auto_pools = settings.common.enable_spider_subnet and settings.common.enable_auto_pools
        self._workloads = {kind: Informer(client, kind, optional=True) for kind in WORKLOADS} if auto_pools else {}
        self._synced = False  # whether all first lists have arrived

    @property
    def not_ready_reason(self) -> str | None:
        """What of the first lists and the registration of the webhooks is still to be done; None when both are."""
        if not self._synced:
            return daemon.NOT_SYNCED
        return self._registration.not_ready_reason

    async def run(self) -> None:
        """Watch, register the webhooks, and reconcile until cancelled. Raises NotReady.

        What it creates should pass the webhooks; where they cannot be registered, it goes on without them.
        """
        reconcilers = self._reconcilers()  # before the lists, which they follow page by page instead of all at once
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, self._informers())
            self._synced = True
            group.create_task(self._registration.run())
            await self._registration.registered(daemon.SYNC_TIMEOUT)
            for run in reconcilers:
                group.create_task(run())
            log.info("reconciling", webhooks=hosts(self._settings))
            with PoolMetrics(self._pools, self._reserved, self._subnets).exported():
                await asyncio.get_running_loop().create_future()  # until cancelled

    def _informers(self) -> list[Informer[Any]]:
        """The informers that the enabled features need."""
        return [
            self._pools,
            self._ips,
            self._pods,
            self._configs,
            self._attachments,
            self._coordinators,
            self._kubeadm,
            self._service_cidrs,
            self._nodes,
            self._accounts,
            self._servers.informer,
            self._services,
            self._endpoints,
            *([self._subnets] if self._settings.common.enable_spider_subnet else []),
            self._reserved,
            self._quotas,
            *self._workloads.values(),
            *([self._all_namespaces] if self._settings.node_resources != NOTHING_ADVERTISED else []),
        ]

    def _reconcilers(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The tasks of the enabled features."""
        client, settings, recorder = self._client, self._settings, self._recorder
        endpoints = EndpointListers(self._endpoints, self._ips, self._pods, self._pools)
        return [
            recorder.run,
            self._pool_reconciler().run,
            ReservedIPReconciler(client, self._reserved).run,
            NetworkReconciler(client, self._network_listers(), recorder).run,
            self._coordinator().run,
            self._service_addresses().run,
            EndpointReconciler(client, endpoints).run,
            NetworkStatusReconciler(client, self._accounts, self._pods).run,
            QuotaReconciler(client, self._namespaces, recorder).run,
            UnenforcedPolicyReporter(client, self._ips, self._pods, recorder).run,
            *([self._gc().run] if settings.gc_enabled else []),
            *([self._history().run] if settings.history_objects else []),
            *([self._startup_taints().run] if settings.remove_startup_taint else []),
            *([self._advertiser().run] if settings.node_resources != NOTHING_ADVERTISED else []),
            *([self._subnet_reconciler().run] if settings.common.enable_spider_subnet else []),
            *([self._applications().run] if self._workloads else []),
            *([self._eni_pools().run] if settings.common.cloud.discovers else []),
        ]

    def _pool_reconciler(self) -> PoolReconciler:
        settings = self._settings
        listers = PoolListers(self._pools, self._ips, self._nodes, self._attachments)
        namespace, timings = settings.common.namespace, StatusTimings(settings.status_debounce)
        return PoolReconciler(self._client, listers, self._recorder, namespace=namespace, timings=timings)

    def _network_listers(self) -> NetworkListers:
        return NetworkListers(self._configs, self._attachments, self._nodes, self._servers)

    def _coordinator(self) -> CoordinatorReconciler:
        settings = self._settings
        listers = CoordinatorListers(self._coordinators, self._kubeadm, self._service_cidrs)
        detector = CIDRDetector(self._client, CIDRSources(settings.host_cni_dir, settings.cilium_config))
        return CoordinatorReconciler(self._client, listers, self._recorder, detector, default=settings.coordinator_name)

    def _service_addresses(self) -> ServiceAddressReconciler:
        listers = ServiceAddressListers(
            self._coordinators, self._services, self._nodes, self._servers.informer, self._pools
        )
        return ServiceAddressReconciler(self._client, listers, self._recorder)

    def _gc(self) -> ClusterGC:
        settings = self._settings
        timings = GCTimings(
            settings.gc_interval,
            settings.gc_full_interval,
            settings.gc_grace,
            settings.gc_node_grace,
            settings.gc_agent_grace,
        )
        policy = GCPolicy(
            settings.gc_delay,
            settings.gc_on_ready_node,
            settings.gc_on_not_ready_node,
            settings.gc_by_time,
            settings.gc_agent_grace,
        )
        listers = GCListers(self._ips, self._pods, self._nodes, self._accounts, self._pools)
        return ClusterGC(self._client, listers, self._recorder, timings, policy)

    def _history(self) -> HistoryWriter:
        options = HistoryOptions(self._settings.history_objects, self._settings.history_interval)
        return HistoryWriter(self._client, self._ips, self._pods, options)

    def _startup_taints(self) -> StartupTaintReconciler:
        return StartupTaintReconciler(self._client, self._nodes, self._accounts)

    def _advertiser(self) -> AddressAdvertiser:
        listers = AdvertisingListers(
            self._nodes,
            self._pods,
            self._all_namespaces,
            self._pools,
            self._ips,
            self._reserved,
            self._attachments,
            self._servers,
        )
        policies = requirement_policies(self._settings)
        withdrawing = not self._settings.advertises
        return AddressAdvertiser(self._client, listers, policies, self._recorder, withdrawing=withdrawing)

    def _eni_pools(self) -> ENIPoolReconciler:
        settings = self._settings
        families, primary = settings.common.families, settings.common.cloud.primary_eni
        rules = ENIPoolRules(families, settings.common.namespace, primary, settings.gc_node_grace)
        listers = ENIPoolListers(self._nodes, self._servers, self._pools, self._ips, self._configs)
        return ENIPoolReconciler(self._client, listers, self._recorder, rules)

    def _subnet_reconciler(self) -> SubnetReconciler:
        timings = StatusTimings(self._settings.status_debounce)
        return SubnetReconciler(self._client, self._subnets, self._pools, self._recorder, timings=timings)

    def _applications(self) -> ApplicationPoolReconciler:
        listers = ApplicationListers(
            self._subnets, self._pools, self._ips, self._reserved, self._pods, self._workloads, self._namespaces
        )
        families, redundant = self._settings.common.families, self._settings.redundant_ips
        return ApplicationPoolReconciler(self._client, listers, self._recorder, families=families, redundant=redundant)


async def serve(settings: ControllerSettings) -> None:
    """Run a replica until cancelled: every replica serves admission, one of them leads.

    Raises SpiderpoolError, alone or in a group.
    """
    async with Client.load(settings.common.kubeconfig) as client, asyncio.TaskGroup() as group:
        lifetimes = CertificateLifetimes(
            timedelta(seconds=settings.authority_life), timedelta(seconds=settings.certificate_life)
        )
        certificates: WebhookCertificates = (
            ProvidedCertificates(settings.certificate_folder, hosts(settings)[0], clients=settings.webhook_client_ca)
            if settings.certificate_folder
            else Certificates(client, settings.common.namespace, hosts(settings), lifetimes)
        )

        trust = WebhookTrust(client, certificates, hosts(settings)[0])

        def blocker() -> str | None:
            if certificates.trusted:
                return trust.not_ready_reason
            return certificates.problem or "no webhook certificate is loaded"

        replica = daemon.Replica(
            daemon.election(client, LEASE, settings), lambda: ControllerLeader(client, settings, certificates), blocker
        )
        if settings.webhook_client_ca:
            accept_client_certificates(certificates.context, settings.webhook_client_ca)
        webhooks = Webhooks(client, settings.common.families, settings).by_path()
        known_only = settings.webhook_client_ca is not None
        admission = AdmissionServer(webhooks, certificates.context, known_only=known_only)
        async with (
            admission.listening(settings.webhook_host, settings.webhook_port),
            daemon.listening(daemon.runtime(replica), settings.webhook_host, settings.health_port),
        ):
            group.create_task(certificates.run())
            group.create_task(trust.run())
            await replica.run()


async def clean(settings: ControllerSettings) -> None:
    """Empty what outlives the controller (webhook registrations, certificates), and delete the daemons' Leases.

    Objects lose our finalizers, and the controller of a later installation gives them back. Absent ones are no error.
    All that is left out where the settings say so, since no controller of ours has ever run.
    Where there is a DaemonSet that cleans the nodes, wait for it as well, whatever fails: it ends when we do. Raises
    the first failure after all else was tried; the others are logged.
    """
    namespace = settings.common.namespace
    async with Client.load(settings.common.kubeconfig) as client:
        work = [_clean_cluster(client, namespace)] if settings.clean_cluster else []
        if settings.uninstaller:
            work.append(removal.nodes_are_clean(client, namespace, settings.uninstaller))
        outcomes = await asyncio.gather(*work, return_exceptions=True)
    for failure in filter(None, outcomes):
        raise failure


async def _clean_cluster(client: Client, namespace: str) -> None:
    """Clean what is in the API server. Raises the first failure after all else was tried."""

    async def delete_lease(name: str) -> None:
        with suppress(NotFound):
            await client.delete(Lease, name, namespace)

    steps = (
        partial(unregister, client),
        partial(erase, client, namespace),
        *(partial(delete_lease, name) for name in (LEASE, LEASE_OF_CLOUD)),
        partial(removal.let_objects_go, client),
        partial(withdraw, client),
    )
    await on_all(steps, lambda step: step(), give_up=False)
    log.info("webhooks unregistered, leases deleted, finalizers removed, nodes advertise nothing")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a replica until SIGTERM, or one of the commands.

    Exits 1 with log lines on errors of ours, 2 on other arguments.
    """
    command = {None: serve, "prepare": prepare, "clean": clean}[daemon.parse_arguments(PROGRAM, arguments)]

    def begin() -> Coroutine[Any, Any, None]:
        settings = controller_settings(load_source())
        configure(settings.common.log_level)
        return command(settings)

    daemon.run(begin)


if __name__ == "__main__":
    main()
