"""One agent of a node works at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.agent import main, sole_agent
from spiderpool.agent.sole_agent import SoleAgent
from spiderpool.errors import IOFailure, NotReady
from spiderpool.settings import AgentSettings
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

HOLD = """
import asyncio, sys
from pathlib import Path
from spiderpool.agent.sole_agent import SoleAgent
async def main():
    async with SoleAgent(Path(sys.argv[1])).held():
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_second_agent_works_once_the_first_has_ended(tmp_path: Path) -> None:
    path, working = tmp_path / "run" / "agent.lock", asyncio.Event()

    async def second() -> None:
        async with SoleAgent(path).held():
            working.set()

    async with SoleAgent(path).held():
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.1)
        assert not working.is_set()
    await waiting
    assert path.stat().st_mode & 0o777 == 0o600


async def test_an_agent_that_waits_in_vain_ends_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole_agent, "PATIENCE", 0.1)
    path = tmp_path / "agent.lock"
    async with SoleAgent(path).held():
        with pytest.raises(NotReady, match="maxSurge of its DaemonSet to 0"):
            async with SoleAgent(path).held():
                pytest.fail("two agents at a time")


async def test_an_agent_does_nothing_before_it_has_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sole_agent, "PATIENCE", 0.0)
    async with SoleAgent(tmp_path / main.LOCK).held():
        with pytest.raises(NotReady, match="another spiderpool-agent"):
            await main.run(AgentSettings(node="n1", socket=tmp_path / "spiderpool.sock"))


async def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLD, str(path), stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    taken = asyncio.create_task(_hold(path))
    await asyncio.sleep(0.1)
    assert not taken.done()
    other.kill()
    await other.wait()
    await eventually(taken.done)


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IOFailure, match="make its folder writable"):
        await _hold(tmp_path / "file" / "agent.lock")


async def _hold(path: Path) -> None:
    async with SoleAgent(path).held():
        pass
