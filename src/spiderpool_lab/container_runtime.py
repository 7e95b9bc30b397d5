"""containerd on a node: what it needs of the node, its configuration, its images, and the sandboxes that it runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from spiderpool.errors import IOFailure, NotReady

MODULES = ("overlay",)
"""Kernel modules that containerd needs beyond those of every node."""
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
"""The image of every sandbox's own process."""
ROOT, STATE = Path("/var/lib/containerd"), Path("/run/containerd")
SOCKET = STATE / "containerd.sock"
ENDPOINT = f"unix://{SOCKET}"
NAMESPACE = "k8s.io"
"""containerd's namespace for what a kubelet asks for."""
RUNC = "/usr/sbin/runc"
START_TIMEOUT = 60.0
"""Seconds that containerd has to listen."""
IMPORT_TIMEOUT = 120
"""Seconds for the import of one archive."""

BUNDLES = STATE / "io.containerd.runtime.v2.task" / NAMESPACE
"""A folder for each running container, with its configuration for runc."""
_IMPORTED = ROOT / "imported-images"
"""Names of the archives that were imported; it is lost with the images, unless the node's disk is kept."""
_POLL_INTERVAL = 0.05


class ContainerRuntime(msgspec.Struct, frozen=True):
    """containerd's programs, and the OCI archives of the images that a node has. Paths are those of the host."""

    containerd: str
    shim: str
    ctr: str
    images: list[str] = []

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


def wait_until_listening() -> None:
    """Wait until containerd accepts connections. Raises NotReady after :data:`START_TIMEOUT` seconds."""
    deadline = time.monotonic() + START_TIMEOUT
    while not _is_listening():
        if time.monotonic() > deadline:
            raise NotReady(f"containerd does not listen on {SOCKET} after {START_TIMEOUT:.0f} s; see containerd.log")
        time.sleep(_POLL_INTERVAL)


def import_images(runtime: ContainerRuntime) -> None:
    """Import the archives that this node does not have yet. Raises IOFailure."""
    present = _IMPORTED.read_text().splitlines() if _IMPORTED.exists() else []
    missing = [archive for archive in runtime.images if archive not in present]
    for archive in missing:
        started = time.monotonic()
        command = [runtime.ctr, "--address", str(SOCKET), "--namespace", NAMESPACE, "images", "import", archive]
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT, check=False)
        if done.returncode:
            raise IOFailure(f"containerd cannot import {archive}: {done.stderr.strip()}")
        print(f"imported {archive} in {time.monotonic() - started:.1f} s", flush=True)
    os.sync()  # power may be cut before the kernel writes the files of an image
    _IMPORTED.write_text("\n".join([*present, *missing]))


def sandboxes() -> list[CRISandbox]:
    """The sandboxes that run, oldest first, as the configurations of their runc bundles say."""
    return sorted(_running(), key=lambda sandbox: sandbox.started)


def _running() -> Iterator[CRISandbox]:
    for file in BUNDLES.glob("*/config.json"):
        try:
            spec, started = json.loads(file.read_bytes()), file.stat().st_mtime
        except (OSError, ValueError):  # removed, or not written yet
            continue
        notes = spec.get("annotations", {})
        if notes.get("io.kubernetes.cri.container-type") != "sandbox":
            continue
        name = f"{notes['io.kubernetes.cri.sandbox-namespace']}/{notes['io.kubernetes.cri.sandbox-name']}"
        yield CRISandbox(file.parent.name, name, notes["io.kubernetes.cri.sandbox-uid"], _netns(spec), started)


def _netns(spec: dict[str, dict[str, list[dict[str, str]]]]) -> Path | None:
    paths = (entry.get("path") for entry in spec["linux"]["namespaces"] if entry["type"] == "network")
    return next((Path(path) for path in paths if path and Path(path).exists()), None)


def _is_listening() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(SOCKET)) == 0
