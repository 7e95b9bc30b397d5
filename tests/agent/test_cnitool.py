"""The library that container runtimes are built on, as `cnitool`, against our network list, executable and agent.

Of a list that offers CNI 1.1.0 it uses that; of the other, 1.0.0, which has neither STATUS nor GC.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.agent.install import network_list
from spiderpool_lab import binaries
from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import PATIENCE, AttachingNode, attaching_node, macvlan
from tests.agent.runtime import Container, Json
from tests.kernel.questions import ETH0
from tests.support.eventually import wait_until

pytestmark = [
    *(pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)),
    pytest.mark.usefixtures("nothing_is_left"),
]

OURS = "spiderpool"
POD = [ETH0[4].pod, ETH0[6].pod]


class Failure(Exception):
    """What cnitool printed before it failed."""


@dataclass
class CNITool:
    """Runs cnitool on a node, with a cache of its own. ``lists`` is the folder of the network lists."""

    node: AttachingNode
    lists: Path
    cache: Path

    def __call__(self, command: str, container: Container, network: str = OURS) -> Json:
        """A command for a container; the result of ADD. Raises Failure."""
        mount = f"mount --bind {self.cache} /var/lib && exec {binaries.find('cnitool')} {command} {network}"
        done = subprocess.run(
            ["nsenter", f"--net={self.node.world.node}", "unshare", "-m", "sh", "-c", f"{mount} {container.netns}"],
            capture_output=True,
            text=True,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "NETCONFPATH": str(self.lists),
                "CNI_PATH": str(self.node.runtime.executables),
                "CNI_ARGS": container.arguments,
                "SPIDERPOOL_SOCKET": str(self.node.agent.socket),
            },
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise Failure(done.stderr)
        result: Json = json.loads(done.stdout) if done.stdout.strip() else {}
        return result


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        node.network("second", macvlan("eth1", "eth1-v4"))
        yield node


@pytest.fixture(params=["1.0.0", "1.1.0"])
def version(request: pytest.FixtureRequest) -> str:
    """The version that is used: the highest that the list offers."""
    version: str = request.param
    return version


@pytest.fixture
def cnitool(node: AttachingNode, tmp_path: Path, version: str) -> CNITool:
    """With the list that the agent installs, and the same under another name."""
    lists, cache = tmp_path / "net.d", tmp_path / "lib"
    lists.mkdir()
    cache.mkdir()
    ours = network_list(status=version == "1.1.0")
    (lists / "00-spiderpool.conflist").write_bytes(ours)
    (lists / "10-another.conflist").write_text(json.dumps(json.loads(ours) | {"name": "another"}))
    return CNITool(node, lists, cache)


def test_a_pods_whole_life(node: AttachingNode, cnitool: CNITool, version: str) -> None:
    pod = node.pod("life")
    cnitool("status", pod)
    result = cnitool("add", pod)
    assert result["cniVersion"] == version
    assert [ip["address"].partition("/")[0] for ip in result["ips"]] == POD
    assert node.addresses(pod.netns, "eth0") == POD
    cnitool("check", pod)
    node.world.ip(pod.netns, "address", "delete", result["ips"][0]["address"], "dev", "eth0")
    with pytest.raises(Failure, match=r"interface eth0: .*172\.31\.199"):
        cnitool("check", pod)
    cnitool("del", pod)
    cnitool("del", pod)
    assert node.links(pod.netns) == []


def test_a_collection_removes_the_attachments_of_its_list_alone(node: AttachingNode, cnitool: CNITool) -> None:
    pod, other = node.pod("ours"), node.pod("theirs", first="default/second")
    cnitool("add", pod)
    cnitool("add", other, "another")
    node.end("ours")
    cnitool("gc", pod)
    assert node.links(pod.netns) == []
    wait_until(lambda: set(node.records()).isdisjoint(POD), "release", timeout=PATIENCE)
    cnitool("check", other, "another")
    cnitool("del", other, "another")


def test_a_collection_removes_sandboxes_whose_namespace_is_gone(
    node: AttachingNode, cnitool: CNITool, version: str
) -> None:
    lost, pod = node.pod("lost"), node.pod("other", first="default/second")
    cnitool("add", lost)
    cnitool("add", pod)
    [attachment] = [each for each in (cnitool.cache / "cni/results").iterdir() if lost.netns in each.read_text()]
    attachment.unlink()  # the runtime has forgotten it
    node.remove(lost)
    node.end("lost")
    cnitool("del", pod)
    cnitool("gc", pod)
    if version == "1.0.0":  # it has no GC: the agent itself collects, within a minute
        node.start_again()
    wait_until(lambda: node.files() == [], "removal of the file", timeout=PATIENCE)
    wait_until(lambda: set(node.records()).isdisjoint(POD), "release", timeout=PATIENCE)


def test_status_without_an_agent(node: AttachingNode, cnitool: CNITool, version: str) -> None:
    pod = node.pod("asked")
    node.agent.kill()
    try:
        if version == "1.1.0":
            with pytest.raises(Failure, match="spiderpool-agent is not running on this node"):
                cnitool("status", pod)
        else:
            cnitool("status", pod)
    finally:
        node.start_again()
    cnitool("status", pod)
