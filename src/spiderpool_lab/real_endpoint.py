"""The endpoint of a real node, as a process of its own: it finds the pods' namespaces by containerd's sandboxes.

``python -m spiderpool_lab.real_endpoint FILE`` reads the node's :class:`~spiderpool_lab.node.NodeConfig`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from spiderpool_lab import container_runtime
from spiderpool_lab.node import NodeConfig
from spiderpool_lab.node_client import NodePodState
from spiderpool_lab.node_endpoint import NodeEndpoint, listening


def pods() -> list[NodePodState]:
    """The pods of the node that have a sandbox, oldest first."""
    return [
        NodePodState(sandbox.pod, sandbox.uid, str(sandbox.netns) if sandbox.netns else None, sandbox.container_id)
        for sandbox in container_runtime.sandboxes()
    ]


async def run(address: str) -> None:
    """Serve the endpoint until cancelled."""
    async with listening(NodeEndpoint(pods, container_runtime.kill), address):
        await asyncio.Event().wait()


def main() -> None:
    """Entry point of the ``endpoint`` child of a real node."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeConfig)
    asyncio.run(run(config.node.management))


if __name__ == "__main__":
    main()
