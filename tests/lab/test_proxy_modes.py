"""Services by IPVS: kube-proxy in its mode ``ipvs``, with strict ARP: a node answers for no address but its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiderpool_lab import facts, walkthrough
from spiderpool_lab.cluster import EXAMPLE, LabCluster, LabOptions, temporary
from spiderpool_lab.walkthrough import Environment
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""


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
