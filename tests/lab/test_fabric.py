"""The cloud network comes and goes without a trace, and nodes end with whoever started them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from spiderpool.errors import BadConfig
from spiderpool.lab import backend, namespaces
from spiderpool.lab.backend import Backend
from spiderpool.lab.fabric import RULES, Fabric
from spiderpool.lab.topology import WALKTHROUGH

pytestmark = pytest.mark.lab

OURS = ("spl-scratch-vpc", "spl-scratch-mgmt", "spl-scratch-master", "spl-scratch-worker")

START_AND_WAIT = """
import sys, time
from pathlib import Path
from spiderpool.lab.backend import Backend
from spiderpool.lab.fabric import Fabric
from spiderpool.lab.machines import Machines
from spiderpool.lab.processes import Processes
from spiderpool.lab.topology import WALKTHROUGH

fabric = Fabric(WALKTHROUGH, "scratch", backend=Backend(sys.argv[2]))
fabric.up()
Machines(fabric, Processes(Path(sys.argv[1])), Path(sys.argv[1])).start()
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=[Backend.UML, Backend.NATIVE], ids=lambda kind: kind.value)
def scratch(request: pytest.FixtureRequest) -> Iterator[Fabric]:
    fabric = Fabric(WALKTHROUGH, "scratch", backend=request.param)
    yield fabric
    fabric.down()


def ours() -> list[str]:
    return [name for name in OURS if namespaces.path(name).exists()]


def links_here() -> list[str]:
    output = subprocess.run(["ip", "-j", "address"], capture_output=True, text=True, check=True).stdout
    return [link["ifname"] for link in json.loads(output)]


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_comes_and_goes_without_a_trace(scratch: Fabric) -> None:
    before = links_here()
    scratch.up()
    assert ours()[:2] == list(OURS[:2])
    assert links_here() == before
    scratch.down()
    assert ours() == []
    assert links_here() == before


def test_counts_nothing_at_first(scratch: Fabric) -> None:
    scratch.up()
    cards = {f"{node.name}/{card.name}" for node in WALKTHROUGH.nodes for card in node.cards}
    assert scratch.counters() == {card: dict.fromkeys(RULES, 0) for card in cards}


def test_down_without_up_does_nothing(scratch: Fabric) -> None:
    scratch.down()
    assert ours() == []


def test_up_removes_what_an_earlier_run_left(scratch: Fabric) -> None:
    scratch.up()
    left = subprocess.Popen(["ip", "netns", "exec", scratch.vpc, "sleep", "60"])
    try:
        assert wait_until(lambda: left.pid in namespaces.processes_in(namespaces.path(scratch.vpc)))
        scratch.up()
        assert left.wait(timeout=5) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()
    assert namespaces.processes_in(namespaces.path(scratch.vpc)) == []


def test_nodes_end_with_a_killed_run(scratch: Fabric, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_WAIT, str(tmp_path), scratch.backend.value]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == b"up\n"
            assert nodes_run()
        finally:
            run.kill()
    assert wait_until(lambda: not nodes_run())
    scratch.down()
    assert ours() == []


def nodes_run() -> bool:
    return any(namespaces.processes_in(namespaces.path(name)) for name in OURS)


def test_a_name_too_long_for_a_link_is_refused() -> None:
    node = msgspec.structs.replace(WALKTHROUGH.nodes[0], name="a-very-long-name")
    topology = msgspec.structs.replace(WALKTHROUGH, nodes=(node,))
    with pytest.raises(BadConfig, match="shorten the node's name"):
        Fabric(topology, "scratch")


def test_backend_can_be_chosen_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.OVERRIDE, "native")
    assert backend.choose() is Backend.NATIVE
    monkeypatch.setenv(backend.OVERRIDE, "docker")
    with pytest.raises(BadConfig, match="native or uml"):
        backend.choose()
