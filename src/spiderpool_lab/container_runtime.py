"""containerd on a node: its configuration, and the sandboxes that it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.errors import NotReady

MODULES = ("overlay",)
"""Kernel modules that containerd needs beyond those of every node."""
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
"""The image of every sandbox's own process."""
ROOT, STATE = Path("/var/lib/containerd"), Path("/run/containerd")
SOCKET = STATE / "containerd.sock"
ENDPOINT = f"unix://{SOCKET}"
NAMESPACE = "k8s.io"
"""containerd's namespace for what a kubelet asks for."""
RUNC = "runc"
"""Found in the PATH of containerd: distributions have it in different folders."""
START_TIMEOUT = 60.0
"""Seconds that containerd has to listen."""

BUNDLES = STATE / "io.containerd.runtime.v2.task" / NAMESPACE
"""A folder for each running container, with its configuration for runc."""
_POLL_INTERVAL = 0.05


class ContainerRuntime(msgspec.Struct, frozen=True):
    """The programs of containerd. Paths are those of the host."""

    containerd: str
    shim: str

    @property
    def path(self) -> str:
        """The folders in which containerd finds its shim, and the shim runc's helpers."""
        return f"{Path(self.shim).parent}:/usr/sbin:/usr/bin:/sbin:/bin"


class CRISandbox(msgspec.Struct, frozen=True):
    """A running sandbox. ``pod`` is ``namespace/name``; ``netns`` is None on the host network."""

    container_id: str
    pod: str
    uid: str
    netns: Path | None
    started: float


def configuration(executables: Path, lists: Path) -> str:
    """The configuration of containerd (version 3), with the folders of CNI executables and configuration lists."""
    return f"""
version = 3
root = "{ROOT}"
state = "{STATE}"

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{RUNC}"
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{executables}"]
conf_dir = "{lists}"
use_internal_loopback = true
"""


def wait_until_listening(address: Path = SOCKET) -> None:
    """Wait until containerd accepts connections. Raises NotReady after :data:`START_TIMEOUT` seconds."""
    deadline = time.monotonic() + START_TIMEOUT
    while not _is_listening(address):
        if time.monotonic() > deadline:
            raise NotReady(f"containerd does not listen on {address} after {START_TIMEOUT:.0f} s; see containerd.log")
        time.sleep(_POLL_INTERVAL)


def sandboxes() -> list[CRISandbox]:
    """The sandboxes that run, oldest first, as the configurations of their runc bundles say."""
    return sorted(_running(), key=lambda sandbox: sandbox.started)


def kill(pod: str, container: str | None) -> None:
    """End a container of a pod (``namespace/name``) with SIGKILL, or without a name the process that holds its sandbox.

    Raises KeyError if there is none.
    """
    newest = {sandbox.pod: sandbox.container_id for sandbox in sandboxes()}[pod]
    notes = {folder: spec.get("annotations", {}) for folder, spec, _ in _bundles()}
    containers = {
        found.get("io.kubernetes.cri.container-name"): folder
        for folder, found in notes.items()
        if found.get("io.kubernetes.cri.sandbox-id") == newest
    }
    os.kill(int((containers[container] / "init.pid").read_text()), signal.SIGKILL)


def _bundles() -> Iterator[tuple[Path, Any, float]]:
    """The folder of every container, its configuration, and when that was written."""
    for file in BUNDLES.glob("*/config.json"):
        try:
            yield file.parent, json.loads(file.read_bytes()), file.stat().st_mtime
        except (OSError, ValueError):  # removed, or not written yet
            continue


def _running() -> Iterator[CRISandbox]:
    for folder, spec, written in _bundles():
        notes = spec.get("annotations", {})
        if notes.get("io.kubernetes.cri.container-type") != "sandbox":
            continue
        name = f"{notes['io.kubernetes.cri.sandbox-namespace']}/{notes['io.kubernetes.cri.sandbox-name']}"
        yield CRISandbox(folder.name, name, notes["io.kubernetes.cri.sandbox-uid"], _netns(spec), written)


def _netns(spec: dict[str, dict[str, list[dict[str, str]]]]) -> Path | None:
    paths = (entry.get("path") for entry in spec["linux"]["namespaces"] if entry["type"] == "network")
    return next((Path(path) for path in paths if path and Path(path).exists()), None)


def _is_listening(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(address)) == 0
