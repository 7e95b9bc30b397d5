"""Questions to a running lab, with pass or fail: what the walkthrough checks by hand, and all pairs of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spiderpool.lab.cluster import Cluster
from spiderpool.lab.probes import Answer, Probe
from spiderpool.lab.topology import Card

ROUNDS, PROBES_A_ROUND = 4, 6
"""A Service with two endpoints hides one in 24 answers with probability 2⁻²³."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its outcome."""

    topic: str
    question: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PodFact:
    """A running pod as the API server shows it."""

    key: str
    app: str
    node: str
    address: str

    def __str__(self) -> str:
        return f"{self.key.partition('/')[2]} ({self.address}, {self.node})"


@dataclass(frozen=True, slots=True)
class Question:
    """A probe from one node, and what it stands for."""

    topic: str
    node: str
    text: str
    probe: Probe


def pods(cluster: Cluster, *arguments: str) -> list[PodFact]:
    """The pods that have an address."""
    return [
        PodFact(
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}",
            pod["metadata"].get("labels", {}).get("app", ""),
            pod["spec"]["nodeName"],
            pod["status"]["podIP"],
        )
        for pod in cluster.objects("pods", *arguments)
        if pod["status"].get("podIP")
    ]


def card_of(cluster: Cluster, pod: PodFact) -> Card | None:
    """The card of the pod's node that the pod's address is registered on."""
    cards = cluster.fabric.topology.node(pod.node).cards
    return next((card for card in cards if pod.address in card.secondaries), None)


def east_west(cluster: Cluster, running: list[PodFact], service: str) -> Iterator[Check]:
    """All checks inside the cluster; the Service is in front of pods with app ``test-app-1``."""
    yield from addresses(cluster, running)
    yield from ask(cluster, [*pod_to_node(cluster, running), *node_to_pod(cluster, running), *pod_to_pod(running)])
    yield from cluster_ip(cluster, running, service)
    yield nothing_dropped(cluster)


def addresses(cluster: Cluster, running: list[PodFact]) -> Iterator[Check]:
    """Every pod's address is registered on a card of its node, and its MAC is that card's."""
    for pod in running:
        card = card_of(cluster, pod)
        yield Check(
            "address is registered on the node's card", str(pod), card is not None, card.name if card else "none"
        )
        mac = _mac(cluster, pod)
        yield Check("MAC equals the card's", str(pod), card is not None and mac == card.mac, mac)


def pod_to_node(cluster: Cluster, running: list[PodFact]) -> Iterator[Question]:
    """Every pod reaches every address of every node."""
    for pod in running:
        for node in cluster.fabric.topology.nodes:
            for card in node.cards:
                topic = "pod → own node" if node.name == pod.node else "pod → other node"
                text = f"{pod} → {node.name} {card.name} {card.address}"
                yield Question(topic, pod.node, text, Probe(kind="ping", source=pod.key, target=card.address))


def node_to_pod(cluster: Cluster, running: list[PodFact]) -> Iterator[Question]:
    """Every node reaches every pod."""
    for node in cluster.fabric.topology.nodes:
        for pod in running:
            topic = "node → own pod" if node.name == pod.node else "node → pod of other node"
            yield Question(topic, node.name, f"{node.name} → {pod}", Probe(kind="http", target=pod.address))


def pod_to_pod(running: list[PodFact]) -> Iterator[Question]:
    """Every pod reaches every other pod, by ping and by HTTP."""
    for source in running:
        for target in (pod for pod in running if pod != source):
            for kind in ("ping", "http"):
                probe = Probe(kind=kind, source=source.key, target=target.address)
                yield Question(_relation(source, target), source.node, f"{kind} {source} → {target}", probe)


def ask(cluster: Cluster, questions: Iterable[Question]) -> Iterator[Check]:
    """Ask all questions of a node at once."""
    by_node: dict[str, list[Question]] = {}
    for question in questions:
        by_node.setdefault(question.node, []).append(question)
    for node, asked in by_node.items():
        answers = cluster.machines.client(node).probe([question.probe for question in asked])
        for question, answer in zip(asked, answers, strict=True):
            yield Check(question.topic, question.text, answer.ok, answer.error)


def cluster_ip(cluster: Cluster, running: list[PodFact], service: str) -> Iterator[Check]:
    """Every pod reaches every endpoint of the Service by its cluster IP."""
    address = json.loads(cluster.plane.kubectl("get", "service", service, "-o", "json"))["spec"]["clusterIP"]
    endpoints = {pod.key for pod in running if pod.app == "test-app-1"}
    for pod in running:
        reached, error = _endpoints_reached(cluster, pod, address, len(endpoints))
        yield Check("pod → ClusterIP, every endpoint", f"{pod} → {address}", reached == endpoints, error)


def nothing_dropped(cluster: Cluster) -> Check:
    """The cloud has dropped no frame of ours."""
    dropped = {
        f"{port} {rule}": n for port, rules in cluster.fabric.counters().items() for rule, n in rules.items() if n
    }
    return Check(
        "no frame dropped by the cloud", "all cards", not dropped, ", ".join(f"{k}: {n}" for k, n in dropped.items())
    )


def _endpoints_reached(cluster: Cluster, pod: PodFact, address: str, wanted: int) -> tuple[set[str], str]:
    reached: set[str] = set()
    error = ""
    for _ in range(ROUNDS):
        probe = Probe(kind="http", source=pod.key, target=address)
        for answer in cluster.machines.client(pod.node).probe([probe] * PROBES_A_ROUND):
            error = error or answer.error
            reached |= _answering_pod(answer)
        if len(reached) >= wanted:
            break
    return reached, error


def _answering_pod(answer: Answer) -> set[str]:
    return {json.loads(answer.body)["pod"]} if answer.ok else set()


def _relation(source: PodFact, target: PodFact) -> str:
    place = "same node" if source.node == target.node else "other node"
    return f"pod → pod, {place}, {'same' if source.app == target.app else 'other'} subnet"


def _mac(cluster: Cluster, pod: PodFact) -> str:
    outcome = cluster.machines.client(pod.node).exec(["ip", "-j", "link", "show", "dev", "eth0"], pod=pod.key)
    return str(json.loads(outcome.stdout)[0]["address"]) if outcome.rc == 0 else outcome.stderr.strip()
