"""Checks of what must fail: traffic that the cloud drops, and traffic that needs a part of ours that is taken away.

Each shows the cause by the cloud's counters, and that the traffic passes once the cause is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from spiderpool_lab import facts
from spiderpool_lab.checks import Check, CheckResult, run_checks
from spiderpool_lab.cluster import EXAMPLE, LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.topology import ENI
from spiderpool_lab.walkthrough import Environment, internet_source, pod_source, public_addresses

MANIFESTS = EXAMPLE / "proofs"

UNANSWERED_TIMEOUT = 0.5
"""Seconds for each of two probes that must stay without an answer: an answer in the lab takes milliseconds."""

REMOVE_MARK_RULES = """
for family in iptables ip6tables; do
    $family-legacy-save -t mangle > /run/tmp/marks.$family
    $family-legacy -t mangle -F
done
if nft list table inet spiderpool > /run/tmp/marks.nft 2> /dev/null; then nft delete table inet spiderpool; fi
"""
RESTORE_MARK_RULES = """
for family in iptables ip6tables; do $family-legacy-restore -T mangle < /run/tmp/marks.$family; done
if [ -s /run/tmp/marks.nft ]; then nft -f /run/tmp/marks.nft; fi
"""


def macvlan(cluster: LabCluster) -> Iterator[CheckResult]:
    """A pod with a MAC of its own does not get out of its node, although its address is registered.

    To be run while there are no ipvlan pods: an ENI cannot carry both.
    """
    master, worker = cluster.fabric.topology.nodes
    eni = master.enis[1]
    beyond = (eni.vswitch.gateway, worker.enis[1].address, cluster.fabric.topology.internet.server[0])
    with _running_pod(cluster, "macvlan") as pod, _registered(cluster, eni, pod):
        before = cluster.fabric.counters()
        inside, outside = _pings(pod, "→ own node", eni.own_addresses), _pings(pod, "↛ beyond it", beyond)
        yield from run_checks(cluster, [*inside, *_unanswered(outside)])
        yield _dropped(cluster, before, eni, "macvlan", "spoof_mac")


def unregistered(cluster: LabCluster, environment: Environment) -> Iterator[CheckResult]:
    """A pod whose addresses are not registered reaches its own node alone, and more once they are registered."""
    master, worker = cluster.fabric.topology.nodes
    eni = master.enis[0]
    neighbour = next(pod for pod in environment.pods if pod.node == master.name and pod.interfaces[0].eni == eni)
    near = (*eni.own_addresses, *neighbour.interfaces[0].addresses)
    beyond = (
        *worker.enis[0].own_addresses,
        *(config.gateway for config in eni.address_configs),
        *cluster.fabric.topology.internet.server,
    )
    with _running_pod(cluster, "unregistered") as pod:
        before = cluster.fabric.counters()
        inside, outside = _pings(pod, "→ own node, pod beside", near), _pings(pod, "↛ beyond its node", beyond)
        yield from run_checks(cluster, [*inside, *_unanswered(outside)])
        yield _dropped(cluster, before, eni, "unregistered", "spoof_arp", "spoof_ip6")
        with _registered(cluster, eni, pod):
            yield from run_checks(cluster, _pings(pod, "→ beyond its node, once registered", beyond))
        before = cluster.fabric.counters()
        yield from run_checks(cluster, _unanswered(_pings(pod, "↛ beyond its node, no more registered", beyond)))
        yield _dropped(cluster, before, eni, "no more registered", "spoof_ip", "spoof_ip6")


def mark_rules(cluster: LabCluster, environment: Environment) -> Iterator[CheckResult]:
    """Without the mark rules in the pod, its answers to clients of a Service with policy Local are lost."""
    node = cluster.fabric.topology.nodes[-1]
    services = environment.services.values()
    service = next(service for service in services if service.local and service.app == "test-app-2")
    pod = next(pod for pod in environment.pods if pod.app == service.app and pod.node == node.name)
    client, port = internet_source(cluster.fabric.topology), service.node_ports["TCP"]

    def requests(topic: str) -> list[Check]:
        return [client.check(topic, "http", target, port) for target in public_addresses(node.enis[0])]

    before = cluster.fabric.strays()
    with _without_mark_rules(cluster, pod):
        yield from run_checks(cluster, _unanswered(requests("internet ↛ node port Local, mark rules taken away")))
    strays = cluster.fabric.strays() - before
    yield CheckResult("answers past the node are dropped by the router", str(pod), strays > 0, f"{strays} dropped")
    yield from run_checks(cluster, requests("internet → node port Local, mark rules put back"))


def _pings(pod: PodFact, topic: str, targets: Iterable[str]) -> list[Check]:
    """Pings to the targets of the families that the pod has."""
    has_ipv6 = {":" in address for address in pod.addresses}
    source = pod_source(pod)
    return [source.check(f"{pod.app} pod {topic}", "ping", target) for target in targets if (":" in target) in has_ipv6]


def _unanswered(checks: Iterable[Check]) -> list[Check]:
    """The same checks, expecting no answer within a short time."""
    return [
        replace(
            check,
            probe=msgspec.structs.replace(check.probe, count=2, timeout=UNANSWERED_TIMEOUT),
            expected=replace(check.expected, answered=False),
        )
        for check in checks
    ]


def _dropped(cluster: LabCluster, before: dict[str, dict[str, int]], eni: ENI, topic: str, *rules: str) -> CheckResult:
    """Check that each of these rules has dropped frames of the ENI since its counters were as ``before``."""
    name = f"{cluster.fabric.topology.owner(eni).name}/{eni.name}"
    dropped = {
        (port, rule): count - before[port][rule]
        for port, counts in cluster.fabric.counters().items()
        for rule, count in counts.items()
        if count > before[port][rule]
    }
    detail = ", ".join(f"{port} {rule} {count}" for (port, rule), count in dropped.items())
    expected = {(name, rule) for rule in rules}
    return CheckResult(
        f"{topic}: dropped by the cloud for that reason", name, expected <= set(dropped), detail or "nothing"
    )


@contextmanager
def _running_pod(cluster: LabCluster, name: str) -> Iterator[PodFact]:
    """The running pod of a manifest, deleted afterwards with everything in the manifest."""
    manifest = MANIFESTS / f"{name}.yaml"
    cluster.plane.apply(manifest)
    try:
        cluster.wait_for(f"pod {name} is Running", lambda: _pods_of(cluster, name), 120)
        yield _pods_of(cluster, name)[0]
    finally:
        cluster.plane.kubectl("delete", "pod", name, "--timeout=60s", "--ignore-not-found")
        cluster.plane.kubectl("delete", "--filename", str(manifest), "--timeout=30s", "--ignore-not-found")


def _pods_of(cluster: LabCluster, app: str) -> list[PodFact]:
    return facts.running_pods(cluster, f"--selector=app={app}")


@contextmanager
def _registered(cluster: LabCluster, eni: ENI, pod: PodFact) -> Iterator[None]:
    """The fabric lets the ENI send from the pod's addresses while the context lasts."""
    for address in pod.addresses:
        cluster.fabric.register(eni, address)
    try:
        yield
    finally:
        for address in pod.addresses:
            cluster.fabric.unregister(eni, address)


@contextmanager
def _without_mark_rules(cluster: LabCluster, pod: PodFact) -> Iterator[None]:
    """The pod has no mark rules while the context lasts; afterwards it has those again that it had."""
    client = cluster.machines.client(pod.node)
    client.exec(["sh", "-c", REMOVE_MARK_RULES], pod=pod.key)
    try:
        yield
    finally:
        client.exec(["sh", "-c", RESTORE_MARK_RULES], pod=pod.key)
