"""What all commands share: options, the ends of a command, and what they say of a cluster that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from spiderpool import __version__
from spiderpool.api.core_v1 import Node
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.connection import Cluster
from spiderpool.cli.main import cli, main
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

NO_CLUSTER = {"service plan", "policy print"}


def commands(group: click.Group = cli, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands with their paths."""
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
    assert f"spiderpoolctl {path}" in shown.output.partition("Examples:")[2]
    assert all(len(line) <= 80 for line in shown.output.splitlines()), shown.output
    names = {option for parameter in command.params for option in parameter.opts}
    if path not in NO_CLUSTER:
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
