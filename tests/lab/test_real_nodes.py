"""Nodes with containerd and a kubelet: pods do there what they do in every cluster, also after crashes and reboots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from spiderpool.core.network.startup_taint import STARTUP_TAINT
from spiderpool_lab import binaries
from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from spiderpool_lab.container_checks import dns_is_ready
from spiderpool_lab.machines import NodeHardware
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.topology import NodeKind
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 240
"""Seconds for what takes a few on a machine that has nothing else to do."""
MANIFESTS = Path(__file__).parent / "data" / "real-nodes.yaml"

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """Real nodes with disks, and the pods of the manifests, all of them ready."""
    hardware = NodeHardware(memory="2G", keep_disk=True)
    options = LabOptions(discovery=True, nodes=NodeKind.REAL, hardware=hardware, by_chart=True, startup_taint=True)
    with temporary(lab_name("real"), options) as cluster:
        cluster.plane.apply(MANIFESTS)
        cluster.wait_for("all pods are ready", lambda: len(ready(cluster)) == 4, PATIENCE)
        cluster.wait_for("the cluster's DNS is ready", lambda: dns_is_ready(cluster), PATIENCE)
        yield cluster


@pytest.fixture
def kubectl(cluster: LabCluster) -> Kubectl:
    return cluster.plane.kubectl


def ready(cluster: LabCluster) -> dict[str, dict[str, Any]]:
    """The pods that are Ready and not ending, by name."""
    return {
        pod["metadata"]["name"]: pod
        for pod in cluster.objects("pods")
        if "deletionTimestamp" not in pod["metadata"]
        and any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions", []))
    }


def addresses(pod: dict[str, Any]) -> list[str]:
    return [entry["ip"] for entry in pod["status"]["podIPs"]]


def restarts(cluster: LabCluster, name: str) -> int:
    (pod,) = (pod for pod in cluster.objects("pods") if pod["metadata"]["name"] == name)
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


def answers(cluster: LabCluster, pod: str) -> bool:
    """Whether a pod answers HTTP requests of the other node."""
    address = addresses(ready(cluster)[pod])[0]
    node = "worker" if ready(cluster)[pod]["spec"]["nodeName"] == "master" else "master"
    return cluster.machines.client(node).probe([TrafficProbe(kind="http", target=address, port=80)])[0].ok


def test_a_command_runs_in_the_container_with_the_addresses_of_the_pod(cluster: LabCluster, kubectl: Kubectl) -> None:
    shown = kubectl("exec", "main", "-c", "web", "--", "ip", "address", "show", "eth0")
    assert all(f"{address}/" in shown for address in addresses(ready(cluster)["main"])), shown


def test_the_startup_taint_of_the_kubelets_is_gone(cluster: LabCluster) -> None:
    for node in cluster.objects("nodes"):
        client = cluster.machines.client(node["metadata"]["name"])
        assert STARTUP_TAINT in client.exec(["pgrep", "--list-full", "kubelet"]).stdout, "it is registered with it"
        assert not node["spec"].get("taints")


def test_logs_are_what_the_container_printed(kubectl: Kubectl) -> None:
    kubectl("exec", "main", "-c", "web", "--", "sh", "-c", "echo printed > /proc/1/fd/1")
    assert "printed" in kubectl("logs", "main", "-c", "web")


def test_files_are_copied_into_a_container_and_out_of_it(kubectl: Kubectl, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_text("carried\n")
    kubectl("cp", there, "default/main:/tmp/copy", "-c", "web")
    kubectl("cp", "default/main:/tmp/copy", back, "-c", "web")
    assert back.read_text() == "carried\n"


def test_a_port_of_a_pod_is_forwarded(cluster: LabCluster) -> None:
    kubectl, kubeconfig = str(binaries.find("kubectl")), f"--kubeconfig={cluster.plane.admin_kubeconfig}"
    command = [kubectl, kubeconfig, "port-forward", "main", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout is not None, "it is a pipe"
            port = forwarding.stdout.readline().partition(" -> ")[0].rpartition(":")[2]
            with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert json.load(answer)["pod"] == "default/main"
        finally:
            forwarding.terminate()


def test_the_api_server_passes_requests_on_to_pods_and_services(kubectl: Kubectl) -> None:
    for path in ("pods/main", "services/main"):
        answer = json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/default/{path}/proxy/"))
        assert answer["pod"] == "default/main"


def test_names_of_services_are_resolved_in_pods(cluster: LabCluster, kubectl: Kubectl) -> None:
    (service,) = (entry for entry in cluster.objects("services") if entry["metadata"]["name"] == "main")
    for kind, address in zip(("a", "aaaa"), service["spec"]["clusterIPs"], strict=True):
        name = "main.default.svc.cluster.local"
        assert address in kubectl("exec", "main", "-c", "web", "--", "nslookup", f"-type={kind}", name)


def test_init_and_sidecar_containers_share_the_network_and_volumes(cluster: LabCluster, kubectl: Kubectl) -> None:
    seen = kubectl("exec", "main", "-c", "web", "--", "cat", "/shared/seen-by-init", "/shared/sidecar")
    assert f"{addresses(ready(cluster)['main'])[0]}/" in seen
    assert seen.splitlines()[-1] == "sidecar"


def test_config_maps_and_secrets_are_files(kubectl: Kubectl) -> None:
    read = kubectl("exec", "main", "-c", "web", "--", "cat", "/settings/greeting", "/secrets/word")
    assert read == "good morningsesame"


def test_a_container_that_fails_its_probe_is_restarted_and_keeps_the_address(
    cluster: LabCluster, kubectl: Kubectl
) -> None:
    before = addresses(ready(cluster)["sick"])
    kubectl("exec", "sick", "--", "rm", "/tmp/well")
    cluster.wait_for("the container is restarted", lambda: restarts(cluster, "sick") == 1, PATIENCE)
    cluster.wait_for("the pod is ready again", lambda: "sick" in ready(cluster), PATIENCE)
    assert addresses(ready(cluster)["sick"]) == before
    assert answers(cluster, "sick")


TESTED = ("kube-system/ipvlan-eth1", "kube-system/ipvlan-eth0+kube-system/ipvlan-eth1")
"""Networks of a connectivity test; of eth0, which other pods have, an address of each node is enough."""


def connectivity_test(cluster: LabCluster, *words: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the answer, and what was said meanwhile."""
    networks = [word for network in TESTED for word in ("--networks", network)]
    options = ["--kubeconfig", str(cluster.plane.admin_kubeconfig), "-o", "json", "--timeout", "240", *networks, *words]
    command = [sys.executable, "-m", "spiderpool.cli.main", "connectivity", "test", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.timeout(600)
def test_a_connectivity_test_finds_nothing_wrong_and_leaves_nothing(cluster: LabCluster) -> None:
    outside = [f"{cluster.fabric.topology.internet.server[0]}:80", f"[{cluster.fabric.topology.internet.server[1]}]:80"]
    code, found, said = connectivity_test(cluster, "--perf", *(word for each in outside for word in ("--egress", each)))
    failed = [each for each in found["rows"] if not each["ok"]]
    assert (code, failed) == (0, []), said
    kinds = {(each["topic"], each["question"][-4:]) for each in found["rows"] if each["topic"] != "address"}
    topics = {*("pod-same-node", "pod-other-node", "second-network", "pod-to-node", "node-to-pod", "cluster-ip")}
    topics |= {"node-port", "dns", "egress", "performance"}
    assert kinds == {(topic, family) for topic in topics for family in ("IPv4", "IPv6")}
    cluster.wait_for("the namespace is gone", lambda: not of_connectivity_tests(cluster), PATIENCE)


def of_connectivity_tests(cluster: LabCluster) -> list[str]:
    names = [each["metadata"]["name"] for each in cluster.objects("namespaces")]
    return [name for name in names if "connectivity" in name]


@pytest.mark.timeout(600)
def test_a_connectivity_test_names_the_node_whose_kube_proxy_does_not_serve(cluster: LabCluster) -> None:
    client = cluster.machines.client("worker")
    client.signal("kube-proxy", signal.SIGSTOP)
    try:
        code, found, said = connectivity_test(cluster, "--without", "node-port")
    finally:
        client.signal("kube-proxy", signal.SIGCONT)
    failed = [each for each in found["rows"] if not each["ok"]]
    assert code == 1, said
    assert {each["topic"] for each in failed} == {"cluster-ip"}
    assert all(each["source"].endswith("worker") for each in failed)
    assert all("kube-proxy on node worker" in each["remedy"] for each in failed)


@pytest.mark.parametrize("daemon", ["kubelet", "containerd"])
def test_pods_outlive_a_killed_daemon_of_the_node(cluster: LabCluster, daemon: str) -> None:
    client = cluster.machines.client("master")
    before, sandboxes = client.state().children[daemon], {pod.container_id for pod in client.state().pods}
    client.signal(daemon)
    cluster.wait_for("the daemon is started again", lambda: client.state().children[daemon] != before, PATIENCE)
    cluster.wait_for("a command runs in the pod", lambda: runs_commands(cluster), PATIENCE)
    assert {pod.container_id for pod in client.state().pods} == sandboxes
    assert answers(cluster, "main")


def runs_commands(cluster: LabCluster) -> bool:
    try:
        return cluster.plane.kubectl("exec", "main", "-c", "web", "--", "true") == ""
    except Exception:
        return False


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_pods_come_back_with_their_addresses_after_a_reboot(cluster: LabCluster, disk: str) -> None:
    worker = cluster.fabric.topology.node("worker")
    pods = {name: pod for name, pod in ready(cluster).items() if pod["spec"]["nodeName"] == "worker"}
    assert pods, "a pod runs there"
    boot, before = boot_id(cluster), containers(cluster)
    cluster.machines.cut_power(worker)
    cluster.machines.boot(worker, keep_disk=disk == "kept")
    cluster.machines.wait(worker)
    cluster.wait_for("the Node has booted", lambda: boot_id(cluster) != boot, PATIENCE)
    cluster.wait_for("the pods have new containers", lambda: restarted(cluster, before, pods), PATIENCE)
    cluster.wait_for("the pods are ready", lambda: pods.keys() <= ready(cluster).keys(), PATIENCE)
    assert {name: addresses(ready(cluster)[name]) for name in pods} == {name: addresses(pods[name]) for name in pods}
    assert all(answers(cluster, name) for name in pods)


def containers(cluster: LabCluster) -> dict[str, list[str]]:
    """The containers of each pod by its name, as its status has them."""
    return {
        pod["metadata"]["name"]: [status.get("containerID", "") for status in pod["status"]["containerStatuses"]]
        for pod in cluster.objects("pods")
    }


def restarted(cluster: LabCluster, before: dict[str, list[str]], pods: Iterable[str]) -> bool:
    now = containers(cluster)
    return all(now[name] != before[name] for name in pods)


def boot_id(cluster: LabCluster) -> str:
    (node,) = (node for node in cluster.objects("nodes") if node["metadata"]["name"] == "worker")
    return str(node["status"]["nodeInfo"]["bootID"])


def test_a_drained_node_gives_its_pods_to_the_other(cluster: LabCluster, kubectl: Kubectl) -> None:
    kubectl("drain", "worker", "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE}s")
    cluster.wait_for("the pods have moved", lambda: moved(cluster), PATIENCE)
    kubectl("uncordon", "worker")


def moved(cluster: LabCluster) -> bool:
    found = [pod for pod in ready(cluster).values() if pod["metadata"].get("labels", {}).get("app") == "moving"]
    return [pod["spec"]["nodeName"] for pod in found] == ["master"] * 2
