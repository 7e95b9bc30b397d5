"""How often each action may be called.

The cloud counts calls per action, region and account in windows of a minute; a refused call means that the
rest of the window is refused as well. We stay below ceilings of our own, since others use the account too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW = 60.0
"""Seconds."""

DEFAULT_CEILING = 500
CEILINGS = {
    "DescribeNetworkInterfaces": 800,
    "AssignPrivateIpAddresses": 400,
    "UnassignPrivateIpAddresses": 400,
    "AssignIpv6Addresses": 400,
    "UnassignIpv6Addresses": 400,
    "DescribeInstanceTypes": 400,
    "DescribeVSwitches": 300,
}
"""Calls per minute and region."""


def ceiling(action: str) -> int:
    """Calls of an action that we allow ourselves in any minute."""
    return CEILINGS.get(action, DEFAULT_CEILING)


def next_window(wall: float) -> float:
    """Seconds from a wall clock time to the beginning of the next window."""
    return WINDOW - wall % WINDOW


@dataclass(slots=True)
class CallBudget:
    """The calls of one action in one region. Times are seconds of any clock that does not go back."""

    ceiling: int
    closed_until: float = 0.0
    _calls: deque[float] = field(default_factory=deque)

    def wait(self, now: float) -> float:
        """Seconds until a call may be made; 0: now."""
        while self._calls and self._calls[0] <= now - WINDOW:
            self._calls.popleft()
        full = self._calls[0] + WINDOW - now if len(self._calls) >= self.ceiling else 0.0
        return max(full, self.closed_until - now, 0.0)

    def spend(self, now: float) -> None:
        """A call is made."""
        self._calls.append(now)

    def close(self, until: float) -> None:
        """The cloud refused: no call before ``until``."""
        self.closed_until = max(self.closed_until, until)
