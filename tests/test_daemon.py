"""How every daemon of ours begins, answers probes, and ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass

import aiohttp
import pytest

from spiderpool import daemon
from spiderpool_lab.ports import free_ports

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

WORKING = """
import asyncio
from spiderpool import daemon
async def work() -> None:
    print("at work", flush=True)
    await asyncio.Event().wait()
daemon.run(work)
"""
FAILING = """
import asyncio
from spiderpool import daemon
from spiderpool.errors import BadConfig, NotReady
async def fail(error: Exception) -> None:
    raise error
async def work() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(NotReady("no lists yet")))
        group.create_task(fail(BadConfig("no such pool")))
daemon.run(work)
"""
UNSET = """
from spiderpool import daemon
from spiderpool.errors import BadConfig
def begin():
    raise BadConfig("SPIDERPOOL_NODE_NAME is missing")
daemon.run(begin)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("program", "messages"), [(FAILING, ["no lists yet", "no such pool"]), (UNSET, ["SPIDERPOOL_NODE_NAME is missing"])]
)
def test_errors_of_ours_are_told_and_end_it(program: str, messages: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert all(message in told for message in messages)
    assert "Traceback" not in told


@dataclass
class Replica:
    lack: str | None
    leading: bool


async def test_probes_and_metrics_of_a_replica() -> None:
    replica, (port,) = Replica("caches are not synced", leading=False), free_ports(1)

    async def get(path: str) -> tuple[int, str]:
        async with http.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()

    async with daemon.listening(daemon.runtime(replica), "127.0.0.1", port), aiohttp.ClientSession() as http:
        assert await get("/v1/runtime/readiness") == (503, "caches are not synced")
        assert await get("/v1/runtime/liveness") == (200, "standing by")
        replica.lack, replica.leading = None, True
        assert await get("/v1/runtime/startup") == (200, "ok")
        assert await get("/v1/runtime/liveness") == (200, "leading")
        status, text = await get("/metrics")
    assert status == 200
    assert "spiderpool_" in text
