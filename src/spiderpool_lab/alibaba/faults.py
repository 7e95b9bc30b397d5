"""Fault injection: a fault applies to calls whose action matches its pattern, to each of them or to every n-th."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from spiderpool.errors import BadConfig

Kind = Literal["throttle", "refuse", "delay", "drop", "lose", "stale", "empty"]
"""throttle: refuse with Throttling.User and x-acs-retry-after. refuse: refuse with any other code.
delay: answer late. drop: close the connection without executing the call.
lose: execute the call, then close the connection without an answer.
stale: read from the state at the time when the fault was set. empty: read from an account without resources."""

_READ_KINDS = ("stale", "empty")
METADATA = "metadata"
"""What stands for the product in actions of the metadata service, whose rest is the path."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault. It applies to every ``every``-th call whose ``product:Action`` matches ``actions``, ``times`` at most.

    ``seconds`` is the delay, or the retry-after of a throttled call; ``code``, ``message`` and ``status`` are the
    answer of a refused call. Raises BadConfig for numbers out of range.
    """

    kind: Kind
    actions: str = "*"
    every: int = 1
    times: int | None = None
    seconds: float = 1.0
    code: str = "InternalError"
    message: str = "The request processing has failed due to some unknown error."
    status: int = 500

    def __post_init__(self) -> None:
        if self.every < 1 or self.seconds < 0 or (self.times is not None and self.times < 1):
            raise BadConfig("a fault needs every >= 1, seconds >= 0 and times >= 1")


class Faults:
    """The faults that are set, with counters of the calls that each matched and applied to."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)  # source of the numbers of faults
        self._set: dict[int, Fault] = {}  # number → fault
        self._matched: dict[int, int] = {}  # number → calls that matched the pattern
        self._applied: dict[int, int] = {}  # number → calls that the fault applied to

    def add(self, fault: Fault) -> int:
        """Set a fault and return the number by which it is cleared."""
        number = next(self._numbers)
        self._set[number] = fault
        self._matched[number] = self._applied[number] = 0
        return number

    def clear(self, number: int | None = None) -> list[int]:
        """Remove one fault, or all faults; returns the numbers of those that were set."""
        cleared = [key for key in self._set if number in (None, key)]
        for key in cleared:
            del self._set[key]
        return cleared

    def listed(self) -> dict[int, Fault]:
        """All faults that are set, by number."""
        return dict(self._set)

    def triggered(self, action: str, *, is_read: bool) -> list[tuple[int, Fault]]:
        """Count a call of ``product:Action`` and return the faults that apply to it, with their numbers."""
        found = [number for number, fault in self._set.items() if _matches(fault, action, is_read)]
        return [(number, self._set[number]) for number in found if self._count(number)]

    def _count(self, number: int) -> bool:
        fault = self._set[number]
        self._matched[number] += 1
        if self._matched[number] % fault.every or (fault.times is not None and self._applied[number] >= fault.times):
            return False
        self._applied[number] += 1
        return True


def check_hits(fault: Fault, actions: Mapping[str, bool]) -> None:
    """Raise BadConfig for a fault that no call can match. ``actions`` are ``product:Action`` → whether it only reads.

    The paths of the metadata service are not among them: nobody has a list of those that a server may ask for.
    """
    metadata = f"{METADATA}:"
    if fault.actions.startswith(metadata) or fnmatchcase(metadata, fault.actions):
        return
    possible = [name for name, is_read in actions.items() if is_read or fault.kind not in _READ_KINDS]
    if not any(fnmatchcase(name, fault.actions) for name in possible):
        read = " that reads" if fault.kind in _READ_KINDS else ""
        raise BadConfig(f"there is no action{read} {fault.actions}: write {metadata}*, or one of {', '.join(possible)}")


def _matches(fault: Fault, action: str, is_read: bool) -> bool:
    return fnmatchcase(action, fault.actions) and (is_read or fault.kind not in _READ_KINDS)
