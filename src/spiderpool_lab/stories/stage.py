"""What a story can do: make objects in its own Namespace, look at them, send traffic, end processes, reboot nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spiderpool.errors import IOFailure
from spiderpool_lab import cni_calls
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.cni_calls import CniRecord
from spiderpool_lab.images import SERVER
from spiderpool_lab.node import CNI_EXECUTABLES, MANIFESTS
from spiderpool_lab.node_client import NodeClient
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.real_kubelet import STATIC_PODS
from spiderpool_lab.stories.story import StoryFailed, expect
from spiderpool_lab.topology import NodeKind

PATIENCE = 90.0
"""Seconds for what takes a few, or up to forty on a busy real node."""

Json = dict[str, Any]
T = TypeVar("T")

CALLS_IN_PROGRESS = """
callers=$(grep --files-with-matches --null-data --no-messages '^CNI_COMMAND={command}$' /proc/[0-9]*/environ || true)
grep --no-filename --null-data --no-messages '^CNI_ARGS=' $callers /dev/null | tr '\\0' '\\n'
"""
"""Prints the arguments of each CNI call of a command that is in progress on a node."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how large stories are. Seconds: ``grace`` of a slow end, ``outage`` of the API server.

    ``burst`` pods are made at once. ``crowd`` pods are on one node; with 0 as many as it may have.
    """

    grace: int = 15
    outage: float = 45.0
    burst: int = 10
    crowd: int = 20


LONG = Scale(grace=600, outage=7200.0, burst=30, crowd=0)
"""The scale of a run that takes hours."""


@dataclass(frozen=True, slots=True)
class PluginCall:
    """What a call of a CNI executable is about."""

    plugin: str
    container: str
    namespace: str
    pod: str
    uid: str

    def variables(self, command: str, netns: str) -> dict[str, str]:
        """The variables of the call."""
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.container,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(CNI_EXECUTABLES),
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }


@dataclass(slots=True)
class Stage:
    """A running lab for one story, whose objects are in ``namespace``. ``cuts`` are the power cuts of each node."""

    cluster: LabCluster
    namespace: str
    scale: Scale = Scale()
    cuts: dict[str, list[float]] = field(default_factory=dict)
    kept: dict[str, list[CniRecord]] = field(default_factory=dict)  # node → calls of disks that were thrown away

    @property
    def real(self) -> bool:
        """Whether the nodes have containerd and a kubelet."""
        return self.cluster.nodes is NodeKind.REAL

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return [node.name for node in self.cluster.fabric.topology.nodes]

    def client(self, node: str) -> NodeClient:
        """The client of a node's endpoint."""
        return self.cluster.machines.client(node)

    def run(self, node: str, script: str, *, timeout: float = 30.0) -> str:
        """Run a script of sh on a node. Raises StoryFailed if it fails."""
        done = self.client(node).exec(["sh", "-ec", script], timeout=timeout)
        expect(done.rc == 0, f"{script!r} on {node} succeeds: {done.stderr.strip()}")
        return done.stdout

    # --- objects

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the story's Namespace, for a little longer than it may wait itself."""
        return self.cluster.plane.kubectl(*arguments, "--namespace", self.namespace, timeout=PATIENCE + 10)

    def state(self, *arguments: str) -> str:
        """Run spiderpoolctl as an administrator does. Raises StoryFailed with what it says."""
        plane = self.cluster.plane
        command = [sys.executable, "-m", "spiderpool.cli.main", *arguments, "--kubeconfig", str(plane.admin_kubeconfig)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        expect(done.returncode == 0, f"spiderpoolctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *documents: Json) -> None:
        """Apply objects to the story's Namespace."""
        placed = [{**one, "metadata": {"namespace": self.namespace, **one["metadata"]}} for one in documents]
        self.cluster.plane.apply(yaml.safe_dump_all(placed))

    def objects(self, kind: str, *arguments: str) -> list[Json]:
        """Objects of the story's Namespace."""
        return self.cluster.objects(kind, "--namespace", self.namespace, *arguments)

    def pods(self) -> dict[str, Json]:
        """The pods of the story by name."""
        return {pod["metadata"]["name"]: pod for pod in self.objects("pods")}

    def pod(self, name: str) -> Json:
        """A pod. Raises StoryFailed if there is none of that name."""
        found = self.pods().get(name)
        if found is None:
            raise StoryFailed(f"there is no pod {name}")
        return found

    def addresses(self, name: str) -> list[str]:
        """The addresses that the pod reports, IPv4 first."""
        return _reported(self.pod(name))

    def all_addresses(self) -> dict[str, list[str]]:
        """Pod → the addresses that it reports."""
        return {name: _reported(pod) for name, pod in self.pods().items()}

    def several(self, count: int = 3, node: int = 0) -> list[str]:
        """Start some pods on a node, given by its number, wait until they are Ready, and return their names."""
        names = [f"web-{number}" for number in range(count)]
        self.apply(*(pod(name, self.nodes[node]) for name in names))
        self.ready(*names)
        return names

    def records(self, pod: str) -> dict[str, set[str]]:
        """Interface → the addresses that a pod's records say."""
        found: dict[str, set[str]] = {}
        for spec in self._held():
            if spec["pod"] == pod:
                found.setdefault(spec["interface"], set()).add(spec["address"].partition("/")[0])
        return found

    def holders(self) -> set[str]:
        """The story's pods that hold an address, by the records."""
        return {spec["pod"] for spec in self._held()}

    def _held(self) -> list[Json]:
        specs = [record["spec"] for record in self.cluster.objects("spiderips")]
        return [spec for spec in specs if spec["namespace"] == self.namespace and not spec.get("releasedAt")]

    def delete(self, *names: str, wait: bool = True) -> None:
        """Delete pods, and wait until their objects are gone."""
        self.kubectl("delete", "pod", *names, f"--wait={str(wait).lower()}", f"--timeout={PATIENCE:.0f}s")

    # --- waits

    def wait(self, what: str, condition: Callable[[], T], timeout: float = PATIENCE) -> T:
        """Wait until a condition gives a true value, which is returned. Raises StoryFailed.

        What does not answer meanwhile, such as a node that boots, counts as false.
        """
        deadline = time.monotonic() + timeout
        while True:
            with suppress(IOFailure, StoryFailed):
                if found := condition():
                    return found
            if time.monotonic() > deadline:
                raise StoryFailed(f"not within {timeout:.0f} s: {what}")
            time.sleep(0.3)

    def ready(self, *names: str, timeout: float = PATIENCE) -> None:
        """Wait until pods are Ready."""
        self.wait(f"{', '.join(names)} ready", lambda: set(names) <= set(self.ready_pods()), timeout)

    def ready_pods(self) -> list[str]:
        """The names of the pods that are Ready and not being deleted."""
        return [name for name, pod in self.pods().items() if is_ready(pod) and not is_terminating(pod)]

    def phase(self, name: str, *phases: str, timeout: float = PATIENCE) -> Json:
        """Wait until a pod has one of the phases, and return its status."""
        self.wait(f"{name} {' or '.join(phases)}", lambda: self.pod(name)["status"]["phase"] in phases, timeout)
        return dict(self.pod(name)["status"])

    def free(self, name: str, timeout: float = PATIENCE) -> None:
        """Wait until a pod has no record."""
        self.wait(f"the addresses of {name} are free", lambda: not self.records(name), timeout)

    def node_ready(self, node: str, *, ready: bool = True, timeout: float = PATIENCE) -> None:
        """Wait until the Node is Ready, or is not."""
        self.wait(
            f"node {node} is {'' if ready else 'not '}Ready",
            lambda: (
                any(one["metadata"]["name"] == node and is_ready(one) for one in self.cluster.objects("nodes")) == ready
            ),
            timeout,
        )

    # --- traffic and calls

    def reach(self, source: str, targets: Iterable[str], port: int = 80) -> list[str]:
        """Send an HTTP request from a node to each address; what was wrong, in words."""
        probes = [TrafficProbe(kind="http", target=target, port=port, count=3, timeout=2.0) for target in targets]
        return self.unanswered(source, probes)

    def unanswered(self, node: str, probes: Sequence[TrafficProbe]) -> list[str]:
        """Send probes from a node or its pods; what was not answered, in words."""
        answers = zip(probes, self.client(node).probe(probes), strict=True)
        return [
            f"{probe.source or node} → {probe.target} ({probe.kind}): {answer.error}"
            for probe, answer in answers
            if not answer.ok
        ]

    def serves(self, *names: str, port: int = 80) -> None:
        """Every node reaches every address of pods. Raises StoryFailed."""
        pods = self.pods()
        targets = [address for name in names for address in _reported(pods[name])]
        expect(targets, f"{', '.join(names)} have addresses")
        wrong = [fault for node in self.nodes for fault in self.reach(node, targets, port)]
        expect(not wrong, f"every node reaches every pod: {'; '.join(wrong)}")

    def calls(self, pod: str | None = None) -> list[CniRecord]:
        """The CNI calls of the story's pods, or of one, that its nodes have recorded, in the order of their start."""
        found = [call for node in self.nodes for call in self.calls_of(node)]
        mine = [call for call in found if call.pod.partition("/")[0] == self.namespace]
        return sorted(
            (call for call in mine if pod is None or call.pod == f"{self.namespace}/{pod}"),
            key=lambda call: call.started,
        )

    def calls_of(self, node: str) -> list[CniRecord]:
        """All calls that a node has recorded, also on disks that were thrown away."""
        return [*self.kept.get(node, ()), *self._calls_on_disk(node)]

    def _calls_on_disk(self, node: str) -> list[CniRecord]:
        share = self.cluster.machines.share(self.cluster.fabric.topology.node(node))
        file = share / cni_calls.RECORDS.parent.name / cni_calls.RECORDS.name
        return list(cni_calls.parse(file.read_bytes())) if file.exists() else []

    def shapes(self, pod: str) -> list[str]:
        """The calls of a pod in short."""
        return [call.shape for call in self.calls(pod)]

    def calls_in_progress(self, node: str, command: str) -> set[str]:
        """The story's pods about which a CNI call of a command has begun on a node and not ended."""
        lines = self.run(node, CALLS_IN_PROGRESS.format(command=command)).splitlines()
        found = [cni_calls.parse_arguments(line.removeprefix("CNI_ARGS=")) for line in lines]
        return {one["K8S_POD_NAME"] for one in found if one.get("K8S_POD_NAMESPACE") == self.namespace}

    # --- what goes wrong

    def kill(self, pod: str, container: str | None = None) -> None:
        """End a container of a pod with SIGKILL; without a name the pause process, which holds the sandbox."""
        node = self.pod(pod)["spec"]["nodeName"]
        self.client(node).kill(f"{self.namespace}/{pod}", container)

    def put_manifest(self, node: str, name: str, manifest: Json | None) -> None:
        """Put a manifest into the folder of a node's static pods, or remove it."""
        file, draft = self.static_folder / name, self.static_folder / f".{name}.new"  # kubelets read no hidden files
        text = json.dumps(manifest).replace("'", "")
        self.run(node, f"rm -f {file}" if manifest is None else f"echo '{text}' > {draft}; mv {draft} {file}")

    @property
    def static_folder(self) -> Path:
        """The folder of static pods on every node."""
        return STATIC_PODS if self.real else MANIFESTS

    def plugin_call(
        self, pod: str, uid: str, container: str = "by-hand", plugin: str = "spiderpool-attach"
    ) -> PluginCall:
        """A call by hand for a pod of the story."""
        return PluginCall(plugin, container, self.namespace, pod, uid)

    def call_plugin(self, node: str, command: str, call: PluginCall, *, netns: str = "") -> str:
        """Call the CNI executable on a node by hand, and return its answer. Raises StoryFailed if it fails."""
        assigned = " ".join(f"{key}='{value}'" for key, value in call.variables(command, netns).items())
        request = json.dumps({"cniVersion": "1.0.0", "name": "spiderpool", "type": call.plugin})
        return self.run(node, f"echo '{request}' | env {assigned} {CNI_EXECUTABLES}/{call.plugin}")

    def signal(self, node: str, child: str, number: int = 9) -> None:
        """Send a signal to a daemon of a node: SIGKILL, if no other."""
        itself = not self.real and child == "kubelet"  # it is what would answer
        with suppress(*([IOFailure] if itself else [])):
            self.client(node).signal(child, number)

    def restart(self, node: str, child: str) -> None:
        """Kill a daemon of a node, and wait until it runs again."""
        before = self.wait(f"{node} answers", lambda: self.client(node).state().children)[child]
        self.signal(node, child)
        self.wait(f"{child} of {node} is back", lambda: self.client(node).state().children.get(child, before) != before)

    def cut_power(self, node: str) -> None:
        """Cut the power of a node."""
        self.cluster.machines.cut_power(self.cluster.fabric.topology.node(node))
        self.cuts.setdefault(node, []).append(time.time())

    def boot(self, node: str, *, keep_disk: bool) -> None:
        """Boot a node and wait until it answers."""
        if not keep_disk:
            self.kept.setdefault(node, []).extend(self._calls_on_disk(node))
        machine = self.cluster.fabric.topology.node(node)
        self.cluster.machines.boot(machine, keep_disk=keep_disk)
        self.cluster.machines.wait(machine, timeout=2 * PATIENCE)


def _reported(pod: Json) -> list[str]:
    return [entry["ip"] for entry in pod["status"].get("podIPs", [])]


def is_ready(obj: Json) -> bool:
    """Whether the condition Ready of a pod or Node is true."""
    conditions = obj.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def is_terminating(obj: Json) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def pod(name: str, node: str | None = None, *, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """A pod with one container that serves port 80, for one node if it is given; ``spec`` are fields in snake case."""
    fields = {_camel(key): value for key, value in spec.items()}
    base: Json = {
        "containers": [container()],
        "terminationGracePeriodSeconds": 2,
        "tolerations": [{"operator": "Exists"}],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
    metadata = {"name": name, "labels": {"app": name}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**base, **fields}}


def container(name: str = "web", command: Sequence[str] = (), **fields: Any) -> Json:
    """A container that serves port 80, or runs a command instead."""
    runs: Json = {"command": [*command]} if command else {"ports": [{"containerPort": 80}]}
    more = {_camel(key): value for key, value in fields.items()}
    return {"name": name, "image": SERVER, "imagePullPolicy": "IfNotPresent", **runs, **more}


def script(text: str) -> list[str]:
    """The command of a container that runs a script."""
    return ["sh", "-c", text]


def replicated(kind: str, name: str, replicas: int, **spec: Any) -> Json:
    """A Deployment or StatefulSet of such pods."""
    one, labels = pod(name, **spec), {"app": name}
    template = {"metadata": {"labels": labels, "annotations": one["metadata"]["annotations"]}, "spec": one["spec"]}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        body |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
