"""Which faults of a node's network last, and are no state between two steps of its tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from spiderpool.core.network.plumbing.nics import NIC


@dataclass(frozen=True, slots=True)
class FaultHistory:
    """The faults of the last look, and since when each has been there while the gateways of pools were the same.

    Pools come one after the other. With each gateway the node is tuned anew, so a fault that has been there for long
    may be mended by the next pool, a moment later.
    """

    since: Mapping[str, float] = field(default_factory=dict)
    """Fault → time in seconds."""
    nics: tuple[NIC, ...] = ()
    """The NICs by whose gateways the node was tuned."""

    def next(self, faults: Iterable[str], now: float) -> FaultHistory:
        """The same after another look."""
        return replace(self, since={fault: self.since.get(fault, now) for fault in faults})

    def tuned(self, nics: tuple[NIC, ...]) -> FaultHistory:
        """The same after the node was tuned for these NICs: where they or their gateways are others, faults are new."""
        return self if nics == self.nics else FaultHistory(nics=nics)

    def lasting(self, patience: float, now: float) -> list[str]:
        """The faults that have been there for so many seconds."""
        return [fault for fault, since in self.since.items() if now - since >= patience]
