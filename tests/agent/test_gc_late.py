"""Garbage collection of a node while its cache of pods is late, or a call is under way."""

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
from spiderpool.agent.network_status import NetworkStatusPublisher
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
LIST = {"cniVersion": "1.0.0", "name": "default", "plugins": [PLUGIN]}


@dataclass
class Collecting:
    """The collection of a node, whose kernel is simulated."""

    node: AddressingNode
    kernel: SimulatedKernel
    attacher: Attacher
    gc: NodeGC

    async def attach(self, name: str) -> None:
        """ADD of all interfaces of a pod."""
        args = self.node.args(name)
        namespace = self.kernel.create(name, f"default/{name}", args.uid)
        config = PluginConfig(cniVersion="1.0.0", name="ours", type="spiderpool-attach")
        pod = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={args.uid}"
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": name,
            "CNI_NETNS": namespace.path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": pod,
        }
        await self.attacher.add(CNICall("spiderpool-attach", environment, msgspec.json.encode(config)), config)


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
            NetworkStatusPublisher(node.client),
            node.account,
            node.recorder,
            kernel,
        )
        attacher = Attacher(node.cluster, node.addresses, node.attached, effects)
        coordinator = CoordinatorPlugin(node.cluster, AttachmentStore(folder / "chained"), node.attached)
        gc = NodeGC(node.cluster, node.addresses, attacher, coordinator, node.ipam)
        yield Collecting(node, kernel, attacher, gc)


async def test_a_sandbox_whose_add_is_under_way_is_no_garbage(tmp_path: Path) -> None:
    async with collecting(tmp_path) as one:
        adding = asyncio.create_task(one.attach("p"))
        await eventually(lambda: [*one.attacher.sandboxes()])
        assert await one.attacher.collect("ours", set()) == []
        await adding
        assert [each.container_id for each in one.attacher.sandboxes()] == ["p"]
        assert list(one.node.records.values()) == ["p"]
        assert await one.attacher.collect("ours", set()) == []
        assert not [*one.attacher.sandboxes()], "the runtime says so, and nobody works on it"


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
