"""A cluster of two nodes in a simulated account, whose Services our reconciler gives balancers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Event, Node, NodeSpec, ObjectReference, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.elastic_ips import ElasticIPs
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI, LoadBalancers, OtherControllerMarks
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.cloudcontroller.services import ServiceReconciler
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.naming import OTHER_LABEL, OTHER_LEASE, OTHER_LEASE_NAMESPACE
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.balancers import CLB
from spiderpool_lab.control_plane import ControlPlane
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.support.eventually import eventually
from tests.support.heartbeats import keep_ready
from tests.support.running import running

NAMESPACE = "default"
ENI_BACKENDS = {"service.beta.kubernetes.io/backend-type": "eni"}
ZONES = {"zone-maps": "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"}
REGION = "cn-hangzhou"
OTHER = OtherControllerMarks(OTHER_LEASE_NAMESPACE, OTHER_LEASE, OTHER_LABEL)


@dataclass
class Clock:
    """A clock that only tests advance."""

    now: float = 10_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@dataclass(frozen=True)
class Limits:
    """How many balancers there may be."""

    of_namespace: int = 3
    of_cluster: int = 4


@dataclass
class ServiceCluster:
    """A cluster of two nodes in an account, with our reconciler."""

    client: Client
    simulated: SimulatedCloud
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    period: float = 3.0
    """Seconds until all Services are compared with their balancers."""
    last_pause: float = 1.0
    """Seconds before what was refused is tried again, at most; long ones are such from the first refusal."""
    default_type: str = "clb"
    """Of Services that name no type and have no balancer."""
    zones: str = ""
    """Of new network balancers whose Services name none."""
    running: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, control_plane: ControlPlane) -> None:
        """Starts our reconciler; one that runs is ended before."""
        # It has the service account that it has in a cluster.
        await self.connect(Client.load(control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")))

    async def connect(self, connecting: AbstractAsyncContextManager[Client]) -> None:
        """Starts our reconciler with a client of its own; one that runs is ended before."""
        await self.running.aclose()
        timings = ServiceTimings(
            period=self.period,
            gather=0.05,
            first_pause=self.last_pause / 5,
            last_pause=self.last_pause,
            in_use=0.5,
            confirm=5.0,
            clock=self.clock,
        )
        client = await self.running.enter_async_context(connecting)
        started = reconciling(self, client, timings)
        await self.running.enter_async_context(started)

    async def grant(self, name: str = "granted", **spec: Any) -> None:
        """Grants something to the Services of a Namespace."""
        granted = LoadBalancerGrantSpec(**{"namespaces": [NAMESPACE], **spec})
        await self.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name=name), spec=granted))

    async def create(self, name: str, **spec: Any) -> Service:
        """A Service of type LoadBalancer; ``annotations`` without their prefix, and ``labels``."""
        given = spec.pop("annotations", {})
        annotations = {key if "/" in key else PREFIX + key: value for key, value in given.items()}
        ports = spec.pop("ports", [{"port": 80, "targetPort": 8080, "protocol": "TCP"}])
        metadata = {
            "name": name,
            "namespace": spec.pop("namespace", NAMESPACE),
            "labels": spec.pop("labels", {}),
            "annotations": annotations,
        }
        body = {
            "metadata": metadata,
            "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": ports, **spec},
        }
        return await self.client.create(msgspec.convert(body, Service))

    async def endpoints(
        self,
        name: str,
        *ready: tuple[str, str],
        ending: Sequence[tuple[str, str]] = (),
        version: str = "1",
        pods: Mapping[str, ObjectReference] | None = None,
    ) -> None:
        """The ready pods of a Service, and those that are terminating and still answer: address and node of each.

        ``pods`` are by their addresses those of them that exist.
        """
        metadata = ObjectMeta(name=f"{name}-{version}", namespace=NAMESPACE, labels={SERVICE_LABEL: name})
        ends = EndpointConditions(ready=False, serving=True, terminating=True)
        refs = pods or {}
        listed = [Endpoint([address], nodeName=node, targetRef=refs.get(address)) for address, node in ready]
        listed += [Endpoint([address], ends, node) for address, node in ending]
        ports = [EndpointPort("", 8080, "TCP")]
        await self.store(EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=ports))

    async def store(self, listed: EndpointSlice) -> None:
        """Creates or changes an EndpointSlice."""
        await self.client.apply(EndpointSlice, msgspec.to_builtins(listed), listed.name, NAMESPACE)

    async def get(self, name: str) -> Service:
        """A Service as it is stored."""
        return await self.client.get(Service, name, NAMESPACE)

    async def set(self, name: str, **annotations: str | None) -> None:
        """Change annotations, whose names are written with underscores."""
        body = {
            "metadata": {"annotations": {PREFIX + key.replace("_", "-"): text for key, text in annotations.items()}}
        }
        await self.client.patch(Service, name, body, NAMESPACE)

    async def address(self, name: str) -> str:
        """Where a Service is reached, as soon as that is said."""
        found: list[str] = []

        async def published() -> bool:
            ingress = (await self.get(name)).status.loadBalancer.ingress or []
            found[:] = [each.ip or each.hostname or "" for each in ingress]
            return bool(found)

        await self.eventually(published)
        return found[0]

    def clb(self) -> CLB:
        """The only classic balancer."""
        (found,) = self.simulated.account.tables.clbs
        return found

    def weights(self) -> dict[str, int]:
        """Servers of the only server group, by their identity or address."""
        groups = [*self.simulated.account.tables.clb_groups, *self.simulated.account.tables.nlb_groups]
        assert len(groups) <= 1
        return {
            each.address if each.server_type.lower() == "eni" else each.server: each.weight
            for group in groups
            for each in group.backends
        }

    async def gone(self, name: str) -> bool:
        """Whether a Service no longer exists."""
        try:
            await self.get(name)
        except NotFound:
            return True
        return False

    async def delete(self, name: str) -> None:
        """Delete a Service and wait until it is gone."""
        await self.client.delete(Service, name, NAMESPACE)
        await self.eventually(lambda: self.gone(name))

    async def wait_for_event(self, reason: str, part: str = "") -> None:
        """Waits for an Event."""

        async def recorded() -> bool:
            events = await self.client.list(Event, NAMESPACE)
            return any(each.reason == reason and part in each.message for each in events)

        await self.eventually(recorded)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of the account holds."""

        async def holds() -> bool:
            return condition()

        await self.eventually(holds)

    async def eventually(self, condition: Callable[[], Awaitable[bool]], timeout: float = 60.0) -> None:
        """Waits until a condition holds; the reconciler's clock advances by one second for each attempt."""

        async def holds() -> bool:
            self.clock.now += 1.0
            return await condition()

        await eventually(holds, timeout=timeout, interval=0.1)


@asynccontextmanager
async def reconciling(cluster: ServiceCluster, client: Client, timings: ServiceTimings) -> AsyncIterator[None]:
    """Our reconciler."""
    simulated = cluster.simulated
    listers = ServiceListers(
        Informer(client, Service),
        Informer(client, EndpointSlice),
        Informer(client, Node),
        servers := NodeServers(Informer(client, SpiderServer)),
        Informer(client, SpiderLoadBalancerGrant),
    )
    recorder, api = Recorder(client, "spiderpool-cloud"), simulated.client()
    vpc, kind_of = simulated.account.vpc.identity, partial(kinds.kind_of, default=cluster.default_type)
    apis: dict[BalancerKind, LoadBalancerAPI] = {
        kinds.CLB: ClassicLoadBalancers(api, REGION),
        kinds.NLB: NetworkLoadBalancers(api, REGION, pause=0.05),
    }
    services = ServiceReconciler(
        Cluster(client, recorder),
        listers,
        LoadBalancers(
            kind_of,
            apis,
            PodENIs(api, REGION, vpc),
            ElasticIPs(api, REGION),
            OTHER,
        ),
        BalancerConfiguration(
            cluster="c1",
            vpc=vpc,
            vswitch="vsw-1",
            zones=cluster.zones,
            max_per_namespace=cluster.limits.of_namespace,
            max_per_cluster=cluster.limits.of_cluster,
        ),
        timings,
    )
    informers: list[Informer[Any]] = [
        listers.services,
        listers.slices,
        listers.nodes,
        servers.informer,
        listers.grants,
    ]
    async with running(*(each.run() for each in informers)):
        for informer in informers:
            await informer.synced(10)
        async with running(services.run(), recorder.run()):
            yield


@pytest.fixture
async def cluster(control_plane: ControlPlane, simulated: SimulatedCloud) -> AsyncIterator[ServiceCluster]:
    """Two nodes, no Service; emptied again at the end."""
    simulated.account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    clock = Clock()
    async with Client.load(control_plane.admin_kubeconfig) as client:
        for number, name in enumerate(("a", "b"), 1):
            server = simulated.account.add_instance(name, identity=f"i-{name}").identity
            pods = tuple(f"172.31.192.{number}{place}" for place in range(3))
            simulated.account.add_eni(
                "vsw-1", instance=server, identity=f"eni-{name}", addresses=ENIAddresses(secondaries=pods)
            )
            await client.create(Node(metadata=ObjectMeta(name=name), spec=NodeSpec(providerID=f"{REGION}.i-{name}")))
            await client.patch(
                Node, name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, sub="status"
            )
        found = ServiceCluster(client, simulated, clock)
        try:
            await found.start(control_plane)
            async with running(keep_ready(client, "a", "b")):
                yield found
        finally:
            await found.running.aclose()
            await empty(client)


async def empty(client: Client) -> None:
    """Take everything away that a test may have left behind, whoever holds it."""
    for service in await client.list(Service):
        if service.name != "kubernetes":
            with suppress(NotFound):
                namespace = service.metadata.namespace
                await client.patch(Service, service.name, {"metadata": {"finalizers": None}}, namespace)
                await client.delete(Service, service.name, namespace)
    for grant in await client.list(SpiderLoadBalancerGrant):
        await client.delete(SpiderLoadBalancerGrant, grant.name)
    kinds: list[type[Any]] = [EndpointSlice, Event]
    for kind in kinds:
        for each in await client.list(kind, NAMESPACE):
            if each.name != "kubernetes":
                with suppress(NotFound):
                    await client.delete(kind, each.name, NAMESPACE)
    for node in await client.list(Node):
        await client.delete(Node, node.name)
