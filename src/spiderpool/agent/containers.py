"""Which container each interface was last given addresses for, where another plugin makes the interface.

Runtimes send a DEL of a pod's former sandbox long after the next one runs: after a reboot, and when they collect old
sandboxes. It must not end what the next sandbox uses, so the container of the last ADD decides. The agent keeps files
of the sandboxes that it attaches itself; for all others this one file beside the socket is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from spiderpool.errors import IOFailure
from spiderpool.telemetry import logger

log = logger("containers")


class Containers:
    """The container of each pod's interfaces, in memory and in ``file`` for the agent's next start."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._by_pod: dict[str, dict[str, str]] = {}  # pod UID → interface → container ID

    def read(self) -> None:
        """Load the file of an earlier agent; one that cannot be read is logged."""
        try:
            self._by_pod = msgspec.json.decode(self._file.read_bytes(), type=dict[str, dict[str, str]])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("containers forgotten", file=str(self._file), error=str(error))

    def note(self, pod_uid: str, interface: str, container: str) -> None:
        """Remember the container of an ADD, in place of the interface's former one. Raises IOFailure."""
        if container and self.of(pod_uid, interface) != container:
            self._by_pod.setdefault(pod_uid, {})[interface] = container
            self._save()

    def of(self, pod_uid: str, interface: str) -> str | None:
        """The container of an interface; None when it is not known."""
        return self._by_pod.get(pod_uid, {}).get(interface)

    def is_former(self, pod_uid: str, container: str) -> bool:
        """Whether all interfaces of a pod that are known belong to other containers."""
        known = self._by_pod.get(pod_uid, {}).values()
        return bool(container and known) and container not in known

    def forget(self, pod_uid: str, interface: str, container: str) -> None:
        """Forget an interface unless it has another container by now. Raises IOFailure."""
        if self.of(pod_uid, interface) == container:
            del self._by_pod[pod_uid][interface]
            self.keep(lambda uid: bool(self._by_pod[uid]))
            self._save()

    def keep(self, is_kept: Callable[[str], bool]) -> None:
        """Forget all pods but those whose UID ``is_kept``."""
        self._by_pod = {uid: interfaces for uid, interfaces in self._by_pod.items() if is_kept(uid)}

    def _save(self) -> None:
        """Write the file, atomically. Raises IOFailure."""
        draft = self._file.with_suffix(".new")
        try:
            draft.write_bytes(msgspec.json.encode(self._by_pod))
            draft.replace(self._file)
        except OSError as error:
            raise IOFailure(f"{self._file} cannot be written: {error}; make room, or make it writable") from error
