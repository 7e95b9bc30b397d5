"""The commands of the documentation, and of the walkthrough word for word, with a repository of charts on loopback."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spiderpool_lab import binaries, chart

pytestmark = pytest.mark.unit

ROOT = chart.CHART.parents[1]
PUBLIC = "https://spidernet-io.github.io/spiderpool"
WALKTHROUGH = f"""
helm repo add spiderpool {PUBLIC}
helm repo update spiderpool
helm install spiderpool spiderpool/spiderpool --namespace kube-system --set ipam.enableStatefulSet=false --set multus.multusCNI.defaultCniCRName="ipvlan-eth0"
"""  # noqa: E501 - word for word
OPTIONS = ("", "--set plugins.installCNI=true", "--set global.imageRegistryOverride=ghcr.m.daocloud.io")
PAGES = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/usage/*.md"))] if "helm " in path.read_text()]
COMMAND = re.compile(r"^ {4,}(helm (?:.*\\\n)*.*)$", re.MULTILINE)
OF_THE_CLUSTER = {"get", "uninstall", "rollback", "repo"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the output of tests is for failures."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a repository that has our chart."""
    folder = tmp_path_factory.mktemp("repository")
    chart.helm("package", chart.CHART, "--destination", folder)
    chart.helm("repo", "index", folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(command: str, home: Path) -> str:
    """What a command prints. Instead of installing it renders, as there is no cluster."""
    words = shlex.split(command)
    assert "--reuse-values" not in words, "values that are new in a version would have no default"
    words = [
        word for word in words if word not in ("--reset-then-reuse-values", "--take-ownership", "--force-conflicts")
    ]
    words = [word for word in words if not word.startswith("--dry-run")]
    if words[1] in ("install", "upgrade"):
        words[1] = "template"
    (helm,) = binaries.provide([binaries.HELM])
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([helm.path, *words[1:]], capture_output=True, text=True, env=env, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("option", OPTIONS)
def test_the_walkthroughs_commands_install_our_chart(repository: str, tmp_path: Path, option: str) -> None:
    add, update, install = WALKTHROUGH.strip().splitlines()
    run(add.replace(PUBLIC, repository), tmp_path)
    run(update, tmp_path)
    made = run(f"{install} {option}", tmp_path)
    assert "enableStatefulSet: false" in made
    assert "value: kube-system/ipvlan-eth0" in made
    prefix = "ghcr.m.daocloud.io/" if "imageRegistryOverride" in option else ""
    assert f"image: {prefix}spiderpool-agent:v0.1.0\n" in made
    plugins = "true" if "installCNI" in option else "false"
    assert f'- name: SPIDERPOOL_INSTALL_PLUGINS\n          value: "{plugins}"' in made


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_are_accepted(page: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"  # what a page has had printed from a cluster
    values.write_text("{}")
    commands = [each.replace("\\\n", " ") for each in COMMAND.findall(page.read_text())]
    for command in commands:
        if command.split()[1] not in OF_THE_CLUSTER and "…" not in command:
            assert run(command.replace("--values values.yaml", f"--values {values}"), tmp_path)
