"""The same tests on a kernel that has ipvlan and lacks nftables' inet family: User Mode Linux, one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.errors import IOFailure
from spiderpool.lab import binaries
from tests.kernel.world import has_kind

PROJECT = Path(__file__).parent.parent.parent
TESTS = ("tests/agent/test_interfaces.py", "tests/kernel/test_marks.py", "tests/kernel/test_arp.py")


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_ipvlan_in_user_mode_linux(tmp_path: Path) -> None:
    if has_kind("ipvlan"):
        pytest.skip("this kernel has ipvlan: the tests ran here")
    try:
        kernel, modules = binaries.find("linux.uml"), binaries.uml_modules()
    except IOFailure as error:
        pytest.skip(error.message)
    share = tmp_path / "share"
    share.mkdir()
    _run(
        [
            *("taskset", "-c", str(max(os.sched_getaffinity(0)))),
            *(str(kernel), "mem=1G", "root=/dev/root", "rootfstype=hostfs", "ro"),
            *("con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=3"),
            *(f"umid=spt{os.getpid()}", f"uml_dir={tmp_path}/uml", f"PYTHONPATH={PROJECT}/src"),
            *(f"init={sys.executable}", "--", str(Path(__file__).with_name("guest.py"))),
            *(str(share), str(modules), str(PROJECT), *TESTS),
        ],
        tmp_path / "console",
    )
    output = (share / "output").read_text() if (share / "output").exists() else (tmp_path / "console").read_text()
    status = (share / "status").read_text() if (share / "status").exists() else "no status"
    assert status == "0", output[-20000:]
    assert "no ipvlan" not in output, output[-20000:]


def _run(command: list[str], console: Path) -> None:
    """Run the guest in a session of its own: it is many processes, and none may stay."""
    with console.open("wb") as log:
        guest = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            guest.wait(timeout=360)
        finally:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
