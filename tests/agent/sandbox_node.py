"""A node that attaches pods in a simulated kernel, against a pretend API server: no process, no real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec

from spiderpool.agent.attach import Attacher, AttachmentEffects
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.gc import NodeGC
from spiderpool.agent.hostports import HostPorts
from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.api.cni import CNICall, PluginConfig
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from tests.agent.addressing_node import AddressingNode, addressing_node, pool
from tests.simulation.kernel import Ledger, SimulatedKernel
from tests.support.eventually import eventually

ONE = pool("one", "10.0.0.1-10.0.0.9", nodeName=["n1"])
PLUGIN = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
CONFIG = PluginConfig(cniVersion="1.0.0", name="ours", type="spiderpool-attach")
LIST = {"cniVersion": "1.0.0", "name": "default", "plugins": [PLUGIN]}


@dataclass
class SandboxNode:
    """What attaches and collects sandboxes on a node, whose kernel is simulated."""

    node: AddressingNode
    ledger: Ledger
    kernel: SimulatedKernel
    attacher: Attacher
    coordinator: CoordinatorPlugin
    gc: NodeGC

    async def attach(self, container: str) -> None:
        """ADD of all interfaces of the pod in a new sandbox."""
        namespace = self.kernel.create(container, "default/p", self.node.uids["p"])
        await self.attacher.add(self.call("ADD", container, namespace.path), CONFIG)

    async def detach(self, container: str) -> None:
        """DEL of a sandbox of the pod."""
        await self.attacher.delete(self.call("DEL", container, f"/run/netns/n1/{container}"))

    def given(self, container: str) -> bool:
        """Whether a sandbox was given an address, by its file."""
        return any(each.interfaces[0].given for each in self.attacher.sandboxes() if each.container_id == container)

    def call(self, command: str, container: str, netns: str) -> CNICall:
        """A call of the runtime."""
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_UID={self.node.uids['p']}",
        }
        return CNICall("spiderpool-attach", environment, msgspec.json.encode(CONFIG))


@asynccontextmanager
async def sandbox_node(folder: Path, metadata: MetadataAccess | None = None) -> AsyncIterator[SandboxNode]:
    """A node with the pod ``p``."""
    async with addressing_node(folder, ONE) as node:
        spec = NADSpec(msgspec.json.encode(LIST).decode())
        named = ObjectMeta(name="default", namespace="kube-system")
        node.server.put(NetworkAttachmentDefinition(metadata=named, spec=spec))
        await eventually(lambda: node.cluster.networks.get("kube-system/default"))
        await node.pod("p")
        ledger = Ledger()
        kernel = SimulatedKernel("n1", "10.0.0.253", ledger, Random(1))
        metadata = metadata or MetadataAccess()
        effects = AttachmentEffects(
            DelegateExecutor((folder,), folder / "socket"),
            HostPorts(folder / "hostports.json"),
            node.account,
            node.recorder,
            kernel,
            metadata,
        )
        attached = AttachmentStore(folder / "sandboxes", kernel.is_gone)
        attacher = Attacher(node.cluster, node.addresses, attached, effects)
        coordinator = CoordinatorPlugin(node.cluster, AttachmentStore(folder / "chained"), attached, metadata)
        gc = NodeGC(node.cluster, node.addresses, attacher, coordinator, node.ipam)
        yield SandboxNode(node, ledger, kernel, attacher, coordinator, gc)
