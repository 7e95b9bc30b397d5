"""Whose the addresses are that other plugins of a chain gave: what the coordinator asks, and when."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from spiderpool.api.cni_result import read_result
from tests.agent.chained_node import ChainedNode, on_chained_node
from tests.kernel.environment import World

pytestmark = pytest.mark.lab

FREE = "172.31.199.66"
EVERYWHERE = ["0.0.0.0/0"]


@contextmanager
def calls() -> Iterator[Callable[[Callable[..., object]], int]]:
    """How often functions are called in this thread meanwhile."""
    counts: Counter[CodeType] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        counts[frame.f_code] += event == "call"

    sys.setprofile(count)
    try:
        yield lambda function: counts[function.__code__]
    finally:
        sys.setprofile(None)


def test_where_spiderpool_gave_all_addresses_no_file_of_another_sandbox_is_read(world: World, tmp_path: Path) -> None:
    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        node.gave("web", FREE)
        (tmp_path / "chained" / "other.json").mkdir(parents=True)  # whoever reads it fails
        await node.add("web", path, FREE)
        assert await node.routes() == [FREE]

    on_chained_node(world, tmp_path, body)


def test_the_result_of_the_previous_plugin_is_decoded_once(world: World, tmp_path: Path) -> None:
    async def body(node: ChainedNode) -> None:
        path = await node.pod("web", FREE)
        with calls() as count:
            await node.add("web", path, FREE, ipamCIDR=EVERYWHERE)
        assert count(read_result) == 1

    on_chained_node(world, tmp_path, body)
