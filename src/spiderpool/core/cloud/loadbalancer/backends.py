"""Which servers a port of a Service is forwarded to: nodes by their NodePort, or pods by the ENI of their address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from spiderpool.api.core_v1 import Node, Service, ServicePort
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.core.cloud.instances import INSTANCE_ANNOTATION, read_instance
from spiderpool.core.cloud.loadbalancer.annotations import Options
from spiderpool.core.cloud.loadbalancer.values import BackendServer
from spiderpool.errors import Undecodable

EXCLUDING_LABELS = (
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
    "service.alibabacloud.com/exclude-node",
)
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
HYBRID = "ack-hybrid://"
SCHEME = "alicloud://"
HEAVIEST = 100


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """What there is to choose from: nodes, the endpoints of one Service, and the ENI of every known address."""

    nodes: Sequence[Node] = ()
    slices: Sequence[EndpointSlice] = ()
    enis: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortBackends:
    """The servers of one port, and the pods whose ENI nobody knows."""

    servers: frozenset[BackendServer]
    unresolved: frozenset[tuple[str, int]] = frozenset()


def instance_of(node: Node) -> str | None:
    """The instance that a node is, from its provider ID ``[alicloud://]region.instance``."""
    provider = node.spec.providerID or ""
    region, _, instance = provider.removeprefix(SCHEME).partition(".")
    return instance if region and instance and "." not in instance and not provider.startswith(HYBRID) else None


def told_enis(nodes: Iterable[Node]) -> dict[str, str]:
    """The ENI of every address that nodes say they have; what one says that cannot be read is passed over."""
    found: dict[str, str] = {}
    for node in nodes:
        text = (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION)
        try:
            enis = read_instance(text).enis if text else ()
        except Undecodable:
            continue
        for eni in enis:
            found |= dict.fromkeys((*eni.addresses, *eni.ipv6_addresses), eni.identity)
    return found


def is_ready(node: Node) -> bool:
    """Whether the node's kubelet says so."""
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions or ())


def refusal(node: Node, options: Options) -> str | None:
    """Why a node, ready or not, is no backend; None when it may be one."""
    labels = node.metadata.labels or {}
    if label := next((each for each in EXCLUDING_LABELS if each in labels), None):
        return f"label {label}"
    if labels.get("type") == "virtual-kubelet":
        return "it is no machine (label type=virtual-kubelet)"
    if any(taint.key == DELETION_TAINT for taint in node.spec.taints or ()):
        return f"taint {DELETION_TAINT}"
    if node.spec.unschedulable and options.on("remove-unscheduled-backend"):
        return "it is cordoned"
    if missing := _missing_label(labels, options):
        return f"it has no label {missing}"
    return None if instance_of(node) else f"its providerID {node.spec.providerID or ''!r} names no instance"


def _missing_label(labels: Mapping[str, str], options: Options) -> str | None:
    for wanted in options.list("backend-label"):
        key, _, value = wanted.partition("=")
        if labels.get(key) != value:
            return wanted
    return None


def eligible(nodes: Iterable[Node], options: Options) -> tuple[list[Node], tuple[str, ...]]:
    """The nodes that may be backends, and why each other one may not.

    Not ready are left out, unless none is: then something is wrong with what we know, and the balancer's own
    health checks decide.
    """
    reasons = {node.name: refusal(node, options) for node in nodes}
    allowed = [node for node in nodes if reasons[node.name] is None]
    ready = [node for node in allowed if is_ready(node)]
    chosen = ready or allowed
    notes = {name: reason for name, reason in reasons.items() if reason}
    notes |= {node.name: "it is not ready" for node in allowed if node not in chosen}
    return chosen, tuple(f"node {name} is no backend: {notes[name]}" for name in sorted(notes))


def node_backends(
    service: Service, port: ServicePort, world: BackendSnapshot, chosen: Iterable[Node], options: Options
) -> PortBackends:
    """Nodes by NodePort. With externalTrafficPolicy Local those that have ready pods, as heavy as they have many."""
    if not port.nodePort:
        return PortBackends(frozenset())
    local = service.spec.externalTrafficPolicy == "Local"
    pods = _pods_by_node(port, world.slices, options["backend-ip-version"])
    servers: set[BackendServer] = set()
    for node in chosen:
        weight = min(len(pods.get(node.name, ())), HEAVIEST) if local else int(options["default-weight"])
        instance = instance_of(node)
        if instance and (not local or node.name in pods):
            servers.add(BackendServer(instance, "ecs", port.nodePort, weight))
    return PortBackends(frozenset(servers))


def pod_backends(port: ServicePort, world: BackendSnapshot, options: Options) -> PortBackends:
    """Ready pods by their own port."""
    weight = int(options["default-weight"])
    servers: set[BackendServer] = set()
    unresolved: set[tuple[str, int]] = set()
    by_address = options.kind == "nlb" and options["server-group-type"] == "Ip"
    for address, number, _ in _ready(port, world.slices, options["backend-ip-version"]):
        if by_address:
            servers.add(BackendServer(address, "ip", number, weight, address))
        elif eni := world.enis.get(address):
            servers.add(BackendServer(eni, "eni", number, weight, address))
        else:
            unresolved.add((address, number))
    return PortBackends(frozenset(servers), frozenset(unresolved))


def pod_addresses(ports: Iterable[ServicePort], slices: Collection[EndpointSlice], options: Options) -> frozenset[str]:
    """The addresses whose ENIs must be known for `pod_backends`."""
    version = options["backend-ip-version"]
    return frozenset(address for port in ports for address, _, _ in _ready(port, slices, version))


def _pods_by_node(port: ServicePort, slices: Iterable[EndpointSlice], version: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for address, _, endpoint in _ready(port, slices, version):
        if endpoint.node:
            found[endpoint.node].add(address)
    return found


def _ready(port: ServicePort, slices: Iterable[EndpointSlice], version: str) -> Iterator[tuple[str, int, Endpoint]]:
    """Address, port and endpoint of every ready endpoint of a family."""
    for each in slices:
        numbers = [
            seen.port
            for seen in each.ports or ()
            if (seen.name or "") == (port.name or "") and (seen.protocol or "TCP") == port.protocol
        ]
        if each.addressType.lower() != version:
            continue
        for endpoint in each.endpoints or ():
            if endpoint.ready and endpoint.addresses:
                yield from ((endpoint.addresses[0], number, endpoint) for number in numbers if number)
