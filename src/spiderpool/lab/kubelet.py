"""A stand-in for the kubelet: what the API server, the network plugins and the tests see of one.

It registers the Node and keeps its Lease, runs the pods bound to it (a network namespace, the CNI plugins, a
small server for every container port instead of containers) and reports their status. ``python -m
spiderpool.lab.kubelet FILE`` reads the node's :class:`~spiderpool.lab.node.NodeConfig`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from spiderpool.errors import ApiUnavailable
from spiderpool.lab import kubeapi, node
from spiderpool.lab.cni_runtime import CniRuntime
from spiderpool.lab.endpoint import Endpoint, listening
from spiderpool.lab.kubeapi import STRATEGIC_MERGE, ApiRefusal, Json, KubeApi
from spiderpool.lab.node import NodeConfig
from spiderpool.lab.pods import PodWorker

VERSION = "v1.20.2"
_HEARTBEAT = 10.0
_POLL = 0.5


class Kubelet:
    """The kubelet of one node: its Node object, its Lease and the workers of its pods, by pod UID."""

    def __init__(self, config: NodeConfig, api: KubeApi, runtime: CniRuntime, pods: dict[str, PodWorker]) -> None:
        self.config = config
        self.name = config.name
        self.address = config.node.cards[0].address
        self.api = api
        self.runtime = runtime
        self.pods = pods

    async def run(self) -> None:
        """Be a kubelet until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_node())
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._keep_pods(tasks))

    # --- the Node

    async def _keep_node(self) -> None:
        """Report the node's condition every 10 s, and at once when it changes."""
        await kubeapi.persistently(self._register)
        while True:
            ready = self.runtime.network() is not None
            since = datetime.now(UTC)
            while (self.runtime.network() is not None) == ready:
                await self._tell(partial(self._report_node, ready, since))
                await self._wait_for_change(ready)

    async def _wait_for_change(self, ready: bool) -> None:
        for _ in range(int(_HEARTBEAT / _POLL)):
            await asyncio.sleep(_POLL)
            if (self.runtime.network() is not None) != ready:
                return

    async def _tell(self, work: Callable[[], Awaitable[None]]) -> None:
        """Say it until it is heard; after a refusal the next heartbeat tries again."""
        try:
            await kubeapi.persistently(work)
        except ApiRefusal as refusal:
            _say(refusal.message)

    async def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}}
        try:
            await self.api.call("POST", "/api/v1/nodes", body)
        except ApiRefusal as refusal:
            if refusal.status != 409:
                raise

    async def _report_node(self, ready: bool, since: datetime) -> None:
        capacity = {"cpu": str(os.cpu_count()), "memory": "1Gi", "pods": "110"}
        addresses = {"InternalIP": self.address, "Hostname": self.name}
        status = {
            "addresses": [{"type": kind, "address": address} for kind, address in addresses.items()],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [_ready_condition(ready, since)],
            "nodeInfo": _node_info(),
        }
        await self.api.call("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}, content=STRATEGIC_MERGE)

    # --- the Lease

    async def _keep_lease(self) -> None:
        while True:
            await self._tell(self._renew_lease)
            await asyncio.sleep(_HEARTBEAT)

    async def _renew_lease(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": renewed}
        try:
            await self.api.call("PATCH", f"{leases}/{self.name}", {"spec": spec}, content=STRATEGIC_MERGE)
        except ApiRefusal as refusal:
            if refusal.status != 404:
                raise
            await self.api.call("POST", leases, {"metadata": {"name": self.name}, "spec": spec})

    # --- the pods

    async def _keep_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Follow the pods bound to this node, from a list on after every end of a watch."""
        while True:
            try:
                async for kind, pod in self._pod_events():
                    self._observe(tasks, kind, pod)
            except (ApiUnavailable, ApiRefusal) as error:
                _say(f"pods: {error.message}")
                await asyncio.sleep(_POLL)

    async def _pod_events(self) -> AsyncIterator[tuple[str, Json]]:
        query = f"fieldSelector=spec.nodeName%3D{self.name}"
        listing = await self.api.call("GET", f"/api/v1/pods?{query}")
        for uid in self.pods.keys() - {pod["metadata"]["uid"] for pod in listing["items"]}:
            self._lose(self.pods[uid])
        for pod in listing["items"]:
            yield "ADDED", pod
        async for event in self.api.watch("/api/v1/pods", query, listing["metadata"]["resourceVersion"]):
            if event["type"] == "ERROR":
                raise ApiUnavailable(f"the watch of pods ended: {event['object'].get('message')}")
            yield event["type"], event["object"]

    def _observe(self, tasks: asyncio.TaskGroup, kind: str, pod: Json) -> None:
        worker = self.pods.get(pod["metadata"].get("uid", ""))
        match kind:
            case "ADDED" | "MODIFIED" if worker is None:
                self._adopt(tasks, pod)
            case "ADDED" | "MODIFIED" if worker is not None:
                worker.observe(pod)
            case "DELETED" if worker is not None:
                self._lose(worker)

    def _adopt(self, tasks: asyncio.TaskGroup, pod: Json) -> None:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        worker = PodWorker(pod, self.name, self.address, self.api, self.runtime)
        self.pods[worker.uid] = worker
        task = tasks.create_task(worker.run())
        task.add_done_callback(lambda _: self._forget(worker))

    def _lose(self, worker: PodWorker) -> None:
        worker.vanish()
        self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """A worker is kept until both ends are reached: an event that comes late must not start the pod anew."""
        if worker.done and worker.vanished:
            self.pods.pop(worker.uid, None)


def _ready_condition(ready: bool, since: datetime) -> Json:
    message = (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        f"message:there is no network configuration list in {node.CNI_CONFIGURATION} yet"
    )
    return {
        "type": "Ready",
        "status": str(ready),
        "reason": "KubeletReady" if ready else "KubeletNotReady",
        "message": "kubelet is posting ready status" if ready else message,
        "lastHeartbeatTime": _seconds(datetime.now(UTC)),
        "lastTransitionTime": _seconds(since),
    }


def _seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _node_info() -> Json:
    system = os.uname()
    return {
        "kubeletVersion": VERSION,
        "kubeProxyVersion": VERSION,
        "kernelVersion": system.release,
        "osImage": "Spiderpool lab node",
        "operatingSystem": "linux",
        "architecture": "amd64",
        "containerRuntimeVersion": "spiderpool-lab://0.1.0",
        "machineID": "",
        "systemUUID": "",
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }


async def run(config: NodeConfig) -> None:
    """Serve the node's endpoint, and be a kubelet if the node is part of a cluster."""
    pods: dict[str, PodWorker] = {}
    async with listening(Endpoint(pods), config.node.management):
        if config.services is None:
            await asyncio.Event().wait()
        else:
            await _run_kubelet(config, Path(config.services.kubelet_kubeconfig), pods)


async def _run_kubelet(config: NodeConfig, kubeconfig: Path, pods: dict[str, PodWorker]) -> None:
    runtime = CniRuntime(node.CNI_CONFIGURATION, node.CNI_EXECUTABLES)
    async with kubeapi.connect(kubeconfig) as api:
        await Kubelet(config, api, runtime, pods).run()


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Entry point of the node's ``kubelet`` child."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeConfig)
    asyncio.run(run(config))


if __name__ == "__main__":
    main()
