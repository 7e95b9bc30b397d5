"""Takes guards out of copies of the product, has tests and simulation run on them, and writes the page."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.simulation.guards import GUARDS
from tests.simulation.guards.guard import Guard
from tests.simulation.guards.page import Outcome, page
from tests.simulation.teeth import ROOT, copied, find_in, operations_of, run_module

PAGE = ROOT / "docs" / "reference" / "guards.md"
OPERATIONS = 20_000
"""Of the simulation, for a guard that no unit test misses."""
PYTEST = ("--exitfirst", "--quiet", "--no-header", "-p", "no:cacheprovider", "--timeout", "30", "-m", "unit")


def failing_test(source: Path, tests: Iterable[str]) -> str:
    """The first of some tests that fails on a source; empty when none does."""
    done = run_module(source, "pytest", *PYTEST, *(f"tests/{each}" for each in tests))
    if done.returncode not in (0, 1):
        raise RuntimeError(f"tests could not be run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return failed[1] if failed else ""


def outcome_of(guard: Guard, operations: int, arguments: list[str]) -> Outcome:
    """Who notices that a guard is missing."""
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        source = copied(Path(folder))
        guard.take_out(source)
        if test := failing_test(source, guard.tests.split()):
            return Outcome(guard, test)
        if not operations:
            return Outcome(guard)
        found, report = find_in(source, operations, arguments)
    rule = re.search(r"^seed \d+: ([^:]+)", report, re.MULTILINE)
    if not found or rule is None:
        return Outcome(guard)
    return Outcome(guard, violation=f"{rule[1]}, after {int(operations_of(report)):,} operations")


def main() -> int:
    """The status of the process: 1 when nothing notices a guard and nobody has said why."""
    parser = argparse.ArgumentParser(prog="make simulate GUARDS=1", description=__doc__)
    parser.add_argument("--only", default="", help="part of the names of guards; then no page is written")
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="of the simulation; 0: unit tests alone")
    parser.add_argument("--seed", default="1", help="the first seed of the simulation")
    options, rest = parser.parse_known_args()
    chosen = [each for each in GUARDS if options.only in each.name]
    if test := failing_test(ROOT / "src", sorted({each for guard in chosen for each in guard.tests.split()})):
        parser.exit(1, f"{test} fails with all guards\n")
    outcomes: list[Outcome] = []
    for guard in chosen:
        outcomes.append(outcome_of(guard, options.operations, ["--seed", options.seed, *rest]))
        print(f"{guard.name}: {outcomes[-1].text}", flush=True)
    if not options.only and options.operations:
        PAGE.write_text(page(outcomes, options.operations))
    return int(any(not each.is_noticed and not each.guard.survives for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
