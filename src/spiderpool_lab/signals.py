"""How the programs of the lab end by a signal: as by an exception, or in order at the end of what they serve."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType


def exit_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this program as an exception does, so that what runs is cleaned up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets, in place of ending this program."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
