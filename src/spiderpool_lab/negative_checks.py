"""Proofs by the contrary: what the cloud drops, and what fails when a part of ours is taken away.

Each shows by the cloud's counters why it fails, and that it works once the cause is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from spiderpool_lab import facts
from spiderpool_lab.checks import Check, Question, ask
from spiderpool_lab.cluster import SOURCE_TREE, LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.topology import ENI
from spiderpool_lab.walkthrough import Environment, internet_client, pod_asker, public_addresses

MANIFESTS = SOURCE_TREE / "examples" / "alibaba-cloud" / "proofs"

TAKE_MARKS_AWAY = """
for family in iptables ip6tables; do
    $family-legacy-save -t mangle > /run/tmp/marks.$family
    $family-legacy -t mangle -F
done
if nft list table inet spiderpool > /run/tmp/marks.nft 2> /dev/null; then nft delete table inet spiderpool; fi
"""
PUT_MARKS_BACK = """
for family in iptables ip6tables; do $family-legacy-restore -T mangle < /run/tmp/marks.$family; done
if [ -s /run/tmp/marks.nft ]; then nft -f /run/tmp/marks.nft; fi
"""


def macvlan(cluster: LabCluster) -> Iterator[Check]:
    """A pod with a MAC of its own does not get out of its node, though the cloud knows its address.

    To be played while there are no ipvlan pods: an ENI cannot carry both.
    """
    master, worker = cluster.fabric.topology.nodes
    eni = master.enis[1]
    beyond = (eni.vswitch.gateway, worker.enis[1].address, cluster.fabric.topology.internet.server[0])
    with _running(cluster, "macvlan") as pod, _registered(cluster, eni, pod):
        before = cluster.fabric.counters()
        yield from ask(cluster, [*_pings(pod, "→ own node", eni.own), *_in_vain(_pings(pod, "↛ beyond it", beyond))])
        yield _dropped(cluster, before, eni, "macvlan", "spoof_mac")


def unregistered(cluster: LabCluster, world: Environment) -> Iterator[Check]:
    """A pod with addresses that the cloud does not know reaches its own node alone, until they are registered."""
    master, worker = cluster.fabric.topology.nodes
    eni = master.enis[0]
    beside = next(pod for pod in world.pods if pod.node == master.name and pod.interfaces[0].eni == eni)
    near = (*eni.own, *beside.interfaces[0].addresses)
    beyond = (
        *worker.enis[0].own,
        *(leg.gateway for leg in eni.legs),
        *cluster.fabric.topology.internet.server,
    )
    with _running(cluster, "unregistered") as pod:
        before = cluster.fabric.counters()
        inside, outside = _pings(pod, "→ own node, pod beside", near), _pings(pod, "↛ beyond its node", beyond)
        yield from ask(cluster, [*inside, *_in_vain(outside)])
        yield _dropped(cluster, before, eni, "unregistered", "spoof_arp", "spoof_ip6")
        with _registered(cluster, eni, pod):
            yield from ask(cluster, _pings(pod, "→ beyond its node, once registered", beyond))
        before = cluster.fabric.counters()
        yield from ask(cluster, _in_vain(_pings(pod, "↛ beyond its node, no more registered", beyond)))
        yield _dropped(cluster, before, eni, "no more registered", "spoof_ip", "spoof_ip6")


def marks(cluster: LabCluster, world: Environment) -> Iterator[Check]:
    """Without the mark rules in the pod, its answers to clients of a Service with policy Local go astray."""
    node = cluster.fabric.topology.nodes[-1]
    service = next(service for service in world.services.values() if service.local and service.app == "test-app-2")
    pod = next(pod for pod in world.pods if pod.app == service.app and pod.node == node.name)
    client, port = internet_client(cluster.fabric.topology), service.node_ports["TCP"]

    def knocks(topic: str) -> list[Question]:
        return [client.asks(topic, "http", target, port) for target in public_addresses(node.enis[0])]

    before = cluster.fabric.strays()
    with _without_marks(cluster, pod):
        yield from ask(cluster, _in_vain(knocks("internet ↛ node port Local, mark rules taken away")))
    strays = cluster.fabric.strays() - before
    yield Check("answers past the node are dropped by the router", str(pod), strays > 0, f"{strays} dropped")
    yield from ask(cluster, knocks("internet → node port Local, mark rules put back"))


def _pings(pod: PodFact, topic: str, targets: Iterable[str]) -> list[Question]:
    versions = {":" in address for address in pod.addresses}
    asker = pod_asker(pod)
    return [asker.asks(f"{pod.app} pod {topic}", "ping", target) for target in targets if (":" in target) in versions]


def _in_vain(questions: Iterable[Question]) -> list[Question]:
    """The same questions, which are to stay without an answer: not asked for long."""
    return [
        replace(
            question,
            probe=msgspec.structs.replace(question.probe, count=2, timeout=0.5),
            expected=replace(question.expected, answered=False),
        )
        for question in questions
    ]


def _dropped(cluster: LabCluster, before: dict[str, dict[str, int]], eni: ENI, topic: str, *rules: str) -> Check:
    """Each of these rules has dropped frames of the ENI since, and no other rule or ENI has dropped any."""
    name = f"{cluster.fabric.topology.owner(eni).name}/{eni.name}"
    more = {
        (port, rule): count - before[port][rule]
        for port, counts in cluster.fabric.counters().items()
        for rule, count in counts.items()
        if count > before[port][rule]
    }
    told = ", ".join(f"{port} {rule} {count}" for (port, rule), count in more.items())
    wanted = {(name, rule) for rule in rules}
    return Check(f"{topic}: dropped by the cloud for that reason", name, wanted <= set(more), told or "nothing")


@contextmanager
def _running(cluster: LabCluster, name: str) -> Iterator[PodFact]:
    """The pod of a manifest and what it needs, and nothing of it afterwards."""
    manifest = MANIFESTS / f"{name}.yaml"
    cluster.plane.apply(manifest)
    try:
        cluster.wait_for(f"pod {name} is Running", lambda: _found(cluster, name), 60)
        yield _found(cluster, name)[0]
    finally:
        cluster.plane.kubectl("delete", "pod", name, "--timeout=30s", "--ignore-not-found")
        cluster.plane.kubectl("delete", "--filename", str(manifest), "--timeout=30s", "--ignore-not-found")


def _found(cluster: LabCluster, name: str) -> list[PodFact]:
    return facts.pods(cluster, f"--selector=app={name}", "--field-selector=status.phase=Running")


@contextmanager
def _registered(cluster: LabCluster, eni: ENI, pod: PodFact) -> Iterator[None]:
    """The cloud knows the pod's addresses as the ENI's."""
    for address in pod.addresses:
        cluster.fabric.register(eni, address)
    try:
        yield
    finally:
        for address in pod.addresses:
            cluster.fabric.unregister(eni, address)


@contextmanager
def _without_marks(cluster: LabCluster, pod: PodFact) -> Iterator[None]:
    """The pod has no packet marks; afterwards it has those again that it had."""
    client = cluster.machines.client(pod.node)
    client.exec(["sh", "-c", TAKE_MARKS_AWAY], pod=pod.key)
    try:
        yield
    finally:
        client.exec(["sh", "-c", PUT_MARKS_BACK], pod=pod.key)
