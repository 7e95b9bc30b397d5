from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spiderpool_lab import namespaces
from spiderpool_lab.forward import ForwardAddress, listen, serve
from spiderpool_lab.processes import Processes
from tests.support.eventually import wait_until


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was sent in capitals, but only when the sender has finished."""
    writer.write((await reader.read(-1)).upper())
    writer.write_eof()
    writer.close()


@contextlib.asynccontextmanager
async def forwarded(to: ForwardAddress) -> AsyncIterator[ForwardAddress]:
    server = await serve(listen(ForwardAddress("127.0.0.1", 0)), to)
    try:
        yield ForwardAddress(*server.sockets[0].getsockname())
    finally:
        server.close()


@contextlib.asynccontextmanager
async def shouting() -> AsyncIterator[ForwardAddress]:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    try:
        yield ForwardAddress(*server.sockets[0].getsockname())
    finally:
        server.close()


async def ask(address: ForwardAddress, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    return answer


@pytest.mark.unit
async def test_the_answer_comes_after_the_question_has_ended() -> None:
    async with shouting() as far_end, forwarded(far_end) as entrance:
        assert await ask(entrance, b"hello") == b"HELLO"


@pytest.mark.unit
async def test_much_passes_in_both_directions_and_on_many_connections() -> None:
    async with shouting() as far_end, forwarded(far_end) as entrance:
        answers = await asyncio.gather(*(ask(entrance, bytes([97 + n]) * 1_000_000) for n in range(8)))
    assert answers == [bytes([65 + n]) * 1_000_000 for n in range(8)]


@pytest.mark.unit
async def test_a_far_end_that_refuses_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = ForwardAddress(*taken.getsockname())
    async with forwarded(nobody) as entrance:
        with contextlib.suppress(ConnectionResetError):
            assert await ask(entrance, b"hello") == b""


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "address"),
    [("198.18.0.1:6443", ("198.18.0.1", 6443)), ("[::1]:80", ("::1", 80)), ("localhost:1", ("localhost", 1))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert ForwardAddress.parse(text) == address


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "6443", ":6443", "host:", "host:http"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|invalid literal"):
        ForwardAddress.parse(text)


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"forward-{os.getpid()}"
    place = namespaces.create(name)
    try:
        namespaces.ip_batch(["address add 198.18.0.1/32 dev lo"], netns=name)
        yield name
    finally:
        namespaces.delete(place)


def connect_inside(netns: str) -> bool:
    inside = namespaces.open_socket(namespaces.path(netns), socket.AF_INET, socket.SOCK_STREAM)
    with inside:
        return inside.connect_ex(("198.18.0.1", 6443)) == 0


@pytest.mark.lab
def test_it_listens_in_a_namespace_and_connects_from_outside(netns: str, tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as far_end:
        port = far_end.getsockname()[1]
        command = ["-m", "spiderpool_lab.forward", "--netns", netns, "--listen", "198.18.0.1:6443"]
        processes.start("forward", [sys.executable, *command, "--to", f"127.0.0.1:{port}"])
        try:
            wait_until(lambda: "listening" in processes.log("forward").read_text(), "the forwarder listens", timeout=20)
            inside = namespaces.open_socket(namespaces.path(netns), socket.AF_INET, socket.SOCK_STREAM)
            with inside:
                inside.settimeout(10)
                inside.connect(("198.18.0.1", 6443))
                inside.sendall(b"hello")
                far_end.settimeout(10)
                accepted, _ = far_end.accept()
                with accepted:
                    assert accepted.recv(5) == b"hello"
        finally:
            processes.stop("forward")
    assert not connect_inside(netns)
