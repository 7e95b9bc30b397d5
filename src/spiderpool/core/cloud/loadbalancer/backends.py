"""The servers that a port of a Service is forwarded to: nodes by NodePort, or pods by their own port.

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
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/master"
"""Older label of nodes of the control plane: these are backends only where there are no others."""
FAMILIES: Mapping[str, tuple[str, ...]] = {"ipv4": ("ipv4",), "ipv6": ("ipv6",), "dualstack": ("ipv4", "ipv6")}
"""Value of the annotation ``backend-ip-version``, in lower case → families of the backends."""
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
VIRTUAL = "the pod with {} is on a virtual node, which is not supported: it is not made a server, but stays one"
"""What is said of the address of a pod on a virtual node."""
MAX_WEIGHT = 100


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
    virtual: frozenset[tuple[str, int]] = frozenset()
    """Addresses and ports of pods on virtual nodes, which are not registered."""

    def without_ports(self) -> PortBackends:
        """Returns the same servers without ports of their own: they get traffic on the port that a client asks for."""
        return PortBackends(
            frozenset(replace(each, port=0) for each in self.servers),
            frozenset(replace(each, port=0) for each in self.ending),
            frozenset((address, 0) for address, _ in self.unresolved),
            frozenset((address, 0) for address, _ in self.virtual),
        )


def families(options: BalancerOptions) -> tuple[str, ...]:
    """Returns the address families of the backends that a Service asks for, in lower case."""
    return FAMILIES[options["backend-ip-version"].lower()]


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
    if reason := _decided_exclusion(node, options):
        return reason
    if options.kind.servers_by_address(options):
        return None if _addresses_of(node, options) else f"it has no InternalIP of {' or '.join(families(options))}"
    if instance_of(node, options.kind) is None:
        return f"its providerID {node.spec.providerID or ''!r} names no instance"
    return None


def _decided_exclusion(node: Node, options: BalancerOptions) -> str | None:
    """Returns why somebody does not want a node as a backend; None when nobody says so."""
    labels = node.metadata.labels or {}
    excluding = (*EXCLUDING_LABELS, *options.kind.excluding_labels)
    if label := next((each for each in excluding if each in labels), None):
        return f"label {label}"
    if is_virtual(node):
        return "it is no machine (label type=virtual-kubelet)"
    if any(taint.key == DELETION_TAINT for taint in node.spec.taints or ()):
        return f"taint {DELETION_TAINT}"
    if node.spec.unschedulable and options.on("remove-unscheduled-backend"):
        return "it is cordoned"
    if missing := _missing_label(labels, options):
        return f"it has no label {missing}"
    return None


def may_become_backend(node: Node, options: BalancerOptions) -> bool:
    """Whether a node is a backend, or will be one when it is ready and known to the cloud, without anybody's doing.

    Nodes of the control plane are none as long as there are others.
    """
    if _decided_exclusion(node, options) or CONTROL_PLANE_LABEL in (node.metadata.labels or {}):
        return False
    if options.kind.servers_by_address(options):
        return not node.internal_addresses or bool(_addresses_of(node, options))
    return not node.spec.providerID or instance_of(node, options.kind) is not None


def is_virtual(node: Node) -> bool:
    """Whether a Node stands for no machine: its pods run elsewhere, and nothing answers on its NodePorts."""
    return (node.metadata.labels or {}).get("type") == "virtual-kubelet"


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
    balancer's health checks decide. The same goes for nodes of the control plane: a cluster may have no others.
    """
    reasons = {node.name: exclusion(node, options) for node in nodes}
    possible = [node for node in nodes if reasons[node.name] is None]
    workers = [node for node in possible if CONTROL_PLANE_LABEL not in (node.metadata.labels or {})]
    allowed = workers or possible
    reasons |= {node.name: f"label {CONTROL_PLANE_LABEL}" for node in possible if node not in allowed}
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
    pods = _pods_by_node(port, snapshot.slices, families(options))
    servers: set[BackendServer] = set()
    ending: set[BackendServer] = set()
    for node in nodes:
        found = pods.get(node.name, _NodePods())
        if not local:
            servers |= _servers_of(node, port.nodePort, int(options["default-weight"]), options)
        elif found.ready:
            servers |= _servers_of(node, port.nodePort, _weight(found.ready), options)
        elif found.ending:
            ending |= _servers_of(node, port.nodePort, _weight(found.ending), options)
    virtual = frozenset(virtual_pods([port], snapshot, options))
    return PortBackends(frozenset(servers), frozenset(ending), virtual=virtual)


def _servers_of(node: Node, port: int, weight: int, options: BalancerOptions) -> set[BackendServer]:
    """Returns the servers that a node is: its instance, or each of its addresses where servers are these."""
    if options.kind.servers_by_address(options):
        return {BackendServer(each, "address", port, weight, each) for each in _addresses_of(node, options)}
    instance = instance_of(node, options.kind)
    return {BackendServer(instance, "instance", port, weight)} if instance else set()


def identities_of(node: Node, options: BalancerOptions) -> frozenset[str]:
    """Returns the identities of the servers that a node is."""
    return frozenset(server.identity for server in _servers_of(node, 0, 0, options))


def _addresses_of(node: Node, options: BalancerOptions) -> tuple[str, ...]:
    """Returns the node's first internal address of each family of the backends."""
    first: dict[str, str] = {}
    for address in node.internal_addresses:
        first.setdefault("ipv6" if ":" in address else "ipv4", address)
    return tuple(first[family] for family in families(options) if family in first)


def _weight(addresses: Collection[str]) -> int:
    """Returns the weight of a node by its pods, each of which may have an address of each family."""
    of_ipv6 = sum(":" in address for address in addresses)
    return min(max(of_ipv6, len(addresses) - of_ipv6), MAX_WEIGHT)


def virtual_pods(
    ports: Iterable[ServicePort], snapshot: BackendSnapshot, options: BalancerOptions
) -> Iterator[tuple[str, int]]:
    """Yields address and port of the pods that run on virtual nodes and answer."""
    nodes = {node.name for node in snapshot.nodes if is_virtual(node)}
    for port in ports if nodes else ():
        for address, number, endpoint in _answering(port, snapshot.slices, families(options)):
            if endpoint.nodeName in nodes:
                yield address, number


def shared_out(backends: PortBackends, total: int) -> PortBackends:
    """Returns the servers with the weight ``total`` shared out by their own weights, each with at least 1."""
    shares = [server.weight for server in backends.servers]
    whole = sum(shares) or len(shares)

    def weighted(server: BackendServer) -> BackendServer:
        weight = max(total * (server.weight if sum(shares) else 1) // whole, 1) if total and whole else min(total, 1)
        return replace(server, weight=weight)

    return replace(
        backends, servers=frozenset(map(weighted, backends.servers)), ending=frozenset(map(weighted, backends.ending))
    )


def pod_backends(port: ServicePort, snapshot: BackendSnapshot, options: BalancerOptions) -> PortBackends:
    """Returns pods that answer, by their own port."""
    weight = int(options["default-weight"])
    servers: set[BackendServer] = set()
    ending: set[BackendServer] = set()
    unresolved: set[tuple[str, int]] = set()
    by_address = options.kind.servers_by_address(options)
    for address, number, endpoint in _answering(port, snapshot.slices, families(options)):
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
    wanted = families(options)
    return frozenset(address for port in ports for address, _, _ in _answering(port, slices, wanted))


@dataclass(slots=True)
class _NodePods:
    """The addresses of a Service's pods on a node that answer."""

    ready: set[str] = field(default_factory=set)
    ending: set[str] = field(default_factory=set)


def _pods_by_node(port: ServicePort, slices: Iterable[EndpointSlice], wanted: Collection[str]) -> dict[str, _NodePods]:
    found: dict[str, _NodePods] = defaultdict(_NodePods)
    for address, _, endpoint in _answering(port, slices, wanted):
        if endpoint.nodeName:
            pods = found[endpoint.nodeName]
            (pods.ready if endpoint.ready else pods.ending).add(address)
    return found


def _answering(
    port: ServicePort, slices: Iterable[EndpointSlice], wanted: Collection[str]
) -> Iterator[tuple[str, int, Endpoint]]:
    """Yields address, port number and endpoint of every endpoint of these families that is ready or ending."""
    for item in slices:
        numbers = [
            listed.port
            for listed in item.ports or ()
            if (listed.name or "") == (port.name or "") and (listed.protocol or "TCP") == port.protocol
        ]
        if item.addressType.lower() not in wanted:
            continue
        for endpoint in item.endpoints or ():
            if (endpoint.ready or endpoint.ending) and endpoint.addresses:
                yield from ((endpoint.addresses[0], number, endpoint) for number in numbers if number)
