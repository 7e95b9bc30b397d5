"""Starts the processes of a lab in sessions of their own, records them on disk, and ends them by pid and start time."""

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
"""Prefix of a command that the kernel kills when its parent dies (prctl(2), PR_SET_PDEATHSIG).

The "parent" is the thread that forked, so such a command must be started from the main thread.
"""

_KILL_TIMEOUT = 5.0
"""Seconds that killed processes have to end."""
_POLL_INTERVAL = 0.02  # seconds between two checks whether processes have ended
_THREADS = 17  # num_threads, field 20 of proc(5) stat, counted from the third


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); None if it is gone.

    Another process may get the same pid later, but not with the same start time.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _session_runs(leader: int) -> bool:
    """Whether any process of a session (stat field 6) runs, its leader or another."""
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
    """The processes of one lab. ``directory`` has a record and a log of each process.

    With ``detached`` the processes outlive the one that started them (``spiderpool-lab up``); without, the kernel ends
    them with it, even when it is killed.
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
        Raises SpiderpoolError if a process of that name runs: its record would be overwritten.
        """
        if (taken := self.pid(name)) is not None:
            raise SpiderpoolError(f"{name} runs already, as process {taken}; stop it first")
        command = [str(word) for word in argv]
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        if not self.detached:
            command = [*WITH_PARENT, *command]
        self.directory.mkdir(parents=True, exist_ok=True)
        with _signals_blocked():  # a signal between start and record would leave an unrecorded process
            pid = _spawn(command, {**os.environ, **(env or {})}, self.log(name))
            record = {"pid": pid, "start": start_ticks(pid), "argv": command}
            self._record(name).write_text(json.dumps(record))
        return pid

    def log(self, name: str) -> Path:
        """The file with the output of a process."""
        return self.directory / f"{name}.log"

    def names(self) -> list[str]:
        """The names of all recorded processes, oldest first."""
        records = sorted(self.directory.glob("*.process"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in records]

    def pid(self, name: str) -> int | None:
        """The pid of a recorded process, None if it does not run any more."""
        record = self._read(name)
        if record is None:
            return None
        pid = int(record["pid"])
        _reap(pid)
        return pid if record["start"] is not None and start_ticks(pid) == record["start"] else None

    def stop(self, name: str, *, timeout: float = 10.0) -> None:
        """End a process and its session by SIGTERM, after ``timeout`` seconds by SIGKILL, and remove its record."""
        if self.pid(name) is not None:
            self.kill(name, signal.SIGTERM)
            self._wait(name, timeout)
        if self.pid(name) is not None:
            self.kill(name, signal.SIGKILL)
            self._wait(name, _KILL_TIMEOUT)
        self._wait_for_session(name, _KILL_TIMEOUT)
        self._record(name).unlink(missing_ok=True)

    def kill(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process group of a process; nothing happens if it is gone."""
        pid = self.pid(name)
        if pid is None:
            return
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    def stop_all(self) -> None:
        """End all recorded processes, youngest first."""
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
        """Wait until all processes of a session have ended: a node's end after the one that started them."""
        record = self._read(name)
        deadline = time.monotonic() + timeout
        while record and _session_runs(int(record["pid"])) and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)

    def _wait(self, name: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.pid(name) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)


def _spawn(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a command in a new session, with empty input and its output appended to a file."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and a child would inherit that
    return os.posix_spawnp(
        command[0], command, environment, file_actions=files, setsid=True, setsigdef=defaults, setsigmask=()
    )


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block the signals that end this process while the context lasts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(pid: int) -> None:
    """Collect the exit status of a child of this process, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
