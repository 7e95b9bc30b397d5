"""What a cloud counts and bills for balancers: units and sizes, no money, as prices depend on region and contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BillingItem:
    """Something that a cloud counts for a balancer."""

    unit: str
    """What is counted, in plain words."""
    quantity: int | None = None
    """How much of it there is whether it is used or not; None: it is counted by use."""

    def __str__(self) -> str:
        return f"{self.unit} by use" if self.quantity is None else f"{self.quantity} {self.unit}"


def total(items: Iterable[BillingItem]) -> tuple[BillingItem, ...]:
    """Returns the items of several balancers together: one for each unit, in the order in which they come first."""
    found: dict[str, int | None] = {}
    for item in items:
        before = found.get(item.unit)
        found[item.unit] = None if item.quantity is None else item.quantity + (before or 0)
    return tuple(BillingItem(unit, quantity) for unit, quantity in found.items())
