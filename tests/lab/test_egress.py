from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spiderpool_lab.egress import serve

pytestmark = pytest.mark.unit


@contextlib.asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a proxy that connects in our own namespace."""
    server = await serve(folder / "socket", None)
    reader, writer = await asyncio.open_unix_connection(folder / "socket")
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


@contextlib.asynccontextmanager
async def shouting(host: str) -> AsyncIterator[int]:
    """A server that answers in capitals; its port."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(-1)).upper())
        writer.write_eof()
        writer.close()

    server = await asyncio.start_server(shout, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(("host", "written"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_what_follows_the_request_reaches_the_server_and_its_answer_the_client(
    tmp_path: Path, host: str, written: str
) -> None:
    async with shouting(host) as port, connected(tmp_path) as (reader, writer):
        writer.write(f"CONNECT {written}:{port} HTTP/1.1\r\nHost: {written}:{port}\r\n\r\nhello".encode())
        writer.write_eof()
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"HELLO"


async def test_a_server_that_refuses_is_a_bad_gateway(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with connected(tmp_path) as (reader, writer):
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("request_line", ["GET http://127.0.0.1/ HTTP/1.1", "CONNECT nowhere HTTP/1.1", "hello"])
async def test_anything_else_is_a_bad_request(tmp_path: Path, request_line: str) -> None:
    async with connected(tmp_path) as (reader, writer):
        writer.write(f"{request_line}\r\n\r\n".encode())
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 400 ")
