"""The life of one pod on a node, from the first sandbox to the deleted object, as a kubelet leads it."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from spiderpool.errors import SpiderpoolError
from spiderpool.lab import kubeapi, namespaces
from spiderpool.lab.cni_runtime import CniFailure, CniRuntime, Sandbox, create_sandbox, pod_addresses
from spiderpool.lab.kubeapi import STRATEGIC_MERGE, ApiRefusal, Json, KubeApi
from spiderpool.lab.pod_servers import Identity, Protocol, serving

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 2.0
_NETWORK_POLL = 0.2


class Running(msgspec.Struct, frozen=True):
    """A pod's sandbox with the network configuration list that it was made by, and the result of that."""

    sandbox: Sandbox
    network: dict[str, Any]
    result: dict[str, Any]


class PodWorker:
    """Brings one pod up, keeps it, takes it down.

    ``sandbox`` is the current one, None while there is none. The pod is history once it is ``done`` here
    and its object has ``vanished``.
    """

    def __init__(self, pod: Json, node: str, node_address: str, api: KubeApi, runtime: CniRuntime) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self.sandbox: Sandbox | None = None
        self._node = node
        self._node_address = node_address
        self._api = api
        self._runtime = runtime
        self._ending = asyncio.Event()
        self.vanished = False
        self.done = False
        self._warnings: dict[str, tuple[str, int]] = {}
        self.observe(pod)

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def observe(self, pod: Json) -> None:
        """Take note of the pod as it is now; a deletion timestamp starts the end of it."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()

    def vanish(self) -> None:
        """The object is gone: take the pod down, there is nothing left to report or delete."""
        self.vanished = True
        self._ending.set()

    async def run(self) -> None:
        """The pod's whole life."""
        if self.pod["spec"].get("hostNetwork"):
            await self._live_on_node()
        else:
            await self._live_in_sandbox()
        if not self.vanished:
            await self._delete_object()
        self.done = True

    async def _live_on_node(self) -> None:
        await self._report(running_status(self.pod, self._node_address, [self._node_address]))
        await self._ending.wait()

    async def _live_in_sandbox(self) -> None:
        await self._report(pending_status(self.pod, self._node_address))
        running = await self._bring_up()
        if running is None:
            return
        identity = Identity(self.key, self._node)
        async with serving(running.sandbox.netns, container_ports(self.pod), identity):
            await self._report(running_status(self.pod, self._node_address, pod_addresses(running.result)))
            await self._ending.wait()
        await self._take_down(running)

    # --- up

    async def _bring_up(self) -> Running | None:
        """Try sandboxes until one has its network; None if the pod is to end before that."""
        delay = _FIRST_DELAY
        while not self._ending.is_set():
            network = self._runtime.network()
            if network is None:
                await self._pause(_NETWORK_POLL)
                continue
            try:
                return await self._try_sandbox(network)
            except SpiderpoolError as error:
                await self._warn("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error.message}")
            await self._pause(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        return None

    async def _try_sandbox(self, network: Json) -> Running:
        annotations = self.pod["metadata"].get("annotations", {})
        sandbox = self.sandbox = create_sandbox(self.namespace, self.name, self.uid, annotations)
        try:
            return Running(sandbox, network, await self._runtime.add(network, sandbox))
        except SpiderpoolError:
            await self._discard(network, sandbox)
            raise

    async def _discard(self, network: Json, sandbox: Sandbox) -> None:
        """One DEL for a sandbox whose ADD failed, as containerd does; its failure changes nothing."""
        try:
            await self._runtime.delete(network, sandbox, None)
        except CniFailure as failure:
            self._say(f"after a failed ADD: {failure.message}")
        self._remove_namespace(sandbox)

    # --- down

    async def _take_down(self, running: Running) -> None:
        """Stop and remove the sandbox: DEL, remove the namespace, DEL again without namespace and result."""
        await self._until_deleted(running, running.result, netns=True)
        self._remove_namespace(running.sandbox)
        await self._until_deleted(running, None, netns=False)

    async def _until_deleted(self, running: Running, result: Json | None, *, netns: bool) -> None:
        """A kubelet asks again until the plugins agree; the pod stays Terminating meanwhile."""
        delay = _FIRST_DELAY
        while True:
            try:
                return await self._runtime.delete(running.network, running.sandbox, result, netns=netns)
            except CniFailure as failure:
                await self._warn("FailedKillPod", f"error killing pod: {failure.message}")
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _remove_namespace(self, sandbox: Sandbox) -> None:
        namespaces.delete(sandbox.netns)
        self.sandbox = None

    async def _delete_object(self) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        await self._tell("DELETE", self._path(), options)

    # --- words to the API server

    async def _report(self, status: Json) -> None:
        body = {"metadata": {"uid": self.uid}, "status": status}
        await self._tell("PATCH", f"{self._path()}/status", body, content=STRATEGIC_MERGE)

    async def _warn(self, reason: str, message: str) -> None:
        """A Warning event on the pod; the same message again only counts the event up."""
        self._say(f"{reason}: {message}")
        name, count = self._warnings.get(message, (f"{self.name}.{secrets.token_hex(8)}", 0))
        self._warnings[message] = (name, count + 1)
        events = f"/api/v1/namespaces/{self.namespace}/events"
        if count == 0:
            await self._tell("POST", events, self._event(name, reason, message))
        else:
            body = {"count": count + 1, "lastTimestamp": _now()}
            await self._tell("PATCH", f"{events}/{name}", body, content=STRATEGIC_MERGE)

    def _event(self, name: str, reason: str, message: str) -> Json:
        return {
            "metadata": {"name": name, "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "source": {"component": "kubelet", "host": self._node},
        }

    async def _tell(self, method: str, path: str, body: Json, *, content: str = "application/json") -> None:
        """Say it until it is heard. A refusal is final: the pod is gone or another of that name is there."""
        try:
            await kubeapi.persistently(lambda: self._api.call(method, path, body, content=content))
        except ApiRefusal as refusal:
            self._say(f"{method} {path}: {refusal.message}")

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment when the pod is to end."""
        try:
            await asyncio.wait_for(self._ending.wait(), seconds)
        except TimeoutError:
            return

    def _say(self, line: str) -> None:
        print(f"{self.key}: {line}", flush=True)


def container_ports(pod: Json) -> list[tuple[Protocol, int]]:
    """Every declared container port once; TCP 80 if none is declared."""
    declared = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    ports = {(port.get("protocol", "TCP"), port["containerPort"]) for port in declared}
    return sorted(port for port in ports if port[0] in ("TCP", "UDP")) or [("TCP", 80)]


def pending_status(pod: Json, node_address: str) -> Json:
    """Status of a pod whose sandbox is not there yet."""
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    containers = [_container_status(container, ready=False, state=waiting) for container in pod["spec"]["containers"]]
    conditions = [_condition("Initialized", True), _not_ready("Ready"), _not_ready("ContainersReady")]
    return {
        "phase": "Pending",
        "hostIP": node_address,
        "startTime": _now(),
        "conditions": conditions,
        "containerStatuses": containers,
    }


def running_status(pod: Json, node_address: str, addresses: list[str]) -> Json:
    """Status of a pod that runs and is ready."""
    state = {"running": {"startedAt": _now()}}
    containers = [_container_status(container, ready=True, state=state) for container in pod["spec"]["containers"]]
    return {
        "phase": "Running",
        "hostIP": node_address,
        "podIP": addresses[0] if addresses else None,
        "podIPs": [{"ip": address} for address in addresses],
        "conditions": [_condition(kind, True) for kind in ("Initialized", "Ready", "ContainersReady")],
        "containerStatuses": containers,
    }


def _container_status(container: Json, *, ready: bool, state: Json) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }


def _condition(kind: str, status: bool) -> Json:
    return {"type": kind, "status": str(status), "reason": None, "message": None, "lastTransitionTime": _now()}


def _not_ready(kind: str) -> Json:
    return {**_condition(kind, False), "reason": "ContainersNotReady", "message": "containers are being created"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
