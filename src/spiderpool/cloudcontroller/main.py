"""spiderpool-cloud: builds a replica from its settings. Only the leader calls the cloud."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from spiderpool import daemon
from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import METADATA, CredentialLocations, Credentials, sources
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloudcontroller.addresses import AddressListers, AddressReconciler
from spiderpool.cloudcontroller.nodes import NodeReconciler
from spiderpool.cloudcontroller.services import ServiceListers, ServiceReconciler, ServiceTimings, region_of, slice_kind
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.core.cloud.preallocation import PreallocationPolicy
from spiderpool.errors import BadConfig
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.settings import CloudSettings, cloud_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-cloud"
LEASE = "spiderpool-cloud-leases"
PROGRAM = daemon.Program(
    COMPONENT,
    "Keeps Nodes, addresses of ENIs and load balancers of Services in step with the cloud, in one leading replica.",
)

log = logger("cloud")


def caller(settings: CloudSettings) -> OpenAPIClient:
    """The client of the cloud's API that the settings describe. Raises BadConfig."""
    if settings.common.cloud.provider != "alibaba":
        raise BadConfig(
            "spiderpool-cloud needs a provider; set cloud.provider in conf.yml, or CLOUD_PROVIDER, to alibaba"
        )
    access = APIAccess(settings.region, settings.internal_endpoints, settings.endpoint, settings.authority)
    metadata = settings.common.cloud.metadata_endpoint or METADATA
    locations = CredentialLocations(_url(metadata), settings.secret, settings.cloud_config, settings.sts_endpoint)
    return OpenAPIClient(Credentials(sources(settings.credentials, locations, os.environ)), access)


def _url(endpoint: str) -> str:
    return endpoint if "://" in endpoint else f"http://{endpoint}"


class CloudLeader:
    """The work of the leading replica: nodes, addresses in advance, and load balancers."""

    def __init__(self, client: Client, settings: CloudSettings, caller: OpenAPIClient) -> None:
        self._client = client
        self._settings = settings
        self._caller = caller
        self._cloud = ECSCloud(caller)
        self._recorder = Recorder(client, COMPONENT)
        self._nodes = Informer(client, Node)
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        self.ready = False
        """Whether all first lists have arrived."""

    async def run(self) -> None:
        """Watch and reconcile until cancelled. Raises NotReady."""
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, self._informers())
            for task in self._reconcilers():
                group.create_task(task)
            self.ready = True
            log.info("reconciling", assigns=self._settings.preallocation.enabled)

    def _informers(self) -> list[Informer[Any]]:
        """The informers that the enabled features need, but for those of load balancers."""
        preallocation: list[Informer[Any]] = [self._pools, self._ips]
        return [self._nodes, *(preallocation if self._settings.preallocation.enabled else [])]

    async def _balance(self) -> None:
        """Reconcile load balancers, as soon as the region of the nodes is known."""
        balancing, settings = self._settings.balancing, self._settings
        region = settings.region or await region_of(self._nodes)
        listers = ServiceListers(
            Informer(self._client, Service), Informer(self._client, await slice_kind(self._client)), self._nodes
        )
        services = ServiceReconciler(
            self._client,
            listers,
            {"clb": ClassicLoadBalancers(self._caller, region), "nlb": NetworkLoadBalancers(self._caller, region)},
            PodENIs(self._caller, region, balancing.vpc),
            self._recorder,
            BalancerConfiguration.of(settings),
            ServiceTimings(period=balancing.period),
        )
        async with asyncio.TaskGroup() as group:
            await daemon.start_informers(group, (listers.services, listers.slices))
            group.create_task(services.run())
            log.info("balancing", region=region, cluster=settings.cluster_id)

    def _reconcilers(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks of the enabled features."""
        return [
            self._recorder.run(),
            NodeReconciler(self._client, self._cloud, self._nodes, self._recorder, self._settings.node_period).run(),
            *([self._addresses().run()] if self._settings.preallocation.enabled else []),
            *([self._balance()] if self._settings.balancing.enabled else []),
        ]

    def _addresses(self) -> AddressReconciler:
        preallocation, common = self._settings.preallocation, self._settings.common
        return AddressReconciler(
            self._client,
            self._cloud,
            AddressListers(self._nodes, self._pools, self._ips),
            self._recorder,
            PreallocationPolicy(
                low=preallocation.low, high=preallocation.high, idle=preallocation.idle, fence=preallocation.fence
            ),
            preallocation.period,
            families=common.families,
            primary_eni=common.cloud.primary_eni,
        )


async def serve(settings: CloudSettings) -> None:
    """Run a replica until cancelled. Raises SpiderpoolError, alone or in a group."""
    async with Client.load(settings.common.kubeconfig) as client:
        api = caller(settings)
        replica = daemon.Replica(daemon.election(client, LEASE, settings), lambda: CloudLeader(client, settings, api))
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
