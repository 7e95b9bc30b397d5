"""The CNI executable where the agent is away, comes, or hangs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.shim import ShimTimer

from spiderpool_lab.executable import build

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("musl-gcc")), reason="needs a C compiler"),
]

RESTART, ANSWER = 10, 5
"""Seconds that STATUS and VERSION wait for the agent's socket, and for its answer."""


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("cni"))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket at ``agent.sock`` of the test's folder, on which nobody listens yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "agent.sock"))
        yield sock


def run(executable: Path, folder: Path, command: str) -> tuple[int, dict[str, Any], float]:
    """Exit status, what it printed, and the seconds it took."""
    environment = {"SPIDERPOOL_SOCKET": str(folder / "agent.sock"), "CNI_COMMAND": command}
    begun = time.monotonic()
    done = subprocess.run([executable], input=b"{}", capture_output=True, env=environment, timeout=60, check=False)
    answer = json.loads(done.stdout) if done.stdout else {}
    return done.returncode, answer, time.monotonic() - begun


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC"])
def test_work_is_to_be_tried_again_at_once(executable: Path, tmp_path: Path, command: str) -> None:
    status, answer, seconds = run(executable, tmp_path, command)
    assert (status, answer["code"]) == (1, 11)
    assert "spiderpool-agent is not running on this node" in answer["msg"]
    assert seconds < 2


def test_status_fails_once_the_agent_has_been_away_for_longer_than_a_restart(executable: Path, tmp_path: Path) -> None:
    status, answer, seconds = run(executable, tmp_path, "STATUS")
    assert (status, answer["code"]) == (1, 50)
    assert "spiderpool-agent is not running on this node" in answer["msg"]
    assert RESTART - 1 < seconds < RESTART + 3


@pytest.mark.parametrize("command", ["STATUS", "VERSION"])
def test_an_agent_that_is_restarted_is_waited_for(
    executable: Path, tmp_path: Path, listener: socket.socket, command: str
) -> None:
    def serve() -> None:
        time.sleep(1)
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")

    agent = threading.Thread(target=serve)
    agent.start()
    status, answer, seconds = run(executable, tmp_path, command)
    agent.join()
    assert (status, answer) == (0, {})
    assert 1 <= seconds < 3


@pytest.mark.parametrize(("command", "code"), [("STATUS", 50), ("VERSION", 11)])
def test_a_hanging_agent_does_not_hang_the_kubelet(
    executable: Path, tmp_path: Path, listener: socket.socket, command: str, code: int
) -> None:
    listener.listen()
    status, answer, seconds = run(executable, tmp_path, command)
    assert (status, answer["code"]) == (1, code)
    assert "spiderpool-agent did not answer" in answer["msg"]
    assert ANSWER - 1 < seconds < ANSWER + 3


def test_the_bench_times_calls_that_are_answered() -> None:
    with ShimTimer() as timer:
        assert timer.run_shim() > 0
