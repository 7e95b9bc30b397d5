"""The servers that a port of a Service is forwarded to: nodes by NodePort, or pods by the ENI of their address.

Pods that are terminating and still answer are told apart: whether they are needed is decided against the servers that
the balancer has (`planning`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spiderpool.api.core_v1 import Node, Service, ServicePort
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.api.spiderserver import Instance
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.values import BackendServer

EXCLUDING_LABELS = (
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
)
"""Labels of nodes that must not be backends, in any cloud."""
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
MAX_WEIGHT = 100
SETTLING_MARGIN = 1.0
"""Seconds after which a server that was added is checked for the first time."""


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """The possible backends at one moment: nodes, the endpoints of one Service, and the ENIs of pod addresses."""

    nodes: Sequence[Node] = ()
    slices: Sequence[EndpointSlice] = ()
    enis: Mapping[str, str] = field(default_factory=dict)
    """Address → identity of the ENI that has it."""


@dataclass(frozen=True, slots=True)
class PortBackends:
    """The servers of one port, and the addresses and ports of pods whose ENI is not known."""

    servers: frozenset[BackendServer]
    ending: frozenset[BackendServer] = frozenset()
    """Servers none of whose pods is ready: those that answer are terminating."""
    unresolved: frozenset[tuple[str, int]] = frozenset()

    def without_ports(self) -> PortBackends:
        """Returns the same servers without ports of their own: they get traffic on the port that a client asks for."""
        return PortBackends(
            frozenset(replace(each, port=0) for each in self.servers),
            frozenset(replace(each, port=0) for each in self.ending),
            frozenset((address, 0) for address, _ in self.unresolved),
        )


def reported_enis(instances: Iterable[Instance | None]) -> dict[str, str]:
    """Returns the ENI of every address that nodes report, their own included; not those that two are said to have.

    The cloud is asked for the others instead: no node leads traffic to itself by claiming an address.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    for eni in (eni for instance in instances if instance for eni in instance.enis):
        for address in eni.all_addresses:
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
    if instance_of(node, options.kind) is None:
        return f"its providerID {node.spec.providerID or ''!r} names no instance"
    return None


def instance_of(node: Node, kind: BalancerKind) -> str | None:
    """Returns the identity of the node's instance; None when its provider ID names none of this cloud."""
    named = kind.parse_provider_id(node.spec.providerID or "")
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
    pods = _pods_by_node(port, snapshot.slices, options["backend-ip-version"])
    servers: set[BackendServer] = set()
    ending: set[BackendServer] = set()
    for node in nodes:
        instance, found = instance_of(node, options.kind), pods.get(node.name, _NodePods())
        if instance is None:
            continue
        if not local:
            servers.add(BackendServer(instance, "instance", port.nodePort, int(options["default-weight"])))
        elif found.ready:
            servers.add(BackendServer(instance, "instance", port.nodePort, min(len(found.ready), MAX_WEIGHT)))
        elif found.ending:
            ending.add(BackendServer(instance, "instance", port.nodePort, min(len(found.ending), MAX_WEIGHT)))
    return PortBackends(frozenset(servers), frozenset(ending))


def pod_backends(port: ServicePort, snapshot: BackendSnapshot, options: BalancerOptions) -> PortBackends:
    """Returns pods that answer, by their own port."""
    weight = int(options["default-weight"])
    servers: set[BackendServer] = set()
    ending: set[BackendServer] = set()
    unresolved: set[tuple[str, int]] = set()
    by_address = options.kind.pods_by_address(options)
    for address, number, endpoint in _answering(port, snapshot.slices, options["backend-ip-version"]):
        chosen = servers if endpoint.ready else ending
        if by_address:
            chosen.add(BackendServer(address, "address", number, weight, address))
        elif eni := snapshot.enis.get(address):
            chosen.add(BackendServer(eni, "eni", number, weight, address))
        elif endpoint.ready:
            unresolved.add((address, number))
    return PortBackends(frozenset(servers), frozenset(ending), frozenset(unresolved))


def pod_addresses(
    ports: Iterable[ServicePort], slices: Collection[EndpointSlice], options: BalancerOptions
) -> frozenset[str]:
    """Returns the addresses whose ENIs must be known for `pod_backends`."""
    version = options["backend-ip-version"]
    return frozenset(address for port in ports for address, _, _ in _answering(port, slices, version))


def settling_time(options: BalancerOptions) -> float:
    """Returns the seconds within which a balancer finds a new server well."""
    return int(options["healthy-threshold"]) * int(options["health-check-interval"]) + SETTLING_MARGIN


@dataclass(slots=True)
class _NodePods:
    """The addresses of a Service's pods on a node that answer."""

    ready: set[str] = field(default_factory=set)
    ending: set[str] = field(default_factory=set)


def _pods_by_node(port: ServicePort, slices: Iterable[EndpointSlice], version: str) -> dict[str, _NodePods]:
    found: dict[str, _NodePods] = defaultdict(_NodePods)
    for address, _, endpoint in _answering(port, slices, version):
        if endpoint.nodeName:
            pods = found[endpoint.nodeName]
            (pods.ready if endpoint.ready else pods.ending).add(address)
    return found


def _answering(port: ServicePort, slices: Iterable[EndpointSlice], version: str) -> Iterator[tuple[str, int, Endpoint]]:
    """Yields address, port number and endpoint of every endpoint of an address family that is ready or ending."""
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
                yield from ((endpoint.addresses[0], number, endpoint) for number in numbers if number)
