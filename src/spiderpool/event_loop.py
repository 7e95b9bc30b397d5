"""Notices that a daemon's event loop is blocked: it then renews no Lease, answers no probe and serves no pod.

A thread has the loop count four times a second, which costs some microseconds each. If it does not within LIMIT, the
thread logs what the loop's thread is doing, while that goes on: perhaps it never ends. When it did not run
either, it says so afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from spiderpool.telemetry import EVENT_LOOP_BLOCKS, EVENT_LOOP_LAG, logger

PERIOD = 0.25
"""Seconds between two looks at the loop."""
LIMIT = 0.5
"""Seconds of blocking from which on it is logged and counted."""
DEEPEST = 20
"""Calls of the stack that are logged, the innermost ones."""

log = logger("event-loop")


@contextmanager
def watched(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Watch the event loop of this thread while the context lasts."""
    watch = _Watch(loop, threading.get_ident())
    thread = threading.Thread(target=watch.run, name="event-loop-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.ended.set()


class _Watch:
    """Looks at the event loop of a thread, from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread
        self._processor_clock = time.pthread_getcpuclockid(thread)
        self._answered = threading.Event()
        self._answered_at = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Look until ended."""
        with suppress(RuntimeError):  # the loop is closed: the daemon ends
            began, processor = time.monotonic(), self._processor_time()
            while not self.ended.wait(PERIOD):
                self._note_standstill(time.monotonic() - began - PERIOD, processor)
                self._look()
                began, processor = time.monotonic(), self._processor_time()

    def _note_standstill(self, seconds: float, processor: float) -> None:
        """Log and count a block during which this thread did not run either.

        The process was stopped or got no CPU, or a function in C did not let go of the interpreter.
        """
        if seconds > LIMIT:
            EVENT_LOOP_BLOCKS.observe(seconds)
            log.error("process stood still", seconds=round(seconds, 2), cpu_seconds=self._since(processor))

    def _look(self) -> None:
        """Have the loop answer, and observe its lag; log and count a block."""
        began, processor = time.monotonic(), self._processor_time()
        self._answered.clear()
        self._loop.call_soon_threadsafe(self._answer)
        if not self._answered.wait(LIMIT):
            self._follow_block(began, processor)
        if self._answered.is_set():
            EVENT_LOOP_LAG.observe(self._answered_at - began)

    def _answer(self) -> None:
        self._answered_at = time.monotonic()  # here: this thread may get the interpreter later
        self._answered.set()

    def _follow_block(self, began: float, processor: float) -> None:
        log.error("event loop blocked", seconds=LIMIT, cpu_seconds=self._since(processor), where=self._stack())
        while not self._answered.wait(LIMIT):
            if self.ended.is_set():
                return
        seconds = time.monotonic() - began
        EVENT_LOOP_BLOCKS.observe(seconds)
        log.error("event loop goes on", seconds=round(seconds, 2), cpu_seconds=self._since(processor))

    def _processor_time(self) -> float:
        return time.clock_gettime(self._processor_clock)

    def _since(self, before: float) -> float:
        """Seconds of CPU time of the loop's thread; few of them mean that it waits, or got no CPU."""
        return round(self._processor_time() - before, 2)

    def _stack(self) -> list[str]:
        """Where the loop's thread is, the innermost call last."""
        frame = sys._current_frames().get(self._thread)  # the only way
        frames = traceback.extract_stack(frame)[-DEEPEST:] if frame else ()
        return [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
