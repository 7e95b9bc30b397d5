"""What a refresh of all pods asks about their addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.agent.json_files import JSONFiles
from tests.agent.sandbox_node import sandbox_node
from tests.support.calls import counted_calls

pytestmark = pytest.mark.unit


async def test_the_files_are_read_as_often_for_many_pods_as_for_one(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        store, counts = AttachmentStore(tmp_path / "chained"), set()
        for number in range(4):
            names = ("eth0", "net1")
            interfaces = (
                InterfaceRecord(name, "", coordinated=True, chain="net", addresses=(f"10.9.{index}.{number}/16",))
                for index, name in enumerate(names)
            )
            store.save(SandboxRecord(f"c{number}", f"{tmp_path}/c{number}", "", (*interfaces,), attached_at=1.0))
            with counted_calls() as calls:
                await one.coordinator.refresh()
            counts.add(calls.of[JSONFiles.names.__name__])
        assert len(counts) == 1
