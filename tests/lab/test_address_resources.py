"""Nodes that advertise their free addresses, with real kubelets: a roll-out has no refused sandbox."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.core.network.address_requests import AddressRequirement
from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from spiderpool_lab.topology import WALKTHROUGH, LabNode, NodeKind, Topology
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(900)]

PATIENCE = 240
"""Seconds for what takes a few on a machine that has nothing else to do."""
ADDRESSES = {"master": 2, "worker": 5}
"""Node → addresses of each family that its eth0 has for pods."""
RESOURCE = AddressRequirement("kube-system/ipvlan-eth0").resource
VALUES = ("spiderpoolController.nodeAddressResources=advertise",)


def with_few_addresses() -> Topology:
    """The walkthrough's network; the first ENI of each node has as many addresses for pods as ADDRESSES says."""

    def reduced(node: LabNode) -> LabNode:
        first, *others = node.enis
        kept = ADDRESSES[node.name]
        first = replace(first, secondaries=first.secondaries[:kept], secondaries6=first.secondaries6[:kept])
        return replace(node, enis=(first, *others))

    return replace(WALKTHROUGH, nodes=tuple(reduced(node) for node in WALKTHROUGH.nodes))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    options = LabOptions(topology=with_few_addresses(), discovery=True, nodes=NodeKind.REAL, by_chart=True, sets=VALUES)
    with temporary(lab_name("resources"), options) as cluster:
        yield cluster


def deployment(replicas: int) -> str:
    container = {
        "name": "main",
        "image": "docker.io/centos/tools",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    }
    pod = {
        "metadata": {"labels": {"app": "many"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "many"}}, "template": pod}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec})


def advertised(cluster: LabCluster) -> dict[str, int]:
    """Node → what it offers of the default network; without those that offer none."""
    found = {node["metadata"]["name"]: node["status"]["allocatable"] for node in cluster.objects("nodes")}
    return {name: int(resources[RESOURCE]) for name, resources in found.items() if int(resources.get(RESOURCE, 0))}


def used_without_request(cluster: LabCluster) -> Counter[str]:
    """Node → pods of kube-system with an address of the default network: they request none."""
    pods = [pod for pod in cluster.objects("pods", "-n", "kube-system") if not pod["spec"].get("hostNetwork")]
    return Counter(pod["spec"]["nodeName"] for pod in pods)


def pods(cluster: LabCluster) -> list[dict[str, Any]]:
    return cluster.objects("pods", "-l", "app=many")


def running(cluster: LabCluster) -> Counter[str]:
    return Counter(pod["spec"]["nodeName"] for pod in pods(cluster) if pod["status"]["phase"] == "Running")


def events(cluster: LabCluster, reason: str) -> list[str]:
    found = cluster.objects("events", "--field-selector", f"reason={reason}")
    return [f"{event['involvedObject']['name']}: {event['message']}" for event in found]


def test_pods_are_sent_where_addresses_are_and_the_one_too_many_waits_for_the_scheduler(cluster: LabCluster) -> None:
    cluster.wait_for("the Nodes advertise", lambda: advertised(cluster).keys() == ADDRESSES.keys(), PATIENCE)
    others = used_without_request(cluster)
    expected = {name: count - others[name] for name, count in ADDRESSES.items() if count > others[name]}
    cluster.wait_for(f"the Nodes offer {expected}", lambda: advertised(cluster) == expected, PATIENCE)
    cluster.plane.apply(deployment(sum(expected.values()) + 1))
    cluster.wait_for("all but one run", lambda: running(cluster) == expected, PATIENCE)
    cluster.wait_for("the scheduler has spoken", lambda: events(cluster, "FailedScheduling"), PATIENCE)
    (waiting,) = (pod for pod in pods(cluster) if pod["status"]["phase"] == "Pending")
    assert "nodeName" not in waiting["spec"]
    (said,) = events(cluster, "FailedScheduling")[-1:]
    assert f"Insufficient {RESOURCE}" in said
    assert events(cluster, "FailedCreatePodSandBox") == []
    assert advertised(cluster) == expected, "what is offered does not change while pods come"


def test_a_restarted_kubelet_leaves_what_is_advertised(cluster: LabCluster) -> None:
    before, busy = advertised(cluster), running(cluster)
    client = cluster.machines.client("worker")
    child = client.state().children["kubelet"]
    client.signal("kubelet")
    cluster.wait_for("the kubelet is started again", lambda: client.state().children["kubelet"] != child, PATIENCE)
    cluster.wait_for("the Node is Ready", lambda: is_ready(cluster, "worker"), PATIENCE)
    assert (advertised(cluster), running(cluster)) == (before, busy)
    assert not [pod for pod in pods(cluster) if pod["status"]["phase"] == "Failed"]


def is_ready(cluster: LabCluster, name: str) -> bool:
    (node,) = (node for node in cluster.objects("nodes") if node["metadata"]["name"] == name)
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])


def test_what_is_freed_is_given_to_the_pod_that_waits(cluster: LabCluster) -> None:
    full = running(cluster)
    first = next(pod["metadata"]["name"] for pod in pods(cluster) if pod["status"]["phase"] == "Running")
    cluster.plane.kubectl("delete", "pod", first)
    cluster.wait_for("all but one run again", lambda: running(cluster) == full, PATIENCE)
    assert first not in [pod["metadata"]["name"] for pod in pods(cluster)]
    # The new pod may have been refused before: a request ends with its pod, and the address is released a moment later.
