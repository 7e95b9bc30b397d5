"""``make simulate TEETH=1``: faults that the product had are put back one at a time, and each must be found.

Each patch in ``faults/`` is applied to a copy of ``src/``. A patch that no longer applies is written anew: it stands
for its kind of fault, not for certain lines.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).parent / "faults"
OPERATIONS = 100_000
"""Within which each fault must be found."""


def copied(folder: Path) -> Path:
    """A copy of ``src/`` in a folder."""
    return Path(shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__")))


def patched(fault: Path, folder: Path) -> Path:
    """A copy of ``src/`` with a fault. Raises CalledProcessError when the patch does not apply."""
    source = copied(folder)
    command = ["patch", "--strip=1", "--batch", "--quiet", f"--input={fault}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return source


def run_module(source: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module on a source of the product."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(source), str(ROOT)))}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def simulate(source: Path, arguments: list[str]) -> tuple[bool, str]:
    """Whether the simulation of a source fails, and the report."""
    done = run_module(source, "tests.simulation", "--no-shrink", *arguments)
    return done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr


def find(fault: Path, arguments: list[str]) -> tuple[bool, str]:
    """Whether a fault is found, and the report."""
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        return find_in(patched(fault, Path(folder)), OPERATIONS, arguments)


def find_in(source: Path, operations: int, arguments: list[str]) -> tuple[bool, str]:
    """Whether the fault of a source is found, and the report.

    A run that fails without the fault as well does not count.
    """
    found, report = simulate(source, ["--operations", str(operations), *arguments])
    failed = re.search(r"^seed (\d+): ", report, re.MULTILINE)
    if not found or failed is None:
        return False, report
    fails_anyway, control = simulate(ROOT / "src", [*arguments, "--seed", failed[1]])
    return not fails_anyway, f"{report}\nwithout the fault:\n{control}" if fails_anyway else report


def operations_of(report: str) -> str:
    """How many operations it took, by the report."""
    operations = re.search(r"^(\d+) operations in", report, re.MULTILINE)
    return operations[1] if operations else ""


def main() -> int:
    """The status of the process: 1 when a fault is not found."""
    parser = argparse.ArgumentParser(prog="make simulate TEETH=1", description=__doc__)
    parser.add_argument("--only", default="", help="part of the names of faults")
    only, rest = parser.parse_known_args()
    missed = 0
    for fault in sorted(each for each in FAULTS.glob("*.patch") if only.only in each.stem):
        found, report = find(fault, rest)
        missed += not found
        operations = operations_of(report)
        violation = re.search(r"^seed .*$", report, re.MULTILINE)
        after = f"after {operations} operations" if operations else ""
        print(f"{fault.stem}: {'found' if found else 'NOT FOUND'} {after}", flush=True)
        print(f"  {violation[0]}" if violation else report[-2000:], flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
