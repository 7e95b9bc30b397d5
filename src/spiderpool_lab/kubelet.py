"""A stand-in for kubelet and container runtime, as API server and CNI plugins see them; it runs no containers.

It registers the Node, renews its Lease, and runs the pods bound to it and static ones: creates the network namespace,
calls the CNI plugins, starts a small server for every container port, and reports the status. What it does is held
against what real ones do (tests/stories). ``python -m spiderpool_lab.kubelet FILE`` reads the node's
:class:`~spiderpool_lab.node.NodeConfig`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from spiderpool import __version__
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Node, NodeSpec, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.new_nodes import UNINITIALIZED
from spiderpool.core.network.startup_taint import STARTUP_TAINT
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab import node
from spiderpool_lab.cni_runtime import CniFailure, CniRuntime, Json, has_status
from spiderpool_lab.containers import now
from spiderpool_lab.kubelet_pod import KubeletPod
from spiderpool_lab.node import ClusterServices, NodeConfig
from spiderpool_lab.node_client import NodePodState
from spiderpool_lab.node_endpoint import NodeEndpoint, listening
from spiderpool_lab.pods import PodHost, PodWorker
from spiderpool_lab.retry import retry
from spiderpool_lab.sandboxes import Sandboxes, StoredSandbox
from spiderpool_lab.static_pods import StaticPods

_HEARTBEAT = 10.0
"""Seconds between two reports of the Node, and two renewals of its Lease."""
_POLL_INTERVAL = 0.2
"""Seconds between two searches for a network configuration list."""
_STATUS_INTERVAL = 5.0
"""Seconds between two requests of a kubelet for the runtime's status, each of which calls STATUS."""
_NO_LIST = "cni plugin not initialized"


class NetworkStatus:
    """Whether the runtime's network is ready: it has a configuration list, whose last STATUS succeeded."""

    def __init__(self, runtime: CniRuntime) -> None:
        self._runtime = runtime
        self._refusal = ""

    def network(self) -> Json | None:
        """The list that is used; None while the network is not ready."""
        return None if self.reason else self._runtime.network()

    @property
    def reason(self) -> str:
        """Why the network is not ready; empty if it is."""
        return self._refusal if self._runtime.network() else _NO_LIST

    async def run(self) -> None:
        """Call STATUS again and again, if the list has it."""
        while True:
            network = self._runtime.network()
            if network is None or not has_status(network):
                self._refusal = ""
            else:
                await self._call_status(network)
            await asyncio.sleep(_STATUS_INTERVAL)

    async def _call_status(self, network: Json) -> None:
        try:
            await self._runtime.status(network)
            self._refusal = ""
        except CniFailure as failure:
            self._refusal = failure.message


_WHOLE_LIST = {"$patch": "replace"}
"""Replaces the list of a Node's addresses: a strategic merge by type would refuse two of one type."""

WAITS_FOR_CLOUD = Taint(UNINITIALIZED, "true", "NoSchedule")
"""The taint with which a kubelet registers its Node when it runs with ``--cloud-provider=external``."""
WAITS_FOR_AGENT = Taint(STARTUP_TAINT, effect="NoSchedule")
"""The taint of ``--register-with-taints``, in a lab that has it."""


class Kubelet:
    """The kubelet of one node. ``pods`` are the workers of its pods by UID, shared with the node's endpoint.

    The Node is registered with ``taints``.
    """

    def __init__(
        self, host: PodHost, status: NetworkStatus, pods: dict[str, PodWorker], taints: Sequence[Taint] = ()
    ) -> None:
        self._taints = taints
        self._status = status
        self.name = host.node
        self.pods = pods  # pod UID → worker
        self._host = host
        self._client = host.client
        self._tasks = asyncio.TaskGroup()
        self._statics = StaticPods(node.MANIFESTS, host, self._start)
        self._version = ""

    async def run(self) -> None:
        """Run until cancelled."""
        async with self._tasks as tasks:
            for work in (self._keep_node(), self._keep_lease(), self._keep_pods(), self._statics.run()):
                tasks.create_task(work)
            for service in (self._host.recorder, self._host.sandboxes, self._status):
                tasks.create_task(service.run())

    # --- the Node

    async def _keep_node(self) -> None:
        """Create the Node, then report its condition every 10 s, and at once when it changes."""
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        registered = Node(
            metadata=ObjectMeta(name=self.name, labels=labels), spec=NodeSpec(taints=list(self._taints) or None)
        )
        await retry(partial(self._client.create, registered))
        await retry(self._read_version)
        while True:
            reason, since = self._status.reason, now()
            while self._status.reason == reason:
                await retry(partial(self._report_node, reason, since))
                await self._wait_for_change(reason)

    async def _read_version(self) -> None:
        """The version of the cluster, which is that of its kubelets."""
        self._version = json.loads(await self._client.get_raw("version"))["gitVersion"]

    async def _wait_for_change(self, reason: str) -> None:
        for _ in range(int(_HEARTBEAT / _POLL_INTERVAL)):
            await asyncio.sleep(_POLL_INTERVAL)
            if self._status.reason != reason:
                return

    async def _report_node(self, reason: str, since: str) -> None:
        capacity = {"cpu": str(os.cpu_count()), "memory": "1Gi", "pods": "110"}
        addresses = [*(("InternalIP", address) for address in self._host.addresses), ("Hostname", self.name)]
        status = {
            "addresses": [_WHOLE_LIST, *({"type": kind, "address": address} for kind, address in addresses)],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [_ready_condition(reason, since)],
            "nodeInfo": _node_info(self._version),
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

    async def _keep_pods(self) -> None:
        """Watch the pods bound to this node; sandboxes of pods that are bound no more are stopped."""
        bound = Informer(self._client, KubeletPod, fields=f"spec.nodeName={self.name}")
        bound.subscribe(self._observe)
        self._tasks.create_task(self._stop_orphans(bound))
        await bound.run()

    async def _stop_orphans(self, bound: Informer[KubeletPod]) -> None:
        """Stop what pods have left that were deleted while no kubelet ran."""
        while not bound.ready:
            await asyncio.sleep(_POLL_INTERVAL)
        sandboxes = self._host.sandboxes
        for stored in [each for uid in sandboxes.uids() - self.pods.keys() for each in sandboxes.of(uid)]:
            await self._until_stopped(stored)

    async def _until_stopped(self, stored: StoredSandbox) -> None:
        while True:
            try:
                return await self._host.sandboxes.stop(stored)
            except CniFailure as failure:
                print(f"orphaned sandbox of {stored.sandbox.name}: {failure.message}", flush=True)
                await asyncio.sleep(_STATUS_INTERVAL)

    def _observe(self, old: KubeletPod | None, new: KubeletPod | None) -> None:
        """Handle a change of a pod. Pods are told apart by UID: a new pod may have the name of an old one."""
        if mirrored := (new or old or KubeletPod()).mirror_of:
            self._statics.observe(mirrored, new)
            return
        if old and (new is None or new.metadata.uid != old.metadata.uid):
            self._stop_worker(old)
        if new is None:
            return
        if worker := self.pods.get(new.metadata.uid or ""):
            worker.observe(new)
        elif not new.finished:
            self._start(PodWorker(new, self._host))

    def _start(self, worker: PodWorker) -> None:
        self.pods[worker.uid] = worker
        task = self._tasks.create_task(worker.run())
        task.add_done_callback(lambda _: self._forget(worker))

    def _stop_worker(self, pod: KubeletPod) -> None:
        if worker := self.pods.get(pod.metadata.uid or ""):
            worker.vanish()
            self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """Drop a worker that has ended and whose object is gone. Earlier, a late event would start the pod again."""
        if worker.done and worker.vanished:
            self.pods.pop(worker.uid, None)


def _ready_condition(unready: str, since: str) -> Json:
    ready = not unready
    message = (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        f"message:Network plugin returns error: {unready}"
    )
    return {
        "type": "Ready",
        "status": str(ready),
        "reason": "KubeletReady" if ready else "KubeletNotReady",
        "message": "kubelet is posting ready status" if ready else message,
        "lastHeartbeatTime": now(),
        "lastTransitionTime": since,
    }


def _node_info(version: str) -> Json:
    system = os.uname()
    return {
        "kubeletVersion": version,
        "kernelVersion": system.release,
        "osImage": "Spiderpool lab node",
        "operatingSystem": "linux",
        "architecture": "amd64",
        "containerRuntimeVersion": f"spiderpool-lab://{__version__}",
        "machineID": "",
        "systemUUID": "",
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }


async def run(config: NodeConfig) -> None:
    """Serve the node's endpoint, and run a kubelet if the node is part of a cluster."""
    pods: dict[str, PodWorker] = {}
    endpoint = NodeEndpoint(lambda: [_pod_state(worker) for worker in pods.values()], partial(_kill, pods))
    async with listening(endpoint, config.node.management):
        if config.services is None:
            await asyncio.Event().wait()
        else:
            await _run_kubelet(config, config.services, pods)


def _kill(pods: Mapping[str, PodWorker], pod: str, container: str | None) -> None:
    """End a container of a pod, or its sandbox. Raises KeyError if there is none."""
    {worker.key: worker for worker in pods.values() if worker.sandbox is not None}[pod].kill(container)


def _pod_state(worker: PodWorker) -> NodePodState:
    sandbox = worker.sandbox
    netns, container = (str(sandbox.netns), sandbox.container_id) if sandbox else (None, None)
    return NodePodState(worker.key, worker.uid, netns, container)


async def _run_kubelet(config: NodeConfig, services: ClusterServices, pods: dict[str, PodWorker]) -> None:
    times = services.stand_in
    runtime = CniRuntime(node.CNI_CONFIGURATION, node.CNI_EXECUTABLES, seed=times.seed)
    status = NetworkStatus(runtime)
    taints = [WAITS_FOR_CLOUD] if services.external_cloud else []
    taints += [WAITS_FOR_AGENT] if services.startup_taint else []
    async with Client.load(Path(services.kubelet_kubeconfig)) as client:
        host = PodHost(
            config.name,
            config.node.enis[0].own_addresses,
            client,
            Recorder(client, "kubelet", config.name),
            Sandboxes(node.DISK / "sandboxes", runtime, times),
            status.network,
            times,
        )
        await Kubelet(host, status, pods, taints).run()


def main() -> None:
    """Entry point of the node's ``kubelet`` child."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeConfig)
    asyncio.run(run(config))


if __name__ == "__main__":
    main()
