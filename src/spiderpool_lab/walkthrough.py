"""The checks of the walkthrough as a table: each source, target and protocol, with the answer that must come.

East-west traffic stays in the VPC, north-south traffic goes to or comes from the internet. Both families are checked
where both ends have both, by ping, TCP and UDP where the server serves them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from spiderpool_lab import facts, internet
from spiderpool_lab.checks import Check, CheckResult, run_checks
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact, PodInterface, ServiceFact, of_version
from spiderpool_lab.node import ProxyMode
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.topology import ENI, LabNode, Topology, VSwitch

HOST_PORTS = {"TCP": 9080, "UDP": 9053}
"""Ports of the server of examples/alibaba-cloud/host.yaml on every node."""

QUOTED_FRAMES = 5
"""Dropped frames of one rule that a failed check quotes."""

Kind = Literal["ping", "http", "udp"]
KINDS: dict[str, Kind] = {"TCP": "http", "UDP": "udp"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The objects to check: the servers, the pods that run, and the Services by name."""

    topology: Topology
    pods: tuple[PodFact, ...]
    services: dict[str, ServiceFact]
    proxy_mode: ProxyMode = "iptables"

    def endpoints(self, service: ServiceFact, node: str | None = None) -> frozenset[str]:
        """Keys of the pods behind a Service, of all nodes or of one."""
        return frozenset(pod.key for pod in self.pods if pod.app == service.app and node in (None, pod.node))


@dataclass(frozen=True, slots=True)
class TrafficSource:
    """A node, a pod or the internet that sends probes, and the addresses as which a server may see it.

    With ``binds`` its probes are sent from the first of these addresses, not from the one that routes choose.
    """

    name: str
    place: str
    pod: str | None
    addresses: frozenset[str]
    binds: bool = False

    def check(self, topic: str, kind: Kind, target: str, port: int = 0, bind: str | None = None) -> Check:
        """A check that expects an answer, from ``bind`` if it is given."""
        where = target if kind == "ping" else f"[{target}]:{port}" if ":" in target else f"{target}:{port}"
        by = f" by {bind}" if bind else ""
        if self.binds:
            bind = of_version(ip_address(target).version, sorted(self.addresses))[0]
        probe = TrafficProbe(
            kind=kind, source=self.pod, target=target, port=port or 80, bind=bind, count=2, timeout=2.0
        )
        version = ip_address(target).version
        return Check(f"{topic}, IPv{version}", self.place, f"{kind} {self.name}{by} → {where}", probe)


@dataclass(frozen=True, slots=True)
class NodePort:
    """A Service as it is reached by addresses of one node."""

    service: ServiceFact
    node: LabNode
    addresses: tuple[str, ...]


def observe(cluster: LabCluster) -> Environment:
    """The running cluster as the API server shows it."""
    return Environment(
        cluster.fabric.topology, tuple(facts.running_pods(cluster)), facts.services(cluster), cluster.proxy_mode
    )


def services_answer(cluster: LabCluster, environment: Environment) -> bool:
    """Whether every node reaches every Service by each of its cluster IPs, so kube-proxy has set all of them up.

    Until then a node sends what a pod sends to a cluster IP to the gateway of its first ENI, and the cloud drops it if
    the pod's address belongs to another ENI. The node's own address passes, so none of these probes is dropped.
    """
    probes = [
        TrafficProbe(kind=KINDS[protocol], target=address, port=port, count=1, timeout=1.0)
        for service in environment.services.values()
        for address in service.addresses
        for protocol, port in service.ports.items()
    ]
    answers = (answer for node in environment.topology.nodes for answer in cluster.probe(node.name, probes))
    return all(answer.ok for answer in answers)


def check_addresses(cluster: LabCluster, environment: Environment) -> Iterator[CheckResult]:
    """Check that the addresses of each interface are registered on one ENI of its node, and that it has its MAC."""
    macs = {pod: links for node in environment.topology.nodes for pod, links in _macs(cluster, node).items()}
    for pod in environment.pods:
        for interface in pod.interfaces:
            text = f"{pod} {interface.name} {' '.join(interface.addresses)}"
            eni = interface.eni
            yield CheckResult("addresses are registered on one ENI", text, eni is not None, eni.name if eni else "none")
            mac = macs.get(pod.key, {}).get(interface.name, "none")
            yield CheckResult("MAC equals the ENI's", text, eni is not None and mac == eni.mac, mac)


def run(cluster: LabCluster, checks: Iterable[Check]) -> list[CheckResult]:
    """Run checks, and check that the cloud has dropped no frame meanwhile."""
    before = cluster.fabric.counters()
    results = run_checks(cluster, checks)
    return [*results, nothing_dropped(cluster, before)]


def nothing_dropped(cluster: LabCluster, before: dict[str, dict[str, int]]) -> CheckResult:
    """Check that the cloud has dropped no frame since its counters were as ``before``; the detail quotes the last."""
    dropped = [
        (eni, rule, count - before[eni][rule])
        for eni, rules in cluster.fabric.counters().items()
        for rule, count in rules.items()
        if count != before[eni][rule]
    ]
    detail = "; ".join(_dropped_in_words(cluster, *found) for found in dropped)
    return CheckResult("no frame dropped by the cloud", "all ENIs", not dropped, detail)


def _dropped_in_words(cluster: LabCluster, eni: str, rule: str, count: int) -> str:
    """The number of frames that a rule has dropped, and the last of them, each kind once."""
    recorded = [str(frame) for frame in cluster.dropped_frames() if (frame.eni, frame.rule) == (eni, rule)]
    kinds = list(dict.fromkeys(recorded[-count:]))[-QUOTED_FRAMES:]
    return f"{eni} {rule} {count}: {', '.join(kinds) or 'not recorded'}"


def east_west(environment: Environment) -> Iterator[Check]:
    """Checks between pods, nodes and cluster IPs."""
    yield from pod_to_node(environment)
    yield from node_to_pod(environment)
    yield from pod_to_pod(environment)
    yield from by_eni(environment)
    yield from to_cluster_ip(environment)
    yield from pod_to_node_port(environment)


def north_south(environment: Environment) -> Iterator[Check]:
    """Checks to the internet (by the NAT gateway, in IPv6 by routing) and from it (by node ports of every node)."""
    yield from to_internet(environment)
    yield from from_internet(environment)


# --- east-west


def pod_to_node(environment: Environment) -> Iterator[Check]:
    """Every pod reaches every address of every node, and a server on it, which sees the pod's own address."""
    for pod in environment.pods:
        source = pod_source(pod)
        for node in environment.topology.nodes:
            topic = f"pod → {'own' if node.name == pod.node else 'other'} node"
            for target in _of_same_versions(pod.addresses, _own_addresses(node)):
                yield source.check(topic, "ping", target)
                for protocol, port in HOST_PORTS.items():
                    yield _seen_as(source.check(topic, KINDS[protocol], target, port), pod.addresses)


def node_to_pod(environment: Environment) -> Iterator[Check]:
    """Every node reaches every pod on every address, as a kubelet's probes do."""
    for node in environment.topology.nodes:
        source = _node_source(node)
        for pod in environment.pods:
            topic = "node → own pod, as kubelet probes" if node.name == pod.node else "node → pod of other node"
            for interface in pod.interfaces:
                for target in interface.addresses:
                    yield from _to_pod(source, topic, pod, target)


def pod_to_pod(environment: Environment) -> Iterator[Check]:
    """Every pod reaches every other pod on every address; the server sees an address of the client pod."""
    for client in environment.pods:
        source = pod_source(client)
        for server in (pod for pod in environment.pods if pod != client):
            for interface in server.interfaces:
                topic = _relation(client, server, interface)
                for address in _of_same_versions(client.addresses, interface.addresses):
                    yield source.check(topic, "ping", address)
                    for check in _to_pod(source, topic, server, address):
                        yield _seen_as(check, client.addresses)


def by_eni(environment: Environment) -> Iterator[Check]:
    """A pod with two ENIs that binds to one of its addresses is seen by it, in its own subnet and in the other."""
    for pod in (pod for pod in environment.pods if len(pod.interfaces) > 1):
        for node in (node for node in environment.topology.nodes if node.name != pod.node):
            for bind in (address for interface in pod.interfaces for address in interface.addresses):
                for target in of_version(ip_address(bind).version, _own_addresses(node)):
                    topic = "pod with two ENIs, by either"
                    check = pod_source(pod).check(topic, "http", target, HOST_PORTS["TCP"], bind)
                    yield _seen_as(check, frozenset({bind}))


def to_cluster_ip(environment: Environment) -> Iterator[Check]:
    """Every pod and node reaches every endpoint of a Service by its cluster IP, on either node."""
    for service in (service for service in environment.services.values() if not service.node_ports):
        for source in _inside_sources(environment):
            topic = f"{'pod' if source.pod else 'node'} → ClusterIP, every endpoint"
            for address in _of_same_versions(source.addresses, service.addresses):
                for protocol, port in service.ports.items():
                    check = source.check(topic, KINDS[protocol], address, port)
                    yield _answered_by(check, environment.endpoints(service))


def pod_to_node_port(environment: Environment) -> Iterator[Check]:
    """Every pod reaches every endpoint by the node port of either node, and with policy Local those of that node.

    By its own node and with policy Local, kube-proxy in mode iptables takes it for a client inside: all answer.
    """
    for service in (service for service in environment.services.values() if service.node_ports):
        for pod in environment.pods:
            for node in environment.topology.nodes:
                topic = f"pod → node port of {'own' if node.name == pod.node else 'other'} node, {_policy(service)}"
                for eni in node.enis:
                    port = NodePort(service, node, eni.own_addresses)
                    checks = _to_node_port(environment, pod_source(pod), topic, port)
                    own = service.local and node.name == pod.node
                    yield from (_by_own_node(environment, service, check, node) if own else check for check in checks)


def _by_own_node(environment: Environment, service: ServiceFact, check: Check, node: LabNode) -> Check:
    """Every endpoint answers, or with mode ipvs those of the node; one of another node sees the pod's node."""
    endpoints = environment.endpoints(service, None if environment.proxy_mode == "iptables" else node.name)
    seen_as = check.expected.seen_as | frozenset(_own_addresses(node))
    return replace(check, expected=replace(check.expected, answered_by=endpoints, seen_as=seen_as))


# --- north-south


def to_internet(environment: Environment) -> Iterator[Check]:
    """The internet sees a pod by its vSwitch's NAT address, a node by its elastic one, and IPv6 as it is."""
    for pod in environment.pods:
        source, default = pod_source(pod), pod.interface(pod.default_interface)
        yield from _to_internet_by(environment, source, "pod → internet", default)
        for interface in pod.interfaces if len(pod.interfaces) > 1 else ():
            for bind in interface.addresses:
                topic = "pod with two ENIs → internet, by either"
                yield from _to_internet_by(environment, source, topic, interface, bind)
    for node in environment.topology.nodes:
        first = PodInterface(node.enis[0].name, node.enis[0].own_addresses, node.enis[0])
        yield from _to_internet_by(environment, _node_source(node), "node → internet", first)


def from_internet(environment: Environment) -> Iterator[Check]:
    """A client on the internet reaches node ports of every node by every ENI; with policy Local the pod sees it."""
    source = internet_source(environment.topology)
    for service in (service for service in environment.services.values() if service.node_ports):
        for node in environment.topology.nodes:
            for eni in node.enis:
                topic = f"internet → node port by {eni.name}, {_policy(service)}"
                yield from _to_node_port(environment, source, topic, NodePort(service, node, public_addresses(eni)))


def public_addresses(eni: ENI) -> tuple[str, ...]:
    """The addresses by which the internet reaches an ENI: its elastic address, and its own IPv6 address."""
    return (*filter(None, [eni.elastic]), *of_version(6, eni.own_addresses))


def internet_source(topology: Topology) -> TrafficSource:
    """The client on the internet."""
    return TrafficSource(internet.NAME, internet.NAME, None, frozenset(topology.internet.client), binds=True)


def pod_source(pod: PodFact) -> TrafficSource:
    """A pod that sends from the address that its routes choose."""
    return TrafficSource(str(pod), pod.node, pod.key, pod.addresses)


def _to_internet_by(
    environment: Environment, source: TrafficSource, topic: str, interface: PodInterface, bind: str | None = None
) -> Iterator[Check]:
    """Checks out by an interface of a pod or node, from ``bind`` if it is given."""
    own = interface.addresses
    for target in _of_same_versions([bind] if bind else own, environment.topology.internet.server):
        version = ip_address(target).version
        seen_as = _address_outside(interface) if version == 4 else of_version(6, own)[0]
        if not bind:
            yield source.check(topic, "ping", target)
        for protocol, port in internet.PORTS:
            check = source.check(topic, KINDS[protocol], target, port, bind)
            yield _answered_by(_seen_as(check, frozenset({seen_as})), frozenset({internet.NAME}))


def _address_outside(interface: PodInterface) -> str:
    """The IPv4 address as which the internet sees an interface: elastic if it has its ENI's own address, else NAT."""
    eni = interface.eni
    if eni is None:
        return ""
    return (eni.elastic if eni.address in interface.addresses else eni.vswitch.nat) or ""


# --- common parts


def _to_pod(source: TrafficSource, topic: str, pod: PodFact, target: str) -> Iterator[Check]:
    for port in sorted(pod.ports):
        protocol, _, number = port.partition("/")
        yield _answered_by(source.check(topic, KINDS[protocol], target, int(number)), frozenset({pod.key}))


def _to_node_port(environment: Environment, source: TrafficSource, topic: str, port: NodePort) -> Iterator[Check]:
    """With policy Local the pods of that node answer and see the client, one that reaches itself as its node."""
    service = port.service
    endpoints = environment.endpoints(service, port.node.name if service.local else None)
    hairpin = frozenset(_own_addresses(port.node)) if source.pod in endpoints else frozenset()
    for address in _of_same_versions(source.addresses, port.addresses):
        for protocol, number in service.node_ports.items():
            check = _answered_by(source.check(topic, KINDS[protocol], address, number), endpoints)
            yield _seen_as(check, source.addresses | hairpin) if service.local else check


def _node_source(node: LabNode) -> TrafficSource:
    return TrafficSource(node.name, node.name, None, frozenset(_own_addresses(node)))


def _inside_sources(environment: Environment) -> list[TrafficSource]:
    return [*map(pod_source, environment.pods), *map(_node_source, environment.topology.nodes)]


def _own_addresses(node: LabNode) -> list[str]:
    return [address for eni in node.enis for address in eni.own_addresses]


def _seen_as(check: Check, addresses: frozenset[str]) -> Check:
    return replace(check, expected=replace(check.expected, seen_as=addresses))


def _answered_by(check: Check, pods: frozenset[str]) -> Check:
    return replace(check, expected=replace(check.expected, answered_by=pods))


def _of_same_versions(own: Iterable[str], targets: Iterable[str]) -> Iterator[str]:
    """The targets of the IP versions that the source has an address of."""
    versions = {ip_address(address).version for address in own}
    return (target for target in targets if ip_address(target).version in versions)


def _vswitches(pod: PodFact) -> list[VSwitch]:
    return [interface.eni.vswitch for interface in pod.interfaces if interface.eni]


def _policy(service: ServiceFact) -> str:
    return "Local, client's address kept" if service.local else "Cluster, every endpoint"


def _relation(client: PodFact, server: PodFact, interface: PodInterface) -> str:
    place = "same node" if client.node == server.node else "other node"
    subnet = "same" if interface.eni and interface.eni.vswitch in _vswitches(client) else "other"
    return f"pod → pod, {place}, {subnet} subnet"


def _macs(cluster: LabCluster, node: LabNode) -> dict[str, dict[str, str]]:
    """Pod → interface → MAC, read by one command for all pods of a node."""
    client = cluster.machines.client(node.name)
    namespaces = {pod.pod: pod.netns for pod in client.state().pods if pod.netns}
    command = "; ".join(f"nsenter --net={netns} ip -j link" for netns in namespaces.values())
    lines = client.exec(["sh", "-c", command], timeout=60).stdout.splitlines()
    links = ({link["ifname"]: link["address"] for link in json.loads(line)} for line in lines)
    return dict(zip(namespaces, links, strict=True))
