"""A stand-in for the kubelet, which behaves as one towards the API server and CNI plugins but runs no containers.

It registers the Node, renews its Lease, and runs the pods bound to it: creates the network namespace, calls the CNI
plugins, starts a small server for every container port, and reports the status. ``python -m spiderpool_lab.kubelet
FILE`` reads the node's :class:`~spiderpool_lab.node.NodeConfig`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Node, NodeSpec, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.cloud.nodes import UNINITIALIZED
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab import node
from spiderpool_lab.cni_runtime import CniRuntime, Json
from spiderpool_lab.go_build import kubernetes_version
from spiderpool_lab.node import ClusterServices, NodeConfig
from spiderpool_lab.node_client import NodePodState
from spiderpool_lab.node_endpoint import NodeEndpoint, listening
from spiderpool_lab.pods import KubeletPod, PodHost, PodWorker, now
from spiderpool_lab.retry import retry

_HEARTBEAT = 10.0
"""Seconds between two reports of the Node, and two renewals of its Lease."""
_POLL_INTERVAL = 0.2
"""Seconds between two searches for a network configuration list."""
_WHOLE_LIST = {"$patch": "replace"}
"""Replaces the list of a Node's addresses: a strategic merge by type would refuse two of one type."""

WAITS_FOR_CLOUD = Taint(UNINITIALIZED, "true", "NoSchedule")
"""The taint with which a kubelet registers its Node when it runs with ``--cloud-provider=external``."""


class Kubelet:
    """The kubelet of one node. ``pods`` are the workers of its pods by UID, shared with the node's endpoint.

    The Node is registered with ``taints``.
    """

    def __init__(self, host: PodHost, pods: dict[str, PodWorker], taints: Sequence[Taint] = ()) -> None:
        self._taints = taints
        self.name = host.node
        self.pods = pods  # pod UID → worker
        self._host = host
        self._client = host.client

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_node())
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._keep_pods(tasks))
            tasks.create_task(self._host.recorder.run())

    # --- the Node

    async def _keep_node(self) -> None:
        """Create the Node, then report its condition every 10 s, and at once when it changes."""
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        registered = Node(
            metadata=ObjectMeta(name=self.name, labels=labels), spec=NodeSpec(taints=list(self._taints) or None)
        )
        await retry(partial(self._client.create, registered))
        while True:
            ready, since = self._has_network(), now()
            while self._has_network() == ready:
                await retry(partial(self._report_node, ready, since))
                await self._wait_for_change(ready)

    def _has_network(self) -> bool:
        return self._host.runtime.network() is not None

    async def _wait_for_change(self, ready: bool) -> None:
        for _ in range(int(_HEARTBEAT / _POLL_INTERVAL)):
            await asyncio.sleep(_POLL_INTERVAL)
            if self._has_network() != ready:
                return

    async def _report_node(self, ready: bool, since: str) -> None:
        capacity = {"cpu": str(os.cpu_count()), "memory": "1Gi", "pods": "110"}
        addresses = [*(("InternalIP", address) for address in self._host.addresses), ("Hostname", self.name)]
        status = {
            "addresses": [_WHOLE_LIST, *({"type": kind, "address": address} for kind, address in addresses)],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [_ready_condition(ready, since)],
            "nodeInfo": _node_info(),
        }
        await self._client.patch(Node, self.name, {"status": status}, sub="status", strategic=True)

    # --- the Lease

    async def _keep_lease(self) -> None:
        while True:
            await retry(self._renew_lease)
            await asyncio.sleep(_HEARTBEAT)

    async def _renew_lease(self) -> None:
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now().replace("Z", ".000000Z")}
        body = {"metadata": {"name": self.name}, "spec": spec}
        await self._client.apply(Lease, body, self.name, "kube-node-lease")

    # --- the pods

    async def _keep_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Watch the pods bound to this node."""
        bound = Informer(self._client, KubeletPod, fields=f"spec.nodeName={self.name}")
        bound.subscribe(partial(self._observe, tasks))
        await bound.run()

    def _observe(self, tasks: asyncio.TaskGroup, old: KubeletPod | None, new: KubeletPod | None) -> None:
        """Handle a change of a pod. Pods are told apart by UID: a new pod may have the name of an old one."""
        if old and (new is None or new.metadata.uid != old.metadata.uid):
            self._stop_worker(old)
        if new is None:
            return
        if worker := self.pods.get(new.metadata.uid or ""):
            worker.observe(new)
        else:
            self._start_worker(tasks, new)

    def _start_worker(self, tasks: asyncio.TaskGroup, pod: KubeletPod) -> None:
        if pod.status.phase in ("Succeeded", "Failed"):
            return
        worker = PodWorker(pod, self._host)
        self.pods[worker.uid] = worker
        task = tasks.create_task(worker.run())
        task.add_done_callback(lambda _: self._forget(worker))

    def _stop_worker(self, pod: KubeletPod) -> None:
        if worker := self.pods.get(pod.metadata.uid or ""):
            worker.vanish()
            self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """Drop a worker that has ended and whose object is gone. Earlier, a late event would start the pod again."""
        if worker.done and worker.vanished:
            self.pods.pop(worker.uid, None)


def _ready_condition(ready: bool, since: str) -> Json:
    message = (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        f"message:there is no network configuration list in {node.CNI_CONFIGURATION} yet"
    )
    return {
        "type": "Ready",
        "status": str(ready),
        "reason": "KubeletReady" if ready else "KubeletNotReady",
        "message": "kubelet is posting ready status" if ready else message,
        "lastHeartbeatTime": now(),
        "lastTransitionTime": since,
    }


def _node_info() -> Json:
    system = os.uname()
    return {
        "kubeletVersion": kubernetes_version(),
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
    """Serve the node's endpoint, and run a kubelet if the node is part of a cluster."""
    pods: dict[str, PodWorker] = {}
    endpoint = NodeEndpoint(lambda: [_pod_state(worker) for worker in pods.values()])
    async with listening(endpoint, config.node.management):
        if config.services is None:
            await asyncio.Event().wait()
        else:
            await _run_kubelet(config, config.services, pods)


def _pod_state(worker: PodWorker) -> NodePodState:
    sandbox = worker.sandbox
    netns, container = (str(sandbox.netns), sandbox.container_id) if sandbox else (None, None)
    return NodePodState(worker.key, worker.uid, netns, container)


async def _run_kubelet(config: NodeConfig, services: ClusterServices, pods: dict[str, PodWorker]) -> None:
    runtime = CniRuntime(node.CNI_CONFIGURATION, node.CNI_EXECUTABLES)
    taints = [WAITS_FOR_CLOUD] if services.external_cloud else []
    async with Client.load(Path(services.kubelet_kubeconfig)) as client:
        recorder = Recorder(client, "kubelet", config.name)
        host = PodHost(config.name, config.node.enis[0].own_addresses, client, recorder, runtime)
        await Kubelet(host, pods, taints).run()


def main() -> None:
    """Entry point of the node's ``kubelet`` child."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeConfig)
    asyncio.run(run(config))


if __name__ == "__main__":
    main()
