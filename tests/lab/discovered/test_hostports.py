"""Host ports in a whole cluster: from pods, nodes and the internet, by each NIC, until the pod is gone."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from spiderpool_lab import facts, internet
from spiderpool_lab.cluster import EXAMPLE, LabCluster
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.walkthrough import public_addresses
from tests.lab.discovered.applications import PATIENCE, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NODE = "master"
REFUSED = f"[Errno {errno.ECONNREFUSED}]"
HTTP, DNS, SECOND_NIC_ONLY = 8081, 8053, 8082
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  annotations: {{v1.multus-cni.io/default-network: kube-system/ipvlan-eth0}}
spec:
  nodeName: {node}
  tolerations: [{{operator: Exists}}]
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: web
    ports:
    - {{containerPort: 80, hostPort: {http}}}
    - {{containerPort: 53, hostPort: {dns}, protocol: UDP}}
    - {{containerPort: 8080, hostPort: {single}, hostIP: {host}}}
"""


@pytest.fixture(scope="module")
def cluster(cluster: LabCluster) -> Iterator[LabCluster]:
    with running(cluster, EXAMPLE / "apps.yaml", pods=4):
        yield cluster


@pytest.fixture
def ported(cluster: LabCluster) -> Iterator[str]:
    """The key of a pod with host ports."""
    make(cluster, "ported")
    yield "default/ported"
    end(cluster, "ported")


def make(cluster: LabCluster, name: str) -> None:
    [*_, second] = cluster.fabric.topology.node(NODE).enis
    cluster.plane.apply(
        POD.format(name=name, node=NODE, http=HTTP, dns=DNS, single=SECOND_NIC_ONLY, host=second.address)
    )
    cluster.wait_for(f"{name} is Running", lambda: is_running(cluster, name), PATIENCE)


def is_running(cluster: LabCluster, name: str) -> bool:
    return any(pod.key == f"default/{name}" for pod in facts.running_pods(cluster))


def end(cluster: LabCluster, name: str) -> None:
    cluster.plane.kubectl("delete", "pod", name, "--ignore-not-found", timeout=60)


@dataclass(frozen=True)
class Place:
    """Where a probe begins: in a pod, else on a node or the internet itself."""

    node: str
    pod: str | None = None


def places(cluster: LabCluster) -> list[Place]:
    return [
        *(Place(node.name) for node in cluster.fabric.topology.nodes),
        *(Place(pod.node, pod.key) for pod in facts.running_pods(cluster)),
    ]


def ask(cluster: LabCluster, place: Place, probes: list[TrafficProbe]) -> dict[str, str]:
    """``kind address:port`` of each probe → the pod that answered and the client that it saw, or the fault."""
    asked = [msgspec.structs.replace(probe, source=place.pod) for probe in probes]
    answers = zip(asked, cluster.probe(place.node, asked), strict=True)
    return {
        f"{probe.kind} {probe.target}:{probe.port}": " for ".join(map(json.loads(answer.body).get, ("pod", "client")))
        if answer.ok
        else answer.error
        for probe, answer in answers
    }


def everything(addresses: tuple[str, ...]) -> list[TrafficProbe]:
    kinds = (("http", HTTP), ("udp", DNS))
    return [TrafficProbe(kind=kind, target=address, port=port) for address in addresses for kind, port in kinds]  # type: ignore[arg-type]


def own_addresses(cluster: LabCluster) -> tuple[str, ...]:
    return tuple(address for eni in cluster.fabric.topology.node(NODE).enis for address in eni.own_addresses)


@pytest.mark.full
def test_every_address_of_the_node_leads_to_the_pod_from_everywhere(cluster: LabCluster, ported: str) -> None:
    for place in places(cluster):
        found = ask(cluster, place, everything(own_addresses(cluster)))
        assert len(found) == 8
        assert {answer.partition(" ")[0] for answer in found.values()} == {ported}, (place, found)


def test_the_pod_sees_its_clients(cluster: LabCluster, ported: str) -> None:
    for eni in cluster.fabric.topology.node(NODE).enis:
        for version, client in zip((4, 6), cluster.fabric.topology.internet.client, strict=True):
            addresses = facts.of_version(version, public_addresses(eni))
            probes = [msgspec.structs.replace(probe, bind=client) for probe in everything(addresses)]
            found = ask(cluster, Place(internet.NAME), probes)
            assert {*found.values()} == {f"{ported} for {client}"}, (eni.name, found)
    others = [pod for pod in facts.running_pods(cluster) if pod.key != ported]
    assert len(others) == 4
    for pod in others:
        found = ask(cluster, Place(pod.node, pod.key), everything(own_addresses(cluster)))
        assert {answer.rpartition(" ")[2] for answer in found.values()} <= pod.addresses, (pod, found)


def test_the_nodes_own_loopback_and_the_pod_itself(cluster: LabCluster, ported: str) -> None:
    own = own_addresses(cluster)
    loopback = ask(cluster, Place(NODE), everything(("127.0.0.1",)))
    itself = ask(cluster, Place(NODE, ported), everything(own))
    for answer in (*loopback.values(), *itself.values()):
        pod, _, client = answer.partition(" for ")
        assert pod == ported, (loopback, itself)
        assert client in own, "an address of the node"


def test_a_host_ip_is_the_only_address(cluster: LabCluster, ported: str) -> None:
    first, second = (eni.address for eni in cluster.fabric.topology.node(NODE).enis)
    for place in places(cluster):
        probes = [TrafficProbe(kind="http", target=address, port=SECOND_NIC_ONLY) for address in (first, second)]
        refused, reached = ask(cluster, place, probes).values()
        assert reached.partition(" ")[0] == ported, (place, reached)
        assert refused.startswith(REFUSED), (place, refused)


@pytest.mark.full
def test_they_outlive_the_agent_and_end_with_the_pod(cluster: LabCluster, ported: str) -> None:
    client = cluster.machines.client(NODE)
    client.signal("agent")
    probes = everything(own_addresses(cluster))
    for _ in range(10):  # before, while and after the next agent starts
        found = ask(cluster, Place("worker"), probes)
        assert {answer.partition(" ")[0] for answer in found.values()} == {ported}, found
    end(cluster, "ported")
    cluster.wait_for("no rule is left", lambda: str(HTTP) not in rules(cluster), PATIENCE)
    gone = ask(cluster, Place("worker"), [probe for probe in probes if probe.kind == "http"])
    assert all(answer.startswith(REFUSED) for answer in gone.values()), gone
    make(cluster, "successor")
    found = ask(cluster, Place("worker"), probes)
    assert {answer.partition(" ")[0] for answer in found.values()} == {"default/successor"}, found
    end(cluster, "successor")
    assert cluster.dropped_frames() == []


def rules(cluster: LabCluster) -> str:
    """The node's rules in the packet filter of both families."""
    client = cluster.machines.client(NODE)
    return "".join(client.exec([program]).stdout for program in ("iptables-legacy-save", "ip6tables-legacy-save"))
