"""Collects what the servers of a Service's balancer are made from: nodes, EndpointSlices and the ENIs of pods."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.cloud.loadbalancers import ENIFinder
from spiderpool.cloudcontroller.former_pods import FormerPods
from spiderpool.cloudcontroller.readiness_gates import ReadinessGates
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.core.cloud.loadbalancer import backends
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.gates import PodNodes
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import ports_of_pods, redirects
from spiderpool.core.cloud.loadbalancer.values import BackendServer, BalancerConfiguration


@dataclass(frozen=True, slots=True)
class ServicePods:
    """What is read of Services' pods beside their endpoints."""

    gates: ReadinessGates
    former: FormerPods


class ServiceBackends:
    """The servers of Services, of which the cloud is asked for the ENIs that no node reports."""

    def __init__(
        self,
        listers: ServiceListers,
        finder: ENIFinder,
        pods: ServicePods,
        configuration: BalancerConfiguration,
        timings: ServiceTimings,
    ) -> None:
        self._nodes = listers.nodes
        self._servers = listers.servers
        self._finder = finder
        self._gates = pods.gates
        self._former = pods.former
        self._configuration = configuration
        self._timings = timings
        self._slices = listers.slices.index(lambda item: [key] if (key := service_of(item)) else [])  # Service key
        self._enis: dict[str, tuple[str, float]] = {}  # pod address → ENI by the cloud, and until when it is valid

    async def snapshot(self, service: Service, options: BalancerOptions) -> BackendSnapshot:
        """Returns the nodes, the Service's endpoints and, where pods are the servers, the ENIs of their addresses."""
        listed = self._slices.get(service.key)
        self._former.note(service, listed)
        ports = ports_of_pods(service, options, self._configuration)
        redirecting = redirects(options)  # these have no servers
        of_nodes = [
            port
            for port in service.spec.ports or ()
            if port.nodePort and port not in ports and port.port not in redirecting
        ]
        slices = await self._gates.admit(service, options, listed, PodNodes(of_nodes, self._nodes.get))
        enis: Mapping[str, str] = {}
        if ports:
            enis = await self._enis_of(backends.pod_addresses(ports, slices, options))
        return BackendSnapshot(self._nodes.items(), slices, enis)

    async def release_gates(self, service: Service, kind: BalancerKind) -> None:
        """Lets the pods of a Service that has no balancer become ready, which waited for it."""
        await self._gates.release(service, kind, self._slices.get(service.key))

    def node_addresses(self) -> frozenset[str]:
        """Returns the internal addresses of all nodes."""
        return frozenset(address for node in self._nodes.items() for address in node.internal_addresses)

    async def answering(self, service: Service, servers: Iterable[BackendServer]) -> frozenset[str]:
        """Returns the addresses of those servers that are known to answer: nodes, and pods that are there and ready."""
        nodes = self.node_addresses()
        of_pods = {server.address for server in servers if server.type != "instance"} - nodes
        return nodes | await self._former.ready(service, of_pods)

    def has_all(self, service: Service) -> None:
        """Notes that the balancer has the servers of the last snapshot: nobody asks for former ones any more."""
        self._former.forget_former(service.key)

    def forget(self, key: str) -> None:
        """Forgets a Service that is gone."""
        self._gates.forget(key)
        self._former.forget(key)

    async def _enis_of(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Returns the ENIs of addresses as nodes report them, the others as the cloud answers, which is cached."""
        reported = backends.reported_enis(map(self._servers.of, self._nodes.items()))
        now = self._timings.clock()
        cached = {address: eni for address, (eni, until) in self._enis.items() if until > now}
        unknown = [address for address in addresses if address not in reported and address not in cached]
        answered = await self._finder.holders(unknown) if unknown else {}
        until = now + self._timings.period
        self._enis = {key: self._enis[key] for key in cached} | {key: (answered[key], until) for key in answered}
        return {**cached, **answered, **reported}


def service_of(item: EndpointSlice) -> str | None:
    """Returns the key of the Service that an EndpointSlice belongs to; None when it belongs to none."""
    name = (item.metadata.labels or {}).get(SERVICE_LABEL)
    return f"{item.metadata.namespace}/{name}" if name else None


def deciding_part(node: Node) -> Iterable[object]:
    """Returns what of a node decides whether it is a backend; its heartbeats change other parts all the time."""
    return node.metadata.labels, node.spec, node.ready_status, node.internal_addresses
