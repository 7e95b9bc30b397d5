from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from spiderpool.errors import ApiUnavailable, IOFailure, SpiderpoolError
from spiderpool_lab.control_plane import BUMP, EGRESS, NODE_SERVER, PROGRAMS, ControlPlane
from spiderpool_lab.processes import WITH_PARENT, Processes, start_ticks
from tests.support.eventually import wait_until

ALONE = [name for name in PROGRAMS if name != EGRESS]
"""The programs of a control plane that is not in a lab, so has no way to nodes."""

pytestmark = pytest.mark.control_plane

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.test}
spec:
  group: example.test
  scope: Cluster
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, additionalProperties: {type: string}}
"""

PARENT = """
import sys, time
from pathlib import Path
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
directory = Path(sys.argv[1])
ControlPlane(directory, Processes(directory / "processes")).start()
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def parent(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that starts a control plane; killed at the end, and if we are."""
    command = [*WITH_PARENT, sys.executable, "-c", PARENT, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.kill()


def manifest(kind: str, name: str, *, version: str = "v1", **fields: object) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields})


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if start_ticks(pid) is not None]


def recorded_pids(directory: Path) -> list[int]:
    return [json.loads((directory / f"processes/{name}.process").read_text())["pid"] for name in ALONE]


def answers(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def mounted_below(directory: Path) -> bool:
    return str(directory) in Path("/proc/self/mountinfo").read_text()


def shared_memory() -> set[Path]:
    """What is there but for simulations, which run for hours beside other work."""
    return {path for path in Path("/dev/shm").iterdir() if not path.name.startswith("simulation-")}


def test_it_starts_and_stops_without_a_trace(tmp_path: Path) -> None:
    before = shared_memory()
    plane = ControlPlane(tmp_path, Processes(tmp_path / "processes"))
    plane.start()
    pids = recorded_pids(tmp_path)
    assert running(pids) == pids
    assert not mounted_below(tmp_path), "etcd's memory shows outside etcd"

    plane.stop()

    assert running(pids) == []
    assert not answers(plane.server)
    assert shared_memory() <= before
    assert list(tmp_path.rglob("*.sock")) == []


def test_a_restored_store_is_that_of_the_copy_with_raised_revisions_or_its_own(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, Processes(tmp_path / "processes"))
    plane.start()
    try:
        plane.apply(manifest("ConfigMap", "older"))
        plane.copy_store(tmp_path / "copy")
        last = revision(plane, "older")
        for bumped in (True, False):
            plane.apply(manifest("ConfigMap", "newer"))
            plane.kubectl("delete", "configmap", "older", "--ignore-not-found")
            plane.restore_store(tmp_path / "copy", bumped=bumped)
            plane.restart_controllers()
            assert not plane.kubectl("get", "configmap", "newer", "--ignore-not-found")
            assert revision(plane, "older") == last
            plane.apply(manifest("ConfigMap", "next"))
            assert (revision(plane, "next") > BUMP) == bumped
    finally:
        plane.stop()


def revision(plane: ControlPlane, name: str) -> int:
    return int(plane.kubectl("get", "configmap", name, "--output=jsonpath={.metadata.resourceVersion}"))


def test_stop_twice_is_stop_once(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, Processes(tmp_path / "processes"))
    plane.stop()
    plane.stop()


def test_it_dies_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    with parent(tmp_path) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        pids = recorded_pids(tmp_path)
        assert running(pids) == pids
    wait_until(lambda: running(pids) == [], "every process of the control plane has ended")


def test_a_program_that_ends_at_once_is_named_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "assets" / "etcd"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(broken.parent))
    processes = Processes(tmp_path / "processes")
    with pytest.raises(IOFailure, match="etcd ended at once") as failure:
        ControlPlane(tmp_path, processes).start()
    assert "no such luck" in failure.value.details
    assert processes.names() == []


def test_another_object_on_the_same_directory_can_use_it(control_plane: ControlPlane) -> None:
    again = ControlPlane(control_plane.directory, Processes(control_plane.processes.directory))
    assert again.server == control_plane.server
    assert "kube-system" in again.kubectl("get", "namespaces", "-o", "name")


def test_a_running_one_is_not_started_over(control_plane: ControlPlane) -> None:
    with pytest.raises(SpiderpoolError, match="stop it first"):
        control_plane.start()
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_all_four_programs_are_healthy(control_plane: ControlPlane) -> None:
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"
    assert [control_plane.processes.pid(name) is not None for name in ALONE] == [True] * 4


def test_kubectl_tells_why_it_failed(control_plane: ControlPlane) -> None:
    with pytest.raises(SpiderpoolError, match="not found"):
        control_plane.kubectl("get", "namespace", "nowhere")


def test_a_restarted_api_server_waits_for_its_port(control_plane: ControlPlane) -> None:
    control_plane.processes.stop("kube-apiserver")
    server = urlsplit(control_plane.server)
    complaint = f"port {server.port} of kube-apiserver is still in use"
    with socket.create_server((server.hostname, server.port)), pytest.raises(ApiUnavailable, match=complaint):
        control_plane.restart_api_server(timeout=0.2)
    for _ in range(2):
        control_plane.restart_api_server()
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_pod_is_admitted_and_scheduled(control_plane: ControlPlane) -> None:
    pod = {"tolerations": [{"operator": "Exists"}], "containers": [{"name": "main", "image": "example.test/pause"}]}
    node = manifest("Node", "somewhere", status={"capacity": {"pods": "9"}, "allocatable": {"pods": "9"}})
    control_plane.apply(node, manifest("Pod", "early", spec=pod))
    try:
        control_plane.kubectl("wait", "--for=condition=PodScheduled", "pod/early", "--timeout=30s")
        assert control_plane.kubectl("get", "pod", "early", "-o", "jsonpath={.spec.nodeName}") == "somewhere"
    finally:
        control_plane.kubectl("delete", "pod/early", "--force", "--grace-period=0")
        control_plane.kubectl("delete", "node/somewhere")


def test_many_custom_resources_are_written_and_listed(control_plane: ControlPlane) -> None:
    spec = {letter: letter * 9 for letter in "abcdefgh"}
    widgets = [manifest("Widget", f"w{n}", version="example.test/v1", spec=spec) for n in range(50)]
    control_plane.apply(WIDGETS)
    try:
        control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.example.test", "--timeout=30s")
        control_plane.apply(*widgets)
        assert len(control_plane.kubectl("get", "widgets", "-o", "name").splitlines()) == 50
    finally:
        control_plane.kubectl("delete", "crd/widgets.example.test")


def test_a_service_account_without_a_role_may_read_nothing(control_plane: ControlPlane) -> None:
    control_plane.apply(manifest("ServiceAccount", "nobody"))
    kubeconfig = control_plane.service_account_kubeconfig("default", "nobody")
    with pytest.raises(SpiderpoolError, match=r"system:serviceaccount:default:nobody.*cannot list"):
        control_plane.kubectl("--kubeconfig", kubeconfig, "get", "pods")


def test_a_service_account_of_a_node_has_a_token_that_names_it(control_plane: ControlPlane) -> None:
    control_plane.apply(manifest("ServiceAccount", "daemon"), manifest("Node", "somewhere"))
    try:
        for _ in range(2):  # the second time there is the pod
            kubeconfig = control_plane.service_account_kubeconfig("default", "daemon", node="somewhere")
            assert kubeconfig != control_plane.service_account_kubeconfig("default", "daemon")
            told = control_plane.kubectl("--kubeconfig", kubeconfig, "auth", "whoami", "-o", "json")
            extra = json.loads(told)["status"]["userInfo"]["extra"]
            assert extra["authentication.kubernetes.io/node-name"] == ["somewhere"]
        pod = json.loads(control_plane.kubectl("get", "pod", "daemon-somewhere", "-o", "json"))
        assert pod["status"]["phase"] == "Succeeded", "a kubelet would run it"
    finally:
        control_plane.kubectl("delete", "node/somewhere", "pod/daemon-somewhere", "serviceaccount/daemon")


def test_a_service_account_that_is_not_there_gets_no_token(control_plane: ControlPlane) -> None:
    with pytest.raises(SpiderpoolError, match='serviceaccounts \\\\"missing\\\\" not found'):
        control_plane.service_account_kubeconfig("default", "missing")


def test_a_node_may_change_itself_and_no_other(control_plane: ControlPlane) -> None:
    kubeconfig = control_plane.kubeconfig("system:node:one", ["system:nodes"])
    try:
        control_plane.kubectl("--kubeconfig", kubeconfig, "create", "--filename", "-", input=manifest("Node", "one"))
        with pytest.raises(SpiderpoolError, match="is not allowed to modify node"):
            control_plane.kubectl(
                "--kubeconfig", kubeconfig, "create", "--filename", "-", input=manifest("Node", "two")
            )
    finally:
        control_plane.kubectl("delete", "node/one", "--ignore-not-found")


def test_kubeconfig_for_another_server_is_another_file(control_plane: ControlPlane) -> None:
    here = control_plane.kubeconfig("system:node:one", ["system:nodes"])
    there = control_plane.kubeconfig("system:node:one", ["system:nodes"], NODE_SERVER)
    servers = [yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"] for path in (here, there)]
    assert servers == [control_plane.server, "https://198.18.0.1:6443"]
    assert there.stat().st_mode & 0o077 == 0, "others can read the private key"


def test_cluster_looks_as_kubeadm_left_it(control_plane: ControlPlane) -> None:
    configuration = control_plane.kubectl(
        "get", "configmap", "kubeadm-config", "-n", "kube-system", "-o", "jsonpath={.data.ClusterConfiguration}"
    )
    assert yaml.safe_load(configuration)["networking"] == {
        "dnsDomain": "cluster.local",
        "podSubnet": "10.233.64.0/18,fd00:10:233:64::/64",
        "serviceSubnet": "10.233.0.0/18,fd00:10:233::/112",
    }


def test_service_kubernetes_leads_to_the_forwarder(control_plane: ControlPlane) -> None:
    def endpoints() -> list[str]:
        slices = control_plane.kubectl(
            "get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes", "-o", "json"
        )
        found = json.loads(slices)["items"]
        return [
            f"{address}:{item['ports'][0]['port']}" for item in found for address in item["endpoints"][0]["addresses"]
        ]

    wait_until(lambda: endpoints() == ["198.18.0.1:6443"], "the Service leads to the forwarder", timeout=20)


def test_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    with parent(tmp_path) as started:
        record = tmp_path / "processes/kube-apiserver.process"
        wait_until(record.exists, "the API server is started", timeout=30)
        started.send_signal(signal.SIGINT)
        assert started.wait(20) != 0
    assert list(tmp_path.glob("processes/*.process")) == []
    assert subprocess.run(["pgrep", "--full", str(tmp_path)], capture_output=True, check=False).stdout == b""
