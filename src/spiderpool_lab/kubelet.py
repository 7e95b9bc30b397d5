"""A stand-in for the kubelet: what the API server, the network plugins and the tests see of one.

It registers the Node and keeps its Lease, runs the pods bound to it (a network namespace, the CNI plugins, a
small server for every container port instead of containers) and reports their status. ``python -m
spiderpool_lab.kubelet FILE`` reads the node's :class:`~spiderpool_lab.node.NodeConfig`.
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
from spiderpool_lab.node import ClusterServices, NodeConfig
from spiderpool_lab.node_endpoint import NodeEndpoint, listening
from spiderpool_lab.pods import KubeletPod, PodHost, PodWorker, now
from spiderpool_lab.retry import retry

VERSION = "v1.20.2"
_HEARTBEAT = 10.0
_POLL = 0.2
_WHOLE_LIST = {"$patch": "replace"}
"""Entries of a Node's addresses merge by type otherwise, and two of one type are refused."""

WAITS_FOR_CLOUD = Taint(UNINITIALIZED, "true", "NoSchedule")
"""With it a kubelet registers whose option is ``--cloud-provider=external``."""


class Kubelet:
    """The kubelet of one node: its Node object, its Lease and the workers of its pods, by pod UID.

    ``taints`` are those with which the Node is registered.
    """

    def __init__(self, host: PodHost, pods: dict[str, PodWorker], taints: Sequence[Taint] = ()) -> None:
        self._taints = taints
        self.name = host.node
        self.pods = pods
        self._host = host
        self._client = host.client

    async def run(self) -> None:
        """Be a kubelet until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_node())
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._keep_pods(tasks))
            tasks.create_task(self._host.recorder.run())

    # --- the Node

    async def _keep_node(self) -> None:
        """Report the node's condition every 10 s, and at once when it changes."""
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        made = Node(
            metadata=ObjectMeta(name=self.name, labels=labels), spec=NodeSpec(taints=list(self._taints) or None)
        )
        await retry(partial(self._client.create, made))
        while True:
            ready, since = self._has_network(), now()
            while self._has_network() == ready:
                await retry(partial(self._report_node, ready, since))
                await self._wait_for_change(ready)

    def _has_network(self) -> bool:
        return self._host.runtime.network() is not None

    async def _wait_for_change(self, ready: bool) -> None:
        for _ in range(int(_HEARTBEAT / _POLL)):
            await asyncio.sleep(_POLL)
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
        """Follow the pods bound to this node."""
        bound = Informer(self._client, KubeletPod, fields=f"spec.nodeName={self.name}")
        bound.subscribe(partial(self._observe, tasks))
        await bound.run()

    def _observe(self, tasks: asyncio.TaskGroup, old: KubeletPod | None, new: KubeletPod | None) -> None:
        """A pod of the same name may be another one: what counts is the UID."""
        if old and (new is None or new.metadata.uid != old.metadata.uid):
            self._lose(old)
        if new is None:
            return
        if worker := self.pods.get(new.metadata.uid or ""):
            worker.observe(new)
        else:
            self._adopt(tasks, new)

    def _adopt(self, tasks: asyncio.TaskGroup, pod: KubeletPod) -> None:
        if pod.status.phase in ("Succeeded", "Failed"):
            return
        worker = PodWorker(pod, self._host)
        self.pods[worker.uid] = worker
        task = tasks.create_task(worker.run())
        task.add_done_callback(lambda _: self._forget(worker))

    def _lose(self, pod: KubeletPod) -> None:
        if worker := self.pods.get(pod.metadata.uid or ""):
            worker.vanish()
            self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """A worker is kept until both ends are reached: an event that comes late must not start the pod anew."""
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
    async with listening(NodeEndpoint(pods), config.node.management):
        if config.services is None:
            await asyncio.Event().wait()
        else:
            await _run_kubelet(config, config.services, pods)


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
