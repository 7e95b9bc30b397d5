"""Processes are recognised by their start time, and count as running until the kernel has ended all their threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.processes import WITH_PARENT, Processes, start_ticks
from tests.support.eventually import wait_until

pytestmark = pytest.mark.unit

FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone
"""


def state(pid: int) -> str:
    """proc(5), stat field 3."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_runs_as_long_as_any_of_its_threads() -> None:
    """As after a SIGKILL: its sockets are open until the last thread has ended, though the first is a zombie."""
    with subprocess.Popen([*WITH_PARENT, sys.executable, "-c", FIRST_THREAD_ENDS]) as process:
        try:
            wait_until(lambda: state(process.pid) == "Z", "the first thread is a zombie", timeout=20)
            assert start_ticks(process.pid) is not None
        finally:
            process.kill()
    assert start_ticks(process.pid) is None


def test_a_name_is_that_of_one_running_process(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    pid = processes.start("server", ["sleep", "60"])
    assert processes.pid("server") == pid
    with pytest.raises(SpiderpoolError, match="server runs already"):
        processes.start("server", ["sleep", "60"])
    processes.stop("server")
    assert (processes.pid("server"), processes.names()) == (None, [])
