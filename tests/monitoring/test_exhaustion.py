"""When Prometheus says that a pool will be full within a day, for several shapes of growth, and when it must not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest
from _pytest.mark import ParameterSet

from tests.monitoring.promtool import failures, firing

pytestmark = [pytest.mark.unit, pytest.mark.timeout(300)]

SERIES = 'spiderpool_ippool_free_addresses{job="controller",namespace="kube-system",instance="a",pool="p"}'
ALERT = "SpiderpoolPoolExhausts"
STEP = 10
"""Minutes: of weeks, the five minutes of other tests would take twice as long."""
HOUR = 60 // STEP
PER_DAY = 24 * HOUR
Free = Callable[[float], float]
"""Free addresses at a time, in days."""


def wave(day: float, swing: float) -> float:
    """Addresses in use by what runs at noon and not at midnight."""
    return swing * (1 - math.cos(2 * math.pi * day)) / 2


def workday(day: float) -> float:
    """How much of a wave a day has: Saturdays and Sundays little."""
    return 0.3 if int(day) % 7 in (5, 6) else 1.0


def values(free: Free, days: float, noise: int = 0) -> list[int]:
    """A value for each step, with the coming and going of some pods."""
    random = Random(7)
    return [
        max(0, round(free(step / PER_DAY)) + random.randint(-noise, noise)) for step in range(round(days * PER_DAY))
    ]


def some_always(shapes: Iterable[str]) -> list[ParameterSet | str]:
    """The first two shapes in each run, and all of them in a full one: each takes seconds."""
    return [pytest.param(each, marks=pytest.mark.full) if number > 1 else each for number, each in enumerate(shapes)]


GROWTH: dict[str, tuple[Free, float, tuple[float, float]]] = {
    "by the same number every day": (lambda day: 1000 - 200 * day, 7, (22.5, 24.5)),
    "faster and faster, doubling every day": (lambda day: 1000 - 10 * 2**day, 8, (12, 24.5)),
    "by a daily wave that grows": (lambda day: 1000 - wave(day, 300) - 110 * day, 9, (22.5, 25)),
    "by a leak of ten hours": (lambda day: 900 - max(0.0, day - 4.3) * 24 * 90, 6, (8, 9.5)),
    "by a leak of forty hours": (lambda day: 900 - max(0.0, day - 4.3) * 24 * 22.5, 7, (21, 24.5)),
}
"""Shape → free addresses, days, and the hours before the pool is full of which the alert must begin in one."""


@pytest.mark.parametrize("shape", some_always(GROWTH))
def test_a_pool_that_will_be_full_within_a_day_is_announced(shape: str, tmp_path: Path) -> None:
    free, days, (least, most) = GROWTH[shape]
    steps = values(free, days)
    full = steps.index(0)
    before, after = full - round(most * HOUR), full - round(least * HOUR)
    expected = {(firing(ALERT), step): None for step in (0, before // 2, before)}
    expected |= {
        (f'count_over_time(ALERTS{{alertname="{ALERT}",alertstate="firing"}}[{before * STEP}m])', before): None
    }
    announced = {(firing(ALERT), step): 1.0 for step in (after, (after + full) // 2, full)}
    assert failures(tmp_path, {SERIES: " ".join(map(str, steps))}, expected | announced, step=STEP, alert=ALERT) == ""


QUIET: dict[str, tuple[Free, float, int]] = {
    "a daily wave": (lambda day: 1000 - wave(day, 950), 6, 0),
    "a daily wave with coming and going": (lambda day: 1000 - wave(day, 900), 6, 8),
    "a weekly wave": (lambda day: 1000 - wave(day, 900) * workday(day), 16, 8),
    "one large roll-out": (lambda day: 1000 if day < 4.4 else 350, 8, 0),
    "one roll-out of half an hour": (lambda day: min(1000.0, max(350.0, 1000 - (day - 4.4) * 48 * 650)), 8, 0),
    "four roll-outs a day": (lambda day: 700 if day * 24 % 6 < 1 else 1000, 6, 0),
    "few free addresses": (lambda day: 3, 5, 1),
    "a pool that is made larger": (lambda day: 50 if day < 3 else 1050, 6, 0),
    "growth that will last for a week": (lambda day: 1000 - 50 * day, 12, 0),
}


@pytest.mark.parametrize("shape", some_always(QUIET))
def test_a_pool_that_will_not_be_full_is_not(shape: str, tmp_path: Path) -> None:
    free, days, noise = QUIET[shape]
    steps = values(free, days, noise)
    last = len(steps) - 1
    ever = f'count(count_over_time(ALERTS{{alertname="{ALERT}",alertstate="firing"}}[{days * 24}h]))'
    assert failures(tmp_path, {SERIES: " ".join(map(str, steps))}, {(ever, last): None}, step=STEP, alert=ALERT) == ""
    assert 0 not in steps


def test_another_leader_of_the_controller_goes_on_with_the_same_history(tmp_path: Path) -> None:
    steps = values(lambda day: 1000 - 200 * day, 5)
    changed = 3 * PER_DAY
    first, second = (" ".join(map(str, part)) for part in (steps[:changed], steps[changed:]))
    series = {SERIES: f"{first} stale", SERIES.replace('"a"', '"b"'): f"{'_ ' * changed}{second}"}
    full = 5 * PER_DAY
    expected = {(firing(ALERT), full - 25 * HOUR): None, (firing(ALERT), full - 22 * HOUR): 1.0}
    assert failures(tmp_path, series, expected, step=STEP, alert=ALERT) == ""
