"""A cluster in which the product is installed by its chart, with an application, a load, and a client that counts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import IOFailure
from spiderpool_lab.chart import RELEASE
from spiderpool_lab.cluster import LabCluster, LabOptions
from spiderpool_lab.images import SERVER
from spiderpool_lab.life_cycle import prober
from spiderpool_lab.life_cycle.prober import Probes
from spiderpool_lab.machines import NodeHardware
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES
from spiderpool_lab.stories import audit
from spiderpool_lab.stories.stage import is_ready, is_terminating
from spiderpool_lab.topology import NodeKind, enlarged

PATIENCE = 180.0
"""Seconds for what takes a few, or a minute on a busy machine."""
SECONDARIES = 40
"""Secondary addresses of each server's first ENI."""
LOAD = 2
"""Pods of the load at a time: each takes an address, ends after two seconds, and the next one begins."""
PROBER = "prober"
OF_THE_RELEASE = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,roles,rolebindings,serviceaccounts,secrets,configmaps,"
    "services,daemonsets,deployments,jobs,pods,leases,priorityclasses,poddisruptionbudgets"
)

Json = dict[str, Any]


def options() -> LabOptions:
    """A lab with real nodes and many addresses, in which the product is installed by its chart."""
    return LabOptions(
        topology=enlarged(SECONDARIES),
        discovery=True,
        nodes=NodeKind.REAL,
        hardware=NodeHardware(memory="3G"),
        by_chart=True,
    )


class LifeStage:
    """What a case can do on a cluster that is up."""

    def __init__(self, cluster: LabCluster) -> None:
        self.cluster = cluster
        self.release = cluster.release
        self._logged: set[int] = set()  # numbers of requests, also when the pod with the log has gone
        self._failures: dict[str, int] = {}  # UID of an Event → how often it happened, also when the Event has gone

    def start_application(self) -> None:
        """Start an application with a pod on each node, and its Service."""
        service = {"type": "NodePort", "selector": {"app": "app"}, "ports": [{"port": 80}]}
        self._apply(
            _deployment("app", 2),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": service},
        )
        self.wait("the application runs", lambda: len(self.application()) == 2)

    def start_load(self) -> None:
        """Start the load, and make room for the crowd."""
        job = {
            "parallelism": LOAD,
            "completions": 10_000,
            "backoffLimit": 1_000,
            "template": _pod("load", ["sleep", "2"]),
        }
        self._apply(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "load"}, "spec": job},
            _deployment("crowd", 0),
        )

    def start_client(self) -> None:
        """Start the client on the internet, which asks the application's Service by a node port."""
        topology = self.cluster.fabric.topology
        arguments = {
            "--netns": self.cluster.fabric.internet,
            "--bind": topology.internet.client[0],
            "--target": topology.nodes[-1].enis[0].elastic or "",
            "--port": str(self.service()["ports"][0]["nodePort"]),
            "--file": str(self._file),
        }
        words = [word for pair in arguments.items() for word in pair]
        self.cluster.processes.start(PROBER, [sys.executable, "-m", "spiderpool_lab.life_cycle.prober", *words])
        self.wait("the client is answered", lambda: self.probes().answered > 0)
        self.wait("pods log what they answer", self.logged)

    def _apply(self, *documents: Json) -> None:
        self.cluster.plane.apply(yaml.safe_dump_all(documents))

    def service(self) -> Json:
        """The spec of the application's Service."""
        (found,) = self.cluster.objects("services", "--field-selector", "metadata.name=app")
        spec: Json = found["spec"]
        return spec

    @property
    def _file(self) -> Path:
        return self.cluster.directory / "probes.json"

    def probes(self) -> Probes:
        """What the client has counted. Raises IOFailure if it has ended."""
        if self.cluster.processes.pid(PROBER) is None:
            raise IOFailure(f"the prober has ended: {self.cluster.processes.log(PROBER).read_text()}")
        try:
            return prober.read(self._file)
        except FileNotFoundError:
            return Probes()

    def logged(self) -> set[int]:
        """The numbers of the requests that pods of the application have logged.

        A case calls it before it ends one of them, with which its log goes.
        """
        log = self.cluster.plane.kubectl("logs", "--selector=app=app", "--tail=-1", "--ignore-errors")
        self._logged |= prober.logged(log)
        return self._logged

    def application(self) -> dict[str, list[str]]:
        """The addresses of the application's pods that are ready, by UID."""
        return self.ready("app")

    def ready(self, app: str) -> dict[str, list[str]]:
        """The addresses of the pods of an application that are ready and not ending, by UID."""
        return {
            pod["metadata"]["uid"]: [entry["ip"] for entry in pod["status"]["podIPs"]]
            for pod in self.cluster.objects("pods", "--selector", f"app={app}")
            if is_ready(pod) and not is_terminating(pod)
        }

    def agents(self) -> dict[str, Json]:
        """The agents' pods by UID."""
        selector = "app.kubernetes.io/component=spiderpool-agent"
        found = self.cluster.objects("pods", "--namespace", "kube-system", "--selector", selector)
        return {pod["metadata"]["uid"]: pod for pod in found}

    def failed_adds(self) -> int:
        """How often a sandbox could not be made since the cluster began, by Events."""
        for event in self.cluster.objects("events", "--field-selector", "reason=FailedCreatePodSandBox"):
            count = (event.get("series") or {}).get("count") or event.get("count") or 1
            self._failures[event["metadata"]["uid"]] = count
        return sum(self._failures.values())

    def left(self) -> list[str]:
        """What is of the release, by its labels, and the files in the nodes' folders of CNI."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        kubectl = self.cluster.plane.kubectl
        objects = kubectl("get", OF_THE_RELEASE, "--all-namespaces", "--selector", selector, "-o", "name").split()
        command = ["find", str(CNI_EXECUTABLES), str(CNI_CONFIGURATION), "-type", "f"]
        for node in self.cluster.fabric.topology.nodes:
            files = self.cluster.machines.client(node.name).exec(command, timeout=30).stdout.split()
            objects += [f"{file} on {node.name}" for file in files]
        return objects

    def records(self) -> dict[str, str]:
        """The UIDs of the SpiderIPs of the application, by name."""
        return {
            record["metadata"]["name"]: record["metadata"]["uid"]
            for record in self.cluster.objects("spiderips")
            if record["spec"]["pod"].startswith("app-")
        }

    def disorder(self) -> list[str]:
        """Addresses that are twice in kernels, or differ between kernels and records; none if all is well."""
        found = audit.kernel_addresses(self.cluster)
        return audit.twice_in_kernels(found) + audit.unlike_records(audit.record_addresses(self.cluster), found)

    def scale(self, name: str, replicas: int) -> None:
        """Give a Deployment another number of pods."""
        self.cluster.plane.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")

    def pause_load(self, paused: bool) -> None:
        """Let the load make no further pods, or again."""
        self.cluster.plane.kubectl(
            "patch", "job/load", "--type=merge", f'--patch={{"spec":{{"suspend":{str(paused).lower()}}}}}'
        )

    def wait(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until a condition holds. Raises NotReady."""
        self.cluster.wait_for(what, condition, PATIENCE)


def _deployment(name: str, replicas: int) -> Json:
    labels = {"app": name}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": _pod(name, [])}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _pod(name: str, command: list[str]) -> Json:
    """A pod that serves HTTP, or runs a command and ends; those of one name are spread over the nodes."""
    labels = {"app": name}
    container: Json = {"name": "main", "image": SERVER, "imagePullPolicy": "IfNotPresent"}
    container |= {"command": command} if command else {"ports": [{"containerPort": 80}]}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway" if command else "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    spec: Json = {
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "topologySpreadConstraints": [spread],
        **({"restartPolicy": "Never"} if command else {}),
    }
    return {"metadata": {"labels": labels}, "spec": spec}
