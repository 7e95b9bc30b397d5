"""Does many pieces of work so that those which fail again and again keep the others from nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from spiderpool.errors import ApiUnavailable, is_bug
from spiderpool.kube.turns import in_turns
from spiderpool.telemetry import logger

T = TypeVar("T")

MOST_FAILURES = 3
"""Failures after which the rest waits for the next time: the API server may be away, and each costs a timeout."""

log = logger("attempts")


async def on_all(pieces: Iterable[T], work: Callable[[T], Awaitable[None]], *, give_up: bool = True) -> None:
    """Work on all pieces, whichever fail, and raise the first failure then; at once if the API server is away.

    Failures that are not raised are logged. Without ``give_up`` the API server counts as never away: it gives the
    error of somebody's webhook as its own, and that may be about one piece alone.
    """
    failures: list[Exception] = []
    try:
        for piece in pieces:
            try:
                await work(piece)
            except Exception as error:  # also a bug
                if give_up and isinstance(error, ApiUnavailable):
                    raise
                failures.append(error)
        if failures:
            raise failures.pop(0)
    finally:
        for other in failures:
            log.warning("failed beside another", error=str(other), exc_info=other if is_bug(other) else None)


class Attempts:
    """Remembers which pieces have failed: they are tried last the next time, the latest failure at the end."""

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        """``failed`` is given the key and the error of each piece that fails."""
        self._report = failed
        self._failures = 0
        self._failed: dict[str, int] = {}  # key → number of its last failure

    async def on_each(self, pieces: Mapping[str, T], work: Callable[[T], Awaitable[None]]) -> bool:
        """Work on the pieces, in their order but for those that have failed; whether all of them were tried."""
        self._failed = {key: number for key, number in self._failed.items() if key in pieces}
        most = self._failures + MOST_FAILURES
        async for key in in_turns(sorted(pieces, key=lambda key: self._failed.get(key, 0))):
            try:
                await work(pieces[key])
            except Exception as error:  # also a bug: what one piece makes go wrong must not keep the others
                self._failures += 1
                self._failed[key] = self._failures
                self._report(key, error)
                if self._failures >= most:
                    return False
            else:
                self._failed.pop(key, None)
        return True
