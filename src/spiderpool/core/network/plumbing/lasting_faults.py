"""Which faults of a node's network last, and are no state between two steps of its tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from spiderpool.core.network.plumbing.nics import NIC

LONGEST_SETTLING = 300.0
"""Seconds after which a fault lasts whatever else has changed: some gateways come and go with every look."""


@dataclass(frozen=True, slots=True)
class FaultHistory:
    """The faults of the last look, since when each has been there, and since when the gateways of pools are the same.

    Pools come one after the other. With each gateway the node is tuned anew, so a fault that has been there for long
    may be mended by the next pool, a moment later.
    """

    since: Mapping[str, float] = field(default_factory=dict)
    """Fault → time in seconds."""
    nics: tuple[NIC, ...] = ()
    """The NICs by whose gateways the node is tuned."""
    nics_since: float = -math.inf
    """Time in seconds."""

    def next(self, faults: Iterable[str], now: float) -> FaultHistory:
        """The same after another look."""
        return replace(self, since={fault: self.since.get(fault, now) for fault in faults})

    def tuned(self, nics: tuple[NIC, ...], now: float) -> FaultHistory:
        """The same when the node is tuned for these NICs: where they or their gateways are others, faults are new."""
        return self if nics == self.nics else replace(self, nics=nics, nics_since=now)

    def lasting(self, patience: float, now: float) -> list[str]:
        """The faults that have been there for so many seconds with the same gateways, or for LONGEST_SETTLING."""
        return [
            fault
            for fault, since in self.since.items()
            if now - max(since, self.nics_since) >= patience or now - since >= LONGEST_SETTLING
        ]
