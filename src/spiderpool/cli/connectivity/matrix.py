"""Which questions are put in a connectivity test: a function of its pods, their addresses and the Services."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from spiderpool.core.addresses import version_of_text, with_port

MOST_NODES = 6
"""Other nodes to which each pod puts questions: those that follow its own one, so that every node is asked as well."""
MOST_PARTNERS = 24
"""Others that each pod puts questions to, so that these grow with the pods, and not with their square."""
MOST_QUESTIONS = 50_000
"""Of all pods: beyond that neither pods nor answers come within minutes."""
MOST_OF_POD = 1000
"""Of one pod: they are in an annotation, and all annotations of an object have at most 262,144 bytes."""
OF_PARTNER, OF_SERVICES = 4, 12
"""Questions to another pod, by both protocols in both families, and to Services, by all ways."""
PAYLOAD = 16384
"""Bytes that each question by TCP sends and gets back: several packets, and more than one of any MTU holds."""


class Topic(enum.StrEnum):
    """What questions are about."""

    ADDRESS = "address"
    SAME_NODE = "pod-same-node"
    OTHER_NODE = "pod-other-node"
    SECOND_NETWORK = "second-network"
    TO_NODE = "pod-to-node"
    FROM_NODE = "node-to-pod"
    CLUSTER_IP = "cluster-ip"
    NODE_PORT = "node-port"
    LOAD_BALANCER = "load-balancer"
    DNS = "dns"
    EGRESS = "egress"
    PERFORMANCE = "performance"


NODE_TOPICS = frozenset({Topic.TO_NODE, Topic.FROM_NODE, Topic.NODE_PORT})
"""These need pods on the host network, which stand for nodes."""
TITLES = {
    Topic.ADDRESS: "pod gets its addresses",
    Topic.SAME_NODE: "pod to pod of the same node",
    Topic.OTHER_NODE: "pod to pod of another node",
    Topic.SECOND_NETWORK: "pod with two networks, by either",
    Topic.TO_NODE: "pod to node",
    Topic.FROM_NODE: "node to pod",
    Topic.CLUSTER_IP: "ClusterIP",
    Topic.NODE_PORT: "NodePort",
    Topic.LOAD_BALANCER: "load balancer's address",
    Topic.DNS: "name of a Service",
    Topic.EGRESS: "to outside of the cluster",
    Topic.PERFORMANCE: "throughput and latency",
}


@dataclass(frozen=True, slots=True)
class ProbeInterface:
    """An interface of a pod of the test."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbePod:
    """A pod of the test that has its addresses; one on the host network has those of its node."""

    name: str
    node: str
    network: str
    """As the user names it; empty on the host network."""
    interfaces: tuple[ProbeInterface, ...]

    @property
    def is_host(self) -> bool:
        """Whether it stands for its node."""
        return not self.network

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of all interfaces."""
        return tuple(address for each in self.interfaces for address in each.addresses)

    @property
    def families(self) -> frozenset[int]:
        """The families that it has an address of."""
        return frozenset(map(version_of_text, self.addresses))

    def __str__(self) -> str:
        return f"node {self.node}" if self.is_host else f"{self.network} on {self.node}"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where a server listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return with_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class AskedServices:
    """What there is beside the pods."""

    port: int
    """The port of all pods and of their Service."""
    node_port: int | None = None
    cluster_ips: tuple[str, ...] = ()
    name: str = ""
    """That which is resolved, with its Namespace."""
    balancers: tuple[SocketAddress, ...] = ()
    egress: tuple[SocketAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What one pod does, and which answer is right; an empty set allows any."""

    topic: Topic
    pod: str
    """The pod that puts it."""
    source: str
    target: str
    """Source and target in words."""
    kind: str
    """``tcp``, ``udp``, ``connect``, ``dns`` or ``perf``: see the prober."""
    address: str
    """Of the target, or a name."""
    port: int
    family: int
    nodes: tuple[str, ...]
    """The nodes that take part, the source's first."""
    bind: str | None = None
    answered_by: frozenset[str] = frozenset()
    seen_as: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The question in words."""
        return f"{TITLES[self.topic]}, IPv{self.family}"


def questions(pods: Sequence[ProbePod], services: AskedServices, without: Iterable[Topic] = ()) -> list[Question]:
    """All questions, in the order of their topics."""
    left_out, order = frozenset(without), list(Topic)
    found = (question for each in partners(pods) for question in _of_pod(each, pods, services))
    return sorted((each for each in found if each.topic not in left_out), key=lambda each: order.index(each.topic))


def most_questions(pods: int, outside: int) -> tuple[int, int]:
    """About how many all pods put, and one of them, with so many servers outside."""
    of_pod = min(pods - 1, MOST_PARTNERS) * OF_PARTNER + OF_SERVICES + outside
    return pods * of_pod, of_pod


def performance_pairs(pods: Sequence[ProbePod], services: AskedServices) -> list[Question]:
    """One measurement for each network on the same node and from each node to the next, in each family."""
    found: dict[tuple[object, ...], Question] = {}
    own = [each for each in pods if not each.is_host and len(each.interfaces) == 1]
    for source, target in product(own, own):
        followers = _following(source.node, {each.node for each in own})[:1]
        if source == target or source.network != target.network or target.node not in (source.node, *followers):
            continue
        for address in _reachable(source, target.addresses):
            key = (source.network, source.node, target.node, version_of_text(address))
            found.setdefault(
                key, _question(Topic.PERFORMANCE, source, target, "perf", SocketAddress(address, services.port))
            )
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Partners:
    """Whom a pod may put questions to."""

    pod: ProbePod
    place: int
    """Its own among all pods, from which it begins: so that the samples of several differ."""
    by_node: Mapping[str, Sequence[ProbePod]]
    """Of its own node and of those that follow."""

    @property
    def others(self) -> list[ProbePod]:
        """All of them."""
        return [each for pods in self.by_node.values() for each in pods]

    def sample(self) -> list[ProbePod]:
        """All, or as many as it asks at most, the same ones each time."""
        others = self.others
        if len(others) <= MOST_PARTNERS:
            return others
        first = [each for pods in self.by_node.values() for each in self._of_node(pods)]
        chosen = {each.name for each in first}
        rest = [each for each in others if each.name not in chosen and not each.is_host]
        room = max(MOST_PARTNERS - len(first), 0)
        begin = self.place * room % max(len(rest), 1)
        chosen.update(each.name for each in (*rest[begin:], *rest[:begin])[:room])
        return [each for each in others if each.name in chosen]

    def _of_node(self, pods: Sequence[ProbePod]) -> Iterator[ProbePod]:
        """The node itself, and one of its pods, of the same network if there is one."""
        yield from (each for each in pods if each.is_host and not self.pod.is_host)
        own = [each for each in pods if not each.is_host]
        same = [each for each in own if each.network == self.pod.network] or own
        if same:
            yield same[self.place % len(same)]


def partners(pods: Sequence[ProbePod]) -> Iterator[Partners]:
    """For each pod those that it may ask."""
    by_node: dict[str, list[ProbePod]] = defaultdict(list)
    for pod in pods:
        by_node[pod.node].append(pod)
    for place, pod in enumerate(pods):
        near = (pod.node, *_following(pod.node, by_node))
        # nodes do not ask each other: that is not what this test is about
        yield Partners(
            pod,
            place,
            {
                node: [each for each in by_node[node] if each != pod and not (each.is_host and pod.is_host)]
                for node in near
            },
        )


def left_out(pods: Sequence[ProbePod]) -> str:
    """What the questions of large tests leave out, in words; empty: nothing."""
    counts = [(len(each.sample()), len(each.others)) for each in partners(pods)]
    asked, possible = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    if asked == possible:
        return ""
    return (
        f"of {possible} pairs of pods {asked} were asked, at most {MOST_PARTNERS} by each pod: each node, and a pod of"
        " each node that is near, of its own network where there is one, and some others. To ask them all, take fewer"
        " by --networks, --nodes or --addresses-per-network"
    )


def _of_pod(partners: Partners, pods: Sequence[ProbePod], services: AskedServices) -> Iterator[Question]:
    pod = partners.pod
    for other in partners.sample():
        yield from _to_node(pod, other, services) if other.is_host else _to_pod(pod, other, services)
    yield from _to_services(pod, pods, services)
    for server in services.egress:
        if version_of_text(server.address) in pod.families:
            yield _outside(Topic.EGRESS, pod, server)


def _following(node: str, nodes: Iterable[str]) -> list[str]:
    """The nodes that come after one, in a ring."""
    names = sorted(nodes)
    place = names.index(node)
    return [*names[place + 1 :], *names[:place]][:MOST_NODES]


def _to_pod(pod: ProbePod, other: ProbePod, services: AskedServices) -> Iterator[Question]:
    topic = Topic.SAME_NODE if pod.node == other.node else Topic.OTHER_NODE
    if pod.is_host:
        topic = Topic.FROM_NODE
    elif len(pod.interfaces) > 1 or len(other.interfaces) > 1:
        topic = Topic.SECOND_NETWORK
    for address in _reachable(pod, other.addresses):
        for kind in ("tcp",) if pod.is_host else ("tcp", "udp"):
            asked = _question(topic, pod, other, kind, SocketAddress(address, services.port))
            yield asked if pod.is_host else replace(asked, seen_as=frozenset(pod.addresses))
    if len(pod.interfaces) > 1 and len(other.interfaces) > 1:
        yield from _by_either(pod, other, services)


def _by_either(pod: ProbePod, other: ProbePod, services: AskedServices) -> Iterator[Question]:
    """From each of a pod's addresses to that of the same network."""
    for own, its in zip(pod.interfaces, other.interfaces, strict=False):
        for bind, address in product(own.addresses, its.addresses):
            if version_of_text(bind) == version_of_text(address):
                server = SocketAddress(address, services.port)
                asked = _question(Topic.SECOND_NETWORK, pod, other, "tcp", server)
                yield replace(asked, bind=bind, seen_as=frozenset({bind}))


def _to_node(pod: ProbePod, host: ProbePod, services: AskedServices) -> Iterator[Question]:
    if pod.is_host:
        return
    for address in _reachable(pod, host.addresses):
        asked = _question(Topic.TO_NODE, pod, host, "tcp", SocketAddress(address, services.port))
        yield replace(asked, seen_as=frozenset(pod.addresses))


def _to_services(pod: ProbePod, pods: Sequence[ProbePod], services: AskedServices) -> Iterator[Question]:
    endpoints = frozenset(each.name for each in pods if not each.is_host)
    for address in _reachable(pod, services.cluster_ips):
        for kind in ("tcp",) if pod.is_host else ("tcp", "udp"):
            asked = _question(Topic.CLUSTER_IP, pod, None, kind, SocketAddress(address, services.port))
            yield replace(asked, answered_by=endpoints)
        if not pod.is_host and services.name:
            asked = _question(Topic.DNS, pod, None, "dns", SocketAddress(services.name, 0))
            yield replace(
                asked, family=version_of_text(address), answered_by=frozenset({address}), target=f"name {services.name}"
            )
    yield from _to_node_ports(pod, pods, services, endpoints)
    for server in services.balancers:
        if version_of_text(server.address) in pod.families:
            yield _outside(Topic.LOAD_BALANCER, pod, server)


def _to_node_ports(
    pod: ProbePod, pods: Sequence[ProbePod], services: AskedServices, endpoints: frozenset[str]
) -> Iterator[Question]:
    """By the own node, and by the next one."""
    nodes = (pod.node, *_following(pod.node, {each.node for each in pods})[:1])
    hosts = [each for each in pods if each.is_host and each.node in nodes]
    for host in hosts if services.node_port else ():
        for address in _reachable(pod, host.addresses):
            asked = _question(Topic.NODE_PORT, pod, host, "tcp", SocketAddress(address, services.node_port or 0))
            yield replace(asked, answered_by=endpoints)


def _outside(topic: Topic, pod: ProbePod, server: SocketAddress) -> Question:
    asked = _question(topic, pod, None, "connect", server)
    return replace(asked, target=str(server))


def _question(topic: Topic, pod: ProbePod, other: ProbePod | None, kind: str, server: SocketAddress) -> Question:
    return Question(
        topic=topic,
        pod=pod.name,
        source=str(pod),
        target=f"{other} {server.address}" if other else f"{server}/{kind}",
        kind=kind,
        address=server.address,
        port=server.port,
        family=version_of_text(server.address),
        nodes=tuple(dict.fromkeys((pod.node, *((other.node,) if other else ())))),
        answered_by=frozenset({other.name}) if other else frozenset(),
    )


def _reachable(pod: ProbePod, addresses: Iterable[str]) -> list[str]:
    """The addresses of the families that the pod has."""
    return [each for each in addresses if version_of_text(each) in pod.families]
