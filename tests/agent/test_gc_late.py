"""What late calls and garbage collection leave alone: pods that the cache lacks, and sandboxes being attached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
import pytest

from spiderpool.agent.attach import Attacher, AttachmentEffects
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.gc import NodeGC
from spiderpool.agent.hostports import HostPorts
from spiderpool.api.cni import CNICall, PluginConfig
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from tests.agent.addressing_node import AddressingNode, addressing_node, pool
from tests.simulation.kernel import Ledger, SimulatedKernel
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ONE = pool("one", "10.0.0.1-10.0.0.9", nodeName=["n1"])
PLUGIN = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
CONFIG = PluginConfig(cniVersion="1.0.0", name="ours", type="spiderpool-attach")
LIST = {"cniVersion": "1.0.0", "name": "default", "plugins": [PLUGIN]}


@dataclass
class Collecting:
    """The collection of a node, whose kernel is simulated."""

    node: AddressingNode
    kernel: SimulatedKernel
    attacher: Attacher
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
async def collecting(folder: Path) -> AsyncIterator[Collecting]:
    """A node with the pod ``p``."""
    async with addressing_node(folder, ONE) as node:
        spec = NADSpec(msgspec.json.encode(LIST).decode())
        metadata = ObjectMeta(name="default", namespace="kube-system")
        node.server.put(NetworkAttachmentDefinition(metadata=metadata, spec=spec))
        await eventually(lambda: node.cluster.networks.get("kube-system/default"))
        await node.pod("p")
        kernel = SimulatedKernel("n1", "10.0.0.253", Ledger(), Random(1))
        effects = AttachmentEffects(
            DelegateExecutor((folder,), folder / "socket"),
            HostPorts(folder / "hostports.json"),
            node.account,
            node.recorder,
            kernel,
        )
        attached = AttachmentStore(folder / "sandboxes", kernel.is_gone)
        attacher = Attacher(node.cluster, node.addresses, attached, effects)
        coordinator = CoordinatorPlugin(node.cluster, AttachmentStore(folder / "chained"), attached)
        gc = NodeGC(node.cluster, node.addresses, attacher, coordinator, node.ipam)
        yield Collecting(node, kernel, attacher, gc)


async def test_a_sandbox_whose_add_is_under_way_is_no_garbage(tmp_path: Path) -> None:
    async with collecting(tmp_path) as one:
        adding = asyncio.create_task(one.attach("c"))
        await eventually(lambda: [*one.attacher.sandboxes()])
        assert await one.attacher.collect("ours", set()) == []
        await adding
        assert [each.container_id for each in one.attacher.sandboxes()] == ["c"]
        assert list(one.node.records.values()) == ["p"]
        assert await one.attacher.collect("ours", set()) == []
        assert not [*one.attacher.sandboxes()], "the runtime says so, and nobody works on it"


async def test_a_late_del_leaves_the_address_to_a_sandbox_that_has_no_interface_yet(tmp_path: Path) -> None:
    async with collecting(tmp_path) as one:
        await one.attach("former")
        adding = asyncio.create_task(one.attach("present"))
        await eventually(lambda: one.given("present"), "its address, for which it looks for others that use it")
        assert not await one.kernel.has_link("/run/netns/n1/present", "eth0")
        one.node.cluster.pods.forget(one.node.server.stored(Pod)["default/p"])
        await one.detach("former")
        assert list(one.node.records.values()) == ["p"]
        await adding
        await one.detach("present")
        assert one.node.records == {}


async def test_the_address_of_a_pod_that_the_cache_does_not_show_yet_is_no_garbage(tmp_path: Path) -> None:
    async with collecting(tmp_path) as one:
        first = await one.node.add("p", "c")
        one.node.containers.forget(one.node.uids["p"], "eth0", "c")
        stored = one.node.server.stored(Pod)["default/p"]
        one.node.cluster.pods.forget(stored)
        await one.gc.collect_addresses()
        assert one.node.records == {first: "p"}
        one.node.server.remove(stored)
        await one.gc.collect_addresses()
        assert one.node.records == {}
