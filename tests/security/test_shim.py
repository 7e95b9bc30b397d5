"""What the CNI executable makes of an agent, or what sits on its socket, that is cut off, hangs or trickles."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from spiderpool_lab.executable import SOURCE, build

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("musl-gcc")), reason="needs a C compiler"),
]

RESULT = b'{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.5/24"}]}'
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")

Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def executables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The executable as it is shipped, and one with sanitizers where the compiler has them."""
    folder = tmp_path_factory.mktemp("cni")
    checked = folder / "checked"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", *SANITIZERS, "-o", str(checked), str(SOURCE)]
    compiled = bool(shutil.which("gcc")) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    return [build(folder), *([checked] if compiled else [])]


@contextmanager
def agent(folder: Path, serve: Serve) -> Iterator[Path]:
    """Somebody who serves one call on the agent's socket."""
    path = folder / "agent.sock"
    path.unlink(missing_ok=True)

    def accept() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            serve(connection)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=accept)
        thread.start()
        yield path
        thread.join()


def call(executable: Path, path: Path, command: str = "ADD", stdin: bytes = b"{}") -> tuple[int, bytes]:
    leaks = {"ASAN_OPTIONS": "detect_leaks=0"}  # it ends at once
    environment = {"SPIDERPOOL_SOCKET": str(path), "CNI_COMMAND": command, **leaks}
    done = subprocess.run([executable], input=stdin, capture_output=True, env=environment, timeout=60, check=False)
    assert done.stderr == b"", done.stderr.decode()
    return done.returncode, done.stdout


def received(connection: socket.socket) -> bytes:
    """A call: its head and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    while len(body) < int(head.rpartition(b": ")[2]):
        body += connection.recv(65536)
    return body


def answering(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(answer)

    return serve


WHOLE = b"HTTP/1.0 200 OK\r\nServer: x\r\ncontent-length: %d\r\n\r\n" % len(RESULT) + RESULT


def test_a_whole_answer_goes_to_standard_output_unchanged(executables: list[Path], tmp_path: Path) -> None:
    for executable in executables:
        with agent(tmp_path, answering(WHOLE)) as path:
            assert call(executable, path) == (0, RESULT)
        with agent(tmp_path, answering(WHOLE.replace(b"200 OK", b"500 No"))) as path:
            assert call(executable, path) == (1, RESULT)


@pytest.mark.parametrize(
    "answer",
    [
        *(WHOLE[:length] for length in (0, 5, 12, 13, 16, 30, 48, len(WHOLE) - len(RESULT), len(WHOLE) - 1)),
        WHOLE.replace(b"content-length", b"content-langth"),
        WHOLE.replace(b"content-length: ", b"content-length: 9"),
        WHOLE.replace(b"content-length: ", b"content-length: -"),
        WHOLE.replace(b"content-length: ", b"content-length: 99999999999999999999999"),
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200\0OK\r\nContent-Length: 0",
        b"\0" * 100,
        b"\r\n\r\n" * 10,
    ],
)
def test_a_part_of_an_answer_is_no_success(executables: list[Path], tmp_path: Path, answer: bytes) -> None:
    for executable in executables:
        with agent(tmp_path, answering(answer)) as path:
            status, printed = call(executable, path)
        assert (status, json.loads(printed)["code"]) == (1, 11)
        assert RESULT[:10] not in printed[1:]


def test_an_answer_without_end_takes_no_memory(executables: list[Path], tmp_path: Path) -> None:
    sent: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        received(connection)
        for piece in [b"x" * 65536] * 2000:
            connection.sendall(piece)
            sent.append(piece)

    for executable in executables:
        sent.clear()
        with agent(tmp_path, serve) as path:
            status, printed = call(executable, path)
        assert (status, json.loads(printed)["code"]) == (1, 11)
        assert len(sent) < 500


def test_name_variables_and_input_come_in_their_order(executables: list[Path], tmp_path: Path) -> None:
    """Whatever the size of the input, which makes the buffer move."""
    for executable in executables:
        for size in (0, 1, 4000, 70_000, 900_000):
            bodies: list[bytes] = []

            def serve(connection: socket.socket, bodies: list[bytes] = bodies) -> None:
                bodies.append(received(connection))
                connection.sendall(WHOLE)

            with agent(tmp_path, serve) as path:
                call(executable, path, stdin=b"x" * size)
            assert bodies == [executable.name.encode() + b"\0CNI_COMMAND=ADD\0\0" + b"x" * size]


def _trickle(connection: socket.socket) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        connection.sendall(b"H")
        time.sleep(0.2)


def _read_nothing(connection: socket.socket) -> None:
    time.sleep(8)


@pytest.mark.parametrize("serve", [_trickle, _read_nothing])
def test_the_whole_call_has_one_deadline(executables: list[Path], tmp_path: Path, serve: Serve) -> None:
    """STATUS has 5 s: with an agent that sends a byte at a time, and one that takes nothing of a long call."""
    with agent(tmp_path, serve) as path:
        begin = time.monotonic()
        status, printed = call(executables[0], path, "STATUS", b"x" * 4_000_000)
        seconds = time.monotonic() - begin
    answer: dict[str, Any] = json.loads(printed)
    assert (status, answer["code"]) == (1, 50)
    assert seconds < 7
