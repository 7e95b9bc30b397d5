"""Processes of a lab: started in sessions of their own, recorded on disk, ended by identity."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spiderpool.errors import SpiderpoolError

WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""Put before a command, it has the kernel kill the command when its parent dies (prctl(2), PR_SET_PDEATHSIG).

The "parent" is the thread that forked: start such a command from a thread that lasts, the main one.
"""

_THREADS = 17  # num_threads, field 20 of proc(5) stat, counted from the third


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); None if it is gone.

    A pid may be reused, a pid with its start time is not.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _session_lives(leader: int) -> bool:
    """Whether any process of a session runs (stat field 6), its leader or others."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return any(fields and int(fields[3]) == leader for fields in map(_stat, pids))


def _stat(pid: int) -> list[str] | None:
    """Fields of proc(5) stat from the third on; None if the process is gone or a zombie.

    While other threads of a killed process still end, its first thread is a zombie already, but its sockets are open.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" and int(fields[_THREADS]) <= 1 else fields


class Processes:
    """The processes of one lab. ``directory`` keeps one record and one log per process.

    With ``detached`` the processes outlive the one that started them (``lab up``); otherwise the
    kernel ends them with it, even when it is killed.
    """

    def __init__(self, directory: Path, *, detached: bool = False) -> None:
        self.directory = directory
        self.detached = detached

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        netns: str | None = None,
    ) -> int:
        """Start a process under a unique name and return its pid. Output goes to ``<name>.log``.

        ``netns`` is a namespace name under /run/netns. ``env`` is added to our environment.
        Raises SpiderpoolError if the name is taken by a process that runs: it would be lost to us.
        """
        if (taken := self.pid(name)) is not None:
            raise SpiderpoolError(f"{name} runs already, as process {taken}; stop it first")
        command = [str(word) for word in argv]
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        if not self.detached:
            command = [*WITH_PARENT, *command]
        self.directory.mkdir(parents=True, exist_ok=True)
        with _signals_held():  # Ctrl-C between start and record would leave a process that nobody knows
            pid = _spawn(command, {**os.environ, **(env or {})}, self.log(name))
            record = {"pid": pid, "start": start_ticks(pid), "argv": command}
            self._record(name).write_text(json.dumps(record))
        return pid

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.directory / f"{name}.log"

    def names(self) -> list[str]:
        """All recorded processes, oldest first."""
        records = sorted(self.directory.glob("*.process"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in records]

    def pid(self, name: str) -> int | None:
        """The pid of a recorded process if that very process still runs."""
        record = self._read(name)
        if record is None:
            return None
        pid = int(record["pid"])
        _reap(pid)
        return pid if record["start"] is not None and start_ticks(pid) == record["start"] else None

    def stop(self, name: str, *, timeout: float = 10.0) -> None:
        """End a process and its session: SIGTERM, after ``timeout`` seconds SIGKILL. Forget its record."""
        if self.pid(name) is not None:
            self.kill(name, signal.SIGTERM)
            self._wait(name, timeout)
        if self.pid(name) is not None:
            self.kill(name, signal.SIGKILL)
            self._wait(name, 5.0)
        self._wait_for_session(name, 5.0)
        self._record(name).unlink(missing_ok=True)

    def kill(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the session of a process; nothing happens if it is gone."""
        pid = self.pid(name)
        if pid is None:
            return
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    def stop_all(self) -> None:
        """End everything, youngest first."""
        for name in reversed(self.names()):
            self.stop(name)

    def _record(self, name: str) -> Path:
        return self.directory / f"{name}.process"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._record(name).read_text())
        except (OSError, ValueError):
            return None
        return record

    def _wait_for_session(self, name: str, timeout: float) -> None:
        """A node's processes die after the one that holds them: wait until they have."""
        record = self._read(name)
        deadline = time.monotonic() + timeout
        while record and _session_lives(int(record["pid"])) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _wait(self, name: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.pid(name) is not None and time.monotonic() < deadline:
            time.sleep(0.02)


def _spawn(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a command in a session of its own, its input empty, its output appended to a file."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    heeded = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and a child would inherit that
    return os.posix_spawnp(
        command[0], command, environment, file_actions=files, setsid=True, setsigdef=heeded, setsigmask=()
    )


@contextmanager
def _signals_held() -> Iterator[None]:
    """Put off what ends us by a signal until the context ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(pid: int) -> None:
    """Collect the exit status of our own child, so that it does not linger as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
