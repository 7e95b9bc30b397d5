"""How pools fill: shapes of use, and what is foreseen of each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest

from spiderpool.core.ipam.forecast import DAY, Confidence, Exhaustion, Growth, exhaustion, growth

pytestmark = pytest.mark.unit

START = 1_000_000_000
STEP = 600


def changes(use: Callable[[float], float], days: float) -> Iterator[tuple[int, int]]:
    """A pool whose use is a function of the days since the start."""
    held = 0
    for at in range(START, START + int(days * DAY) + 1, STEP):
        wanted = round(use((at - START) / DAY))
        if wanted != held:
            yield at, wanted - held
            held = wanted


def of(use: Callable[[float], float], days: float) -> Growth:
    found = growth(changes(use, days), START, START + int(days * DAY))
    assert found is not None
    return found


def days_left(found: Exhaustion | None) -> tuple[float, float | None]:
    assert found is not None
    return round(found.earliest / DAY, 1), None if found.latest is None else round(found.latest / DAY, 1)


def wave(day: float) -> float:
    """Twice as many at noon as at midnight."""
    return 150 - 50 * math.cos(2 * math.pi * day)


def test_even_growth_is_foreseen_exactly() -> None:
    found = of(lambda day: 100 + 24 * day, 10)
    assert found.per_day == pytest.approx(24, abs=0.5)
    assert (found.last, found.peak) == (340, 340)
    assert found.confidence is Confidence.HIGH
    for left in days_left(exhaustion(found, 120)):
        assert left == pytest.approx(5, abs=0.3)


def test_the_same_growth_in_fewer_days_is_trusted_less() -> None:
    assert of(lambda day: 24 * day, 3).confidence is Confidence.MEDIUM
    assert of(lambda day: 24 * day, 1).confidence is Confidence.LOW
    assert of(lambda day: 24 * day, 1).per_day == pytest.approx(24, abs=1)
    assert of(lambda day: 24 * day, 60).seconds == 14 * DAY


@pytest.mark.parametrize("days", [4, 7.5, 14])
@pytest.mark.parametrize("at", [0.3, 0.6, 0.97])
def test_a_step_is_no_growth(days: float, at: float) -> None:
    found = of(lambda day: 100 if day < at * days else 180, days)
    assert found.per_day == pytest.approx(0, abs=0.5)
    foreseen = exhaustion(found, 20)
    assert foreseen is None or (foreseen.confidence, foreseen.latest) == (Confidence.LOW, None)
    if days > 7:
        assert foreseen is None


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.4, 0.75])
@pytest.mark.parametrize("days", [2, 3.3, 9])
def test_a_daily_wave_is_no_growth(days: float, phase: float) -> None:
    found = of(lambda day: wave(day + phase), days)
    assert abs(found.per_day) <= 1
    assert exhaustion(found, 10) is None or abs(found.per_day) > 0
    if days > 2:
        assert exhaustion(found, 1000) is None


def test_a_wave_of_which_less_than_two_days_are_known_is_trusted_little() -> None:
    found = of(wave, 0.4)
    assert found.per_day > 100
    assert found.confidence is Confidence.LOW


def test_a_wave_that_grows_is_full_at_its_peak() -> None:
    def use(day: float) -> float:
        return wave(day) + 10 * day

    found = of(use, 10)  # it ends at midnight, with 200 held; the last noon had 295
    assert found.per_day == pytest.approx(10, abs=1)
    assert found.peak == pytest.approx(295, abs=3)
    free = 345 - found.last
    earliest, latest = days_left(exhaustion(found, free))
    assert earliest == pytest.approx(4.8, abs=1)
    assert latest == pytest.approx(5.2, abs=1.5)
    assert found.confidence is Confidence.HIGH


def test_what_shrinks_or_stays_is_never_full() -> None:
    assert exhaustion(of(lambda day: 500 - 24 * day, 5), 9) is None
    assert exhaustion(of(lambda day: 100, 5), 9) is None


def test_a_full_pool_is_full_now() -> None:
    assert exhaustion(of(lambda day: 100, 5), 0) == Exhaustion(0.0, 0.0, Confidence.HIGH)


def test_nothing_is_foreseen_beyond_four_times_the_past() -> None:
    assert exhaustion(of(lambda day: 24 * day, 5), 24 * 21) is None
    assert exhaustion(of(lambda day: 24 * day, 5), 24 * 19) is not None


def test_growth_on_some_days_alone_has_no_latest_time() -> None:
    found = of(lambda day: 60 * (day // 3) + 60 * max(day % 3 - 2, 0), 9)  # every third day
    assert found.confidence is Confidence.LOW
    earliest, latest = days_left(exhaustion(found, 60))
    assert (earliest <= 2, latest) == (True, None)


def test_noise_does_not_hide_growth() -> None:
    noise = random.Random(7)
    found = of(lambda day: 200 + 24 * day + noise.gauss(0, 3), 14)
    assert found.per_day == pytest.approx(24, abs=1.5)
    assert found.confidence is Confidence.HIGH


def test_of_too_short_a_past_nothing_is_said() -> None:
    assert growth([(START, 1)], START, START + 60) is None


def test_what_came_before_and_after_the_time_counts_as_it_should() -> None:
    found = growth([(START - 99, 5), (START + DAY, 2), (START + 2 * DAY + 1, 100)], START, START + 2 * DAY)
    assert found is not None
    assert (found.last, found.peak) == (7, 7)
