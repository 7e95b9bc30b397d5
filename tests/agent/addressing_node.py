"""The addresses of one node, from CNI call to record, against a pretend API server: no process, no kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace as changed

from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.addresses import PodAddresses, PodPolicy
from spiderpool.agent.allocator import Allocator
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.containers import Containers
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.record_store import ClusterReads
from spiderpool.agent.repair import RecordRepair
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.agent.takeover import TakeOvers
from spiderpool.api.applications import StatefulSet
from spiderpool.api.cni import IPAMConfig, PodArgs
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Event, Namespace, Node, Pod, PodSpec, PodStatus
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.pod_context import InterfaceRequest
from spiderpool.core.network.attachment import AttachmentPolicy, SandboxTarget
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.kernel.sandboxes import Readings
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

NODE = "n1"
KINDS = (
    *(Pod.KIND, Node.KIND, Namespace.KIND, Event.KIND, SpiderIPPool.KIND, SpiderIP.KIND, SpiderReservedIP.KIND),
    *(NetworkAttachmentDefinition.KIND, SpiderCoordinator.KIND, StatefulSet.KIND, SpiderNode.KIND),
    SpiderIPQuota.KIND,
)


class AddressingNode:
    """The daemon's objects for addresses; everything in it ends with the context of :func:`addressing_node`."""

    def __init__(self, server: ApiServer, client: Client, folder: Path) -> None:
        self.server = server
        self.client = client
        self.uids: dict[str, str] = {}
        self.cluster = ClusterCache(client, NODE)
        self.attached = AttachmentStore(folder / "sandboxes")
        self.containers = Containers(folder / "addressed")
        self.sandboxes = NodeSandboxes(
            self.attached, AttachmentStore(folder / "chained"), self.containers, self.read_kernel
        )
        self.kernel: Readings = {}
        self.account = AccountPublisher(client, self.cluster, self.sandboxes, "boot")
        self.recorder = Recorder(client, "spiderpool-agent", NODE)
        policy = PodPolicy(AttachmentPolicy("kube-system/default", "kube-system"), detection=Detection(True, True))
        self.repair = RecordRepair(self.cluster, self.sandboxes, self.recorder, policy.addresses)
        take_overs = TakeOvers(client, NODE, self.sandboxes, answer_time=0.8)
        self.allocator = Allocator(
            self.cluster.records,
            NodePools(
                NODE,
                self.cluster.pools,
                self.cluster.reserved,
                self.repair.occupied,
                self.cluster.exhausted_quota,
            ),
            reads=ClusterReads(
                partial(self.cluster.owners.is_needed, timeout=2.0),
                self.cluster.is_held,
                take_overs.until_given_up,
                take_overs.why_not,
                take_overs.why_not_moved,
                take_overs.still_moving,
                self.cluster.read_pool,
                self.cluster.read_node,
            ),
        )
        self.addresses = PodAddresses(self.cluster, self.allocator, self.recorder, policy, self.account)
        self.ipam = IPAMPlugin(self.cluster, self.addresses, self.containers, self.account)

    async def read_kernel(self, paths: Collection[str]) -> Readings:
        """The kernel of this node, as `kernel.sandboxes` reads it: what is in :attr:`kernel` now."""
        return {path: self.kernel[path] for path in paths if path in self.kernel}

    async def pod(self, name: str, **status: Any) -> Pod:
        """Make a pod, or change its status, and wait until the node has seen it."""
        known = self.server.stored(Pod).get(f"default/{name}")
        made = known or Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=PodSpec(nodeName=NODE))
        return await self.seen(changed(made, status=PodStatus(**({"phase": "Running"} | status))))

    async def terminating(self, name: str) -> None:
        """Somebody deletes a pod, which goes on for its grace period."""
        key = f"default/{name}"
        known = self.server.stored(Pod)[key]
        await self.seen(changed(known, metadata=changed(known.metadata, finalizers=["example.com/kubelet"])))
        await self.client.delete(Pod, name, "default")
        await eventually(lambda: (pod := self.cluster.pods.get(key)) and pod.terminating)

    async def seen(self, pod: Pod) -> Pod:
        self.server.put(pod)
        stored = self.server.stored(Pod)[pod.key]
        self.uids[pod.name] = stored.metadata.uid or ""
        await eventually(lambda: self.cluster.pods.get(pod.key) == stored)
        return stored

    async def gone(self, name: str) -> None:
        self.server.remove(self.server.stored(Pod)[f"default/{name}"])
        await eventually(lambda: self.cluster.pods.get(f"default/{name}") is None)

    async def moved(self, pool: SpiderIPPool) -> None:
        """A pool is for another node from now on, and this one has seen it."""
        self.server.put(pool)
        await eventually(lambda: self.cluster.pool(pool.name) is None)

    async def add(self, name: str, container: str, interface: str = "eth0", ips: tuple[str, ...] = ()) -> str:
        """ADD; the addresses, without prefix lengths."""
        grants = await self.grants(name, container, interface, ips)
        return " ".join(grant.address.partition("/")[0] for grant in grants)

    async def grants(
        self, name: str, container: str, interface: str = "eth0", ips: tuple[str, ...] = ()
    ) -> tuple[Grant, ...]:
        """ADD; all that is granted."""
        return await self.allocate(name, SandboxTarget(container, ""), interface, ips)

    async def allocate(
        self, name: str, sandbox: SandboxTarget, interface: str = "eth0", ips: tuple[str, ...] = ()
    ) -> tuple[Grant, ...]:
        """ADD of a sandbox whose network namespace is known; all that is granted."""
        args, request = self.args(name), InterfaceRequest(interface, IPAMConfig(type="spiderpool"), ips)
        return await self.ipam.allocate(await self.cluster.living_pod(args), args, sandbox, request)

    async def delete(self, name: str, container: str, interface: str = "eth0") -> None:
        await self.ipam.release(self.args(name), container, interface)

    def args(self, name: str) -> PodArgs:
        """The pod as the runtime calls it, also once it is gone."""
        return PodArgs("default", name, self.uids[name])

    @property
    def records(self) -> dict[str, str]:
        """Pod of each record, by address."""
        return {name: record.spec.pod for name, record in self.server.stored(SpiderIP).items()}

    async def settled(self) -> None:
        """Some time for what must not happen."""
        await asyncio.sleep(0.1)


def pool(name: str, ips: str, **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/16", "ipVersion": 4, "ips": [ips], "gateway": "10.0.255.254"}
    nodes = spec.get("nodeName") or [None]
    labels = {POOL_NODE_LABEL: nodes[0]} if nodes[0] else None
    return SpiderIPPool(
        metadata=ObjectMeta(name=name, labels=labels), spec=IPPoolSpec(**(fields | {"default": True} | spec))
    )


def owned_by(pod: Pod, kind: str, name: str, api_version: str = "apps/v1") -> Pod:
    owner = OwnerReference(api_version, kind, name, f"uid-of-{name}", controller=True)
    return changed(pod, metadata=changed(pod.metadata, ownerReferences=[owner]))


@asynccontextmanager
async def addressing_node(folder: Path, *pools: SpiderIPPool) -> AsyncIterator[AddressingNode]:
    """A node that has read its caches."""
    async with ApiServer(*KINDS) as server, server.client() as client:
        server.put(Node(metadata=ObjectMeta(name=NODE)), *pools)
        node = AddressingNode(server, client, folder)
        work = [asyncio.create_task(each) for each in (node.cluster.run(), node.allocator.run())]
        try:
            await node.cluster.synced(5.0)
            yield node
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)
