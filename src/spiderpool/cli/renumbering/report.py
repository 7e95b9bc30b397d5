"""What is printed before anything changes: the steps, the holders of addresses, and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.printing import Cell, View, alerts, plain, sentence, table
from spiderpool.cli.renumbering.holders import AddressHolder, HolderKind
from spiderpool.cli.renumbering.marks import MoveKind, is_moving_by
from spiderpool.cli.renumbering.options import MoveOptions

TITLES = ("POD", "ADDRESSES", "POOLS", "NODE", "CONTROLLER", "WHAT")


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """A pool that is made, changed or emptied."""

    pool: str
    addresses: str
    what: str


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What a command would do, and has to do with whom."""

    objects: tuple[str, ...]
    """As `kubectl get -o name` writes them."""
    pools: tuple[PlannedPool, ...]
    holders: tuple[AddressHolder, ...]
    room: str | None = None
    """That there is room for the pods that come."""
    named: tuple[str, ...] = ()
    """Where pools or subnets are named that are to be empty, and what to write there."""
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why it is not begun."""

    def lines(self, view: View) -> Iterator[str]:
        """Pools first, what stands in the way last."""
        yield from table(("POOL", "ADDRESSES", "WHAT"), [(e.pool, e.addresses, e.what) for e in self.pools], view)
        yield ""
        if self.holders:
            yield from table(TITLES, map(_row, self.holders), view)
        else:
            yield "No address is held"
        for text in filter(None, (self.room, *self.notes)):
            yield ""
            yield from sentence(text, view)
        if self.named:
            yield ""
            yield "To change by hand:"
            for text in self.named:
                yield from sentence(f"- {text}", view, "  ")
        for text in self.refusals:
            yield ""
            yield from alerts([text], view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The objects that it is about."""
        return self.objects


def _row(holder: AddressHolder) -> tuple[Cell, ...]:
    addresses, pools = ", ".join(holder.addresses), ", ".join(holder.pools)
    return holder.pod, addresses, pools, holder.node, holder.controller, holder.kind.value


def left_text(holder: AddressHolder) -> str:
    """What still holds addresses, in a sentence with the remedy."""
    addresses = ", ".join(holder.addresses)
    if holder.kind in (HolderKind.KEPT, HolderKind.LEFT_OVER):
        remedy = f"; by hand: spiderpoolctl ip release {holder.addresses[0]}"
    else:
        remedy = ""
    return f"{addresses} of pod {holder.pod}: {holder.kind.value}{remedy}"


def drain_text(pool: SpiderIPPool) -> str:
    """What happens to a pool that is drained."""
    is_closed = bool(pool.spec.disable) and is_moving_by(pool, MoveKind.DRAIN)
    return "gives no new address already" if is_closed else "gives no new address any more: spec.disable"


def holder_notes(options: MoveOptions, holders: Collection[AddressHolder]) -> list[str]:
    """What is to be known of holders."""
    kinds = {each.kind for each in holders}
    notes = []
    if HolderKind.MANAGED in kinds and not options.moves:
        notes.append("Pods stay where they are: --move evicts those that have a controller, one after the other")
    if HolderKind.NAMED in kinds:
        notes.append("Pods whose annotation names no pool that stays are not evicted: change it in their workload")
    return notes
