"""Pods reach Services by the addresses of load balancers and by externalIPs, on every node and while these change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from spiderpool_lab import facts
from spiderpool_lab.checks import Check, CheckResult, run_checks
from spiderpool_lab.cluster import EXAMPLE, LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.walkthrough import pod_source
from tests.lab.discovered.applications import PATIENCE, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

FOLLOWED = 30
"""Seconds within which pods follow a Service."""

SERVER = """
apiVersion: v1
kind: Pod
metadata:
  name: lonely
  labels: {app: lonely}
  annotations: {v1.multus-cni.io/default-network: kube-system/ipvlan-eth0}
spec:
  nodeName: worker
  containers: [{name: web, image: web, ports: [{containerPort: 80}]}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  loadBalancerClass: example.com/none
  ipFamilyPolicy: PreferDualStack
  externalTrafficPolicy: {policy}
  externalIPs: [{external}]
  selector: {{app: lonely}}
  ports: [{{port: 80}}]
"""
BALANCERS = {"Cluster": ("203.0.113.231", "2001:db8:ffff::231"), "Local": ("203.0.113.232", "2001:db8:ffff::232")}
EXTERNAL = {"Cluster": ("203.0.113.241", "2001:db8:ffff::241"), "Local": ("203.0.113.242", "2001:db8:ffff::242")}
ANY_ADDRESSES = json.dumps({"spec": {"serviceAddresses": None}})
PODS = 7
"""Pods of the walkthrough with one and with two interfaces, on each node, and the server."""


@pytest.fixture(scope="module")
def cluster(cluster: LabCluster) -> Iterator[LabCluster]:
    """Pods of one and of two interfaces on each node, and one server, on the second node."""
    everything = (EXAMPLE / "apps.yaml", EXAMPLE / "two-cards.yaml", SERVER)
    with running(cluster, *everything, pods=PODS + 2):
        cluster.plane.kubectl("delete", "daemonset", "test-app-2")
        cluster.wait_for("its pods are gone", lambda: len(facts.running_pods(cluster)) == PODS, PATIENCE)
        yield cluster
        cluster.plane.kubectl("patch", "spidercoordinator", "default", "--type=merge", "-p", ANY_ADDRESSES)


def serve(cluster: LabCluster, policy: str, *, balancers: Iterable[str], external: Iterable[str]) -> None:
    """A Service with these addresses, whose load balancer somebody else makes."""
    name = f"with-{policy.lower()}"
    texts = ", ".join(json.dumps(each) for each in external)
    cluster.plane.apply(SERVICE.format(name=name, policy=policy, external=texts))
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in balancers]}}
    patch = json.dumps({"status": status})
    cluster.plane.kubectl("patch", "service", name, "--subresource=status", "--type=merge", "-p", patch)


def addresses_by_node(cluster: LabCluster, pod: PodFact) -> set[str]:
    """The addresses in a pod's table for Services."""
    client = cluster.machines.client(pod.node)
    netns = next(each.netns for each in client.state().pods if each.pod == pod.key)
    command = f"for v in 4 6; do nsenter --net={netns} ip -$v route show table 98 2>/dev/null; done; true"
    return {line.split()[0] for line in client.exec(["sh", "-c", command]).stdout.splitlines() if "veth0" in line}


def follow(cluster: LabCluster, pods: Iterable[PodFact], expected: Iterable[str]) -> None:
    """Wait until the tables of all pods hold these addresses, and no others."""
    wanted = set(expected)

    def followed(pod: PodFact) -> bool:
        return addresses_by_node(cluster, pod) == wanted

    for pod in pods:
        cluster.wait_for(f"{pod} has the addresses of Services", partial(followed, pod), FOLLOWED)


def requests(cluster: LabCluster, pods: Iterable[PodFact], targets: Iterable[str]) -> Iterator[Check]:
    """A request of each pod to each target. A server on another node sees the client's node."""
    for pod in pods:
        node = cluster.fabric.topology.node(pod.node)
        own = frozenset(address for eni in node.enis for address in eni.own_addresses)
        for target in targets:
            check = pod_source(pod).check("pod → address of a Service", "http", target, 80)
            seen_as = own if pod.node != "worker" else own | pod.addresses
            answered_by = frozenset({"default/lonely"})
            yield replace(check, expected=replace(check.expected, answered_by=answered_by, seen_as=seen_as))


def failed(results: Iterable[CheckResult]) -> list[CheckResult]:
    return [result for result in results if not result.passed]


@pytest.mark.full
def test_every_pod_reaches_them_with_both_policies_while_they_come_and_go(cluster: LabCluster) -> None:
    pods = facts.running_pods(cluster)
    follow(cluster, pods, ())
    for policy in BALANCERS:
        serve(cluster, policy, balancers=BALANCERS[policy], external=EXTERNAL[policy])
    targets = [address for each in (BALANCERS, EXTERNAL) for both in each.values() for address in both]
    follow(cluster, pods, targets)
    assert not failed(run_checks(cluster, requests(cluster, pods, targets)))
    serve(cluster, "Local", balancers=("203.0.113.239",), external=())
    kept = [*BALANCERS["Cluster"], *EXTERNAL["Cluster"], "203.0.113.239"]
    follow(cluster, pods, kept)
    assert not failed(run_checks(cluster, requests(cluster, pods, kept)))
    cluster.plane.kubectl("delete", "service", "with-local", "with-cluster")
    follow(cluster, pods, ())


def test_a_pod_beside_the_server_is_seen_as_itself_by_policy_local_and_as_its_node_by_cluster(
    cluster: LabCluster,
) -> None:
    pods = [pod for pod in facts.running_pods(cluster) if pod.node == "worker" and pod.app != "lonely"]
    for policy in BALANCERS:
        serve(cluster, policy, balancers=BALANCERS[policy], external=EXTERNAL[policy])
    follow(cluster, pods, [*BALANCERS["Local"], *EXTERNAL["Local"], *BALANCERS["Cluster"], *EXTERNAL["Cluster"]])
    checks = []
    for policy in BALANCERS:
        for check in requests(cluster, pods, (*BALANCERS[policy], *EXTERNAL[policy])):
            pod = next(each for each in pods if each.key == check.probe.source)
            is_own = policy == "Local"
            seen_as = pod.addresses if is_own else check.expected.seen_as - pod.addresses
            checks.append(replace(check, expected=replace(check.expected, seen_as=seen_as)))
    assert not failed(run_checks(cluster, checks))


@pytest.mark.full
def test_a_restarted_agent_finds_what_has_changed_meanwhile(cluster: LabCluster) -> None:
    pods = facts.running_pods(cluster)
    serve(cluster, "Cluster", balancers=("203.0.113.233",), external=())
    cluster.plane.kubectl("delete", "service", "with-local", "--ignore-not-found")
    follow(cluster, pods, ["203.0.113.233"])
    client = cluster.machines.client("master")
    client.exec(["sh", "-c", "kill -9 $(cat /run/spiderpool-node/agent.pid)"])
    serve(cluster, "Cluster", balancers=("203.0.113.234",), external=())
    follow(cluster, pods, ["203.0.113.234"])
    assert not failed(run_checks(cluster, requests(cluster, pods, ["203.0.113.234"])))
    settings = json.dumps({"spec": {"serviceAddresses": []}})
    cluster.plane.kubectl("patch", "spidercoordinator", "default", "--type=merge", "-p", settings)
    follow(cluster, pods, ())
