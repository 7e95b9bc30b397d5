"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from spiderpool.cli.times import TimeParameter

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("-90s", timedelta(seconds=90)),
        ("-30m", timedelta(minutes=30)),
        ("-2h", timedelta(hours=2)),
        ("-3d", timedelta(days=3)),
    ],
)
def test_how_long_ago(text: str, ago: timedelta) -> None:
    found = TimeParameter().convert(text, None, None)
    assert abs(datetime.now(UTC) - ago - found) < timedelta(seconds=5)


def test_a_time_with_its_zone() -> None:
    expected = datetime(2026, 1, 1, 11, 30, tzinfo=UTC)
    for text in ("2026-01-01T11:30:00Z", "2026-01-01T19:30:00+08:00"):
        assert TimeParameter().convert(text, None, None) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "yesterday",
            "'yesterday' is no time; write it as 2026-11-29T11:30:00Z, or how long ago: -90s, -30m, -2h, -3d",
        ),
        ("-2", "'-2' is no time"),
        ("-2w", "'-2w' is no time"),
        ("-999999999d", "is no time"),
        ("2026-01-01T11:30:00", "has no time zone"),
        ("9999-01-01T00:00:00Z", "is yet to come"),
    ],
)
def test_what_is_no_time_of_the_past_is_refused(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        TimeParameter().convert(text, None, None)
    assert said in refused.value.message
