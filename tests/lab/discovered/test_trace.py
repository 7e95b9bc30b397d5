"""`spiderpoolctl trace` against what happens: whom servers see, and what gets no answer, in a whole lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from spiderpool.cli.main import cli
from spiderpool_lab import walkthrough
from spiderpool_lab.alibaba.metadata import ADDRESS as METADATA
from spiderpool_lab.cluster import EXAMPLE, LabCluster
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.walkthrough import Environment
from tests.lab.discovered.applications import PATIENCE, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

TRIES = 6
"""Connections to one target: kube-proxy chooses among its endpoints."""


AGENTS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: spiderpool-agent, namespace: kube-system, labels: {app.kubernetes.io/component: spiderpool-agent}}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: spiderpool-agent}}
  template:
    metadata: {labels: {app.kubernetes.io/component: spiderpool-agent}}
    spec:
      nodeSelector: {nodes-of-this-lab: run-agents-as-processes}
      containers: [{name: agent, image: agent, env: [{name: SPIDERPOOL_TUNE_NODE, value: "true"}]}]
"""
"""What a cluster says of its agents' settings, as the lab's are: its agents are processes."""


@pytest.fixture(scope="module")
def environment(cluster: LabCluster) -> Iterator[Environment]:
    """The pods and Services of the walkthrough."""
    manifests = [EXAMPLE / f"{name}.yaml" for name in ("apps", "two-cards", "services")]
    with running(cluster, *manifests, AGENTS, pods=8):
        environment = walkthrough.observe(cluster)
        cluster.wait_for("kube-proxy serves", lambda: walkthrough.services_answer(cluster, environment), PATIENCE)
        yield environment
        cluster.plane.kubectl("delete", "daemonset", "spiderpool-agent", "--namespace", "kube-system")


def trace(cluster: LabCluster, *words: str) -> dict[str, Any]:
    """The answer of the command."""
    result = CliRunner().invoke(
        cli, ["trace", *words, "-o", "json", "--kubeconfig", str(cluster.plane.admin_kubeconfig)]
    )
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if found["outcome"].startswith("goes through") else 1)
    return found


def answers(cluster: LabCluster, place: str, source: str | None, target: str, port: int) -> list[Answer]:
    probe = TrafficProbe(kind="http", target=target, source=source, port=port, count=2, timeout=2.0)
    return cluster.probe(place, [probe] * TRIES)


def targets(environment: Environment) -> list[tuple[str, str, str, int]]:
    """Node and pod, address and port, of each kind of way: a dozen and more."""
    client, *others = environment.pods
    found = [(address, 80) for pod in others for address in sorted(pod.addresses) if "." in address]
    nodes = [eni.own_addresses[0] for node in environment.topology.nodes for eni in node.enis]
    for service in environment.services.values():
        ports = [service.ports[each] for each in ("TCP",) if each in service.ports]
        found += [(address, port) for address in service.addresses if "." in address for port in ports]
        found += [(address, service.node_ports[each]) for address in nodes for each in ("TCP",) if service.node_ports]
    return [(client.node, client.key, address, port) for address, port in found]


def test_servers_see_whom_the_trace_says(cluster: LabCluster, environment: Environment) -> None:
    differ, compared = [], 0
    for node, pod, address, port in targets(environment):
        found = trace(cluster, pod, f"{address}:{port}")
        expected = {path["seen_as"] for path in found["paths"] if not path["drop"] and not path["unknown"]}
        got = answers(cluster, node, pod, address, port)
        seen = {json.loads(each.body)["client"] for each in got if each.ok}
        compared += bool(seen)
        fits = seen <= expected and bool(seen) == bool(expected)
        differ += [] if fits else [f"{pod} → {address}:{port}: {seen}, by the trace {expected}: {found['drop']}"]
    assert differ == []
    assert compared >= 12


def test_what_is_dropped_gets_no_answer(cluster: LabCluster, environment: Environment) -> None:
    pod = environment.pods[0]
    found = trace(cluster, pod.key, f"{METADATA}:80")
    assert "is the metadata service" in found["drop"]["reason"]
    assert not any(each.ok for each in answers(cluster, pod.node, pod.key, str(METADATA), 80))
    assert any(each.ok for each in answers(cluster, pod.node, None, str(METADATA), 80))
    assert trace(cluster, "--from-node", pod.node, f"{METADATA}:80")["outcome"] == "goes through"
