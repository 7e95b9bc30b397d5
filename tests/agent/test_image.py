"""The agent of the image: its root is read-only, and the folders of its node are mounted below ``/host``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.agent.install import NETWORK_LIST, NOTES, network_list
from spiderpool_lab import binaries, go_build, images, oci
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from spiderpool_lab.product.images import AGENT, build
from tests.lab.test_product_images import unpacked
from tests.support.local_agent import AgentOptions, LocalAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(120)]

NAMES = {"coordinator", "ifacer", "spiderpool", "spiderpool-attach"}
FOREIGN = '{"cniVersion":"1.0.0","name":"before","plugins":[{"type":"bridge"}]}'
CONTAINER = """
tree=$0
mount --bind "$tree" "$tree"
mount --bind "$HOST" "$tree/host"
mount --bind "$FOLDER" "$tree$FOLDER"
mount --bind /proc "$tree/proc"
mount -o remount,ro,bind "$tree"
exec chroot "$tree" /usr/bin/spiderpool-agent $COMMAND
"""
"""Executes the agent in a file tree; words after the tree are ignored."""


@dataclass(frozen=True)
class Container:
    """A file tree and what is mounted in it: the node's folders, and one with socket, settings and kubeconfig."""

    tree: Path
    host: Path
    folder: Path

    @property
    def prefix(self) -> list[str]:
        """What executes the agent."""
        return ["unshare", "--mount", "sh", "-ec", CONTAINER, str(self.tree)]

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "HOST": str(self.host),
            "FOLDER": str(self.folder),
            "COMMAND": "",
            "SPIDERPOOL_INSTALL_CNI": "true",
            "SPIDERPOOL_INSTALL_PLUGINS": "true",
            "SPIDERPOOL_CNI_BIN_DIR": "/host/opt/cni/bin",
            "SPIDERPOOL_CNI_CONF_DIR": "/host/etc/cni/net.d",
            "SPIDERPOOL_BLOCK_POD_METADATA": "false",
        }


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The agent's image on a node that has a network and a plugin of somebody else."""
    tree, host, folder = (tmp_path / name for name in ("tree", "host", "run"))
    for path, text in {"opt/cni/bin/loopback": "theirs", "etc/cni/net.d/10-before.conflist": FOREIGN}.items():
        (host / path).parent.mkdir(parents=True)
        (host / path).write_text(text)
    for each in (tree / "host", tree / str(folder)[1:], folder):
        each.mkdir(parents=True)
    with binaries.scratch_folder(images.folder()) as work:
        unpacked(build(AGENT, oci.architecture(), work), tree)
    return Container(tree, host, folder)


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.full
def test_the_agent_installs_on_its_node_and_takes_away(control_plane: ControlPlane, container: Container) -> None:
    executables, lists = container.host / "opt/cni/bin", container.host / "etc/cni/net.d"
    before = files(executables), files(lists)
    processes = Processes(container.folder / "processes")
    kubeconfig = container.folder / "kubeconfig"
    kubeconfig.write_text(control_plane.service_account_kubeconfig("kube-system", "spiderpool-agent").read_text())
    options = AgentOptions(environment=container.environment, prefix=container.prefix)
    agent = LocalAgent(kubeconfig, processes, container.folder, "image-1", options)
    try:
        agent.start()
        assert {*files(executables)} == {*NAMES, *go_build.REFERENCE_PLUGINS, NOTES}
        assert (executables / "loopback").read_text() == "theirs"
        assert (lists / NETWORK_LIST).read_bytes() == network_list(status=False)
        assert {*files(lists)} == {NETWORK_LIST, "10-before.conflist"}
        asked = {"CNI_COMMAND": "VERSION", "SPIDERPOOL_SOCKET": str(agent.socket)}
        answer = subprocess.run([executables / "spiderpool-attach"], input=b"{}", capture_output=True, env=asked)
        assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]
        assert "packet marks" not in agent.log.read_text()
    finally:
        processes.stop_all()
    done = subprocess.run(
        container.prefix,
        env={**os.environ, **container.environment, **environment_of(agent), "COMMAND": "uninstall"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (files(executables), files(lists)) == before


def environment_of(agent: LocalAgent) -> dict[str, str]:
    """The settings that an agent is started with."""
    return {
        "SPIDERPOOL_NODE_NAME": agent.node,
        "SPIDERPOOL_CONFIG": str(agent.socket.parent.with_suffix(".yml")),
    }
