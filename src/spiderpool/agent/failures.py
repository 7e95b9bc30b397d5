"""Failures of work on many items: what one of them makes go wrong keeps no other from its due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spiderpool.errors import SpiderpoolError
from spiderpool.telemetry import logger

log = logger("failures")


@contextmanager
def noted(failures: list[SpiderpoolError]) -> Iterator[None]:
    """Append an error of the work on one item to ``failures``, also a bug, instead of raising it."""
    try:
        yield
    except Exception as error:
        failures.append(as_ours(error))


def as_ours(error: Exception) -> SpiderpoolError:
    """The error itself if it is one of ours; else it is a bug, which is logged, and an error that tells of it."""
    if isinstance(error, SpiderpoolError):
        return error
    log.error("internal error", exc_info=error)
    return SpiderpoolError(f"internal error of spiderpool-agent: {error!r}; see its log")
