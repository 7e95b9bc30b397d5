"""A loop that really blocks is told of while it blocks, and counted; one that does not costs next to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from spiderpool import event_loop
from spiderpool.event_loop import watched
from spiderpool.telemetry import EVENT_LOOP_BLOCKS, EVENT_LOOP_LAG
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

BLOCKING = """
import asyncio, time
from spiderpool import daemon
from spiderpool.telemetry import configure
def look_at_everything():
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        pass
async def work():
    configure("info")
    await asyncio.sleep(0.5)
    look_at_everything()
    await asyncio.sleep(1.0)
daemon.run(work)
"""


STANDING_STILL = """
import asyncio, json, os, signal
from spiderpool import daemon
from spiderpool.telemetry import EVENT_LOOP_BLOCKS, configure
async def work():
    configure("info")
    await asyncio.sleep(0.4)
    {call}
    await asyncio.sleep(1.0)
    found = {{each.name: each.value for each in next(iter(EVENT_LOOP_BLOCKS.collect())).samples}}
    name = "spiderpool_event_loop_block_seconds"
    print(json.dumps({{"blocks": found[name + "_count"], "seconds": found[name + "_sum"]}}))
daemon.run(work)
"""


def blocks() -> tuple[float, float]:
    """How many were counted, and their seconds in all."""
    found = {sample.name.rpartition("_")[2]: sample.value for sample in next(iter(EVENT_LOOP_BLOCKS.collect())).samples}
    return found["count"], found["sum"]


def slow_answers() -> float:
    """How often the loop took longer than half a second to answer."""
    samples = next(iter(EVENT_LOOP_LAG.collect())).samples
    found = {sample.labels["le"]: sample.value for sample in samples if "le" in sample.labels}
    return found["+Inf"] - found["0.5"]


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_blocked_loop_is_counted_and_a_busy_one_is_not() -> None:
    (count, seconds), slow = blocks(), slow_answers()
    with watched(asyncio.get_running_loop()):
        await asyncio.sleep(0.3)
        for _ in range(6):
            block(0.1)
            await asyncio.sleep(0)
        assert (blocks(), slow_answers()) == ((count, seconds), slow)
        block(1.2)
        await eventually(lambda: (blocks()[0], slow_answers()) == (count + 1, slow + 1))
    assert 0.7 < blocks()[1] - seconds < 5.0


def test_a_daemon_logs_where_its_loop_is_blocked_while_it_is() -> None:
    output = subprocess.run([sys.executable, "-c", BLOCKING], capture_output=True, text=True, timeout=30, check=True)
    lines = [json.loads(line) for line in output.stdout.splitlines()]
    blocked, over, *_ = [line for line in lines if line.get("component") == "event-loop"]
    assert blocked["event"] == "event loop blocked"
    assert any("look_at_everything" in each for each in blocked["where"])
    assert over["event"] == "event loop goes on"
    assert over["seconds"] >= 1.0


@pytest.mark.parametrize("call", ["os.kill(os.getpid(), signal.SIGSTOP)", "sum(range(2 * 10**8))"])
def test_a_process_that_stands_still_is_told_of_afterwards(call: str) -> None:
    """Once stopped, once in a function that does not let go of the interpreter."""
    daemon = subprocess.Popen([sys.executable, "-c", STANDING_STILL.format(call=call)], stdout=subprocess.PIPE)
    if "SIGSTOP" in call:
        assert os.WIFSTOPPED(os.waitpid(daemon.pid, os.WUNTRACED)[1])
        time.sleep(1.5)
        daemon.send_signal(signal.SIGCONT)
    output, _ = daemon.communicate(timeout=30)
    lines = [json.loads(line) for line in output.splitlines()]
    told = [line["seconds"] for line in lines if line.get("event") == "process stood still"]
    assert len(told) == 1
    assert next(line for line in lines if "blocks" in line) == {"blocks": 1, "seconds": pytest.approx(told[0], abs=0.1)}


async def test_a_watch_ends_with_its_context() -> None:
    with watched(asyncio.get_running_loop()):
        assert any(thread.name == "event-loop-watch" for thread in threading.enumerate())
    await eventually(lambda: all(thread.name != "event-loop-watch" for thread in threading.enumerate()))


async def test_a_watch_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a hundredth of the period: as many looks in a second as otherwise in a hundred seconds."""
    monkeypatch.setattr(event_loop, "PERIOD", event_loop.PERIOD / 100)
    before = time.process_time()
    with watched(asyncio.get_running_loop()):
        await asyncio.sleep(1.0)
    assert (time.process_time() - before) / 100 < 0.002, "of one CPU"
