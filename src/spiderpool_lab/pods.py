"""Runs one pod on a node as a kubelet does, from its first sandbox to the deletion of its object."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Literal

import msgspec

from spiderpool.api import core_v1
from spiderpool.api.meta import Kind, Object
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool_lab import namespaces
from spiderpool_lab.cni_runtime import CniFailure, CniRuntime, Json, Sandbox, create_sandbox, pod_addresses
from spiderpool_lab.pod_servers import PodIdentity, Protocol, serving
from spiderpool_lab.retry import retry

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 2.0
"""Seconds before a failed ADD or DEL is repeated, doubled each time; shorter than a kubelet's."""
_NETWORK_POLL_INTERVAL = 0.2
"""Seconds between two searches for a network configuration list."""


class ContainerPort(msgspec.Struct, rename="camel"):
    """core/v1 ContainerPort, in part."""

    container_port: int
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")

    def mapping(self) -> Json:
        """The entry of ``portMappings`` that a container runtime makes of it."""
        protocol = self.protocol.lower()
        return {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": protocol,
            "hostIP": self.host_ip,
        }


class KubeletContainer(msgspec.Struct):
    """core/v1 Container, in part."""

    name: str
    image: str = ""
    ports: list[ContainerPort] = []


class KubeletPodSpec(msgspec.Struct, rename="camel"):
    """core/v1 PodSpec, in part."""

    containers: list[KubeletContainer] = []
    host_network: bool = False


class KubeletPod(Object, kw_only=True):
    """core/v1 Pod with its containers, which only a kubelet needs."""

    KIND: ClassVar[Kind] = core_v1.Pod.KIND

    spec: KubeletPodSpec = msgspec.field(default_factory=KubeletPodSpec)
    status: core_v1.PodStatus = msgspec.field(default_factory=core_v1.PodStatus)


class Running(msgspec.Struct, frozen=True):
    """A sandbox that has its network: the network configuration list that was used, and the result of its ADD."""

    sandbox: Sandbox
    network: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodHost:
    """What all pods of a node share; ``addresses`` are the node's, one of each family, IPv4 first."""

    node: str
    addresses: tuple[str, ...]
    client: Client
    recorder: Recorder
    runtime: CniRuntime


class PodWorker:
    """Starts one pod, keeps it running, and stops it when its object is deleted.

    ``sandbox`` is the current one, None while there is none. ``done`` means that nothing of the pod is left on the
    node, ``vanished`` that its object is gone.
    """

    def __init__(self, pod: KubeletPod, host: PodHost) -> None:
        self.pod = pod
        self.uid = pod.metadata.uid or ""
        self.sandbox: Sandbox | None = None
        self.vanished = False
        self.done = False
        self._host = host
        self._ending = asyncio.Event()  # set once the pod has to stop
        self.observe(pod)

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return self.pod.key

    def observe(self, pod: KubeletPod) -> None:
        """Take the pod's current object; with a deletion timestamp the pod is stopped."""
        self.pod = pod
        if pod.terminating:
            self._ending.set()

    def vanish(self) -> None:
        """The object is gone: stop the pod, without reporting a status or deleting the object."""
        self.vanished = True
        self._ending.set()

    async def run(self) -> None:
        """Run the pod until it has been stopped."""
        if self.pod.spec.host_network:
            await self._run_on_node()
        else:
            await self._run_in_sandbox()
        if not self.vanished:
            await self._delete_object()
        self.done = True

    async def _run_on_node(self) -> None:
        host = self._host
        async with serving(None, declared_ports(self.pod), PodIdentity(self.key, host.node)):
            await self._report(running_status(self.pod, host.addresses[0], list(host.addresses)))
            await self._ending.wait()

    async def _run_in_sandbox(self) -> None:
        await self._report(pending_status(self.pod, self._host.addresses[0]))
        running = await self._bring_up()
        if running is None:
            return
        identity = PodIdentity(self.key, self._host.node)
        async with serving(running.sandbox.netns, container_ports(self.pod), identity):
            await self._report(running_status(self.pod, self._host.addresses[0], pod_addresses(running.result)))
            await self._ending.wait()
        await self._take_down(running)

    # --- up

    async def _bring_up(self) -> Running | None:
        """Create sandboxes until one has its network, as a kubelet does; None if the pod is stopped before that."""
        delay = _FIRST_DELAY
        while not self._ending.is_set():
            network = self._host.runtime.network()
            if network is None:
                await self._pause(_NETWORK_POLL_INTERVAL)
                continue
            try:
                return await self._try_sandbox(network)
            except SpiderpoolError as error:
                self._warn("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error.message}")
            await self._pause(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        return None

    async def _try_sandbox(self, network: Json) -> Running:
        meta = self.pod.metadata
        sandbox = create_sandbox(
            meta.namespace or "", meta.name, self.uid, meta.annotations or {}, host_ports(self.pod)
        )
        self.sandbox = sandbox
        try:
            return Running(sandbox, network, await self._host.runtime.add(network, sandbox))
        except SpiderpoolError:
            await self._discard(network, sandbox)
            raise

    async def _discard(self, network: Json, sandbox: Sandbox) -> None:
        """Remove a sandbox whose ADD failed, with one DEL as containerd does, whose failure is only logged."""
        try:
            await self._host.runtime.delete(network, sandbox, None)
        except CniFailure as failure:
            self._log(f"after a failed ADD: {failure.message}")
        self._remove_namespace(sandbox)

    # --- down

    async def _take_down(self, running: Running) -> None:
        """Remove the sandbox as containerd does: DEL, remove the namespace, DEL again without namespace and result."""
        await self._until_deleted(running, running.result, netns=True)
        self._remove_namespace(running.sandbox)
        await self._until_deleted(running, None, netns=False)

    async def _until_deleted(self, running: Running, result: Json | None, *, netns: bool) -> None:
        """Repeat DEL until it succeeds, as a kubelet does; DEL is idempotent. The pod stays Terminating meanwhile."""
        delay = _FIRST_DELAY
        while True:
            try:
                return await self._host.runtime.delete(running.network, running.sandbox, result, netns=netns)
            except CniFailure as failure:
                self._warn("FailedKillPod", f"error killing pod: {failure.message}")
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _remove_namespace(self, sandbox: Sandbox) -> None:
        namespaces.delete(sandbox.netns)
        self.sandbox = None

    # --- reports to the API server

    async def _delete_object(self) -> None:
        meta = self.pod.metadata
        await retry(partial(self._host.client.delete, KubeletPod, meta.name, meta.namespace, uid=self.uid, grace=0))

    async def _report(self, status: Json) -> None:
        """Patch the status. With the UID in it the API server refuses a patch that is meant for an earlier pod."""
        meta, body = self.pod.metadata, {"metadata": {"uid": self.uid}, "status": status}
        patch = partial(
            self._host.client.patch, KubeletPod, meta.name, body, meta.namespace, sub="status", strategic=True
        )
        await retry(patch)

    def _warn(self, reason: str, message: str) -> None:
        self._log(f"{reason}: {message}")
        self._host.recorder.event(self.pod, "Warning", reason, message)

    async def _pause(self, seconds: float) -> None:
        """Wait some seconds, or until the pod has to stop."""
        try:
            await asyncio.wait_for(self._ending.wait(), seconds)
        except TimeoutError:
            return

    def _log(self, line: str) -> None:
        print(f"{self.key}: {line}", flush=True)


def container_ports(pod: KubeletPod) -> list[tuple[Protocol, int]]:
    """Every declared container port once; TCP 80 if none is declared."""
    return declared_ports(pod) or [("TCP", 80)]


def declared_ports(pod: KubeletPod) -> list[tuple[Protocol, int]]:
    """Every declared container port once, without those of SCTP."""
    declared = [port for container in pod.spec.containers for port in container.ports]
    return sorted({(port.protocol, port.container_port) for port in declared if port.protocol != "SCTP"})


def host_ports(pod: KubeletPod) -> list[Json]:
    """The host ports of all containers, as ``portMappings``."""
    declared = (port for container in pod.spec.containers for port in container.ports)
    return [port.mapping() for port in declared if port.host_port]


def pending_status(pod: KubeletPod, node_address: str) -> Json:
    """Status of a pod that has no sandbox yet."""
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    return {
        "phase": "Pending",
        "hostIP": node_address,
        "startTime": now(),
        "conditions": [_condition("Initialized", True), _not_ready("Ready"), _not_ready("ContainersReady")],
        "containerStatuses": _container_statuses(pod, ready=False, state=waiting),
    }


def running_status(pod: KubeletPod, node_address: str, addresses: list[str]) -> Json:
    """Status of a pod that is Running and ready."""
    return {
        "phase": "Running",
        "hostIP": node_address,
        "podIP": addresses[0] if addresses else None,
        "podIPs": [{"ip": address} for address in addresses],
        "conditions": [_condition(kind, True) for kind in ("Initialized", "Ready", "ContainersReady")],
        "containerStatuses": _container_statuses(pod, ready=True, state={"running": {"startedAt": now()}}),
    }


def now() -> str:
    """The current time as Kubernetes writes it, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _container_statuses(pod: KubeletPod, *, ready: bool, state: Json) -> list[Json]:
    common = {"imageID": "", "ready": ready, "started": ready, "restartCount": 0, "state": state}
    return [{"name": container.name, "image": container.image, **common} for container in pod.spec.containers]


def _condition(kind: str, status: bool) -> Json:
    return {"type": kind, "status": str(status), "reason": None, "message": None, "lastTransitionTime": now()}


def _not_ready(kind: str) -> Json:
    return {**_condition(kind, False), "reason": "ContainersNotReady", "message": "containers are being created"}
