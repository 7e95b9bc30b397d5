"""Every line of core/ and api/ is run by the tests of its own file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.unit
@pytest.mark.full
@pytest.mark.timeout(300)
def test_core_and_api_are_covered_by_their_own_tests() -> None:
    command = [sys.executable, "-m", "scripts.coverage"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
