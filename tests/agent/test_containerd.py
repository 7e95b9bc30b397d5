"""STATUS as containerd asks for it, on behalf of the kubelet: with our list, executable and agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.agent.install import install
from spiderpool.settings import AgentSettings
from spiderpool_lab import binaries, executable
from spiderpool_lab.processes import Processes
from tests.agent.conftest import MakeAgent
from tests.support.eventually import wait_until
from tests.support.local_agent import LocalAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)]

CONFIG = """
version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/sock"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{folder}/bin"]
conf_dir = "{folder}/net.d"
"""

KUBELETS_LIMIT = 30.0
"""Seconds without a status after which a kubelet calls the runtime down; it asks again 5 s after an answer."""


@dataclass
class Containerd:
    """A containerd that runs no pods; its files are in ``folder``."""

    folder: Path

    def offer(self, *, status: bool) -> None:
        """Install the executable and a list."""
        built, bin_dir, conf_dir = executable.build(self.folder), self.folder / "bin", self.folder / "net.d"
        install(AgentSettings(cni_executable=built, cni_bin_dir=bin_dir, cni_conf_dir=conf_dir, cni_status=status))
        expected = "1.1.0" if status else "1.0.0"
        wait_until(lambda: expected in self._info()["cniconfig"], f"the list of {expected}", timeout=20)

    def network(self) -> tuple[bool, str, float]:
        """Whether the network is ready, a sentence if not, and the seconds that the answer took."""
        begun = time.monotonic()
        conditions = json.loads(self._info()["status"])["conditions"]
        [found] = [each for each in conditions if each["type"] == "NetworkReady"]
        return bool(found["status"]), str(found["message"]), time.monotonic() - begun

    def is_up(self) -> bool:
        """Whether it serves."""
        return self._crictl("version").returncode == 0

    def _info(self) -> dict[str, str]:
        """The parts of its status, each as JSON."""
        shown = json.loads(self._crictl("info").stdout)
        return {key: json.dumps(value) for key, value in shown.items()}

    def _crictl(self, command: str) -> subprocess.CompletedProcess[str]:
        endpoint = f"unix://{self.folder}/sock"
        words = [str(binaries.find("crictl")), "--runtime-endpoint", endpoint, "--image-endpoint", endpoint]
        words += ["--timeout", "40s", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def agent(make_agent: MakeAgent) -> LocalAgent:
    return make_agent("n1")


@pytest.fixture
def containerd(agent: LocalAgent, tmp_path: Path) -> Iterator[Containerd]:
    folder = tmp_path / "containerd"
    (folder / "net.d").mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    processes = Processes(folder / "processes")
    program = binaries.find("containerd")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SPIDERPOOL_SOCKET": str(agent.socket)}
    inside = f"mount -t tmpfs tmpfs /run && exec {program} --config {folder}/config.toml"
    processes.start("containerd", ["unshare", "--mount", "--net", "sh", "-c", inside], env=environment)
    try:
        started = Containerd(folder)
        wait_until(started.is_up, "containerd", timeout=20)
        yield started
    finally:
        processes.stop_all()


def test_a_node_is_ready_without_its_agent(agent: LocalAgent, containerd: Containerd) -> None:
    containerd.offer(status=False)
    agent.kill()
    ready, message, seconds = containerd.network()
    assert (ready, message, seconds < 5) == (True, "", True)


def test_a_node_whose_list_offers_status(agent: LocalAgent, containerd: Containerd) -> None:
    containerd.offer(status=True)
    assert containerd.network()[:2] == (True, "")

    agent.kill()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(containerd.network)
        time.sleep(1)
        agent.start()
    assert asked.result()[:2] == (True, ""), "a restart of the agent is noticed"

    assert agent.pid is not None
    os.kill(agent.pid, signal.SIGSTOP)
    ready, message, seconds = containerd.network()
    assert (ready, "spiderpool-agent did not answer" in message) == (False, True), message
    assert seconds + 5 < KUBELETS_LIMIT

    agent.kill()
    ready, message, seconds = containerd.network()
    assert (ready, "spiderpool-agent is not running on this node" in message) == (False, True), message
    assert seconds + 5 < KUBELETS_LIMIT
