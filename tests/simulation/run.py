"""One run of a simulation: a seed, its operations, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import random as global_random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import structlog

from tests.simulation.checks import Violation
from tests.simulation.cluster import Cluster, Note, Size
from tests.simulation.effects import Operation
from tests.simulation.loop import SimulatedLoop
from tests.simulation.operations import carry_out, draw

WARM_UP = 5.0
"""Seconds before the first operation."""
STEP = 100.0
"""Seconds between two looks at a world that grows quiet."""
PATIENCE = 4000.0
"""Seconds in which it must have become so: a collection of all records, and all its graces, are in them."""
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    seed: int
    violation: Violation | None
    operations: int
    """Operations that were carried out."""
    seconds: float
    """Simulated."""
    faults: Counter[str]
    by_kind: Counter[str]
    requests: Counter[str]
    most_requests: int
    steps: int
    history: list[Note] = field(default_factory=list)
    """Of what the violation is about."""


def run(seed: int, operations: Sequence[Operation], size: Size) -> Outcome:
    """Run in this process. It changes the process: run it in one of its own."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )
    warnings.simplefilter("ignore")  # of what is killed
    random = Random(seed)
    global_random.seed(seed)  # pauses of informers are drawn by it
    directory = Path(tempfile.mkdtemp(prefix="simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    loop = SimulatedLoop(random)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_Run(loop, random, directory, size).run(seed, operations))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def operations_of(seed: int, count: int) -> list[Operation]:
    """The operations of a seed."""
    return draw(Random(f"operations of {seed}"), count)


class _Run:
    def __init__(self, loop: SimulatedLoop, random: Random, directory: Path, size: Size) -> None:
        self._loop = loop
        self._cluster = Cluster(loop, random, directory, size)
        self._by_kind: Counter[str] = Counter()

    async def run(self, seed: int, operations: Sequence[Operation]) -> Outcome:
        cluster = self._cluster
        cluster.start()
        await asyncio.sleep(WARM_UP)
        violation: Violation | None = None
        for each in operations:
            await asyncio.sleep(max(each.gap, cluster.resume_at - self._loop.time()))
            if violation := self._violation():
                break
            self._by_kind[each.kind] += carry_out(cluster, each)
        violation = violation or await self._settle()
        return Outcome(
            seed=seed,
            violation=violation,
            operations=self._by_kind.total(),
            seconds=self._loop.time(),
            faults=cluster.api.faults,
            by_kind=self._by_kind,
            requests=cluster.api.requests,
            most_requests=cluster.checks.most_requests,
            steps=self._loop.steps,
            history=self._history(violation) if violation else [],
        )

    def _violation(self) -> Violation | None:
        if self._loop.failures:
            return Violation("unhandled exception", self._loop.failures[0], self._loop.time(), ())
        return self._cluster.checks.violation

    async def _settle(self) -> Violation | None:
        """Let everything come back and wait until nothing is left to do; a violation if something stays."""
        cluster = self._cluster
        deadline = self._loop.time() + PATIENCE
        found: list[Violation] = []
        while self._loop.time() < deadline:
            cluster.heal()
            await asyncio.sleep(STEP)
            if violation := self._violation():
                return violation
            found = cluster.checks.settled()
            if not found:
                return None
        return found[0]

    def _history(self, violation: Violation) -> list[Note]:
        """What happened to the subjects of a violation, and to what was with them."""
        notes = [note for note in self._cluster.notes if note.time <= violation.time + 1e-9]
        subjects = {*violation.subjects}
        subjects |= {
            each
            for note in notes
            if subjects & {*note.subjects}
            for each in note.subjects
            if "uid" in each or "hash" in each
        }
        return [note for note in notes if not note.subjects or subjects & {*note.subjects}]
