"""How often each action may be called.

The cloud counts calls per action, region and account in windows of one minute; after a refused call it refuses the
rest of the window as well. Our own ceilings are lower, since other programs use the account too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW = 60.0
"""Length of a window, in seconds."""

DEFAULT_CEILING = 500
"""Calls per minute and region, of actions not in `CEILINGS`."""
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
    """Returns how many calls of an action we make at most in any minute and region."""
    return CEILINGS.get(action, DEFAULT_CEILING)


def next_window(wall: float) -> float:
    """Returns the seconds from a wall clock time to the beginning of the next window."""
    return WINDOW - wall % WINDOW


@dataclass(slots=True)
class CallBudget:
    """The calls of one action in one region. Times are seconds of a monotonic clock."""

    ceiling: int
    closed_until: float = 0.0
    _calls: deque[float] = field(default_factory=deque)
    """Times of the calls in the last window, oldest first."""

    def wait(self, now: float) -> float:
        """Returns the seconds until a call may be made; 0: now."""
        while self._calls and self._calls[0] <= now - WINDOW:
            self._calls.popleft()
        full = self._calls[0] + WINDOW - now if len(self._calls) >= self.ceiling else 0.0
        return max(full, self.closed_until - now, 0.0)

    def spend(self, now: float) -> None:
        """Counts a call that is made now."""
        self._calls.append(now)

    def close(self, until: float) -> None:
        """Allows no call before ``until``, after the cloud refused one."""
        self.closed_until = max(self.closed_until, until)
