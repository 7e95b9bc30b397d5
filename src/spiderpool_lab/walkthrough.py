"""The table of what the walkthrough asks: who asks whom by which protocol, and what must come of it.

East-west is inside the VPC, north-south to and from the internet. Everything is asked in both families where both
ends have both, by ping, TCP and UDP where the far end serves that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from spiderpool_lab import facts, internet
from spiderpool_lab.checks import Check, Question, ask
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact, PodInterface, ServiceFact, of_version
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.topology import ENI, LabNode, Topology, VSwitch

VERSIONS = (4, 6)
HOST_PORTS = {"TCP": 9080, "UDP": 9053}
"""Where the server of examples/alibaba-cloud/host.yaml listens on every node."""

Kind = Literal["ping", "http", "udp"]
KINDS: dict[str, Kind] = {"TCP": "http", "UDP": "udp"}


@dataclass(frozen=True, slots=True)
class Environment:
    """What there is to ask about."""

    topology: Topology
    pods: tuple[PodFact, ...]
    services: dict[str, ServiceFact]

    def endpoints(self, service: ServiceFact, node: str | None = None) -> frozenset[str]:
        """The pods behind a Service, or those of one node."""
        return frozenset(pod.key for pod in self.pods if pod.app == service.app and node in (None, pod.node))


@dataclass(frozen=True, slots=True)
class TrafficSource:
    """Somebody who asks: a node, a pod or the internet; as which addresses it may be seen.

    With ``by_address`` it asks by the first of these, not by what the routes of its place choose.
    """

    name: str
    place: str
    pod: str | None
    addresses: frozenset[str]
    by_address: bool = False

    def asks(self, topic: str, kind: Kind, target: str, port: int = 0, bind: str | None = None) -> Question:
        """A question whose expectation is that there is an answer."""
        where = target if kind == "ping" else f"[{target}]:{port}" if ":" in target else f"{target}:{port}"
        by = f" by {bind}" if bind else ""
        if self.by_address:
            bind = of_version(ip_address(target).version, sorted(self.addresses))[0]
        probe = TrafficProbe(
            kind=kind, source=self.pod, target=target, port=port or 80, bind=bind, count=2, timeout=2.0
        )
        return Question(
            f"{topic}, IPv{ip_address(target).version}", self.place, f"{kind} {self.name}{by} → {where}", probe
        )


def look(cluster: LabCluster) -> Environment:
    """The running cluster as the API server shows it."""
    running = facts.pods(cluster, "--field-selector=status.phase=Running")
    return Environment(cluster.fabric.topology, tuple(running), facts.services(cluster))


def check_addresses(cluster: LabCluster, world: Environment) -> Iterator[Check]:
    """Every interface's addresses are registered on one ENI of its node, whose MAC it has."""
    macs = {pod: links for node in world.topology.nodes for pod, links in _macs(cluster, node).items()}
    for pod in world.pods:
        for interface in pod.interfaces:
            text = f"{pod} {interface.name} {' '.join(interface.addresses)}"
            eni = interface.eni
            yield Check("addresses are registered on one ENI", text, eni is not None, eni.name if eni else "none")
            mac = macs.get(pod.key, {}).get(interface.name, "none")
            yield Check("MAC equals the ENI's", text, eni is not None and mac == eni.mac, mac)


def check(cluster: LabCluster, questions: Iterable[Question]) -> list[Check]:
    """Ask, and see whether the cloud has dropped a frame meanwhile."""
    before = cluster.fabric.counters()
    outcome = ask(cluster, questions)
    return [*outcome, nothing_dropped(cluster, before)]


def nothing_dropped(cluster: LabCluster, before: dict[str, dict[str, int]]) -> Check:
    """The cloud has dropped no frame since."""
    dropped = [
        f"{eni} {rule} {count - before[eni][rule]}"
        for eni, rules in cluster.fabric.counters().items()
        for rule, count in rules.items()
        if count != before[eni][rule]
    ]
    return Check("no frame dropped by the cloud", "all ENIs", not dropped, ", ".join(dropped))


def east_west(world: Environment) -> Iterator[Question]:
    """Pods, nodes and cluster IPs, each with each."""
    yield from pod_to_node(world)
    yield from node_to_pod(world)
    yield from pod_to_pod(world)
    yield from by_eni(world)
    yield from to_cluster_ip(world)
    yield from pod_to_node_port(world)


def north_south(world: Environment) -> Iterator[Question]:
    """Out by the NAT gateway or, in IPv6, by routing; in by the node ports of both nodes."""
    yield from to_internet(world)
    yield from from_internet(world)


# --- east-west


def pod_to_node(world: Environment) -> Iterator[Question]:
    """Every pod reaches every address of every node, and a server on it, which sees the pod's own address."""
    for pod in world.pods:
        asker = pod_asker(pod)
        for node in world.topology.nodes:
            topic = f"pod → {'own' if node.name == pod.node else 'other'} node"
            for target in _common(pod.addresses, (address for eni in node.enis for address in eni.own)):
                yield asker.asks(topic, "ping", target)
                for protocol, port in HOST_PORTS.items():
                    yield _seen_as(asker.asks(topic, KINDS[protocol], target, port), pod.addresses)


def node_to_pod(world: Environment) -> Iterator[Question]:
    """Every node reaches every pod on every address, as a kubelet's probes do."""
    for node in world.topology.nodes:
        asker = _node(node)
        for pod in world.pods:
            topic = "node → own pod, as kubelet probes" if node.name == pod.node else "node → pod of other node"
            for interface in pod.interfaces:
                for target in interface.addresses:
                    yield from _to_pod(asker, topic, pod, target)


def pod_to_pod(world: Environment) -> Iterator[Question]:
    """Every pod reaches every other pod on every address, which sees an address of the asking pod."""
    for source in world.pods:
        for target in (pod for pod in world.pods if pod != source):
            for interface in target.interfaces:
                topic = _relation(source, target, interface)
                for address in _common(source.addresses, interface.addresses):
                    yield pod_asker(source).asks(topic, "ping", address)
                    for question in _to_pod(pod_asker(source), topic, target, address):
                        yield _seen_as(question, source.addresses)


def by_eni(world: Environment) -> Iterator[Question]:
    """A pod with two ENIs that asks by one of its addresses is seen by that address, in its own subnet and beyond."""
    for pod in (pod for pod in world.pods if len(pod.interfaces) > 1):
        for interface in pod.interfaces:
            for node in (node for node in world.topology.nodes if node.name != pod.node):
                for bind in interface.addresses:
                    for target in of_version(ip_address(bind).version, (own for eni in node.enis for own in eni.own)):
                        topic = "pod with two ENIs, by either"
                        question = pod_asker(pod).asks(topic, "http", target, HOST_PORTS["TCP"], bind)
                        yield _seen_as(question, frozenset({bind}))


def to_cluster_ip(world: Environment) -> Iterator[Question]:
    """Every pod and node reaches every endpoint of a Service, on its own node and on the other, by its cluster IP."""
    for service in (service for service in world.services.values() if not service.node_ports):
        for asker in _inside(world):
            topic = f"{'pod' if asker.pod else 'node'} → ClusterIP, every endpoint"
            for address in _common(asker.addresses, service.addresses):
                for protocol, port in service.ports.items():
                    yield _by(asker.asks(topic, KINDS[protocol], address, port), world.endpoints(service))


def pod_to_node_port(world: Environment) -> Iterator[Question]:
    """Every pod reaches every endpoint by the node port of either node, and with policy Local those of that node."""
    for service in (service for service in world.services.values() if service.node_ports):
        for pod in world.pods:
            for node in world.topology.nodes:
                topic = f"pod → node port of {'own' if node.name == pod.node else 'other'} node, {_policy(service)}"
                for eni in node.enis:
                    yield from _to_node_port(world, pod_asker(pod), topic, node, service, eni.own)


# --- north-south


def to_internet(world: Environment) -> Iterator[Question]:
    """Every pod and node is seen by the address of its vSwitch or its own elastic one; in IPv6 by its own."""
    for pod in world.pods:
        default = pod.interface(pod.default_interface)
        yield from _outwards(pod_asker(pod), "pod → internet", world, default.eni, default.addresses)
        for interface in pod.interfaces if len(pod.interfaces) > 1 else ():
            for bind in interface.addresses:
                topic = "pod with two ENIs → internet, by either"
                yield from _outwards(pod_asker(pod), topic, world, interface.eni, interface.addresses, bind)
    for node in world.topology.nodes:
        yield from _outwards(_node(node), "node → internet", world, node.enis[0], node.enis[0].own)


def from_internet(world: Environment) -> Iterator[Question]:
    """A client on the internet reaches the node ports of both nodes by either ENI; with Local the pod sees it."""
    asker = internet_client(world.topology)
    for service in (service for service in world.services.values() if service.node_ports):
        for node in world.topology.nodes:
            for eni in node.enis:
                topic = f"internet → node port by {eni.name}, {_policy(service)}"
                yield from _to_node_port(world, asker, topic, node, service, public_addresses(eni))


def public_addresses(eni: ENI) -> tuple[str, ...]:
    """Where the internet finds a server by an ENI: the elastic address, and the IPv6 address itself."""
    return (*filter(None, [eni.elastic]), *of_version(6, eni.own))


def internet_client(topology: Topology) -> TrafficSource:
    """The client on the internet."""
    return TrafficSource(internet.NAME, internet.NAME, None, frozenset(topology.internet.client), by_address=True)


def _outwards(
    asker: TrafficSource, topic: str, world: Environment, eni: ENI | None, own: Iterable[str], bind: str | None = None
) -> Iterator[Question]:
    own = tuple(own)
    for target in _common([bind] if bind else own, world.topology.internet.server):
        version = ip_address(target).version
        seen_as = _outside_address(eni, own) if version == 4 else of_version(6, own)[0]
        if not bind:
            yield asker.asks(topic, "ping", target)
        for kind, port in (("http", 80), ("udp", 53)):
            question = asker.asks(topic, "http" if kind == "http" else "udp", target, port, bind)
            yield _by(_seen_as(question, frozenset({seen_as})), frozenset({internet.NAME}))


def _outside_address(eni: ENI | None, own: Iterable[str]) -> str:
    """As what the IPv4 address among an ENI's is seen outside: the server's own as the elastic one, if there is one."""
    if eni is None:
        return ""
    return (eni.elastic if eni.address in own else eni.vswitch.nat) or ""


# --- common parts


def _to_pod(asker: TrafficSource, topic: str, pod: PodFact, target: str) -> Iterator[Question]:
    for port in sorted(pod.ports):
        protocol, _, number = port.partition("/")
        yield _by(asker.asks(topic, KINDS[protocol], target, int(number)), frozenset({pod.key}))


def _to_node_port(
    world: Environment, asker: TrafficSource, topic: str, node: LabNode, service: ServiceFact, addresses: Iterable[str]
) -> Iterator[Question]:
    """With policy Local the pods of that node answer, and they see who asks; itself a pod asks as its node."""
    endpoints = world.endpoints(service, node.name if service.local else None)
    seen_as = asker.addresses | (_node(node).addresses if asker.pod in endpoints else frozenset())
    for address in _common(asker.addresses, addresses):
        for protocol, port in service.node_ports.items():
            question = _by(asker.asks(topic, KINDS[protocol], address, port), endpoints)
            yield _seen_as(question, seen_as) if service.local else question


def pod_asker(pod: PodFact) -> TrafficSource:
    """A pod that asks by what its routes choose."""
    return TrafficSource(str(pod), pod.node, pod.key, pod.addresses)


def _node(node: LabNode) -> TrafficSource:
    return TrafficSource(node.name, node.name, None, frozenset(own for eni in node.enis for own in eni.own))


def _inside(world: Environment) -> list[TrafficSource]:
    return [*map(pod_asker, world.pods), *map(_node, world.topology.nodes)]


def _seen_as(question: Question, addresses: frozenset[str]) -> Question:
    return replace(question, expected=replace(question.expected, seen_as=addresses))


def _by(question: Question, pods: frozenset[str]) -> Question:
    return replace(question, expected=replace(question.expected, by=pods))


def _common(own: Iterable[str], targets: Iterable[str]) -> Iterator[str]:
    """Targets of a family that who asks has as well."""
    versions = {ip_address(address).version for address in own}
    return (target for target in targets if ip_address(target).version in versions)


def _vswitches(pod: PodFact) -> list[VSwitch]:
    return [interface.eni.vswitch for interface in pod.interfaces if interface.eni]


def _policy(service: ServiceFact) -> str:
    return "Local, client's address kept" if service.local else "Cluster, every endpoint"


def _relation(source: PodFact, target: PodFact, interface: PodInterface) -> str:
    place = "same node" if source.node == target.node else "other node"
    subnet = "same" if interface.eni and interface.eni.vswitch in _vswitches(source) else "other"
    return f"pod → pod, {place}, {subnet} subnet"


def _macs(cluster: LabCluster, node: LabNode) -> dict[str, dict[str, str]]:
    """MACs by pod and interface, asked of all pods of a node by one command."""
    client = cluster.machines.client(node.name)
    namespaces = {pod.pod: pod.netns for pod in client.state().pods if pod.netns}
    command = "; ".join(f"nsenter --net={netns} ip -j link" for netns in namespaces.values())
    lines = client.exec(["sh", "-c", command], timeout=60).stdout.splitlines()
    links = ({link["ifname"]: link["address"] for link in json.loads(line)} for line in lines)
    return dict(zip(namespaces, links, strict=True))
