"""``make simulate``: runs of many seeds, all cores at once, and a report."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.cluster import Size
from tests.simulation.run import Outcome, operations_of, run
from tests.simulation.shrinking import outcomes, shrink

OPERATIONS = 40_000
"""By default: a few minutes."""
PER_RUN = 1_000
"""Operations that are drawn for one seed."""
PROGRESS = 60.0
"""Seconds between two lines that say how far it is."""


@dataclass
class Report:
    """What all runs have done."""

    runs: int = 0
    operations: int = 0
    seconds: float = 0.0
    most_requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.runs += 1
        self.operations += outcome.operations
        self.seconds += outcome.seconds
        self.most_requests = max(self.most_requests, outcome.most_requests)
        self.faults += outcome.faults
        self.by_kind += outcome.by_kind

    def show(self, took: float) -> None:
        """Print it."""
        rate = self.operations / took
        print(f"{self.operations} operations in {self.runs} runs, {took:.0f} s, {rate:.0f} operations per second")
        print(f"{self.seconds / 3600:.1f} hours of simulated time; most requests of one ADD: {self.most_requests}")
        print("operations:", ", ".join(f"{kind} {count}" for kind, count in self.by_kind.most_common()))
        print("faults:", ", ".join(f"{kind} {count}" for kind, count in self.faults.most_common()))


def main() -> int:
    """The status of the process: 1 after a violation."""
    arguments = _parser().parse_args()
    first = random.SystemRandom().randrange(1_000_000_000) if arguments.seed is None else arguments.seed
    size = Size()
    if arguments.seed is not None and arguments.operations is None:
        arguments.operations = arguments.per_run
    count = -(-(arguments.operations or OPERATIONS) // arguments.per_run)
    print(f"seeds {first} to {first + count - 1}, {arguments.per_run} operations each", flush=True)
    report, begin = Report(), time.monotonic()
    shown = begin
    failed: list[Outcome] = []
    with closing(outcomes(_works(first, count, arguments.per_run, size), arguments.workers)) as results:
        for outcome in results:
            report.add(outcome)
            if time.monotonic() - shown >= PROGRESS:
                shown = time.monotonic()
                print(f"{report.runs} of {count} runs, {report.operations} operations", flush=True)
            if outcome.violation is not None:
                failed.append(outcome)
                print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
                if not arguments.keep_going:
                    break
    report.show(time.monotonic() - begin)
    if failed and not arguments.no_shrink:
        _explain(failed[0], size, arguments.per_run)
    return 1 if failed else 0


def _works(first: int, count: int, per_run: int, size: Size) -> Iterator[Callable[[], Outcome]]:
    return (partial(run, seed, operations_of(seed, per_run), size) for seed in range(first, first + count))


def _explain(outcome: Outcome, size: Size, per_run: int) -> None:
    """Print how a run failed, after it was made as short as possible."""
    assert outcome.violation is not None
    operations = operations_of(outcome.seed, per_run)
    shorter, outcome, tries = shrink(outcome.seed, operations, size, outcome.violation.rule)
    print(f"\nshortened from {len(operations)} operations to {len(shorter)} in {tries} runs:")
    clock = 5.0
    for each in shorter:
        clock += each.gap
        print(f"  {1000 + clock:10.3f} {each.kind}")
    print(f"\n{outcome.violation}\n")
    for note in outcome.history:
        print(f"  {note.time:10.3f} {note.text}")
    print(f"\nto repeat: make simulate SEED={outcome.seed} PER_RUN={per_run}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; drawn without it")
    parser.add_argument("--operations", type=int, help=f"in all, {OPERATIONS} without a seed; with one, one run")
    parser.add_argument("--per-run", type=int, default=PER_RUN, help="operations of one seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--keep-going", action="store_true", help="go on after a violation")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a shorter run that fails")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of text is part of a run
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
