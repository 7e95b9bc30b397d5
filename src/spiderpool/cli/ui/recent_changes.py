"""The time line of addresses, from the history that the controller writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.connection import Cluster
from spiderpool.cli.history import NO_HISTORY, UNREADABLE, is_silent, read_stored
from spiderpool.cli.pool_growth import growth_of_pools, pool_growth
from spiderpool.cli.usage import Reserved, fullest, pool_usage
from spiderpool.core.ipam import history
from spiderpool.core.ipam.history import Tenure, moment

MOST_SHOWN = 300
"""Changes that are listed; all of them are counted."""
BUCKETS = 48
"""Parts of the time line."""
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class AddressTurn:
    """An address was taken by a pod, or given back."""

    at: str
    taken: bool
    address: str
    pod: str
    node: str
    pool: str


@dataclass(frozen=True, slots=True)
class TimeLine:
    """What has changed, the last change first; a bucket is its beginning, and how many were taken and given back."""

    buckets: tuple[tuple[str, int, int], ...]
    changes: tuple[AddressTurn, ...]
    problems: tuple[str, ...]


async def read_time_line(cluster: Cluster, hours: int, now: datetime) -> TimeLine:
    """What has changed in the last hours. Raises ApiUnavailable."""
    start = int(now.timestamp()) - hours * HOUR
    reading = read_stored(cluster, lambda text: last_time(text) >= start, now)
    stored = await cluster.seen(reading, SpiderIPHistory, "SpiderIPHistory objects")
    if stored is None:
        return TimeLine((), (), (UNREADABLE,))
    problems = [] if stored.since is not None else [NO_HISTORY]
    if stored.since is not None and is_silent(stored.covered, now):
        problems.append(f"the history was written last at {moment(stored.covered)}")
    tenures = history.read(stored.texts, lambda each: max(each.begun, each.ended_by or 0) >= start)
    return time_line(tenures, start, hours, problems)


def last_time(text: str) -> int:
    """The time that the last row of a text ends with, or begins with; a part without one that can be read counts."""
    try:
        return int(text.rpartition("\t")[2])
    except ValueError:
        return history.LATEST


def time_line(tenures: Iterable[Tenure], start: int, hours: int, problems: Iterable[str] = ()) -> TimeLine:
    """The changes from ``start`` (seconds since 1970) on."""
    found = sorted(_turns(tenures, start), key=lambda each: each[0], reverse=True)
    length = hours * HOUR // BUCKETS
    sums: Counter[tuple[int, bool]] = Counter(
        (min((at - start) // length, BUCKETS - 1), taken) for at, taken, _ in found
    )
    buckets = tuple((moment(start + place * length), sums[place, True], sums[place, False]) for place in range(BUCKETS))
    shown = tuple(_turn(*each) for each in found[:MOST_SHOWN])
    return TimeLine(buckets, shown, tuple(problems))


def _turns(tenures: Iterable[Tenure], start: int) -> Iterator[tuple[int, bool, Tenure]]:
    for each in tenures:
        if each.begun >= start:
            yield each.begun, True, each
        if each.ended_by is not None and each.ended_by >= start:
            yield each.ended_by, False, each


def _turn(at: int, taken: bool, tenure: Tenure) -> AddressTurn:
    pod = f"{tenure.namespace}/{tenure.pod}"
    return AddressTurn(moment(at), taken, tenure.address, pod, tenure.node, tenure.pool)


class GrowthDocument(msgspec.Struct, frozen=True):
    """How a pool grows, and when it is full, in words."""

    name: str
    growth: str
    full: str


async def read_forecast(
    cluster: Cluster, pools: Iterable[SpiderIPPool], reserved: Reserved, now: datetime
) -> list[GrowthDocument]:
    """How pools grow and when they are full, as `top pools` says, those first that are the fullest."""
    grown = await growth_of_pools(cluster, now)
    usages = fullest(pool_usage(each, reserved) for each in pools)
    known = ((each.name, pool_growth(grown.get(each.name), each.free)) for each in usages)
    return [GrowthDocument(name, *found.cells) for name, found in known if found is not None]
