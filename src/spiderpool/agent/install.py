"""Put the CNI executable and the network list where the container runtime looks for them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from spiderpool.agent.server import ATTACH, SERVED
from spiderpool.api.cni import DEFAULT_VERSION, PORT_MAPPINGS, VERSIONS
from spiderpool.errors import BadConfig

NETWORK_LIST = "00-spiderpool.conflist"
"""Runtimes take the first file by name."""


def install(bin_dir: Path, conf_dir: Path, executable: Path, *, status: bool) -> None:
    """Install under every plugin name, then the list: a runtime that sees the list finds the executable.

    Files are replaced by rename, so that a call under way keeps its executable. ``status`` as in `network_list`.
    Raises BadConfig.
    """
    if not executable.is_file():
        raise BadConfig(f"the CNI executable {executable} is missing; set SPIDERPOOL_CNI_EXECUTABLE to where it lies")
    try:
        for directory in (bin_dir, conf_dir):
            directory.mkdir(parents=True, exist_ok=True)
        for name in SERVED:
            _replace(bin_dir / name, executable.read_bytes(), 0o755)
        _replace(conf_dir / NETWORK_LIST, network_list(status=status), 0o644)
    except OSError as error:
        place = error.filename or bin_dir
        raise BadConfig(
            f"{place} cannot be written: {error.strerror or error}; make room on its disk, or mount the host's folder"
        ) from error


def network_list(*, status: bool) -> bytes:
    """The runtime's network: everything else is decided per pod, in the agent.

    ``status`` also offers CNI 1.1.0, whose STATUS decides whether the Node is ready. A runtime takes the highest
    version that it knows; those from before 1.1.0 know no ``cniVersions`` (docs/decisions/0009-status-on-request.md).
    """
    versions = {"cniVersions": [DEFAULT_VERSION, VERSIONS[-1]]} if status else {}
    plugins = [{"type": ATTACH, "capabilities": {PORT_MAPPINGS: True}}]
    return msgspec.json.encode({"cniVersion": DEFAULT_VERSION, **versions, "name": "spiderpool", "plugins": plugins})


def _replace(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.chmod(mode)
    draft.replace(path)
