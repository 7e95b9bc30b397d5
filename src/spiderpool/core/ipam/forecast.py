"""How the use of a pool grows, and when it is full: from how many addresses were held at each time.

Each time is compared with the same time of the day before, so that a daily wave is no growth, and the middle of these
differences counts, half of them or less, so that one step is none. What is foreseen is a range, with a word
for how far to trust it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

DAY = 86_400
LONGEST = 14 * DAY
"""Seconds of the past that count."""
SHORTEST = 1_800
"""Seconds of the past without which nothing is said."""
SAMPLES_A_DAY = 24
LEAST_SAMPLES = 48
"""Samples at least, also of a short time."""
FORESIGHT = 4
"""How many times the length of the past the future is looked into."""


class Confidence(enum.StrEnum):
    """How far a forecast can be trusted."""

    LOW = "low"
    """Less than two days are known, so that a daily wave looks like growth; or use did not grow on every day."""
    MEDIUM = "medium"
    """Use has grown on nearly all days, but there are less than seven, or they differ much."""
    HIGH = "high"
    """Use has grown on nearly all of seven days or more, and about as much on each."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How the number of held addresses has changed."""

    per_day: float
    """The mean of the daily changes that are neither among the largest nor among the smallest."""
    least: float
    """A quarter of the daily changes are not larger."""
    most: float
    """A quarter of the daily changes are not smaller."""
    peak: int
    """The most that were held at a time of the last day."""
    last: int
    """How many were held at last."""
    seconds: int
    """Length of the past that it is taken from."""

    @property
    def confidence(self) -> Confidence:
        """How far it can be trusted to go on like that."""
        if self.seconds < 2 * DAY or self.least <= 0:
            return Confidence.LOW
        is_even = self.most - self.least <= self.per_day
        return Confidence.HIGH if self.seconds >= 7 * DAY and is_even else Confidence.MEDIUM


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """When nothing is left. Seconds from now."""

    earliest: float
    latest: float | None
    """None: maybe never, or later than can be foreseen."""
    confidence: Confidence


def growth(changes: Iterable[tuple[int, int]], start: int, end: int) -> Growth | None:
    """The growth between two times; None where that is too short.

    ``changes``: at which time how many addresses were taken, or given back (less than zero).
    """
    start = max(start, end - LONGEST)
    length = end - start
    if length < SHORTEST:
        return None
    number = max(length * SAMPLES_A_DAY // DAY, LEAST_SAMPLES)
    held = _samples(changes, start, end, number)
    lag = round(number * DAY / length) if length >= 2 * DAY else number // 2
    scale = number * DAY / length / lag
    differences = sorted((later - earlier) * scale for earlier, later in zip(held, held[lag:], strict=False))
    quarter = len(differences) // 4
    middle = _without_ends(differences, lag)
    last_day = held[-min(lag, number) - 1 :] if length >= 2 * DAY else held
    least, most = differences[quarter], differences[-quarter - 1]
    return Growth(sum(middle) / len(middle), least, most, max(last_day), held[-1], length)


def _without_ends(differences: Sequence[float], lag: int) -> Sequence[float]:
    """The middle of sorted differences, without as many at each end as one step can make, a quarter at least."""
    cut = min(max(len(differences) // 4, lag + 1), (len(differences) - 1) // 2)
    return differences[cut : len(differences) - cut]


def _samples(changes: Iterable[tuple[int, int]], start: int, end: int, number: int) -> Sequence[int]:
    """How many were held at so many times and at the start, evenly apart, the last one at the end."""
    steps = [0] * (number + 1)
    for at, change in changes:
        if at <= end:
            place = -(-(at - start) * number // (end - start))  # the first sample that is not earlier
            steps[max(place, 0)] += change
    return list(accumulate(steps))


def exhaustion(found: Growth, free: int) -> Exhaustion | None:
    """When a pool is full that has so many free addresses now; None while that is not to be foreseen.

    It is full at the peak of a day, so what is free then counts, and not what is free at night.
    """
    if free <= 0:
        return Exhaustion(0.0, 0.0, Confidence.HIGH)
    if found.per_day <= 0:
        return None
    rest = max(free + found.last - found.peak, 0)
    limit = FORESIGHT * found.seconds
    earliest = rest / max(found.most, found.per_day) * DAY
    if earliest > limit:
        return None
    latest = rest / found.least * DAY if found.least > 0 else None
    return Exhaustion(earliest, latest if latest is not None and latest <= limit else None, found.confidence)
