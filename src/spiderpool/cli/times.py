"""Times on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

TIME_HELP = "RFC 3339, or how long ago, as -90s, -30m, -2h, -3d"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class TimeParameter(click.ParamType[datetime]):
    """A time of the past: RFC 3339, or how long ago, as ``-2h``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, with its zone."""
        now, text = datetime.now(UTC), str(value)
        remedy = "write it as 2026-11-29T11:30:00Z, or how long ago: -90s, -30m, -2h, -3d"
        try:
            found = now - _ago(text) if text.startswith("-") else datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time; {remedy}", param, ctx)
        if found.tzinfo is None:
            self.fail(f"{text!r} has no time zone; {remedy}", param, ctx)
        if found > now:
            self.fail(f"{text!r} is yet to come", param, ctx)
        return found


def _ago(text: str) -> timedelta:
    match = re.fullmatch(r"-([0-9]{1,9})([smhd])", text)
    if match is None:
        raise ValueError(text)
    return timedelta(**{UNITS[match[2]]: int(match[1])})
