"""Which container each interface was last given addresses for, where another plugin makes the interface.

Runtimes send a DEL of a pod's former sandbox long after the next one runs: after a reboot, and when they collect old
sandboxes. It must not end what the next sandbox uses, so the container of the last ADD decides. The agent keeps files
of the sandboxes that it attaches itself; for all others there is a small file for each pod, also in memory (``/run``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from spiderpool.errors import IOFailure, SpiderpoolError
from spiderpool.telemetry import logger

SUFFIX = ".json"

log = logger("containers")


class PodContainers(msgspec.Struct, frozen=True):
    """The containers of one pod."""

    pod_uid: str
    by_interface: dict[str, str]
    """Interface → container ID."""


class Containers:
    """The files of all pods of this node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note(self, pod_uid: str, interface: str, container: str) -> None:
        """Remember the container of an ADD, in place of the interface's former one. Raises IOFailure."""
        known = self._of_pod(pod_uid)
        if container and known.get(interface) != container:
            self._save(PodContainers(pod_uid, known | {interface: container}))

    def of(self, pod_uid: str, interface: str) -> str | None:
        """The container of an interface; None when it is not known. Raises IOFailure."""
        return self._of_pod(pod_uid).get(interface)

    def is_former(self, pod_uid: str, container: str) -> bool:
        """Whether all interfaces of a pod that are known belong to other containers. Raises IOFailure."""
        known = self._of_pod(pod_uid).values()
        return bool(container and known) and container not in known

    def forget(self, pod_uid: str, interface: str, container: str) -> None:
        """Forget an interface unless it has another container by now. Raises IOFailure."""
        known = self._of_pod(pod_uid)
        if known.get(interface) != container:
            return
        others = {name: each for name, each in known.items() if name != interface}
        if others:
            self._save(PodContainers(pod_uid, others))
        else:
            _remove(self._path(pod_uid))

    def keep(self, is_kept: Callable[[str], bool]) -> list[SpiderpoolError]:
        """Remove the files of pods whose UID is not ``is_kept``, and those without a UID; the failures."""
        failures: list[SpiderpoolError] = []
        for path in self._directory.glob(f"*{SUFFIX}"):
            try:
                pod = _read(path)
                if pod is None or not is_kept(pod.pod_uid):
                    _remove(path)
            except IOFailure as error:  # the others go all the same
                failures.append(error)
        return failures

    def _of_pod(self, pod_uid: str) -> dict[str, str]:
        pod = _read(self._path(pod_uid))
        return pod.by_interface if pod else {}

    def _save(self, pod: PodContainers) -> None:
        """Write a pod's file, atomically: during an update the agents before and after it may both write."""
        path = self._path(pod.pod_uid)
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(pod))
            draft.replace(path)
        except OSError as error:
            raise IOFailure(f"{path} cannot be written: {error}; make room, or make its folder writable") from error

    def _path(self, pod_uid: str) -> Path:
        """The file of a pod. Its name is a digest, since runtimes may pass any text as UID."""
        return self._directory / f"{hashlib.sha256(pod_uid.encode()).hexdigest()}{SUFFIX}"


def _read(path: Path) -> PodContainers | None:
    """A pod's file; None without one. One that cannot be parsed is logged and left out."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PodContainers)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IOFailure(f"{path} cannot be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("passed over", file=str(path), error=str(error))
        return None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise IOFailure(f"{path} cannot be removed: {error}; make its folder writable") from error
