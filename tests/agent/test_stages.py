"""Each stage of an ADD is measured, for both plugins that give addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.errors import AddressInUse
from spiderpool.telemetry import STAGES
from tests.agent.addressing_node import addressing_node
from tests.agent.sandbox_node import sandbox_node
from tests.agent.test_ipam import ONE

pytestmark = pytest.mark.unit


def counts() -> dict[str, float]:
    """How often each stage was measured."""
    name = "spiderpool_add_stage_duration_seconds_count"
    return {stage: REGISTRY.get_sample_value(name, {"stage": stage}) or 0.0 for stage in STAGES}


def since(before: dict[str, float]) -> dict[str, float]:
    return {stage: number - before[stage] for stage, number in counts().items()}


async def test_of_a_pod_that_the_agent_attaches(tmp_path: Path) -> None:
    before = counts()
    async with sandbox_node(tmp_path) as one:
        await one.attach("c")
    assert since(before) == dict.fromkeys(STAGES, 1.0)


async def test_of_addresses_alone(tmp_path: Path) -> None:
    before = counts()
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        await node.add("p", "c")
    assert since(before)["claim"] == 1.0


async def test_an_address_that_something_else_uses_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "spiderpool_ip_conflict_counts_total"
    before = REGISTRY.get_sample_value(name) or 0.0
    async with sandbox_node(tmp_path) as one:

        async def refuse(_: Attachment) -> None:
            raise AddressInUse("another machine has it")

        monkeypatch.setattr(one.kernel, "add", refuse)
        with pytest.raises(AddressInUse):
            await one.attach("c")
    assert REGISTRY.get_sample_value(name) == before + 1
