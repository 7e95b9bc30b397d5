"""A cluster in which the product is installed by its chart, with an application, a load, and a client that counts."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from msgspec.structs import replace

from spiderpool.core.network.startup_taint import STARTUP_TAINT
from spiderpool.errors import IOFailure
from spiderpool_lab import binaries
from spiderpool_lab.chart import RELEASE
from spiderpool_lab.chart_release import ChartRelease, EarlierVersion
from spiderpool_lab.cluster import LabCluster, LabOptions
from spiderpool_lab.commands import output
from spiderpool_lab.container_runtime import ENDPOINT, NAMESPACE, SOCKET
from spiderpool_lab.images import SERVER
from spiderpool_lab.life_cycle import prober
from spiderpool_lab.life_cycle.earlier import REGISTRY
from spiderpool_lab.life_cycle.prober import Probes
from spiderpool_lab.machines import NodeHardware
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES
from spiderpool_lab.stories import audit
from spiderpool_lab.stories.audit import KernelAddress
from spiderpool_lab.stories.stage import is_ready, is_terminating
from spiderpool_lab.stories.story import expect
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


def options(earlier: EarlierVersion | None = None) -> LabOptions:
    """A lab with real nodes and many addresses, in which the product is installed by its chart."""
    return LabOptions(
        topology=enlarged(SECONDARIES),
        discovery=True,
        nodes=NodeKind.REAL,
        hardware=NodeHardware(memory="3G"),
        by_chart=True,
        earlier=earlier,
    )


class LifeStage:
    """What a case can do on a cluster that is up."""

    def __init__(self, cluster: LabCluster) -> None:
        self.cluster = cluster
        self._notes: list[str] = []
        self._logged: set[int] = set()  # numbers of requests, also when the pod with the log has gone
        self._failures: dict[str, int] = {}  # UID of an Event → how often it happened, also when the Event has gone

    @property
    def release(self) -> ChartRelease:
        """The release of the chart."""
        return self.cluster.release

    def start_application(self) -> None:
        """Start an application with a pod on each node, and its Service."""
        service = {"type": "NodePort", "selector": {"app": "app"}, "ports": [{"port": 80}]}
        self.apply(
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
        self.apply(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "load"}, "spec": job},
            _deployment("crowd", 0),
            _deployment("later", 0),
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

    def apply(self, *documents: Json) -> None:
        """Make objects, or change them."""
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

    def all_probes(self) -> Probes:
        """What the client has counted once each request that it has sent by now was answered or lost."""
        time.sleep(2 * prober.WRITE_INTERVAL)
        sent = self.probes().sent
        self.wait("requests are answered or lost", lambda: all(number >= sent for number in self.probes().open))
        return self.probes()

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
        found = self.cluster.objects("pods", "--namespace", self.release.namespace, "--selector", selector)
        return {pod["metadata"]["uid"]: pod for pod in found}

    def daemons(self) -> list[Json]:
        """The pods of the release that are not ending."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        found = self.cluster.objects("pods", "--namespace", self.release.namespace, "--selector", selector)
        return [pod for pod in found if not is_terminating(pod)]

    def earlier(self) -> set[str]:
        """Which daemons are of the earlier version: the components of pods with its images."""
        return {
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in self.daemons()
            if any(one["image"].startswith(f"{REGISTRY}/") for one in pod["spec"]["containers"])
        }

    @contextmanager
    def elsewhere(self, namespace: str) -> Iterator[None]:
        """Let the release be one in another Namespace while the context lasts."""
        former = self.release
        self.cluster.release = former.elsewhere(namespace)
        try:
            yield
        finally:
            self.cluster.release = former

    def failed_adds(self) -> int:
        """How often a sandbox could not be made since the cluster began, by Events."""
        for event in self.cluster.objects("events", "--field-selector", "reason=FailedCreatePodSandBox"):
            count = (event.get("series") or {}).get("count") or event.get("count") or 1
            self._failures[event["metadata"]["uid"]] = count
        return sum(self._failures.values())

    def started(self, node: str) -> dict[str, str]:
        """When the containers of the application's pods on a node were started, by UID of the pod."""
        return {
            pod["metadata"]["uid"]: status["state"]["running"]["startedAt"]
            for pod in self.cluster.objects("pods", "--selector=app=app", f"--field-selector=spec.nodeName={node}")
            for status in pod["status"].get("containerStatuses", [])
            if "running" in status["state"]
        }

    def cut_power(self, node: str) -> None:
        """Cut the power of a node."""
        self.cluster.machines.cut_power(self.cluster.fabric.topology.node(node))

    def boot(self, node: str, *, keep_disk: bool) -> None:
        """Boot a node with the disk that it had or an empty one, and wait until it takes pods."""
        self._boot(node, keep_disk=keep_disk)
        self.wait(f"{node} takes pods", lambda: any(map(_takes_pods, self._nodes(node))))

    def join(self, node: str) -> None:
        """Boot a node with an empty disk, whose kubelet registers it with the startup taint, and wait until it has."""
        services = self.cluster.machines.services
        tainting = replace(services[node], startup_taint=True)
        self.cluster.machines.services = {**services, node: tainting}
        try:
            self._boot(node, keep_disk=False)
        finally:
            self.cluster.machines.services = services
        self.wait(f"{node} is registered with the taint", lambda: self.waits_for_agent(node))

    def _boot(self, node: str, *, keep_disk: bool) -> None:
        machine = self.cluster.fabric.topology.node(node)
        self.cluster.machines.boot(machine, keep_disk=keep_disk)
        self.cluster.machines.wait(machine, timeout=PATIENCE)

    def set_startup_taint(self, node: str) -> None:
        """Give a node the startup taint."""
        self.cluster.plane.kubectl("taint", "node", node, f"{STARTUP_TAINT}=:NoSchedule")

    def waits_for_agent(self, node: str) -> bool:
        """Whether a node has the startup taint."""
        return any(
            taint["key"] == STARTUP_TAINT for each in self._nodes(node) for taint in each["spec"].get("taints", [])
        )

    def start_on(self, node: str, name: str) -> None:
        """Start a pod that only this node may run."""
        pod = _deployment(name, 1)
        pod["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        self.apply(pod)

    def end(self, name: str) -> None:
        """Delete a Deployment, and wait until its pods are gone."""
        self.cluster.plane.kubectl("delete", "deployment", name)
        self.wait("its pods are gone", lambda: not self.names(name))

    def scheduled(self, app: str) -> bool:
        """Whether a pod of an application has a node."""
        found = self.cluster.objects("pods", "--selector", f"app={app}")
        return any(pod["spec"].get("nodeName") for pod in found)

    def _nodes(self, name: str) -> list[Json]:
        return self.cluster.objects("nodes", "--field-selector", f"metadata.name={name}")

    def drain(self, node: str) -> None:
        """Evict all pods of a node but those of DaemonSets."""
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE:.0f}s")
        self.cluster.plane.kubectl("drain", node, *flags, timeout=PATIENCE + 10)

    def nodes_with_records(self) -> set[str]:
        """The nodes of which pods have SpiderIPs."""
        return {record["spec"]["node"] for record in self.cluster.objects("spiderips")}

    def spread(self) -> None:
        """Let the application run on both nodes again: the pod that replaces one goes to the node without."""
        for name in self.names("app")[1:]:
            self.cluster.plane.kubectl("delete", "pod", name)
        self.wait("the application runs on both nodes", lambda: len(self.ready("app")) == 2)

    def names(self, app: str) -> list[str]:
        """The names of the pods of an application, those that end too."""
        return [pod["metadata"]["name"] for pod in self.cluster.objects("pods", "--selector", f"app={app}")]

    @property
    def copied(self) -> Path:
        """The file with a copy of the store."""
        return self.cluster.directory / "copied.db"

    def restart_kubernetes(self) -> None:
        """Restart all of Kubernetes but the API server."""
        self.cluster.plane.restart_controllers()
        for node in self.cluster.fabric.topology.nodes:
            for daemon in ("kubelet", "kube-proxy"):
                self.cluster.machines.client(node.name).signal(daemon)

    def of_kernels(self, app: str) -> set[KernelAddress]:
        """What the pods of an application have in the nodes' kernels."""
        held = {address for found in self.ready(app).values() for address in found}
        return {each for each in audit.kernel_addresses(self.cluster) if each.address in held}

    def twice_until_gone(self, former: Collection[KernelAddress]) -> list[str]:
        """Wait until some pods are gone from kernels; sentences about when, and what two pods had at once meanwhile."""
        begin, seen = time.monotonic(), dict[str, float]()

        def gone() -> bool:
            found = audit.kernel_addresses(self.cluster)
            for each in audit.twice_in_kernels(found):
                seen[each] = time.monotonic() - begin
            return not {*found}.intersection(former)

        self.cluster.wait_for("pods that the store lacks are gone", gone, 4 * PATIENCE)
        gone_after = f"the last pod that the store lacks was gone {time.monotonic() - begin:.0f} s later"
        return [gone_after, *(f"{each}, until {seconds:.0f} s later" for each, seconds in seen.items())]

    def events(self, *reasons: str) -> Counter[str]:
        """How many Events of each of these reasons the store has."""
        found = [event.get("reason", "") for event in self.cluster.objects("events", "--all-namespaces")]
        return Counter(reason for reason in found if reason in reasons)

    def attention(self) -> list[str]:
        """What needs attention by ``spiderpoolctl status``, in sentences."""
        command = [sys.executable, "-m", "spiderpool.cli.main", "status"]
        lines = output([*command, f"--kubeconfig={self.cluster.plane.admin_kubeconfig}"]).splitlines()
        found = [line.removeprefix("! ") for line in lines if line.startswith("!")]
        expect(bool(lines), "spiderpoolctl status answers")
        return [f"spiderpoolctl status: {line}" for line in found or ["nothing needs attention"]]

    def note(self, *sentences: str) -> None:
        """Keep what a case has seen, for the report."""
        self._notes.extend(sentences)

    def notes(self) -> list[str]:
        """What was kept since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def remove_image(self, node: str, name: str) -> None:
        """Remove an image from a node, as the kubelet does when the disk is full."""
        endpoints = (f"--runtime-endpoint={ENDPOINT}", f"--image-endpoint={ENDPOINT}")
        self._on(node, str(binaries.find("crictl")), *endpoints, "rmi", name)

    def import_image(self, node: str, archive: Path) -> None:
        """Give a node an image."""
        place = ("--address", str(SOCKET), "--namespace", NAMESPACE)
        self._on(node, str(binaries.find("ctr")), *place, "images", "import", str(archive))

    def _on(self, node: str, *command: str) -> None:
        """Run a command on a node. Raises IOFailure if it fails."""
        done = self.cluster.machines.client(node).exec(command, timeout=PATIENCE)
        if done.rc != 0:
            raise IOFailure(f"{' '.join(command)} on {node}: {done.stderr.strip()}")

    def complaints(self, text: str, *, app: str = "") -> list[str]:
        """The messages of Events about sandboxes that could not be made, with some text, and of some pods."""
        found = self.cluster.objects("events", "--field-selector", "reason=FailedCreatePodSandBox")
        return [
            event["message"]
            for event in found
            if text in (event.get("message") or "") and event["involvedObject"]["name"].startswith(app)
        ]

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


def _takes_pods(node: Json) -> bool:
    return is_ready(node) and not node["spec"].get("taints")


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
