"""A fuzz target: what is called with an input, and what may come of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exception
from typing import Any

import structlog

CORPUS = Path(__file__).parent / "corpus"

MOST_SECONDS = 0.5
"""CPU time of any input: instrumented code takes three times as long as usual."""
MOST_SECONDS_PER_KB = 0.02
"""CPU time for each KB on top of that. What grows faster than its input holds up an event loop."""
TRIES = 3
"""Times that a slow input is run, since a garbage collection may have been the reason."""


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """One kind of input from outside."""

    name: str
    run: Callable[[bytes], None]
    errors: tuple[type[Exception], ...] = ()
    """What ``run`` may raise: what the code under test documents, by these very classes or derived ones."""

    def seeds(self) -> dict[str, bytes]:
        """The corpus: name of the file → input."""
        return {path.name: read_seed(path) for path in sorted((CORPUS / self.name).iterdir())}

    def problem(self, data: bytes) -> str:
        """Why an input is a finding, in words; empty if it is none."""
        seconds, bug = self._tried(data)
        for _ in range(TRIES if seconds > limit(data) else 0):
            seconds = min(seconds, self._tried(data)[0])
        if seconds > limit(data):
            bug += f"{len(data)} bytes take {seconds:.2f} s of CPU, more than {limit(data):.2f} s\n"
        return bug

    def _tried(self, data: bytes) -> tuple[float, str]:
        """The seconds of CPU that an input takes, and the bug that it shows."""
        begin = time.thread_time()
        with _bugs_logged() as bugs:
            try:
                self.run(data)
            except self.errors:
                pass
            except Exception as error:
                bugs.append("".join(format_exception(error)))
        return time.thread_time() - begin, "\n".join(bugs)


def limit(data: bytes) -> float:
    """Seconds of CPU that an input may take."""
    return MOST_SECONDS + MOST_SECONDS_PER_KB * len(data) / 1024


def read_seed(path: Path) -> bytes:
    """The input in a file: that of ``*.hex`` in hexadecimal digits with ``#`` before comments, else the file itself."""
    if path.suffix != ".hex":
        return path.read_bytes()
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))


@contextmanager
def _bugs_logged() -> Iterator[list[str]]:
    """The tracebacks that code under test logs: where it survives a bug of its own."""
    bugs: list[str] = []

    def note(_logger: Any, _method: str, event: Any) -> Any:
        cause = event.get("exc_info")
        if error := cause if isinstance(cause, BaseException) else sys.exception() if cause else None:
            bugs.append("".join(format_exception(error)))
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    former = [*processors]
    processors[:] = [note]  # in place, since loggers keep this list
    try:
        yield bugs
    finally:
        processors[:] = former
