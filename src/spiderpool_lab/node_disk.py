"""The disk of a real node: an ext4 file system with containerd's images on it, made once for a set of images.

containerd imports the archives on this machine, without a kubelet, into a folder; a kernel of a node would take twenty
times as long. Each node gets a copy.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spiderpool.errors import IOFailure, NotReady
from spiderpool_lab import binaries, container_runtime
from spiderpool_lab.commands import print_progress, run
from spiderpool_lab.container_runtime import NAMESPACE
from spiderpool_lab.processes import WITH_PARENT

SIZE = "8G"
"""Size of a disk. The file is sparse: it takes the space that the node uses."""
IMPORT_TIMEOUT = 300
"""Seconds for the import of one archive."""
END_TIMEOUT = 10
"""Seconds that containerd has to end."""
LOG_TAIL = 2000
"""Last characters of containerd's log that an error quotes."""

_IMPORTER = """
version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = "{state}/containerd.sock"

[ttrpc]
address = "{state}/ttrpc.sock"
"""
"""The configuration of a containerd that imports images and does nothing else on this machine."""


def prepare(archives: Sequence[Path]) -> Path:
    """A disk with the images of these archives, made if it is missing. Raises IOFailure."""
    programs = [binaries.find(name) for name in ("containerd", "ctr")]
    identity = hashlib.sha256(repr((SIZE, programs, [archive.name for archive in archives])).encode()).hexdigest()
    folder = binaries.cache() / "disks"
    disk = folder / f"{identity[:16]}.ext4"
    if not disk.exists():
        with binaries.scratch_folder(folder) as work:
            binaries.prune(folder)
            if not disk.exists():
                print_progress("importing the images of real nodes")
                _import(archives, work / "tree" / container_runtime.ROOT.name)
                options = ["-q", "-t", "ext4", "-m", "0", "-d", str(work / "tree")]
                run(["mke2fs", *options, work / disk.name, SIZE], show=_silently)
                binaries.publish(work / disk.name, disk)
    return binaries.used(disk)


def copy(prepared: Path, target: Path) -> None:
    """Give a node a disk of its own."""
    run(["cp", "--sparse=always", prepared, target])


def _silently(_: str) -> None:
    return None


def _import(archives: Sequence[Path], root: Path) -> None:
    root.mkdir(parents=True)
    with _containerd(root) as address:
        for archive in archives:
            ctr = [str(binaries.find("ctr")), "--address", str(address), "--namespace", NAMESPACE]
            run(["timeout", str(IMPORT_TIMEOUT), *ctr, "images", "import", archive], show=_silently)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        daemon.kill()


@contextmanager
def _containerd(root: Path) -> Iterator[Path]:
    """A containerd with mounts of its own; the path of its socket."""
    state = Path(tempfile.mkdtemp(prefix="spiderpool-"))  # a socket's path may have 107 characters
    try:
        (state / "config.toml").write_text(_IMPORTER.format(root=root, state=state))
        containerd = [str(binaries.find("containerd")), "--config", str(state / "config.toml")]
        command = [*WITH_PARENT, "unshare", "--mount", *containerd]
        with (state / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
            try:
                container_runtime.wait_until_listening(state / "containerd.sock")
                yield state / "containerd.sock"
            except NotReady as late:
                said = (state / "log").read_text(errors="replace")[-LOG_TAIL:]
                raise IOFailure("containerd does not start, so no image can be imported", details=said) from late
            finally:
                _end(daemon)
    finally:
        shutil.rmtree(state)
