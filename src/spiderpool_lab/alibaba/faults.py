"""What can go wrong on demand: faults strike the calls whose action they name, always or every n-th time."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from spiderpool.errors import BadConfig

Kind = Literal["throttle", "refuse", "delay", "drop", "lose", "stale", "empty"]
"""throttle: Throttling.User with x-acs-retry-after. refuse: any other code. delay: answer late.
drop: close the connection, nothing done. lose: carry the call out, then close the connection.
stale: read from the state as it was when the fault was set. empty: read as if the account held nothing."""

_READS = ("stale", "empty")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault. It strikes every ``every``-th call whose ``product:Action`` fits the pattern, ``times`` at most.

    ``seconds`` is the delay, or the wait that a throttled caller is told; ``code`` and ``status`` those of a refusal.
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
    """The faults that are set, and how often each was met and struck."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._set: dict[int, Fault] = {}
        self._met: dict[int, int] = {}
        self._struck: dict[int, int] = {}

    def add(self, fault: Fault) -> int:
        """Set a fault and return the number by which it is cleared."""
        number = next(self._numbers)
        self._set[number] = fault
        self._met[number] = self._struck[number] = 0
        return number

    def clear(self, number: int | None = None) -> None:
        """Take one fault away, or all."""
        for key in [number] if number is not None else list(self._set):
            self._set.pop(key, None)

    def listed(self) -> dict[int, Fault]:
        """All faults that are set."""
        return dict(self._set)

    def strike(self, action: str, *, reads: bool) -> list[tuple[int, Fault]]:
        """The faults that hit this call of ``product:Action``; those that change what is read hit reads alone."""
        found = [number for number, fault in self._set.items() if _concerns(fault, action, reads)]
        return [(number, self._set[number]) for number in found if self._strikes(number)]

    def _strikes(self, number: int) -> bool:
        fault = self._set[number]
        self._met[number] += 1
        if self._met[number] % fault.every or (fault.times is not None and self._struck[number] >= fault.times):
            return False
        self._struck[number] += 1
        return True


def _concerns(fault: Fault, action: str, reads: bool) -> bool:
    return fnmatchcase(action, fault.actions) and (reads or fault.kind not in _READS)
