"""Lets one agent of a node work at a time, by a file lock, which the kernel takes back when its process ends.

Two agents of one node keep files and caches of their own knowledge: one could release an address that the other grants
at this moment.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from spiderpool.errors import IOFailure, NotReady
from spiderpool.telemetry import logger

PATIENCE = 60.0
"""Seconds that an agent waits for the end of another one; then it exits with an error and is started again."""
POLL = 0.2
"""Seconds between two tries."""

log = logger("agent")


class SoleAgent:
    """The lock of a node's agent: a file that stays, since who has removed it would lock another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None  # open while the lock is held or waited for

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Be the only agent of the node while the context lasts. Raises NotReady while another one is, or IOFailure."""
        try:
            self._descriptor = self._open()
            await self._acquire(self._descriptor)
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let another agent work, as the kernel does when a process ends."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise IOFailure(f"{self._path} cannot be opened: {error}; make its folder writable") from error

    async def _acquire(self, descriptor: int) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        is_logged = False
        while not _try_lock(descriptor):
            if asyncio.get_running_loop().time() >= deadline:
                raise NotReady(
                    f"another spiderpool-agent of this node still runs: it holds {self._path}. Only one may work at a "
                    "time: set updateStrategy.rollingUpdate.maxSurge of its DaemonSet to 0, or end the other one"
                )
            if not is_logged:
                log.warning("waiting for the end of another agent of this node", lock=str(self._path))
                is_logged = True
            await asyncio.sleep(POLL)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
