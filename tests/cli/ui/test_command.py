"""`spiderpoolctl ui` as a user starts and ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from yarl import URL

from spiderpool.cli.connection import INTERRUPTED
from spiderpool.cli.main import cli
from tests.cli.ui.visiting import KINDS
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

SECONDS = 100


def kubeconfig(folder: Path, server: str) -> Path:
    """That of a user of an API server."""
    cluster, user = {"name": "c", "cluster": {"server": server}}, {"name": "u", "user": {"token": "any"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    file = folder / "kubeconfig"
    document = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
    file.write_text(json.dumps(document))
    return file


async def test_the_command_prints_an_address_that_opens_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, asyncio.timeout(SECONDS):
        command = ("-m", "spiderpool.cli.main", "ui", "--kubeconfig", str(kubeconfig(tmp_path, server.url)))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            word, address = (await process.stdout.readline()).decode().split()
            assert (word, URL(address).host) == ("Open", "127.0.0.1")
            jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address
            async with aiohttp.ClientSession(cookie_jar=jar) as session, session.get(address) as page:
                assert (page.status, page.url.path, page.url.query_string) == (200, "/", "")
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
    assert (process.returncode, b"Traceback" in errors) == (INTERRUPTED, False), errors.decode()


def test_an_api_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["ui", "--kubeconfig", str(kubeconfig(tmp_path, "http://127.0.0.1:1"))])
    assert result.exit_code == 1
    assert "no answer from the API server to GET version" in result.stderr
