"""Process 1 of a node keeps its daemons running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.eventually import wait_until

pytestmark = pytest.mark.unit

SUPERVISE = """
import sys
from pathlib import Path
from spiderpool_lab import node

folder = Path(sys.argv[1])
node.RESTART_DELAY = 0.2
node.pid_file = lambda name: folder / f"{name}.pid"
node._supervise([node.Child(name, ["sh", "-c", "echo started; sleep 0.1"]) for name in ("a", "b")], folder)
"""
"""Two daemons that end at about the same time."""


def test_daemons_that_end_together_are_both_started_again(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISE, tmp_path], stdout=subprocess.DEVNULL) as supervisor:
        logs = [tmp_path / "a.log", tmp_path / "b.log"]
        try:
            wait_until(lambda: all(log.exists() and log.read_text().count("started") > 3 for log in logs), "4 starts")
        finally:
            supervisor.kill()
