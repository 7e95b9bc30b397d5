"""Short runs of the simulation, and proof that a seed is a run: `make simulate` runs many and long ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import teeth

pytestmark = [pytest.mark.unit, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
FIXED = 7


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``make simulate`` with arguments."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "tests.simulation", "--workers", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", [FIXED, random.SystemRandom().randrange(1_000_000_000)], ids=["fixed", "random"])
def test_nothing_is_lost_given_twice_or_taken_from_the_living(seed: int, pytestconfig: pytest.Config) -> None:
    operations = 300 if pytestconfig.getoption("--full") else 150
    done = simulate("--seed", str(seed), "--per-run", str(operations))
    assert not done.returncode, done.stdout + done.stderr


def test_a_seed_is_a_run() -> None:
    runs = [simulate("--seed", str(FIXED), "--per-run", "60").stdout.splitlines()[2:] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 2


@pytest.mark.parametrize("fault", sorted(teeth.FAULTS.glob("*.patch")), ids=lambda path: path.stem)
def test_a_fault_that_is_to_be_found_can_be_put_back(fault: Path, tmp_path: Path) -> None:
    assert teeth.patched(fault, tmp_path).is_dir()


@pytest.mark.parametrize(
    "name", ["late_del_of_a_former_sandbox", pytest.param("time_alone_as_proof", marks=pytest.mark.full)]
)
def test_a_fault_that_was_put_back_is_found(name: str) -> None:
    found, report = teeth.find(teeth.FAULTS / f"{name}.patch", ["--workers", "1", "--seed", "1", "--per-run", "300"])
    assert found, report
