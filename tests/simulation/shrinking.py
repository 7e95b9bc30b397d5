"""Runs in processes of their own, and failing runs made shorter."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

from tests.simulation.cluster import Size
from tests.simulation.effects import Operation
from tests.simulation.run import Outcome, run

MOST_TRIES = 150
"""Runs in which a failing one is made shorter."""


class Child:
    """Some work in a process of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(self._reader)
            _work_and_exit(work, writer)
        os.close(writer)

    def result(self) -> Any:
        """Wait for the result. Raises RuntimeError with what the work has raised."""
        with os.fdopen(self._reader, "rb") as pipe:
            content = pipe.read()
        os.waitpid(self._process, 0)
        if not content:
            raise RuntimeError("the process of a run has ended without a result")
        result, error = pickle.loads(content)
        if error:
            raise RuntimeError(error)
        return result

    def end(self) -> None:
        """End it without a result."""
        os.kill(self._process, signal.SIGKILL)
        os.close(self._reader)
        os.waitpid(self._process, 0)


def _work_and_exit(work: Callable[[], Any], writer: int) -> None:
    """What is left of a run is finalized by nobody: the process ends at once."""
    try:
        content = pickle.dumps((work(), ""))
    except BaseException:
        content = pickle.dumps((None, traceback.format_exc()))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(content)
    sys.stdout.flush()
    os._exit(0)


def outcomes(works: Iterator[Callable[[], Outcome]], workers: int) -> Generator[Outcome, None, None]:
    """The outcomes of runs, so many at a time, in the order of their beginning."""
    children: list[Child] = []
    try:
        for work in works:
            children.append(Child(work))
            if len(children) >= workers:
                yield children.pop(0).result()
        while children:
            yield children.pop(0).result()
    finally:
        for child in children:
            child.end()


def shrink(seed: int, operations: Sequence[Operation], size: Size, rule: str) -> tuple[list[Operation], Outcome, int]:
    """The operations of a failing run without such as are not needed for a violation of the same rule.

    Also its outcome, and in how many runs it was found. Without an operation the rest keeps its times.
    """
    best, tries = list(operations), 0
    outcome: Outcome = Child(partial(run, seed, best, size)).result()
    chunk = max(len(best) // 2, 1)
    while tries < MOST_TRIES:
        begin, shorter = 0, False
        while begin < len(best) and tries < MOST_TRIES:
            tried = _without(best, begin, begin + chunk)
            tries += 1
            found: Outcome = Child(partial(run, seed, tried, size)).result()
            if found.violation is not None and found.violation.rule == rule:
                best, outcome, shorter = tried, found, True
            else:
                begin += chunk
        if chunk == 1 and not shorter:
            break
        chunk = max(chunk // 2, 1)
    return best, outcome, tries


def _without(operations: Sequence[Operation], begin: int, end: int) -> list[Operation]:
    """The operations but for some; the next one comes when it would have come."""
    skipped = sum(each.gap for each in operations[begin:end])
    rest = list(operations[end:])
    if rest:
        rest[0] = Operation(rest[0].kind, rest[0].gap + skipped, rest[0].seed)
    return [*operations[:begin], *rest]
