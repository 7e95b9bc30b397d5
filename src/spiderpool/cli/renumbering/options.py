"""The options that `pool drain`, `pool resize` and `subnet renumber` share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.renumbering.holders import AddressHolder, evictable


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """How pods are moved, by the options that these commands share."""

    move: bool
    move_unmanaged: bool
    even_if_full: bool
    timeout: float
    """Seconds for each pod: until it is evicted, and until another serves in its place."""
    policies: PolicyOptions
    move_jobs: bool = False

    @property
    def moves(self) -> bool:
        """Whether any pod is evicted."""
        return self.move or self.move_unmanaged or self.move_jobs

    def evicted(self, holders: Collection[AddressHolder]) -> list[AddressHolder]:
        """The holders that are evicted."""
        return evictable(holders, unmanaged=self.move_unmanaged, jobs=self.move_jobs) if self.moves else []
