"""The program that runs in the pods of a connectivity test, as a process of its own that talks to itself."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from spiderpool.cli.connectivity import prober
from spiderpool.cli.connectivity.judgement import judge, read_lines
from tests.cli.test_connectivity import ASKED
from tests.support.eventually import wait_until

pytestmark = pytest.mark.unit

TOKEN = "0123456789abcdef"


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextmanager
def running(file: Path, port: int, *addresses: str, measured: str = "no") -> Iterator[Path]:
    """A prober while the context lasts; its log."""
    log = file.with_name("log")
    command = [sys.executable, "-I", prober.__file__, "pod-1", str(port), str(file), TOKEN, measured, *addresses]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output) as process:
        try:
            wait_until(lambda: log.stat().st_size or process.poll() is not None, "it says something")
            yield log
        finally:
            process.terminate()
            process.wait(10)


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def answers(file: Path, log: Path, number: int, *questions: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to a round."""
    asked = [{"id": place, "timeout": 1.0, **each} for place, each in enumerate(questions)]
    file.write_text(json.dumps({"round": number, "questions": asked}))
    wait_until(lambda: {"round": number, "done": True} in lines(log), "the round is over")
    return [each for each in lines(log) if each.get("round") == number and "id" in each]


def test_it_answers_and_asks_in_both_protocols_and_families(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "questions"
    here = {"address": "127.0.0.1", "port": port}
    with running(file, port) as log:
        tcp, udp, connect, missing = answers(
            file,
            log,
            1,
            {"kind": "tcp", "payload": 16384, **here},
            {"kind": "udp", **here},
            {"kind": "connect", **here},
            {"kind": "tcp", **here, "port": free_port()},
        )
        assert [(each["by"], each["seen"]) for each in (tcp, udp)] == [("pod-1", "127.0.0.1")] * 2
        assert tcp["ms"] > 0
        assert connect["ok"]
        assert (missing["ok"], missing["error"]) == (False, "Connection refused")
        (bound,) = answers(file, log, 2, {"kind": "tcp", "bind": "127.0.0.9", **here})
        assert bound["seen"] == "127.0.0.9"


def test_it_measures(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "questions"
    with running(file, port, measured="yes") as log:
        asked = {"kind": "perf", "address": "127.0.0.1", "port": port, "seconds": 0.5}
        (found,) = answers(file, log, 1, asked)
    assert found["rate"] > 10
    assert found["latency"] > 0


def test_names_are_resolved_in_one_family(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "questions"
    with running(file, port) as log:
        known, unknown = answers(
            file,
            log,
            1,
            {"kind": "dns", "name": "127.0.0.1", "family": 4},
            {"kind": "dns", "name": "127.0.0.1", "family": 6},
        )
    assert known["by"] == "127.0.0.1"
    assert unknown["error"].startswith("not resolved: ")


@pytest.mark.parametrize(
    ("said", "error", "remedy"),
    [
        (b"", "no answer", "security groups"),
        (b'{"by": "x"}\n', "small packets pass, large ones do not", "the MTUs on the way"),
        (b"null\n", "closed without an answer", "security groups"),
    ],
)
def test_large_packets_that_do_not_pass_are_told_from_no_answer(said: bytes, error: str, remedy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(prober.ATTEMPTS):
                connections.append(server.accept()[0])
                connections[-1].sendall(said)

        connections: list[socket.socket] = []
        asked = {"id": 0, "kind": "tcp", "address": "127.0.0.1", "port": server.getsockname()[1]}
        answering = threading.Thread(target=serve)
        answering.start()
        found = prober.answer_to({**asked, "timeout": 0.5, "payload": 1 << 24, "token": TOKEN})
        answering.join(10)
        for each in connections:
            each.close()
    assert (found["ok"], found["error"]) == (False, error)
    (row,) = judge([ASKED], dict(enumerate(read_lines(json.dumps(found)))), {})
    assert (row.ok, row.answer) == (False, error)
    assert remedy in row.remedy


def test_a_port_that_is_taken_is_said_in_the_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path / "questions", port, "127.0.0.1") as log:
            assert f"port {port} cannot be served" in lines(log)[0]["fatal"]


def test_it_listens_on_the_addresses_that_it_is_given_alone(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "questions", port, "127.0.0.2"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        socket.create_connection(("127.0.0.2", port), timeout=1).close()


def said_by(port: int, *words: bytes) -> bytes:
    """What comes over a TCP connection until the prober ends it, within seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=5 * prober.INTRODUCTION) as connection:
        for word in words:
            connection.sendall(word)
        found = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(4096):
                found += data
        return found


@pytest.mark.parametrize("first", [b"echo 4\nabcd", b"0123456789abcdeX\n", b"send 5\n", b""])
def test_who_does_not_know_the_token_is_not_answered(tmp_path: Path, first: bytes) -> None:
    port = free_port()
    with running(tmp_path / "questions", port, measured="yes"):
        assert said_by(port, first) == b""


def test_nothing_is_sent_for_seconds_unless_it_is_a_measurement(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "questions", port):
        assert said_by(port, prober.introduction(TOKEN), b"send 5\n").count(b"\n") == 1


def test_an_answer_by_udp_is_no_longer_than_the_question(tmp_path: Path) -> None:
    port, introduction = free_port(), prober.introduction(TOKEN)
    with running(tmp_path / "questions", port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.connect(("127.0.0.1", port))
        for asked in (b"", b"?" * 512, introduction, introduction.ljust(400)):
            asking.send(asked)
        assert json.loads(asking.recv(2048))["by"] == "pod-1"
        asking.settimeout(0.2)
        with pytest.raises(TimeoutError):  # the others came before, and were not answered
            asking.recv(2048)


def test_clients_beyond_the_limit_wait_and_are_served_after_the_others(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "questions"
    with running(file, port) as log, ExitStack() as stack:
        for _ in range(prober.CLIENTS_AT_ONCE + 20):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        (pid,) = [each.split()[0] for each in command_lines() if str(file) in each]
        threads = Path(f"/proc/{pid}/task")
        wait_until(lambda: len(list(threads.iterdir())) > prober.CLIENTS_AT_ONCE, "the first ones are served")
        assert len(list(threads.iterdir())) <= prober.CLIENTS_AT_ONCE + 4
        asked = {"kind": "tcp", "address": "127.0.0.1", "port": port, "timeout": 5 * prober.INTRODUCTION}
        (found,) = answers(file, log, 1, asked)
    assert found["ok"]


def command_lines() -> Iterator[str]:
    """Of each process, after its number."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield f"{each.parent.name} {each.read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
