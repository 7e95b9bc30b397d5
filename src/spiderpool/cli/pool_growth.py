"""How the pools of `top pools` grow and when they are full, from the history of addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.cli.connection import Cluster
from spiderpool.cli.history import NO_HISTORY, is_silent, read_stored
from spiderpool.cli.printing import duration
from spiderpool.core.ipam.forecast import Exhaustion, Growth, exhaustion, growth
from spiderpool.core.ipam.history import PoolChanges, moment

GROWTH_KEYS = ("growth_per_day", "known_seconds", "full_after", "full_by", "confidence")
"""What programs are told of the growth of a pool."""
LEAST_EXACT = 10
"""Addresses a day from which on no decimal is shown."""


@dataclass(frozen=True, slots=True)
class PoolGrowth:
    """How one pool has grown and when it is full."""

    found: Growth
    full: Exhaustion | None

    @property
    def cells(self) -> tuple[str, str]:
        """Growth a day, and when it is full."""
        per_day = self.found.per_day
        text = f"{per_day:+.0f}/d" if abs(per_day) >= LEAST_EXACT else f"{per_day:+.1f}/d"
        return "0/d" if text in ("+0.0/d", "-0.0/d") else text, _in_words(self.full)

    def document(self) -> dict[str, Any]:
        """The same for programs. Times are seconds, from now on."""
        full = self.full
        values = (
            round(self.found.per_day, 2),
            self.found.seconds,
            None if full is None else round(full.earliest),
            None if full is None or full.latest is None else round(full.latest),
            None if full is None else str(full.confidence),
        )
        return dict(zip(GROWTH_KEYS, values, strict=True))


def _in_words(full: Exhaustion | None) -> str:
    if full is None:
        return "-"
    if full.latest == 0:
        return "now"
    first, last = duration(full.earliest), None if full.latest is None else duration(full.latest)
    when = f"{first} or later" if last is None else first if first == last else f"{first} to {last}"
    return f"{when} ({full.confidence})"


async def growth_of_pools(cluster: Cluster, now: datetime) -> Mapping[str, Growth]:
    """How much each pool has grown, by its name; nothing, with a sentence why, where that is not known."""
    changes = PoolChanges()

    def count(text: str) -> bool:
        changes.add(text)
        return False

    stored = await cluster.seen(read_stored(cluster, count, now), SpiderIPHistory, "SpiderIPHistory objects")
    if stored is None:
        return {}
    if stored.since is None:
        cluster.left_out.append(f"no growth is shown: {NO_HISTORY}")
        return {}
    if is_silent(stored.covered, now):
        cluster.left_out.append(f"no growth is shown: the history was written last at {moment(stored.covered)}")
        return {}
    found = {pool: growth(each, stored.since, stored.covered) for pool, each in changes.by_pool()}
    return {pool: each for pool, each in found.items() if each is not None}


def pool_growth(found: Growth | None, free: int | None) -> PoolGrowth | None:
    """What is shown of a pool; None where something is not known."""
    return None if found is None or free is None else PoolGrowth(found, exhaustion(found, free))
