"""Which pod sandboxes have interfaces on this node: one small file each, written before anything is made.

A DEL, a collection by the runtime and an agent that has been started anew learn from them what there is to take
away or to refresh; the pod object may be gone by then. They lie in memory (``/run``): sandboxes do not outlive a
node's restart either. Those that the agent attaches and those for which it coordinates what others attached are in
folders of their own, since one call may come within the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.errors import IOFailure
from spiderpool.telemetry import logger

SUFFIX = ".json"

log = logger("sandboxes")


class InterfaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interface of a sandbox."""

    name: str
    network: str
    """``namespace/name``."""
    coordinated: bool = False
    first_nic: str = ""
    """The pod's first interface, where somebody else made it."""
    chain: str = ""
    """Name of the network's configuration, where the agent did not make the interface itself."""
    version: str = ""
    plugins: tuple[str, ...] = ()
    """JSON of the plugins that were executed; none where the agent made the interface itself."""
    request: dict[str, Any] = {}
    """Capabilities and arguments with which they were executed."""
    result: str = ""
    """What the last of them printed."""


class SandboxRecord(msgspec.Struct, frozen=True):
    """A pod's sandbox and its interfaces, the first one first."""

    container_id: str
    netns: str
    cni_args: str
    interfaces: tuple[InterfaceRecord, ...]


class AttachmentStore:
    """The files of all sandboxes of this node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, sandbox: SandboxRecord) -> None:
        """Write or replace a sandbox's file. Raises IOFailure."""
        path = self._path(sandbox.container_id)
        draft = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(sandbox))
            draft.replace(path)
        except OSError as error:
            raise IOFailure(f"{path} cannot be written: {error}; make room, or make its folder writable") from error

    def load(self, container_id: str) -> SandboxRecord | None:
        """A sandbox; None where no file tells of it. Raises IOFailure."""
        return _read(self._path(container_id))

    def forget(self, container_id: str) -> None:
        """Remove a sandbox's file; a missing one is success. Raises IOFailure."""
        path = self._path(container_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise IOFailure(f"{path} cannot be removed: {error}; make its folder writable") from error

    def all(self) -> Iterator[SandboxRecord]:
        """All sandboxes that a file tells of. Raises IOFailure."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            sandbox = _read(path)
            if sandbox is not None:
                yield sandbox

    def _path(self, container_id: str) -> Path:
        """A runtime's identifiers may be longer than a file name."""
        name = container_id if len(container_id) <= 128 else hashlib.sha256(container_id.encode()).hexdigest()
        return self._directory / f"{name}{SUFFIX}"


def _read(path: Path) -> SandboxRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=SandboxRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IOFailure(f"{path} cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        log.warning("passed over", file=str(path), error=str(error))
        return None
