"""Services by IPVS: kube-proxy in its mode ``ipvs``, with strict ARP: a node answers for no address but its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from spiderpool.kernel import metadata_filter
from spiderpool_lab import facts, walkthrough
from spiderpool_lab.alibaba.metadata import ADDRESS as METADATA
from spiderpool_lab.cluster import EXAMPLE, LabCluster, LabOptions, temporary
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.walkthrough import Environment
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""


PAGE = "/latest/meta-data/instance-id"
TO_METADATA = f"""\
apiVersion: v1
kind: Service
metadata: {{name: keys, namespace: default}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: keys, namespace: default, labels: {{kubernetes.io/service-name: keys}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints: [{{addresses: [{METADATA}]}}]
"""
"""A Service whose endpoint is the metadata service."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    with temporary(lab_name("ipvs"), LabOptions(discovery=True, proxy_mode="ipvs")) as cluster:
        cluster.wait_for(
            "the networks are made", lambda: len(cluster.objects("spidermultusconfigs", "-A")) == 2, PATIENCE
        )
        yield cluster


@pytest.fixture(scope="module")
def environment(cluster: LabCluster) -> Environment:
    """The pods and Services of the walkthrough."""
    cluster.plane.apply(*(EXAMPLE / f"{name}.yaml" for name in ("apps", "two-cards", "services")))
    cluster.wait_for("all pods are Running", lambda: len(facts.running_pods(cluster)) == 8, PATIENCE)
    environment = walkthrough.observe(cluster)
    cluster.wait_for("kube-proxy serves", lambda: walkthrough.services_answer(cluster, environment), PATIENCE)
    return environment


def test_pods_nodes_and_the_internet_reach_services(cluster: LabCluster, environment: Environment) -> None:
    checks = [
        *walkthrough.to_cluster_ip(environment),
        *walkthrough.pod_to_node_port(environment),
        *walkthrough.from_internet(environment),
    ]
    results = walkthrough.run(cluster, checks)
    assert [result for result in results if not result.passed] == []
    assert len(results) > 100


def test_the_services_are_those_of_ipvs(cluster: LabCluster, environment: Environment) -> None:
    client = cluster.machines.client("master")
    own = client.exec(["ip", "-br", "address", "show", "dev", "kube-ipvs0"]).stdout
    assert all(address in own for service in environment.services.values() for address in service.addresses)
    assert client.exec(["cat", "/proc/sys/net/ipv4/conf/all/arp_ignore"]).stdout == "1\n"
    rules = client.exec(["iptables-legacy-save", "-t", "nat"]).stdout
    assert "KUBE-SEP" not in rules, "a rule of the mode iptables"


def test_no_service_leads_a_pod_to_the_metadata_service(cluster: LabCluster, environment: Environment) -> None:
    """Without our rule for what IPVS sends on it would: else this test would show nothing."""
    cluster.plane.apply(TO_METADATA)
    service = cluster.plane.kubectl("get", "service", "keys", "-o", "jsonpath={.spec.clusterIP}")
    pod = next(pod for pod in environment.pods if pod.node == "master")
    rule = metadata_filter.through_node(IPv4Address(METADATA)).iptables["filter"].split()
    node = cluster.machines.client("master")

    def answers(source: str | None, target: str) -> bool:
        (answer,) = cluster.probe("master", [TrafficProbe(kind="http", target=target, source=source, path=PAGE)])
        return answer.status == 200

    assert answers(None, METADATA)
    endpoint = f"{int(IPv4Address(METADATA)):08X}:0050"
    served = ["cat", "/proc/net/ip_vs"]
    cluster.wait_for("kube-proxy serves", lambda: endpoint in node.exec(served).stdout, PATIENCE)
    assert not answers(pod.key, service)
    by_iptables = shlex.join(["iptables-legacy", "-w", "-t", "filter", "-D", *rule])
    opened = ["sh", "-c", f"nft flush chain ip {metadata_filter.TABLE} output; {by_iptables}"]
    cluster.wait_for("the way is open", lambda: node.exec(opened) and answers(pod.key, service), PATIENCE)
    cluster.wait_for("the agent closes it again", lambda: not answers(pod.key, service), PATIENCE)
    assert answers(None, METADATA)


def test_connections_that_are_not_tracked_are_told(cluster: LabCluster) -> None:
    node, switch = cluster.machines.client("master"), "/proc/sys/net/ipv4/vs/conntrack"
    cluster.wait_for("kube-proxy sets it", lambda: node.exec(["cat", switch]).stdout == "1\n", PATIENCE)

    def is_told() -> bool:
        events = cluster.objects("events", "-A", "--field-selector=reason=NodeNetworkFault")
        return any("set net.ipv4.vs.conntrack to 1" in event["message"] for event in events)

    assert not is_told()
    node.exec(["sh", "-c", f"echo 0 > {switch}"])
    cluster.wait_for("the agent tells it", is_told, PATIENCE)
    node.exec(["sh", "-c", f"echo 1 > {switch}"])
