"""The objects from which load balancers of Services are planned: of manifests, or of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.manifests import check, documents, of_kind
from spiderpool.core.cloud.instances import described
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, reported_enis
from spiderpool.errors import Refused


@dataclass(frozen=True, slots=True)
class ServiceObjects:
    """Services of any type, and what their balancers are made from."""

    services: tuple[Service, ...]
    nodes: tuple[Node, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    servers: tuple[SpiderServer, ...] = ()
    grants: tuple[SpiderLoadBalancerGrant, ...] = ()

    def snapshot(self, service: Service) -> BackendSnapshot:
        """Returns the possible servers of a Service, with the ENIs that nodes report."""
        enis = reported_enis(described(self.nodes, self.servers))
        return BackendSnapshot(self.nodes, _slices_of(service, self.slices), enis)

    def granted(self, namespace: str) -> list[LoadBalancerGrantSpec]:
        """Returns what applies to the Services of a Namespace."""
        return [each.spec for each in self.grants if not each.terminating and each.spec.applies_to(namespace)]


def objects_of(text: str) -> ServiceObjects:
    """Returns the objects in YAML documents. Raises BadConfig, with all faults of those that are read of them."""
    found = list(documents(text))
    check(found, (Service, Node, EndpointSlice, SpiderServer, SpiderLoadBalancerGrant))
    return ServiceObjects(
        tuple(of_kind(found, "Service", Service)),
        tuple(of_kind(found, "Node", Node)),
        tuple(of_kind(found, "EndpointSlice", EndpointSlice)),
        tuple(of_kind(found, "SpiderServer", SpiderServer)),
        tuple(of_kind(found, SpiderLoadBalancerGrant.KIND.name, SpiderLoadBalancerGrant)),
    )


async def read_objects(cluster: Cluster, names: Iterable[str]) -> ServiceObjects:
    """Reads the Services of these names, ``[namespace/]name``, or all, and what belongs to them.

    Raises Refused for a name that there is not, and where Services or their servers may not be read; ApiUnavailable.
    """
    services = await cluster.needed(Service)
    wanted = [name if "/" in name else f"{cluster.namespace}/{name}" for name in names]
    if unknown := [name for name in wanted if name not in {service.key for service in services}]:
        raise Refused(f"Service {', '.join(unknown)} does not exist; see `kubectl get services -A`")
    return ServiceObjects(
        tuple(service for service in services if not wanted or service.key in wanted),
        tuple(await cluster.needed(Node)),
        tuple(await cluster.needed(EndpointSlice)),
        tuple(await cluster.list(SpiderServer) or ()),
        tuple(await cluster.list(SpiderLoadBalancerGrant) or ()),
    )


def _slices_of(service: Service, slices: Sequence[EndpointSlice]) -> list[EndpointSlice]:
    """Returns the slices of one Service."""
    return [
        each
        for each in slices
        if each.metadata.namespace == service.metadata.namespace
        and (each.metadata.labels or {}).get(SERVICE_LABEL) == service.name
    ]
