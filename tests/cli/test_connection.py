"""What all commands share: options, the ends of a command, and what they say of a cluster that does not answer."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from spiderpool import __version__
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.main import cli, main
from tests.cli.test_status import KINDS as STATUS_KINDS
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

NO_TABLE = {"bundle", "ui"}
"""Commands whose answer is a file, and nothing to be formatted."""
NO_CLUSTER = {"policy print", "cloud compare", "completion"}
_READ: tuple[type[Object], ...] = (*STATUS_KINDS, Pod, SpiderIP)
KINDS = tuple(kind.KIND for kind in _READ)
WATCHED = ("status", "who 10.0.0.1", "top pools", "top nodes", "top subnets")
PROGRAM = (sys.executable, "-c", "from spiderpool.cli.main import main; main()")
ANSWER_TIMEOUT = 60
"""Seconds for one answer of a program on a busy machine."""


def commands(group: click.Group = cli, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands with their paths, groups of them as well."""
    yield path, group
    for name, command in group.commands.items():
        whole = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, whole)
        else:
            yield whole, command


def kubeconfig(directory: Path, server: str) -> Path:
    """A kubeconfig with one context, of a server."""
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
    }
    path = directory / "config"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_has_examples_and_the_options_of_its_kind(path: str, command: click.Command) -> None:
    shown = CliRunner().invoke(cli, [*path.split(), "-h"])
    assert shown.exit_code == 0
    assert f"spiderpoolctl {path}".strip() in shown.output.partition("Examples:")[2]
    assert command.help, "what it does"
    assert all(len(line) <= 80 for line in shown.output.splitlines()), shown.output
    names = {option for parameter in command.params for option in parameter.opts}
    if path not in NO_CLUSTER and not isinstance(command, click.Group):
        assert path in NO_TABLE or {"--output", "--no-headers"} <= names
        assert {"--kubeconfig", "--context", "--request-timeout"} <= names


def test_the_version_and_the_exit_status_are_told() -> None:
    assert __version__ in CliRunner().invoke(cli, ["--version"]).output
    assert "Exit status:" in CliRunner().invoke(cli, ["--help"]).output


@pytest.mark.parametrize(
    ("program", "usage"),
    [("/usr/bin/spiderpoolctl", "spiderpoolctl"), ("/usr/bin/kubectl-spiderpool", "kubectl spiderpool")],
)
def test_the_usage_names_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, usage: str
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.startswith(f"Usage: {usage} [OPTIONS]")


def test_a_cluster_that_does_not_answer_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1")
    result = CliRunner().invoke(cli, ["ip", "release", "10.0.0.5", "--kubeconfig", str(path)])
    assert result.exit_code == 1
    assert "no answer from the API server" in result.stderr
    assert "--kubeconfig or --context" in result.stderr


def test_a_wrong_context_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1")
    result = CliRunner().invoke(cli, ["node", "unfence", "n1", "--kubeconfig", str(path), "--context", "there"])
    assert result.exit_code == 1
    assert f"{path} has no context there; it has here" in result.stderr


def test_a_wrong_command_line_ends_with_2() -> None:
    assert CliRunner().invoke(cli, ["node", "fence"]).exit_code == 2


@asynccontextmanager
async def program(directory: Path, server: ApiServer, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Our program, against a server, until the end of the test."""
    pipe = asyncio.subprocess.PIPE
    command = (*PROGRAM, *words, "--kubeconfig", str(kubeconfig(directory, server.url)))
    started = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def interrupted(started: asyncio.subprocess.Process) -> str:
    """What a program says on standard error after Ctrl-C, with the status that shells expect."""
    started.send_signal(signal.SIGINT)
    _, stderr = await started.communicate()
    assert started.returncode == 130
    return stderr.decode()


@pytest.mark.parametrize("words", WATCHED)
async def test_a_watched_answer_comes_again_until_ctrl_c(tmp_path: Path, words: str) -> None:
    async with ApiServer(*KINDS) as server:
        watch = (*words.split(), "--watch", "--interval", "0.2", "-o", "yaml")
        async with program(tmp_path, server, *watch) as started:
            assert started.stdout is not None
            answers = 0
            async for line in started.stdout:
                assert line.isascii()
                assert b"\x1b" not in line
                answers += line == b"---\n"
                if answers == 3:
                    break
            assert "Traceback" not in await interrupted(started)


def test_an_answer_that_needs_what_all_nodes_say_comes_less_often() -> None:
    usual, long = (CliRunner().invoke(cli, [word, "-h"]).output for word in ("status", "who"))
    assert "default: 2.0" in " ".join(usual.split())
    assert "default: 10.0" in " ".join(long.split())


async def test_a_watch_goes_on_after_an_outage(tmp_path: Path) -> None:
    async with ApiServer(*KINDS) as server, server.client() as client:
        await client.create(Node(metadata=ObjectMeta(name="n1")))
        server.inject(Fault("list", status=500))
        async with program(tmp_path, server, "top", "nodes", "-w", "--interval", "0.2") as started:
            assert started.stdout is not None
            assert (await started.stdout.readline()).startswith(b"NODE")
            assert (await started.stdout.readline()).startswith(b"n1 ")
            assert "injected status 500" in await interrupted(started)


async def test_a_watch_on_a_terminal_begins_on_an_empty_screen(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    async with ApiServer(*KINDS) as server:
        command = (*PROGRAM, "top", "pools", "-w", "--interval", "0.2")
        config = str(kubeconfig(tmp_path, server.url))
        started = await asyncio.create_subprocess_exec(*command, "--kubeconfig", config, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                seen = await asyncio.to_thread(os.read, ours, 100)
            started.send_signal(signal.SIGINT)
            await started.wait()
        finally:
            os.close(ours)
    assert seen.startswith(b"\x1b[H\x1b[2J")
    assert started.returncode == 130


@pytest.mark.parametrize(
    ("fault", "stdout", "stderr"),
    [
        (Fault("*", 1000, status=401), "", "the API server does not accept your credentials"),
        (Fault("list", 1000, "spiderips", status=403), "could not be read", "SpiderIP objects may not be read"),
    ],
    ids=["unauthorized", "forbidden"],
)
async def test_a_cluster_of_which_something_is_not_seen_is_not_well(
    tmp_path: Path, fault: Fault, stdout: str, stderr: str
) -> None:
    async with ApiServer(*KINDS) as server:
        server.inject(fault)
        async with program(tmp_path, server, "doctor") as started:
            said = [each.decode() for each in await started.communicate()]
            assert started.returncode == 1
    assert (stdout in said[0], stderr in " ".join(said[1].split())) == (True, True), said


async def test_ctrl_c_while_the_cluster_is_asked_ends_without_a_traceback(tmp_path: Path) -> None:
    async with ApiServer(*KINDS) as server:
        server.inject(Fault("*", delay=30.0, times=9))
        async with program(tmp_path, server, "top", "pools", "--request-timeout", "60") as started:
            await eventually(lambda: sum(server.requests.values()) > 0, timeout=ANSWER_TIMEOUT)
            assert await interrupted(started) == "\n"


async def test_what_may_not_be_read_is_left_out_with_a_sentence() -> None:
    async with ApiServer(Node.KIND) as server, server.client() as client:
        cluster = Cluster(client, 1.0)
        server.inject(Fault("list", status=403), Fault("get", status=403))
        assert await cluster.list(Node) is None
        assert await cluster.find(Node, "n1") is None
        assert await cluster.list(Node) == []
        assert await cluster.list(SpiderIPPool) is None
    assert cluster.left_out == [
        "Node objects may not be read: injected status 403",
        "Node n1 may not be read: injected status 403",
        "SpiderIPPool objects are unknown to this cluster: Spiderpool's CRDs are not installed",
    ]
