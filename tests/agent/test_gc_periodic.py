"""What sandboxes have left behind goes by time: few runtimes ask for it, and none repeats a DEL that nobody heard."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from spiderpool.agent import gc
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.api.cni import PodArgs
from spiderpool.core.network.attachment import SandboxTarget
from tests.agent.sandbox_node import SandboxNode, sandbox_node
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

FOLDERS = ("sandboxes", "chained", "addressed")


def leave(one: SandboxNode, folder: Path) -> None:
    """Files of a sandbox whose namespace is gone, of a write that was interrupted, and of a pod that is gone."""
    AttachmentStore(folder / "sandboxes").save(SandboxRecord("c", "/run/netns/c", "", (InterfaceRecord("eth0", ""),)))
    one.node.containers.note(PodArgs("default", "gone", "uid-of-gone"), "eth0", SandboxTarget("c", ""))
    draft = folder / "chained" / "c.1"
    draft.parent.mkdir(exist_ok=True)
    draft.touch()
    os.utime(draft, (0, 0))


async def test_files_of_what_is_gone_are_removed_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "PERIOD", 0.05)
    async with sandbox_node(tmp_path) as one:
        collecting = asyncio.create_task(one.gc.run())
        for _ in range(3):  # the first time at the start
            leave(one, tmp_path)
            assert all([*(tmp_path / each).iterdir()] for each in FOLDERS)
            await eventually(lambda: not [path for each in FOLDERS for path in (tmp_path / each).iterdir()])
        collecting.cancel()
