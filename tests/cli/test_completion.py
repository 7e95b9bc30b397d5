"""Completion as shells and kubectl ask for it, by the real programs, with the names of a cluster."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from spiderpool.api.core_v1 import Namespace, Node, Pod, Service
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli import completion
from spiderpool.cli.completion import SHELLS, complete_for_kubectl
from spiderpool.cli.main import cli
from spiderpool_lab import binaries
from tests.cli.test_connection import kubeconfig
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

IPV6 = "fd00-0000-0000-0000-0000-0000-0000-0007"
BASH = """
source <(spiderpoolctl completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_spiderpoolctl_completion spiderpoolctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
ANSWER_TIMEOUT = 60
"""Seconds for one program on a busy machine."""


def record(name: str, address: str) -> SpiderIP:
    spec = IPSpec(address, pool="p", node="n1", namespace="shop", pod="web", podUID="u", interface="eth0")
    return SpiderIP(metadata=ObjectMeta(name=name), spec=spec)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with three nodes and pods, a Service and two addresses."""
    kinds = (Node.KIND, Pod.KIND, SpiderIP.KIND, Namespace.KIND, Service.KIND)
    async with ApiServer(*kinds) as server, server.client() as client:
        for name in ("worker-1", "worker-2", "master"):
            await client.create(Node(metadata=ObjectMeta(name=name)))
        for namespace, name in (("shop", "web-1"), ("shop", "web-2"), ("default", "api")):
            await client.create(Pod(metadata=ObjectMeta(name=name, namespace=namespace)))
        await client.create(Namespace(metadata=ObjectMeta(name="shop")))
        await client.create(Service(metadata=ObjectMeta(name="api", namespace="shop")))
        await client.create(record("10.0.0.7", "10.0.0.7/24"))
        await client.create(record(IPV6, "fd00::7/64"))
        yield server


@pytest.fixture
def environment(tmp_path: Path, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Variables of a user whose PATH has our programs, and whose kubeconfig is of the server."""
    for name, entry in (("spiderpoolctl", "main"), ("kubectl-spiderpool", "main"), ("complete-spiderpool", "complete")):
        file = tmp_path / name.replace("complete-", "kubectl_complete-")
        code = f"import sys; from spiderpool.cli.main import {entry}; sys.argv[0] = '{name}'; {entry}()"
        file.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        file.chmod(0o755)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, server.url)))
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


async def output(environment: Mapping[str, str], *command: str) -> tuple[list[str], str]:
    """The lines that a program prints, and what it prints to standard error."""
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(ANSWER_TIMEOUT):
        stdout, stderr = await program.communicate()
    return stdout.decode().splitlines(), stderr.decode()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["who", ""], ["10.0.0.7", IPV6]),
        (["who", "fd"], [IPV6]),
        (["ip", "release", "10."], ["10.0.0.7"]),
        (["node", "fence", "work"], ["worker-1", "worker-2"]),
        (["explain", ""], ["pod"]),
        (["explain", "pod", ""], ["default/api", "shop/web-1", "shop/web-2"]),
        (["explain", "pod", "shop/web-"], ["shop/web-1", "shop/web-2"]),
        (["explain", "-n", "shop", "pod", ""], ["web-1", "web-2"]),
        (["explain", "pod", "web-1", ""], []),
        (["explain", "-n", "s"], ["shop"]),
        (["trace", "shop/web-"], ["shop/web-1", "shop/web-2"]),
        (["trace", "shop/web-1", "svc/"], ["svc/shop/api"]),
        (["trace", "--from-outside", "svc", ""], ["shop/api"]),
        (["trace", "--from-node", "m"], ["master"]),
        (["explain", "--node", "m"], ["master"]),
        (["status", "--context", ""], ["here"]),
        (["status", "-o", "j"], ["json"]),
        (["completion", ""], list(SHELLS)),
    ],
)
async def test_what_may_follow(environment: Mapping[str, str], words: list[str], found: list[str]) -> None:
    lines = await asyncio.to_thread(lambda: str(complete_for_kubectl(cli, words)).splitlines())
    assert [line.partition("\t")[0] for line in lines] == [*found, ":4"]


async def test_files_are_left_to_the_shell(environment: Mapping[str, str]) -> None:
    assert str(complete_for_kubectl(cli, ["service", "plan", "--values", ""])) == ":0"


async def test_bash_completes_by_our_script(environment: Mapping[str, str]) -> None:
    bash = ("bash", "--norc", "-c", BASH, "bash", "spiderpoolctl")
    assert await output(environment, *bash, "node", "unfence", "w") == (["worker-1", "worker-2"], "")


async def test_kubectl_completes_its_plugin(environment: Mapping[str, str]) -> None:
    kubectl = str(binaries.find("kubectl"))
    lines, _ = await output(environment, kubectl, "__complete", "spiderpool", "who", "10.")
    assert lines[0] == "10.0.0.7"
    assert ":4" in lines


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_asks_us(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_SPIDERPOOLCTL_COMPLETE={shell}_complete" in printed.stdout
    assert CliRunner().invoke(cli, ["completion", "csh"]).exit_code == 2


@pytest.mark.parametrize("fault", [Fault("list", status=403), Fault("list", delay=5.0), Fault("list", status=500)])
async def test_a_cluster_that_does_not_answer_completes_nothing_and_says_nothing(
    environment: Mapping[str, str],
    server: ApiServer,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(completion, "SECONDS", 0.5)
    server.inject(fault)
    begin = asyncio.get_running_loop().time()
    assert await asyncio.to_thread(lambda: str(complete_for_kubectl(cli, ["node", "fence", ""]))) == ":4"
    assert asyncio.get_running_loop().time() - begin < 4.0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["{", "contexts: 7", "[]", "contexts: [{}]"])
def test_a_kubeconfig_that_cannot_be_read_completes_nothing(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    for words in (["status", "--context", ""], ["node", "fence", ""]):
        assert str(complete_for_kubectl(cli, words)) == ":4"


def test_names_complete_where_a_command_takes_one() -> None:
    """Each argument and option that names an object of the cluster asks the cluster for its names."""
    named = {"NODE", "ADDRESS"}

    def parameters(group: click.Group) -> list[click.Parameter]:
        commands = group.commands.values()
        below = [each for one in commands if isinstance(one, click.Group) for each in parameters(one)]
        return below + [each for one in commands if not isinstance(one, click.Group) for each in one.params]

    found = [each for each in parameters(cli) if (each.make_metavar(click.Context(cli)) or "").strip("[]") in named]
    assert len(found) >= 4
    assert all(each._custom_shell_complete for each in found)
