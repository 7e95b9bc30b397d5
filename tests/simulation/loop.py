"""Clock and scheduler: an asyncio event loop without a selector, whose time passes only when nothing is left to do.

Which of the callbacks that are ready runs next is drawn by the seed of the run. Callbacks of a process carry it in
their context: so a process can be killed or stopped between any two of them, as SIGKILL and SIGSTOP do it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

BEGIN = 1000.0
"""Loop time at which a run begins, in seconds."""

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The process that a callback belongs to; None: the world around the product."""


class Process:
    """A simulated process of the operating system."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self._stopped = False
        self.kept: list[asyncio.Handle] = []
        """Callbacks that wait for the process to go on."""

    def kill(self) -> None:
        """End it, as SIGKILL does: nothing of it runs any more, not even ``finally``."""
        self.dead = True
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.remains += [task for task in asyncio.all_tasks() if getattr(task, "process", None) is self]

    def stop(self) -> None:
        """As SIGSTOP does."""
        self._stopped = True

    def go_on(self, loop: SimulatedLoop) -> None:
        """As SIGCONT does."""
        self._stopped = False
        kept, self.kept = self.kept, []
        for handle in kept:
            loop.ready(handle)

    @property
    def runs(self) -> bool:
        """Whether its callbacks run."""
        return not (self.dead or self._stopped)

    def context(self) -> Context:
        """A context for its callbacks."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return context


class OrderedTask(asyncio.Task[Any]):
    """A task whose place in a set is the same in every run of a seed."""

    _numbers = itertools.count(1)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._number = next(OrderedTask._numbers)  # first: the set of all tasks asks for it
        self.process = PROCESS.get()
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._number


class Deadlock(Exception):
    """Nothing is left that could ever happen."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of one run."""

    _ready: list[asyncio.Handle]
    _stopping: bool

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._ready = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap; the numbers keep timers uncompared
        self._timer_numbers = itertools.count()
        self._now = BEGIN
        self._random = random.random
        self.random = random
        self.steps = 0
        """Callbacks that have run."""
        self.failures: list[str] = []
        """Exceptions that nobody has handled."""
        self.remains: list[object] = []
        """Tasks of dead processes: kept, since a coroutine that is finalized runs its ``finally``."""
        self.set_task_factory(lambda loop, work, **options: OrderedTask(work, loop=loop, **options))
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """The simulated time in seconds."""
        return self._now

    def ready(self, handle: asyncio.Handle) -> None:
        """Let a callback run that was kept back."""
        self._ready.append(handle)

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as part of a process."""
        return process.context().run(self.create_task, work)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call a function after a while, in place of a thread."""
        future: asyncio.Future[Any] = self.create_future()

        def body() -> None:
            if not future.cancelled():
                try:
                    future.set_result(func(*args))
                except Exception as error:
                    future.set_exception(error)

        self.call_later(self._random() * 0.002, body)
        return future

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call a function at a time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Deadlock
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            self._run_one(ready)

    def _run_one(self, ready: list[asyncio.Handle]) -> None:
        place = int(self._random() * len(ready))
        handle = ready[place]
        last = ready.pop()
        if last is not handle:
            ready[place] = last
        if handle.cancelled():
            return
        process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or process.runs:
            self.steps += 1
            handle._run()
        else:
            process.kept.append(handle)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(f"{context.get('message')}: {error!r}")

    def _process_events(self, event_list: object) -> None:
        """There are none from outside."""

    def _write_to_self(self) -> None:
        """Nobody waits in a selector."""
