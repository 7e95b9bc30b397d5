"""The kubelet stand-in with a real control plane and a CNI plugin that always gives the same address."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool_lab import binaries, node
from spiderpool_lab.backend import NodeBackend, choose
from spiderpool_lab.control_plane import NODE_SERVER, ControlPlane
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.node import ClusterServices
from spiderpool_lab.node_client import NodeClient
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.processes import Processes
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
def master(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A booted node that is part of the cluster and has no network configuration list yet."""
    directory = tmp_path_factory.mktemp("kubelet")
    fabric, processes = Fabric(ONE_NODE, lab_name("kubelet")), Processes(directory / "processes")
    machines = Machines(fabric, processes, directory / "nodes", services={"master": services(control_plane)})
    fabric.up()
    try:
        forward(control_plane, processes, fabric.management)
        machines.start()
        yield machines.client("master")
    finally:
        machines.stop()
        processes.stop_all()
        fabric.down()
        control_plane.kubectl("delete", "node/master", "pod/web", "--ignore-not-found", "--force", "--grace-period=0")


def services(plane: ControlPlane) -> ClusterServices:
    return ClusterServices(
        kubelet_kubeconfig=str(plane.kubeconfig("system:node:master", ["system:nodes"], server=NODE_SERVER)),
        proxy_kubeconfig=str(plane.kubeconfig("system:kube-proxy", server=NODE_SERVER)),
        kube_proxy=str(binaries.find("kube-proxy")),
        external_cloud=True,
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
    assert run(master, "cat /run/tmp/calls").splitlines()[-3:] == [
        "ADD netns nothing",
        "DEL netns prevResult",
        "DEL  nothing",
    ]
    assert run(master, "ls /run/netns") == ""
    wait_until(lambda: master.state().pods == [], "the node has no pod", timeout=PATIENCE)
    assert get(plane, "pod/web") == {}
