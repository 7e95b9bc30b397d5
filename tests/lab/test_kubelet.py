"""The kubelet stand-in with a real control plane and a CNI plugin that always gives the same address."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries, node
from spiderpool_lab.backend import NodeBackend, choose
from spiderpool_lab.control_plane import NODE_SERVER, ControlPlane
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.node import ClusterServices
from spiderpool_lab.node_client import NodeClient, NodePodState
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.processes import Processes
from spiderpool_lab.stand_in import StandIn
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(240),
    pytest.mark.skipif(choose() is NodeBackend.NATIVE, reason="the pods' links need a kernel with ipvlan"),
]

PATIENCE = 40
"""Seconds for what takes a few on a machine that has nothing else to do."""

ONE_NODE = msgspec.structs.replace(WALKTHROUGH, nodes=WALKTHROUGH.nodes[:1])
PLUGIN = Path(__file__).parent / "data" / "fixed-address"
ADDRESS = "172.31.199.185"
CONFLIST = {"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": PLUGIN.name}]}
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: master
  tolerations: [{operator: Exists}]
  containers: [{name: web, image: web, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]
"""


@pytest.fixture(scope="module")
def machines(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A booted node that is part of the cluster and has no network configuration list yet."""
    directory = tmp_path_factory.mktemp("kubelet")
    fabric, processes = Fabric(ONE_NODE, lab_name("kubelet")), Processes(directory / "processes")
    machines = Machines(fabric, processes, directory / "nodes", services={"master": services(control_plane)})
    fabric.up()
    try:
        forward(control_plane, processes, fabric.management)
        machines.start()
        yield machines
    finally:
        machines.stop()
        processes.stop_all()
        fabric.down()
        control_plane.kubectl("delete", "node/master", "pod/web", "--ignore-not-found", "--force", "--grace-period=0")


@pytest.fixture
def master(machines: Machines) -> NodeClient:
    return machines.client("master")


def services(plane: ControlPlane) -> ClusterServices:
    return ClusterServices(
        kubelet_kubeconfig=str(plane.kubeconfig("system:node:master", ["system:nodes"], server=NODE_SERVER)),
        proxy_kubeconfig=str(plane.kubeconfig("system:kube-proxy", server=NODE_SERVER)),
        kube_proxy=str(binaries.find("kube-proxy")),
        external_cloud=True,
        stand_in=StandIn(seed=1, collection=(0.2, 0.5), resync=(1.0, 1.0)),
    )


def forward(plane: ControlPlane, processes: Processes, netns: str) -> None:
    listen, to = NODE_SERVER.removeprefix("https://"), plane.server.removeprefix("https://")
    command = [sys.executable, "-m", "spiderpool_lab.forward", "--netns", netns, "--listen", listen, "--to", to]
    processes.start("forward", command)


def get(plane: ControlPlane, *what: str) -> Any:
    return json.loads(plane.kubectl("get", *what, "--ignore-not-found", "--output=json") or "{}")


def node_ready(plane: ControlPlane) -> tuple[str, str]:
    conditions = get(plane, "node/master").get("status", {}).get("conditions", [])
    return next(((entry["status"], entry["reason"]) for entry in conditions if entry["type"] == "Ready"), ("", ""))


def run(client: NodeClient, command: str) -> str:
    outcome = client.exec(["sh", "-ec", command])
    assert outcome.rc == 0, outcome.stderr
    return outcome.stdout


def test_life_of_a_pod(master: NodeClient, control_plane: ControlPlane) -> None:
    """The steps in one test, because each needs the one before it."""
    waits_for_the_network(master, control_plane)
    reports_a_refusal(master, control_plane)
    runs(master, control_plane)
    ends(master, control_plane)


def waits_for_the_network(master: NodeClient, plane: ControlPlane) -> None:
    wait_until(lambda: node_ready(plane) == ("False", "KubeletNotReady"), "the Node is not ready", timeout=PATIENCE)
    taints = {(taint["key"], taint["effect"]) for taint in get(plane, "node/master")["spec"]["taints"]}
    assert ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule") in taints
    plane.apply(POD)
    run(master, f"cp {PLUGIN} {node.CNI_EXECUTABLES}; touch /run/tmp/refuse")
    run(master, f"echo '{json.dumps(CONFLIST)}' > {node.CNI_CONFIGURATION}/10-test.conflist")
    wait_until(lambda: node_ready(plane) == ("True", "KubeletReady"), "the Node is ready", timeout=PATIENCE)


def reports_a_refusal(master: NodeClient, plane: ControlPlane) -> None:
    wait_until(
        lambda: any(event["count"] > 1 for event in refusals(plane)), "the refusal is repeated", timeout=PATIENCE
    )
    assert {event["reason"] for event in refusals(plane)} == {"FailedCreatePodSandBox"}
    status = get(plane, "pod/web")["status"]
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert run(master, "head -2 /run/tmp/calls").splitlines() == ["ADD netns nothing", "DEL netns nothing"]


def refusals(plane: ControlPlane) -> list[dict[str, Any]]:
    events = get(plane, "events", "--field-selector=involvedObject.name=web,type=Warning").get("items", [])
    return [event for event in events if "failed (add): no address left" in event["message"]]


def runs(master: NodeClient, plane: ControlPlane) -> None:
    run(master, "rm /run/tmp/refuse /run/tmp/calls")
    plane.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    status = get(plane, "pod/web")["status"]
    assert (status["podIP"], status["hostIP"]) == (ADDRESS, WALKTHROUGH.nodes[0].enis[0].address)
    gateway = WALKTHROUGH.nodes[0].enis[0].vswitch.gateway
    probes = [
        TrafficProbe(kind="http", source="default/web", target=ADDRESS, port=8080),
        TrafficProbe(kind="udp", source="default/web", target=ADDRESS, port=5353),
        TrafficProbe(kind="ping", source="default/web", target=gateway),
        TrafficProbe(kind="tcp", source="default/web", target=ADDRESS, port=8081),
    ]
    http, udp, ping, closed = master.probe(probes)
    assert http.status == 200
    assert json.loads(http.body) == json.loads(udp.body) == {"pod": "default/web", "node": "master", "client": ADDRESS}
    assert (ping.ok, closed.ok) == (True, False)


def ends(master: NodeClient, plane: ControlPlane) -> None:
    assert [pod.pod for pod in master.state().pods] == ["default/web"]
    plane.kubectl("delete", "pod/web", "--timeout=30s")
    wait_until(lambda: calls(master)[-4:] == LIFE, "both DELs of the removal", timeout=PATIENCE)
    assert run(master, "ls /run/netns") == ""
    wait_until(lambda: master.state().pods == [], "the node has no pod", timeout=PATIENCE)
    assert get(plane, "pod/web") == {}


LIFE = ["ADD netns nothing", "DEL netns prevResult", "DEL  nothing", "DEL  nothing"]
"""The calls of a pod that comes and goes."""
FINISHING = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: master
  tolerations: [{operator: Exists}]
  %s
  containers: [{name: web, image: web, command: [sh, -c, %s]}]
"""


@pytest.fixture
def network(master: NodeClient, control_plane: ControlPlane) -> Iterator[NodeClient]:
    """The node with its network, without calls and pods."""
    run(master, f"cp {PLUGIN} {node.CNI_EXECUTABLES}; rm -f /run/tmp/refuse")
    run(master, f"echo '{json.dumps(CONFLIST)}' > {node.CNI_CONFIGURATION}/10-test.conflist; : > /run/tmp/calls")
    yield master
    control_plane.kubectl("delete", "pod", "--all", "--ignore-not-found", "--force", "--grace-period=0")
    wait_until(lambda: master.state().pods == [], "the node has no pod", timeout=PATIENCE)
    wait_until(lambda: run(master, f"ls {node.DISK}/sandboxes") == "", "no sandbox is left", timeout=PATIENCE)


def calls(master: NodeClient) -> list[str]:
    return run(master, "cat /run/tmp/calls").splitlines()


@pytest.mark.parametrize(
    ("spec", "script", "end"),
    [
        ("restartPolicy: Never", "sleep 1", ("Succeeded", None)),
        ("restartPolicy: Never", "'sleep 1; exit 3'", ("Failed", None)),
        ("activeDeadlineSeconds: 2", "wait", ("Failed", "DeadlineExceeded")),
    ],
)
def test_del_comes_before_the_final_phase(
    network: NodeClient, control_plane: ControlPlane, spec: str, script: str, end: tuple[str, str | None]
) -> None:
    control_plane.apply(FINISHING % (spec, script))
    wait_until(lambda: final_status(network, control_plane) == end, "the pod has finished so", timeout=PATIENCE)
    wait_until(lambda: calls(network) == LIFE, "the sandbox is removed while the object stays", timeout=PATIENCE)
    assert get(control_plane, "pod/web")


def final_status(master: NodeClient, plane: ControlPlane) -> tuple[str, str | None] | None:
    """Phase and reason once the phase is final; at that moment the first DEL has been sent."""
    status = get(plane, "pod/web")["status"]
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    assert LIFE[1] in calls(master)
    return status["phase"], status.get("reason")


def ready(plane: ControlPlane, name: str = "web") -> None:
    plane.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=40s")


def test_a_sandbox_that_is_lost_is_replaced(network: NodeClient, control_plane: ControlPlane) -> None:
    control_plane.apply(POD)
    ready(control_plane)
    network.kill("default/web")
    wait_until(lambda: LIFE[0] in calls(network)[1:], "the second ADD", timeout=PATIENCE)
    assert calls(network)[:3] == [LIFE[0], LIFE[1], LIFE[0]]
    ready(control_plane)
    assert get(control_plane, "pod/web")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_restart_of_the_kubelet_calls_nothing(network: NodeClient, control_plane: ControlPlane) -> None:
    control_plane.apply(POD)
    ready(control_plane)
    before = network.state().pods
    with suppress(IOFailure):  # the daemon that dies is the one that would answer
        network.signal("kubelet")
    wait_until(lambda: pods(network) == before, "the kubelet has the same sandbox", timeout=PATIENCE)
    assert network.probe([TrafficProbe(kind="http", target=ADDRESS, source="default/web", port=8080)])[0].ok
    assert calls(network) == LIFE[:1]


def pods(master: NodeClient) -> list[NodePodState]:
    """The node's pods; none while its endpoint does not answer."""
    try:
        return master.state(timeout=1.0).pods
    except IOFailure:
        return []


def test_a_static_pod_has_a_uid_of_its_own_and_outlives_its_mirror(
    network: NodeClient, control_plane: ControlPlane
) -> None:
    manifest = json.dumps({"metadata": {"name": "static"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    run(network, f"echo '{manifest}' > {node.MANIFESTS}/static.yaml")
    wait_until(lambda: get(control_plane, "pod/static-master"), "the mirror", timeout=PATIENCE)
    ready(control_plane, "static-master")
    first = get(control_plane, "pod/static-master")["metadata"]
    (state,) = network.state().pods
    assert first["annotations"]["kubernetes.io/config.mirror"] == state.uid != first["uid"]
    control_plane.kubectl("delete", "pod/static-master", "--wait=false")
    wait_until(lambda: mirror_uid(control_plane) not in (None, first["uid"]), "another mirror", timeout=PATIENCE)
    ready(control_plane, "static-master")
    assert calls(network) == LIFE[:1]
    run(network, f"rm {node.MANIFESTS}/static.yaml")
    wait_until(lambda: calls(network) == LIFE, "the static pod has ended", timeout=PATIENCE)
    wait_until(lambda: mirror_uid(control_plane) is None, "the mirror is gone", timeout=PATIENCE)


def mirror_uid(plane: ControlPlane) -> str | None:
    found = get(plane, "pod/static-master")
    return str(found["metadata"]["uid"]) if found else None


@pytest.mark.parametrize("keep_disk", [True, False])
def test_after_a_reboot_the_pod_comes_back(
    network: NodeClient, machines: Machines, control_plane: ControlPlane, keep_disk: bool
) -> None:
    """With its disk the node knows the old sandbox, and what its ADD answered."""
    control_plane.apply(POD)
    ready(control_plane)
    master = machines.fabric.topology.node("master")
    machines.cut_power(master)
    machines.boot(master, keep_disk=keep_disk)
    machines.wait(master)
    run(network, f": > /run/tmp/calls; cp {PLUGIN} {node.CNI_EXECUTABLES}")
    run(network, f"echo '{json.dumps(CONFLIST)}' > {node.CNI_CONFIGURATION}/10-test.conflist")
    wait_until(lambda: LIFE[0] in calls(network), "the next ADD", timeout=PATIENCE)
    assert calls(network)[:2] == [*(["DEL  prevResult"] if keep_disk else []), "ADD netns nothing"][:2]


def test_the_node_reports_the_version_of_its_cluster(network: NodeClient, control_plane: ControlPlane) -> None:
    info = get(control_plane, "node/master")["status"]["nodeInfo"]
    assert (
        info["kubeletVersion"] == json.loads(control_plane.kubectl("version", "-ojson"))["serverVersion"]["gitVersion"]
    )
