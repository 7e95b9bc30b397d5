"""Put executables and the network list where the container runtime looks for them, and take them away again.

What we have installed is noted beside the executables, so that nothing of others is replaced or removed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from spiderpool.agent.server import ATTACH, SERVED
from spiderpool.api.cni import DEFAULT_VERSION, PORT_MAPPINGS, VERSIONS
from spiderpool.errors import BadConfig
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import logger

NETWORK_LIST = "00-spiderpool.conflist"
"""Runtimes take the first file by name."""
SET_ASIDE = ".replaced-by-spiderpool"
"""What the names of network lists of others end with that runtimes are to take no more."""
NOTES = ".spiderpool-installed.json"
"""File in the directory of executables: name → the digests of all that we have ever installed under it."""

log = logger("agent")


def install(settings: AgentSettings) -> None:
    """Install under every plugin name, then the list: a runtime that sees the list finds the executable.

    Files are replaced by rename, so that a call under way keeps its executable. Reference plugins of others stay.
    Raises BadConfig.
    """
    executable, bin_dir = settings.cni_executable, settings.cni_bin_dir
    if not executable.is_file():
        raise BadConfig(f"the CNI executable {executable} is missing; set SPIDERPOOL_CNI_EXECUTABLE to where it lies")
    try:
        for directory in (bin_dir, settings.cni_conf_dir):
            directory.mkdir(parents=True, exist_ok=True)
        wanted = dict.fromkeys(SERVED, executable) | _plugins(settings)
        _install_executables(bin_dir, {name: path.read_bytes() for name, path in wanted.items()})
        _replace(settings.cni_conf_dir / NETWORK_LIST, network_list(status=settings.cni_status), 0o644)
        _set_aside(settings)
    except OSError as error:
        raise _unwritable(error, bin_dir) from error


def uninstall(settings: AgentSettings) -> None:
    """Remove the list, then every executable that is still as we have installed it. Raises BadConfig.

    The runtime then uses the next network list, if there is one; those that were set aside are back before.
    """
    bin_dir, conf_dir = settings.cni_bin_dir, settings.cni_conf_dir
    try:
        notes = _noted(bin_dir)
        _bring_back(conf_dir)
        (conf_dir / NETWORK_LIST).unlink(missing_ok=True)
        removed = [name for name, digests in notes.items() if _digest(bin_dir / name) in digests]
        for name in removed:
            (bin_dir / name).unlink()
        for path in (_draft(conf_dir / NETWORK_LIST), *(_draft(bin_dir / name) for name in notes), bin_dir / NOTES):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(error, bin_dir) from error
    log.info("uninstalled", executables=sorted(removed), directory=str(bin_dir))


def network_list(*, status: bool) -> bytes:
    """The runtime's network: everything else is decided per pod, in the agent.

    ``status`` also offers CNI 1.1.0, whose STATUS decides whether the Node is ready. A runtime takes the highest
    version that it knows; those from before 1.1.0 know no ``cniVersions`` (docs/decisions/0009-status-on-request.md).
    """
    versions = {"cniVersions": [DEFAULT_VERSION, VERSIONS[-1]]} if status else {}
    plugins = [{"type": ATTACH, "capabilities": {PORT_MAPPINGS: True}}]
    return msgspec.json.encode({"cniVersion": DEFAULT_VERSION, **versions, "name": "spiderpool", "plugins": plugins})


def _set_aside(settings: AgentSettings) -> None:
    """Rename the lists of others that are to be replaced, to what no runtime reads."""
    for name in settings.replaced_lists:
        path = settings.cni_conf_dir / Path(name).name
        if path.name != NETWORK_LIST and path.is_file():
            path.replace(path.with_name(f"{path.name}{SET_ASIDE}"))
            log.info("network list of others set aside", file=str(path))


def _bring_back(directory: Path) -> None:
    """Give lists that were set aside their names again, but where others have made them anew."""
    for path in sorted(directory.glob(f"*{SET_ASIDE}")):
        former = path.with_name(path.name.removesuffix(SET_ASIDE))
        if former.exists():
            path.unlink()
        else:
            path.replace(former)


def _plugins(settings: AgentSettings) -> dict[str, Path]:
    """The reference plugins that are to be installed, by name. Raises BadConfig."""
    if not settings.install_plugins:
        return {}
    folder = settings.cni_plugins
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if not found:
        raise BadConfig(f"there are no plugins in {folder}; set SPIDERPOOL_CNI_PLUGINS to where they lie")
    foreign = [path.name for path in found if not _is_ours(settings.cni_bin_dir, path.name)]
    if foreign:
        log.info("plugins of others are kept", plugins=foreign, directory=str(settings.cni_bin_dir))
    return {path.name: path for path in found if path.name not in foreign}


def _is_ours(bin_dir: Path, name: str) -> bool:
    """Whether nobody else has installed an executable of this name."""
    digest = _digest(bin_dir / name)
    return not digest or digest in _noted(bin_dir).get(name, ())


def _install_executables(bin_dir: Path, executables: Mapping[str, bytes]) -> None:
    """Note first what is ours: an installation that is interrupted can be repeated and removed."""
    notes, digests = _noted(bin_dir), {name: _sha256(content) for name, content in executables.items()}
    more = {name: sorted({*notes.get(name, ()), digest}) for name, digest in digests.items()}
    if notes | more != notes:
        _replace(bin_dir / NOTES, msgspec.json.encode(notes | more, order="sorted"), 0o644)
    for name, content in executables.items():
        _replace(bin_dir / name, content, 0o755)


def _noted(bin_dir: Path) -> dict[str, list[str]]:
    """What we have installed; nothing where the notes are missing or damaged."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode((bin_dir / NOTES).read_bytes(), type=dict[str, list[str]])
    return {}


def _digest(path: Path) -> str:
    """The digest of a file; empty if there is none."""
    with suppress(FileNotFoundError):
        return _sha256(path.read_bytes())
    return ""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once, and for a loss of power, too."""
    if _is_same(path, content, mode):
        return
    draft = _draft(path)
    with draft.open("wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _is_same(path: Path, content: bytes, mode: int) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_mode & 0o7777 == mode and path.read_bytes() == content
    return False


def _unwritable(error: OSError, bin_dir: Path) -> BadConfig:
    return BadConfig(
        f"{error.filename or bin_dir} cannot be written: {error.strerror or error}; make room on its disk, or mount "
        "the host's folder"
    )
