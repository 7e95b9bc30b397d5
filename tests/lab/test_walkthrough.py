"""The walkthrough on a whole cluster with written pools, and what happens to addresses when something fails."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool_lab import facts, negative_checks, walkthrough
from spiderpool_lab.checks import CheckResult
from spiderpool_lab.cluster import EXAMPLE, LabCluster, temporary
from spiderpool_lab.demo import Demo
from spiderpool_lab.facts import PodFact
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name
from tests.support.eventually import eventually

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""

COLLECTING = 15
"""Seconds in which the controller looks several times for addresses to release."""

NODES = [node.name for node in WALKTHROUGH.nodes]
POOLS = {
    ("master", "eth0"): "master-172",
    ("master", "eth1"): "master-192",
    ("worker", "eth0"): "worker-172",
    ("worker", "eth1"): "worker-192",
}
APPLICATION_ENI = {"test-app-1": "eth0", "test-app-2": "eth1"}
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{v1.multus-cni.io/default-network: kube-system/{network}}}}}
spec:
  nodeName: {node}
  containers: [{{name: web, image: web}}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: late}
spec:
  selector: {app: test-app-2}
  ports: [{port: 80}]
"""
FORGET = "rm /run/spidernet/sandboxes/*.json"
"""Takes from the agent what it knows of the node's sandboxes."""

LEFTOVERS = """
ip -brief link show type veth
ip -brief link show type ipvlan
ip -brief link show type macvlan
ip route show table 500 2>/dev/null || true
ls /run/netns
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """A cluster with the walkthrough's networks and pools."""
    with temporary(lab_name("walkthrough")) as cluster:
        cluster.plane.apply(EXAMPLE / "networks.yaml", EXAMPLE / "pools.yaml")
        yield cluster


@pytest.fixture(autouse=True)
def nothing_stays(cluster: LabCluster) -> Iterator[None]:
    """Delete the pods of a test; nothing of their network may stay, in the cluster or on a node."""
    yield
    cluster.plane.kubectl("delete", "daemonsets,pods", "--all", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    cluster.wait_for("every address is free", lambda: records(cluster) == {}, PATIENCE)
    cluster.wait_for("the pools count no address", lambda: set(counts(cluster).values()) == {(0, 5)}, PATIENCE)
    cluster.wait_for("the nodes are clean", lambda: leftovers(cluster) == "", PATIENCE)


def pod(name: str, node: str, network: str) -> str:
    return POD.format(name=name, node=node, network=network)


def records(cluster: LabCluster) -> dict[str, tuple[str, str]]:
    """Address → pod and pool, from the SpiderIPs."""
    specs = [ip["spec"] for ip in cluster.objects("spiderips")]
    return {spec["address"].partition("/")[0]: (spec["pod"], spec["pool"]) for spec in specs}


def counts(cluster: LabCluster) -> dict[str, tuple[int, int]]:
    """Pool → addresses in use and in total."""
    found = {pool["metadata"]["name"]: pool.get("status", {}) for pool in cluster.objects("spiderippools")}
    return {name: (status.get("allocatedIPCount"), status.get("totalIPCount")) for name, status in found.items()}


def leftovers(cluster: LabCluster) -> str:
    """Links, routes and namespaces of pods on all nodes."""
    return "".join(cluster.machines.client(node).exec(["sh", "-c", LEFTOVERS]).stdout for node in NODES)


def running(cluster: LabCluster) -> list[PodFact]:
    return facts.running_pods(cluster)


def run_pods(cluster: LabCluster, *manifests: str) -> list[PodFact]:
    """Create pods and wait until as many more are Running."""
    expected = len(running(cluster)) + len(manifests)
    cluster.plane.apply(*manifests)
    cluster.wait_for(f"{expected} pods are Running", lambda: len(running(cluster)) == expected, PATIENCE)
    return running(cluster)


def test_the_walkthrough(cluster: LabCluster) -> None:
    """The four pods of the page have addresses of the pools that it names."""
    cluster.plane.apply(EXAMPLE / "apps.yaml")
    cluster.wait_for("all pods are Running", lambda: len(running(cluster)) == 4, PATIENCE)
    cluster.wait_for(
        "every pool counts 1 of 5", lambda: counts(cluster) == dict.fromkeys(POOLS.values(), (1, 5)), PATIENCE
    )
    traces = leftovers(cluster)
    assert all(word in traces for word in ("veth", "172.31.199.", "cni-"))  # the search finds traces of running pods
    allocated, pods = records(cluster), running(cluster)
    for pod in pods:
        eni = pod.interfaces[0].eni
        assert eni is not None, pod
        assert eni.name == APPLICATION_ENI[pod.app], pod
        assert allocated.pop(pod.address) == (pod.key.partition("/")[2], POOLS[pod.node, eni.name])
    assert allocated == {}


def test_the_whole_walkthrough_passes_as_it_is_written(cluster: LabCluster) -> None:
    output = io.StringIO()
    with restored(cluster):
        assert Demo(cluster, Console(file=output, width=130, emoji=False)).run(), output.getvalue()


@contextmanager
def restored(cluster: LabCluster) -> Iterator[None]:
    """Restore the written pools afterwards, and unassign the addresses that the cloud has registered meanwhile."""
    before = cluster.cloud.admin.registered_addresses()
    try:
        yield
    finally:
        cluster.plane.kubectl("delete", "--filename", str(EXAMPLE / "pools-ipv6.yaml"), "--wait=false")
        cluster.plane.apply(EXAMPLE / "pools.yaml")
        for eni in cluster.cloud.admin.state()["enis"]:
            unassign(cluster, eni, before[eni["mac"]])
        cluster.wait_for("only IPv4 pools are left", lambda: set(counts(cluster)) == set(POOLS.values()), PATIENCE)


def unassign(cluster: LabCluster, eni: dict[str, Any], known: frozenset[str]) -> None:
    """Unassign the addresses of an ENI that are not in ``known``."""
    target = {"NetworkInterfaceId": eni["identity"]}
    for address in {*eni["secondaries"]} - known:
        cluster.cloud.admin.call("ecs", "UnassignPrivateIpAddresses", **target, **{"PrivateIpAddress.1": address})
    for address in {*eni["ipv6_addresses"]} - known:
        cluster.cloud.admin.call("ecs", "UnassignIpv6Addresses", **target, **{"Ipv6Address.1": address})


def failed(outcome: Iterable[CheckResult]) -> list[CheckResult]:
    return [result for result in outcome if not result.passed]


def test_a_pod_that_finds_its_pool_full_says_so_and_gets_the_next_free_address(cluster: LabCluster) -> None:
    first = run_pods(cluster, *(pod(f"full-{number}", "master", "ipvlan-eth0") for number in range(5)))
    cluster.plane.apply(pod("late", "master", "ipvlan-eth0"))
    cluster.wait_for("the refusal is reported", lambda: refusal(cluster, "late"), PATIENCE)
    sentence = refusal(cluster, "late")
    assert "master-172" in sentence
    assert cluster.plane.kubectl("get", "pod", "late", "-o", "jsonpath={.status.phase}") == "Pending"
    freed = next(pod.address for pod in first if pod.key == "default/full-3")
    cluster.plane.kubectl("delete", "pod", "full-3", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    cluster.wait_for("the pod is Running", lambda: freed in [pod.address for pod in running(cluster)], PATIENCE)
    assert records(cluster)[freed] == ("late", "master-172")


def refusal(cluster: LabCluster, pod: str) -> str:
    """The line of ``kubectl describe`` that says why the pod has no address."""
    lines = cluster.plane.kubectl("describe", "pod", pod).splitlines()
    return next((line for line in lines if "5 of 5 addresses in use" in line), "")


def test_agents_killed_amid_attachments_lose_no_address_and_give_none_twice(cluster: LabCluster) -> None:
    networks = ("ipvlan-eth0", "ipvlan-eth1")
    pods = [pod(f"{network}-{node}-{n}", node, network) for network in networks for node in NODES for n in range(2)]
    cluster.plane.apply(*pods)
    asyncio.run(first_address(cluster))
    for node in NODES:
        cluster.machines.client(node).signal("agent", signal.SIGKILL)
    cluster.wait_for("all pods are Running", lambda: len(running(cluster)) == 8, PATIENCE)
    expected = {pod.address: pod.key.partition("/")[2] for pod in running(cluster)}
    assert len(expected) == 8
    assert {address: name for address, (name, _) in records(cluster).items()} == expected


async def first_address(cluster: LabCluster) -> None:
    """Return as soon as any pod holds an address."""
    async with Client.load(cluster.plane.admin_kubeconfig) as client:
        records: list[SpiderIP] = await eventually(
            lambda: client.list(SpiderIP), "a pod holds an address", timeout=PATIENCE, interval=0.01
        )
        assert records


def test_a_pod_that_vanishes_while_its_agent_hangs_keeps_its_address_until_it_is_detached(cluster: LabCluster) -> None:
    run_pods(cluster, pod("vanishing", "master", "ipvlan-eth0"))
    before = records(cluster)
    with stopped_agent(cluster, "master"):
        cluster.plane.kubectl("delete", "pod", "vanishing", "--force", "--grace-period=0", "--wait=false")
        with pytest.raises(NotReady):
            cluster.wait_for("the address is released", lambda: records(cluster) != before, COLLECTING)
    cluster.wait_for("the address is released", lambda: records(cluster) == {}, PATIENCE)


def delete_record(cluster: LabCluster, address: str) -> None:
    """Delete a SpiderIP as somebody does who insists on it."""
    uid = cluster.plane.kubectl("get", "spiderip", address, "-o", "jsonpath={.metadata.uid}")
    cluster.plane.kubectl("annotate", "spiderip", address, f"{RELEASE_ANNOTATION}={uid}")
    cluster.plane.kubectl("delete", "spiderip", address)


def test_the_record_of_an_address_that_is_in_use_comes_back(cluster: LabCluster) -> None:
    (first,) = run_pods(cluster, pod("first", "master", "ipvlan-eth0"))
    with pytest.raises(SpiderpoolError, match="a pod may still use"):
        cluster.plane.kubectl("delete", "spiderip", first.address)
    delete_record(cluster, first.address)
    cluster.plane.apply(*(pod(f"other-{number}", "master", "ipvlan-eth0") for number in range(4)))
    cluster.wait_for("five pods with records are Running", lambda: len(running(cluster)) == 5, PATIENCE)
    assert {each.address: each.key for each in running(cluster)} | {first.address: first.key} == {
        address: f"default/{name}" for address, (name, _) in records(cluster).items()
    }


def test_an_address_that_another_sandbox_still_has_is_given_back_for_another(cluster: LabCluster) -> None:
    (first,) = run_pods(cluster, pod("first", "master", "ipvlan-eth0"))
    cluster.machines.client("master").exec(["sh", "-c", FORGET])  # else the agent made the record again
    delete_record(cluster, first.address)
    others = run_pods(cluster, *(pod(f"other-{number}", "master", "ipvlan-eth0") for number in range(4)))
    cluster.plane.apply(pod("late", "master", "ipvlan-eth0"))
    refused = f"{first.address} is already assigned to an ipvlan device on eth0: another sandbox still holds it"
    cluster.wait_for("a refusal", lambda: refused in cluster.plane.kubectl("describe", "pod", "late"), PATIENCE)
    freed = next(each.address for each in others if each.key == "default/other-2")
    cluster.plane.kubectl("delete", "pod", "other-2", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    cluster.wait_for("the pod is Running", lambda: freed in [each.address for each in running(cluster)], PATIENCE)
    assert records(cluster)[freed][0] == "late"
    assert first.address not in records(cluster)


@contextmanager
def stopped_agent(cluster: LabCluster, node: str) -> Iterator[None]:
    client = cluster.machines.client(node)
    client.signal("agent", signal.SIGSTOP)
    try:
        yield
    finally:
        client.signal("agent", signal.SIGCONT)


def test_a_service_that_kube_proxy_has_not_set_up_yet_is_waited_for(cluster: LabCluster) -> None:
    """Until then the node sends what is for its cluster IP to the internet, by an ENI without the pod's address."""
    client = cluster.machines.client("master")
    cluster.plane.apply(EXAMPLE / "apps.yaml")
    cluster.wait_for("all pods are Running", lambda: len(running(cluster)) == 4, PATIENCE)
    client.signal("kube-proxy", signal.SIGSTOP)
    try:
        cluster.plane.apply(SERVICE)
        environment = walkthrough.observe(cluster)
        service = environment.services["late"]
        source = next(pod for pod in environment.pods if (pod.node, pod.app) == ("master", "test-app-2"))
        check = walkthrough.pod_source(source).check("late", "http", service.addresses[0], service.ports["TCP"])
        assert not walkthrough.services_answer(cluster, environment)
        unanswered, dropped = walkthrough.run(cluster, [check])
    finally:
        client.signal("kube-proxy", signal.SIGCONT)
    assert (unanswered.passed, dropped.passed) == (False, False)
    assert "master/eth0 spoof_ip " in dropped.detail
    assert f" → {service.addresses[0]}:80 SYN" in dropped.detail
    cluster.wait_for("kube-proxy serves", lambda: walkthrough.services_answer(cluster, environment), PATIENCE)
    assert [result.detail for result in walkthrough.run(cluster, [check])] == ["", ""]
    cluster.plane.kubectl("delete", "service", "late")


def test_macvlan_is_cut_off_by_the_cloud(cluster: LabCluster) -> None:
    """Needs an ENI without ipvlan children, so it runs while there are no pods."""
    assert failed(negative_checks.macvlan(cluster)) == []
