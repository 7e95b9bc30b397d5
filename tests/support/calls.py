"""Counts the calls of functions: how the cost of something grows, without a clock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Calls:
    """How many functions were called: all, also those written in C, and those of Python by name."""

    def __init__(self) -> None:
        self.count = 0
        self.of: Counter[str] = Counter()


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count the calls of functions in this thread while the context lasts."""
    calls = Calls()

    def note(frame: FrameType, event: str, _: Any) -> None:
        calls.count += event in ("call", "c_call")
        if event == "call":
            calls.of[frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
