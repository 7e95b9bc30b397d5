"""What kube-proxy does with a connection to a Service: to which endpoints it may go, and whose address they see.

By the behaviour of kube-proxy's modes iptables and nftables (pkg/proxy/iptables/proxier.go, pkg/proxy/topology.go of
Kubernetes); mode ipvs does the same for what is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.core.addresses import Address, Network, with_port
from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.core.network.service_addresses import PROXY_NAME


class ServiceAddressKind(StrEnum):
    """How a client names a Service."""

    CLUSTER_IP = "ClusterIP"
    BALANCER = "address of the load balancer"
    EXTERNAL_IP = "externalIP"
    NODE_PORT = "NodePort"


class ClientPlace(StrEnum):
    """From where a connection comes to a node's kube-proxy."""

    POD = "a pod of this node, by the node"
    NODE = "this node itself"
    NETWORK = "the network"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What of kube-proxy's configuration counts here; the defaults are those that we recommend."""

    mode: str = "iptables"
    detect_local_mode: str = "InterfaceNamePrefix"
    interface_prefix: str = "veth"
    cluster_cidrs: tuple[Network, ...] = ()
    masquerade_all: bool = False
    node_port_cidrs: tuple[Network, ...] = ()
    """Where NodePorts are served. A family of which nothing is named: on all addresses of a node."""
    node_port_primary: bool = False
    """Whether they are served on the addresses that a Node names first, one of each family."""

    def serves_node_ports(self, address: Address, primary: Iterable[Address]) -> bool:
        """Whether NodePorts are served on an address of a node whose first addresses are ``primary``."""
        first = map(ip_network, primary) if self.node_port_primary else ()
        of_family = [each for each in (*first, *self.node_port_cidrs) if each.version == address.version]
        return not of_family or any(address in each for each in of_family)

    def takes_for_pod(self, address: Address) -> bool | None:
        """Whether a pod of ours with this address counts as one of the cluster; None: nobody is told apart."""
        match self.detect_local_mode:
            case "InterfaceNamePrefix":
                return host_interface("").startswith(self.interface_prefix) if self.interface_prefix else None
            case "ClusterCIDR":
                of_family = [cidr for cidr in self.cluster_cidrs if cidr.version == address.version]
                return any(address in cidr for cidr in of_family) if of_family else None
            case _:
                return False


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One endpoint of a Service's port."""

    address: Address
    port: int
    node: str | None
    pod: str | None
    """``namespace/name``; None where it is no pod."""

    def __str__(self) -> str:
        return with_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class ServiceFrontend:
    """The port of a Service that a client names, and by which address."""

    service: Service
    port: ServicePort
    kind: ServiceAddressKind
    version: int


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """Where a connection comes from. ``source`` None: an address outside that nobody has named."""

    place: ClientPlace
    node: str
    source: Address | None


@dataclass(frozen=True, slots=True)
class ProxyDecision:
    """The endpoints that a connection may go to, or why there are none."""

    endpoints: tuple[ServiceEndpoint, ...] = ()
    masquerades: bool = False
    """Whether kube-proxy gives every connection the node's address; one to the client itself gets it in any case."""
    because: str = ""
    refusal: str = ""
    remedy: str = ""


def decide(
    frontend: ServiceFrontend, client: ServiceClient, slices: Iterable[EndpointSlice], settings: ProxySettings
) -> ProxyDecision:
    """What the kube-proxy of the client's node does with a new connection."""
    name = frontend.service.key
    if PROXY_NAME in (frontend.service.metadata.labels or {}):
        label = f"label {PROXY_NAME} leaves Service {name} to another proxy than kube-proxy"
        return ProxyDecision(refusal=label, remedy="remove the label, or look at that proxy")
    if refusal := _source_refusal(frontend, client):
        return ProxyDecision(refusal=refusal, remedy="add the range to spec.loadBalancerSourceRanges of the Service")
    known = tuple(slices)
    found = usable_endpoints(frontend, known)
    if not found:
        return ProxyDecision(
            refusal=f"Service {name} has no ready endpoint for port {frontend.port.port}: the connection is refused",
            remedy="look at the pods that its selector selects, and their readiness: kubectl get endpointslices"
            f" -n {frontend.service.metadata.namespace} -l kubernetes.io/service-name={frontend.service.name}",
        )
    local = usable_endpoints(frontend, known, client.node)
    if frontend.kind is ServiceAddressKind.CLUSTER_IP:
        return _internal(frontend, client, local if _is_internal_local(frontend) else found, settings)
    return _external(frontend, client, _Reachable(found, local), settings)


@dataclass(frozen=True, slots=True)
class _Reachable:
    """The endpoints for policy Cluster, and those for policy Local."""

    everywhere: tuple[ServiceEndpoint, ...]
    local: tuple[ServiceEndpoint, ...]


def usable_endpoints(
    frontend: ServiceFrontend, slices: Iterable[EndpointSlice], node: str | None = None
) -> tuple[ServiceEndpoint, ...]:
    """Ready endpoints of the family, if need be of one node alone; where there are none those that end and still serve.

    The node comes first (CategorizeEndpoints of pkg/proxy/topology.go): an endpoint that ends serves policy Local
    where the node has no ready one, whatever other nodes have.
    """
    known = [
        (endpoint, port)
        for each in slices
        if each.addressType == f"IPv{frontend.version}"
        for port in _numbers(each, frontend.port)
        for endpoint in each.endpoints or ()
        if endpoint.addresses and node in (None, endpoint.nodeName)
    ]
    ready = [one for one in known if one[0].ready] or [one for one in known if one[0].ending]
    return tuple(dict.fromkeys(_endpoint(endpoint, port) for endpoint, port in ready))


def _numbers(slice_: EndpointSlice, port: ServicePort) -> Iterator[int]:
    for listed in slice_.ports or ():
        if (listed.name or "") == (port.name or "") and (listed.protocol or "TCP") == port.protocol and listed.port:
            yield listed.port


def _endpoint(endpoint: Endpoint, port: int) -> ServiceEndpoint:
    target = endpoint.targetRef
    pod = f"{target.namespace}/{target.name}" if target and target.kind == "Pod" else None
    return ServiceEndpoint(ip_address(endpoint.addresses[0]), port, endpoint.nodeName, pod)


def _source_refusal(frontend: ServiceFrontend, client: ServiceClient) -> str:
    """Why the balancer's address is closed to a client; kube-proxy compares the source address itself."""
    ranges = frontend.service.spec.loadBalancerSourceRanges
    if frontend.kind is not ServiceAddressKind.BALANCER or not ranges or client.source is None:
        return ""
    allowed = [ip_network(each.strip(), strict=False) for each in ranges]
    if any(client.source in each for each in allowed):
        return ""
    return f"{client.source} is in none of spec.loadBalancerSourceRanges of Service {frontend.service.key}"


def _internal(
    frontend: ServiceFrontend, client: ServiceClient, found: tuple[ServiceEndpoint, ...], settings: ProxySettings
) -> ProxyDecision:
    if not found:
        name = frontend.service.key
        return _none_here(f"internalTrafficPolicy Local: Service {name} has no endpoint on node {client.node}")
    return ProxyDecision(found, *_masquerade_by_cluster_ip(client, settings))


def _is_internal_local(frontend: ServiceFrontend) -> bool:
    return frontend.service.spec.internalTrafficPolicy == "Local"


def _masquerade_by_cluster_ip(client: ServiceClient, settings: ProxySettings) -> tuple[bool, str]:
    if client.place is ClientPlace.NODE:
        return False, ""
    if settings.masquerade_all:
        return True, "masqueradeAll of kube-proxy"
    if client.source is not None and _is_pod(client, settings) is False:
        return True, f"kube-proxy does not take {client.source} for a pod (detectLocalMode)"
    return False, ""


def _external(
    frontend: ServiceFrontend, client: ServiceClient, found: _Reachable, settings: ProxySettings
) -> ProxyDecision:
    if frontend.service.spec.externalTrafficPolicy != "Local":
        return ProxyDecision(found.everywhere, True, "externalTrafficPolicy Cluster")
    if client.place is ClientPlace.NODE:
        return ProxyDecision(found.everywhere, True, "the node itself is the client")
    if client.place is ClientPlace.POD and _is_pod(client, settings):
        because = "externalTrafficPolicy Local, and the client is a pod: all endpoints"
        return ProxyDecision(found.everywhere, False, because)
    if not found.local:
        name = frontend.service.key
        return _none_here(f"externalTrafficPolicy Local: Service {name} has no endpoint on node {client.node}")
    return ProxyDecision(found.local, False, "externalTrafficPolicy Local: endpoints of this node")


def _is_pod(client: ServiceClient, settings: ProxySettings) -> bool | None:
    """By the address, or by the link that a connection comes from: that of a pod which leaves by its NIC is a NIC."""
    assert client.source is not None or client.place is ClientPlace.NETWORK
    if settings.detect_local_mode == "InterfaceNamePrefix" and client.place is ClientPlace.NETWORK:
        return False
    return settings.takes_for_pod(client.source) if client.source is not None else False


def _none_here(why: str) -> ProxyDecision:
    return ProxyDecision(
        refusal=f"{why}, so it is dropped there",
        remedy="use a node that has an endpoint, set the policy to Cluster, or run a pod on each node (DaemonSet)",
    )
