"""The servers that a port of a Service is forwarded to: nodes by NodePort, or pods by the ENI of their address.

A pod that is terminating and still answers is a server with weight 0, so that its connections go on. While no other
pod is known to be well it keeps its weight: a balancer sends nothing to a new server before its health checks have
passed, and without the old one nobody would answer until then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from spiderpool.api.core_v1 import Node, Service, ServicePort
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.api.spiderserver import Instance
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.values import BackendServer

EXCLUDING_LABELS = (
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
)
"""Labels of nodes that must not be backends, in any cloud."""
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
MAX_WEIGHT = 100
NO_NEW_CONNECTIONS = 0
"""Weight of a server that gets no new connections and keeps those that it has."""
SETTLING_MARGIN = 1.0
"""Seconds after which a server that was added is checked for the first time."""


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """The possible backends at one moment: nodes, the endpoints of one Service, and the ENIs of pod addresses."""

    nodes: Sequence[Node] = ()
    slices: Sequence[EndpointSlice] = ()
    enis: Mapping[str, str] = field(default_factory=dict)
    """Address → identity of the ENI that has it."""
    settling: frozenset[str] = frozenset()
    """Addresses of ready pods that the balancer may not have found well yet."""


@dataclass(frozen=True, slots=True)
class PortBackends:
    """The servers of one port, and the addresses and ports of pods whose ENI is not known."""

    servers: frozenset[BackendServer]
    unresolved: frozenset[tuple[str, int]] = frozenset()


def reported_enis(instances: Iterable[Instance | None]) -> dict[str, str]:
    """Returns the ENI of every address that nodes report, their own included; not those that two are said to have.

    The cloud is asked for the others instead: no node leads traffic to itself by claiming an address.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    for eni in (eni for instance in instances if instance for eni in instance.enis):
        for address in (eni.primary_address, *eni.addresses, *eni.ipv6_addresses):
            if found.setdefault(address, eni.identity) != eni.identity:
                twice.add(address)
    return {address: eni for address, eni in found.items() if address not in twice}


def exclusion(node: Node, options: BalancerOptions) -> str | None:
    """Returns why a node must not be a backend, whether it is ready or not; None when it may be one."""
    labels = node.metadata.labels or {}
    excluding = (*EXCLUDING_LABELS, *options.kind.excluding_labels)
    if label := next((each for each in excluding if each in labels), None):
        return f"label {label}"
    if labels.get("type") == "virtual-kubelet":
        return "it is no machine (label type=virtual-kubelet)"
    if any(taint.key == DELETION_TAINT for taint in node.spec.taints or ()):
        return f"taint {DELETION_TAINT}"
    if node.spec.unschedulable and options.on("remove-unscheduled-backend"):
        return "it is cordoned"
    if missing := _missing_label(labels, options):
        return f"it has no label {missing}"
    return None if _instance(node, options) else f"its providerID {node.spec.providerID or ''!r} names no instance"


def _instance(node: Node, options: BalancerOptions) -> str | None:
    """Returns the identity of the node's instance; None when its provider ID names none of this cloud."""
    named = options.kind.parse_provider_id(node.spec.providerID or "")
    return named[1] if named else None


def _missing_label(labels: Mapping[str, str], options: BalancerOptions) -> str | None:
    for required in options.list("backend-label"):
        key, _, value = required.partition("=")
        if labels.get(key) != value:
            return required
    return None


def eligible(nodes: Iterable[Node], options: BalancerOptions) -> tuple[list[Node], tuple[str, ...]]:
    """Returns the nodes that may be backends, and a note for each other node.

    Nodes that are not ready are left out, unless no node is ready: then our own data is probably stale, and the
    balancer's health checks decide.
    """
    reasons = {node.name: exclusion(node, options) for node in nodes}
    allowed = [node for node in nodes if reasons[node.name] is None]
    ready = [node for node in allowed if node.ready]
    chosen = ready or allowed
    notes = {name: reason for name, reason in reasons.items() if reason}
    notes |= {node.name: "it is not ready" for node in allowed if node not in chosen}
    return chosen, tuple(f"node {name} is no backend: {notes[name]}" for name in sorted(notes))


def node_backends(
    service: Service, port: ServicePort, snapshot: BackendSnapshot, nodes: Iterable[Node], options: BalancerOptions
) -> PortBackends:
    """Returns those of the nodes that are backends, by their NodePort.

    With externalTrafficPolicy Local: only nodes that have pods which answer, each weighted with the number of them.
    """
    if not port.nodePort:
        return PortBackends(frozenset())
    local = service.spec.externalTrafficPolicy == "Local"
    weights = _local_weights(port, snapshot, options) if local else {}
    servers: set[BackendServer] = set()
    for node in nodes:
        instance = _instance(node, options)
        if instance and (not local or node.name in weights):
            weight = weights[node.name] if local else int(options["default-weight"])
            servers.add(BackendServer(instance, "instance", port.nodePort, weight))
    return PortBackends(frozenset(servers))


def _local_weights(port: ServicePort, snapshot: BackendSnapshot, options: BalancerOptions) -> dict[str, int]:
    """Returns name of a node → number of the pods there to which traffic may be sent, at most 100."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in _port_endpoints(port, snapshot, options):
        if each.node:
            found[each.node].update([each.address] if each.takes_connections else ())
    return {node: min(len(addresses), MAX_WEIGHT) for node, addresses in found.items()}


def pod_backends(port: ServicePort, snapshot: BackendSnapshot, options: BalancerOptions) -> PortBackends:
    """Returns pods that answer, by their own port."""
    default = int(options["default-weight"])
    servers: set[BackendServer] = set()
    unresolved: set[tuple[str, int]] = set()
    by_address = options.kind.pods_by_address(options)
    for each in _port_endpoints(port, snapshot, options):
        weight = default if each.takes_connections else NO_NEW_CONNECTIONS
        if by_address:
            servers.add(BackendServer(each.address, "address", each.port, weight, each.address))
        elif eni := snapshot.enis.get(each.address):
            servers.add(BackendServer(eni, "eni", each.port, weight, each.address))
        else:
            unresolved.add((each.address, each.port))
    return PortBackends(frozenset(servers), frozenset(unresolved))


def pod_addresses(
    ports: Iterable[ServicePort], slices: Collection[EndpointSlice], options: BalancerOptions
) -> frozenset[str]:
    """Returns the addresses whose ENIs must be known for `pod_backends`."""
    snapshot = BackendSnapshot(slices=tuple(slices))
    return frozenset(each.address for port in ports for each in _port_endpoints(port, snapshot, options))


def ready_addresses(slices: Iterable[EndpointSlice]) -> frozenset[str]:
    """Returns the addresses of ready pods, of any port."""
    return frozenset(
        endpoint.addresses[0]
        for item in slices
        for endpoint in item.endpoints or ()
        if endpoint.ready and endpoint.addresses
    )


def has_ending(slices: Iterable[EndpointSlice]) -> bool:
    """Whether any pod is terminating and still answers."""
    return any(endpoint.ending for item in slices for endpoint in item.endpoints or ())


def settling_time(options: BalancerOptions) -> float:
    """Returns the seconds within which a balancer finds a new server well."""
    return int(options["healthy-threshold"]) * int(options["health-check-interval"]) + SETTLING_MARGIN


@dataclass(frozen=True, slots=True)
class _PortEndpoint:
    """A pod that answers on a port of a Service."""

    address: str
    port: int
    node: str | None
    takes_connections: bool
    """False: it is terminating, and another pod is known to be well."""


def _port_endpoints(port: ServicePort, snapshot: BackendSnapshot, options: BalancerOptions) -> list[_PortEndpoint]:
    """Returns the ready endpoints of a port, and those whose pods are ending, of the address family of the servers."""
    found = list(_listed(port, snapshot.slices, options["backend-ip-version"]))
    is_any_well = any(each.ready and each.addresses[0] not in snapshot.settling for each, _ in found)
    return [
        _PortEndpoint(each.addresses[0], number, each.nodeName, each.ready or not is_any_well) for each, number in found
    ]


def _listed(port: ServicePort, slices: Iterable[EndpointSlice], version: str) -> Iterator[tuple[Endpoint, int]]:
    """Yields every endpoint of a port and an address family that answers, and its port's number."""
    for item in slices:
        numbers = [
            listed.port
            for listed in item.ports or ()
            if (listed.name or "") == (port.name or "") and (listed.protocol or "TCP") == port.protocol
        ]
        if item.addressType.lower() != version:
            continue
        for endpoint in item.endpoints or ():
            if (endpoint.ready or endpoint.ending) and endpoint.addresses:
                yield from ((endpoint, number) for number in numbers if number)
