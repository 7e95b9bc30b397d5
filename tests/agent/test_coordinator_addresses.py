"""Whose the addresses are that other plugins of a chain gave: what the coordinator asks, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.chained_node import ChainedNode, on_chained_node
from tests.kernel.environment import World

pytestmark = pytest.mark.lab

FREE = "172.31.199.66"
EVERYWHERE = ["0.0.0.0/0"]


def test_where_spiderpool_gave_all_addresses_no_file_of_another_sandbox_is_read(world: World, tmp_path: Path) -> None:
    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        node.gave("web", FREE)
        (tmp_path / "chained" / "other.json").mkdir(parents=True)  # whoever reads it fails
        await node.add("web", path, FREE)
        assert await node.routes() == [FREE]

    on_chained_node(world, tmp_path, body)
