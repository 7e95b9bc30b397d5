"""A node in a network namespace on which only the plugin coordinator runs, against a pretend API server: no process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.api.cni import CNICall, CoordinatorConfig
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool_lab import namespaces
from tests.agent.addressing_node import NODE, AddressingNode, addressing_node
from tests.kernel.environment import World

LENGTH = 20
BLOCK: dict[str, Any] = {"serviceCIDR": ["10.233.0.0/18"], "overlayPodCIDR": ["10.233.64.0/18"]}


class ChainedNode:
    """The coordinator of a node, whose pods get their interfaces from the test."""

    def __init__(self, world: World, node: AddressingNode, folder: Path) -> None:
        self.world = world
        self.node = node
        self.chained = AttachmentStore(folder / "chained")
        self.coordinator = CoordinatorPlugin(node.cluster, self.chained, AttachmentStore(folder / "sandboxes"))

    async def pod(self, name: str, *addresses: str) -> str:
        """A pod with an interface eth0 that another plugin made; the path of its namespace."""
        await self.node.pod(name)
        path = self.world.pod(name)
        made = f"link add link eth0 name eth0 netns {Path(path).name} type macvlan mode bridge"
        held = (f"address add {address}/{LENGTH} dev eth0" for address in addresses)
        await asyncio.to_thread(self.world.batch, self.world.node, made)
        await asyncio.to_thread(self.world.batch, Path(path), "link set lo up", "link set eth0 up", *held)
        return path

    def gave(self, name: str, address: str) -> None:
        """Spiderpool's IPAM has given an address to a pod's eth0."""
        metadata = ObjectMeta(name=address, uid=f"record-{address}", resourceVersion="1")
        spec = IPSpec(f"{address}/{LENGTH}", "pool", NODE, "default", name, self.node.uids[name], "eth0")
        self.node.cluster.records.informer.note(SpiderIP(metadata=metadata, spec=spec))

    async def add(self, name: str, path: str, *addresses: str, tells_uid: bool = True, **block: Any) -> None:
        """ADD for a pod's eth0, to which the plugin before says it gave the addresses."""
        result = {"cniVersion": "1.0.0", "ips": [{"address": f"{address}/{LENGTH}"} for address in addresses]}
        config = {"cniVersion": "1.0.0", "name": "net", "type": "coordinator", "prevResult": result} | BLOCK | block
        uid = f";K8S_POD_UID={self.node.uids[name]}" if tells_uid else ""
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container(name),
            "CNI_NETNS": path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}{uid}",
        }
        await self.coordinator.add(CNICall("coordinator", environment, b""), CoordinatorConfig(**config))

    async def routes(self) -> dict[str, str]:
        """The node's routes to pods: address → link."""
        lines = (await self.ip("route", "show", "table", "500")).splitlines()
        return {words[0]: words[words.index("dev") + 1] for words in map(str.split, lines)}

    async def ip(self, *words: str) -> str:
        """Run ip(8) on the node."""
        return await asyncio.to_thread(self.world.ip, self.world.node, *words)


def container(name: str) -> str:
    """The ID of a pod's container."""
    return name.encode().hex().ljust(20, "0")


def on_chained_node(world: World, folder: Path, body: Callable[[ChainedNode], Awaitable[None]]) -> None:
    """Run the body of a test in the namespace of the node."""

    async def run() -> None:
        async with addressing_node(folder) as node:
            await body(ChainedNode(world, node, folder))

    namespaces.call_in(world.node, lambda: asyncio.run(run()))
