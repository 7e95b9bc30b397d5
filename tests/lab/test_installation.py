"""What follows an installation by the chart on real nodes: an upgrade, a removal, and another installation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from spiderpool_lab.chart import RELEASE
from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from spiderpool_lab.machines import NodeHardware
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.topology import NodeKind
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""
INTERVAL = 0.1
"""Seconds between two probes."""
APPLICATION = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: app}}
      containers:
      - name: web
        image: docker.io/centos/tools
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{port: 80}]
"""
OF_THE_RELEASE = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,roles,rolebindings,serviceaccounts,secrets,configmaps,"
    "services,daemonsets,deployments,jobs,pods,leases"
)


@dataclass
class Prober:
    """Requests from one node to each pod and to the Service, all the time."""

    sent: int = 0
    lost: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """A cluster in which the product was installed by its chart, and an application with a pod on each node."""
    options = LabOptions(discovery=True, nodes=NodeKind.REAL, hardware=NodeHardware(memory="2G"), by_chart=True)
    with temporary(lab_name("chart"), options) as cluster:
        cluster.plane.apply(APPLICATION)
        cluster.wait_for("the application runs", lambda: len(running(cluster)) == 2, PATIENCE)
        yield cluster


def running(cluster: LabCluster) -> dict[str, list[str]]:
    """The addresses of the application's pods that are ready, by name."""
    return {
        pod["metadata"]["name"]: [entry["ip"] for entry in pod["status"]["podIPs"]]
        for pod in cluster.objects("pods", "--selector", "app=app")
        if "deletionTimestamp" not in pod["metadata"]
        and any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions", []))
    }


@contextmanager
def probing(cluster: LabCluster) -> Iterator[Prober]:
    """Probe while the context lasts."""
    (service,) = cluster.objects("services", "--field-selector", "metadata.name=app")
    targets = [service["spec"]["clusterIP"], *(address for found in running(cluster).values() for address in found)]
    probes = [TrafficProbe(kind="http", target=target, port=80, timeout=2.0) for target in targets]
    client, prober, ended = cluster.machines.client("worker"), Prober(), threading.Event()

    def work() -> None:
        while not ended.wait(INTERVAL):
            for probe, answer in zip(probes, client.probe(probes), strict=True):
                prober.sent += 1
                if not answer.ok:
                    prober.lost.append(f"{probe.target}: {answer}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield prober
    finally:
        ended.set()
        thread.join(PATIENCE)


def agents(cluster: LabCluster) -> set[str]:
    selector = "app.kubernetes.io/component=spiderpool-agent"
    found = cluster.objects("pods", "--namespace", "kube-system", "--selector", selector)
    return {pod["metadata"]["uid"] for pod in found}


def left(cluster: LabCluster) -> list[str]:
    """What is of the release, by its labels."""
    selector = f"app.kubernetes.io/instance={RELEASE}"
    return cluster.plane.kubectl("get", OF_THE_RELEASE, "--all-namespaces", "-l", selector, "-o", "name").split()


def files(cluster: LabCluster, node: str) -> str:
    """The files in the folders of CNI on a node."""
    command = ["find", str(CNI_EXECUTABLES), str(CNI_CONFIGURATION), "-type", "f"]
    return cluster.machines.client(node).exec(command, timeout=30).stdout


def test_an_upgrade_replaces_agents_while_pods_keep_addresses_and_traffic(cluster: LabCluster) -> None:
    before, former = running(cluster), agents(cluster)
    with probing(cluster) as prober:
        cluster.installation.upgrade("--set", "spiderpoolAgent.podAnnotations.upgrade=second")
        cluster.installation.wait()
    assert agents(cluster).isdisjoint(former)
    assert running(cluster) == before
    assert prober.sent > 10
    assert prober.lost == []
    cluster.plane.kubectl("scale", "deployment", "app", "--replicas=4")
    cluster.wait_for("new pods run", lambda: len(running(cluster)) == 4, PATIENCE)
    cluster.plane.kubectl("scale", "deployment", "app", "--replicas=2")
    cluster.wait_for("their addresses are free", lambda: len(cluster.objects("spiderips")) == len(before) * 2, PATIENCE)


def test_after_a_removal_and_another_installation_pods_have_their_addresses_and_traffic(cluster: LabCluster) -> None:
    before, records = running(cluster), cluster.objects("spiderips")
    pools = {pool["metadata"]["name"] for pool in cluster.objects("spiderippools")}
    with probing(cluster) as prober:
        cluster.installation.uninstall()
        cluster.wait_for("nothing of the release is left", lambda: left(cluster) == [], PATIENCE)
        assert {node.name: files(cluster, node.name) for node in cluster.fabric.topology.nodes} == dict.fromkeys(
            ("master", "worker"), ""
        )
        cluster.install()
    assert prober.sent > 10
    assert prober.lost == []
    assert running(cluster) == before
    kept = {record["metadata"]["name"]: record["metadata"]["uid"] for record in cluster.objects("spiderips")}
    assert kept == {record["metadata"]["name"]: record["metadata"]["uid"] for record in records}
    assert pools <= {pool["metadata"]["name"] for pool in cluster.objects("spiderippools")}
    cluster.plane.kubectl("rollout", "restart", "deployment", "app")
    cluster.wait_for("all pods are new ones", lambda: running(cluster).keys().isdisjoint(before), PATIENCE)
    cluster.wait_for("addresses are free", lambda: len(cluster.objects("spiderips")) == len(before) * 2, PATIENCE)
