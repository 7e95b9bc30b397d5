"""The servers behind the load balancer of a Service, by the functions with which spiderpool-cloud chooses them."""

from __future__ import annotations

from dataclasses import dataclass

from spiderpool.api.core_v1 import Node, Service
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.cloud import registry
from spiderpool.core.addresses import Address
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, eligible, instance_of, node_backends
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions, read_options
from spiderpool.core.cloud.loadbalancer.model import ports_of_pods
from spiderpool.core.network.service_proxy import ServiceEndpoint, ServiceFrontend, usable_endpoints


@dataclass(frozen=True, slots=True)
class BalancerServers:
    """Where a balancer sends connections: nodes, by their NodePort, or pods past every kube-proxy."""

    name: str
    """What kind of balancer it is."""
    nodes: tuple[str, ...] = ()
    pods: tuple[ServiceEndpoint, ...] = ()
    notes: tuple[str, ...] = ()
    """Nodes that are no backends, and what is only assumed."""


def addresses_of_balancer(service: Service) -> list[str]:
    """The published addresses of the balancer of a Service."""
    return [each.ip for each in service.status.loadBalancer.ingress or () if each.ip]


def hostnames_of_balancer(service: Service) -> list[str]:
    """The published names of the balancer of a Service."""
    return [each.hostname for each in service.status.loadBalancer.ingress or () if each.hostname]


def balancer_servers(frontend: ServiceFrontend, objects: ClusterObjects) -> BalancerServers:
    """The servers of a Service's port. Of a balancer that is not ours all nodes are assumed."""
    service, policy = frontend.service, objects.policies.nodes
    provider = registry.PROVIDERS.get(objects.provider)
    kind = provider.kind_of(service) if provider else None
    if kind is None:
        note = "the balancer is not one of spiderpool-cloud: its servers are not readable from here, and all nodes are"
        return BalancerServers("load balancer", tuple(objects.nodes), notes=(f"{note} assumed, by their NodePorts",))
    options = read_options(service.metadata.annotations or {}, kind)
    if frontend.port in ports_of_pods(service, options, policy.balancers):
        return BalancerServers(kind.name, pods=usable_endpoints(frontend, objects.slices_of(service)))
    chosen, notes = eligible(objects.nodes.values(), options)
    return BalancerServers(kind.name, _nodes(frontend, objects, chosen, options), notes=notes)


def _nodes(
    frontend: ServiceFrontend, objects: ClusterObjects, chosen: list[Node], options: BalancerOptions
) -> tuple[str, ...]:
    service = frontend.service
    snapshot = BackendSnapshot(chosen, objects.slices_of(service))
    found = node_backends(service, frontend.port, snapshot, snapshot.nodes, options)
    known = {server.identity for server in found.servers if server.weight}
    return tuple(
        node.name
        for node in chosen
        if not known.isdisjoint((instance_of(node, options.kind), *node.internal_addresses))
    )


def source_note(service: Service, source: Address | None) -> str:
    """Which clients a Service admits; empty: all."""
    ranges = service.spec.loadBalancerSourceRanges
    if not ranges or source is not None:
        return ""
    return f"only clients in {', '.join(ranges)} are admitted (loadBalancerSourceRanges)"
