"""Carries out the steps of a plan side by side: a refusal stops those alone that need the refused step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from spiderpool.cloud.provider import CloudError, CloudUnavailable, QuotaExceeded
from spiderpool.core.cloud.loadbalancer.ordering import prerequisites
from spiderpool.core.cloud.loadbalancer.steps import AddServers, DeleteGroup, DeleteListener, RemoveServers, Step
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer

MOST_AT_ONCE = 10
"""Steps of one plan that are carried out at a time."""
MOST_LOST = 3
"""Steps without an answer after which no further one is begun: the cloud cannot be reached, and each would wait."""


class StepRunner:
    """Carries out the steps of one plan, and keeps what was refused."""

    def __init__(
        self, steps: Sequence[Step], observed: ObservedLoadBalancer | None, do: Callable[[Step], Awaitable[None]]
    ) -> None:
        """``do`` carries out one step, and raises CloudError when it is refused."""
        self._steps = steps
        self._waits = prerequisites(steps, observed)
        self._do = do
        self._done: set[int] = set()  # places of steps that were carried out
        self._refused: dict[int, CloudError] = {}  # place of a step → why it was refused
        self._running = asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def refusals(self) -> list[tuple[Step, CloudError]]:
        """The steps that were refused, in the order of the plan, and why."""
        return [(self._steps[place], self._refused[place]) for place in sorted(self._refused)]

    async def run(self) -> None:
        """Carries out all steps that can be. Where a quota was in the way, those once more for which room was made."""
        await self._round(range(len(self._steps)))
        at_quota = any(isinstance(error, QuotaExceeded) for error in self._refused.values())
        if at_quota and any(isinstance(self._steps[place], _ROOM) for place in self._done):
            await self._round(place for place in range(len(self._steps)) if self._is_open(place))

    async def _round(self, places: Iterable[int]) -> None:
        ended = {place: asyncio.Event() for place in places}
        async with asyncio.TaskGroup() as group:
            for place in ended:
                group.create_task(self._step(place, ended))

    async def _step(self, place: int, ended: dict[int, asyncio.Event]) -> None:
        """Carries out a step after those that it waits for, unless one is missing that it needs."""
        for earlier in self._waits[place].ended & ended.keys():
            await ended[earlier].wait()
        try:
            if self._may_begin(place):
                async with self._running:
                    await self._attempt(place)
        finally:
            ended[place].set()

    async def _attempt(self, place: int) -> None:
        if sum(isinstance(error, CloudUnavailable) for error in self._refused.values()) >= MOST_LOST:
            return
        try:
            await self._do(self._steps[place])
        except CloudError as error:
            self._refused[place] = error
        else:
            self._refused.pop(place, None)
            self._done.add(place)

    def _may_begin(self, place: int) -> bool:
        """Whether all that a step needs is done. Servers may also make room for those that a quota keeps out."""
        return all(self._makes_room(place, each) for each in self._waits[place].done - self._done)

    def _makes_room(self, place: int, refused: int) -> bool:
        """Whether a step takes servers out of the very group that a quota kept others out of."""
        step, other = self._steps[place], self._steps[refused]
        return (
            isinstance(step, RemoveServers)
            and isinstance(other, AddServers)
            and step.group == other.group
            and isinstance(self._refused.get(refused), QuotaExceeded)
        )

    def _is_open(self, place: int) -> bool:
        """Whether a step was not carried out because of a quota, or of another step."""
        error = self._refused.get(place)
        return place not in self._done and (error is None or isinstance(error, QuotaExceeded))


_ROOM = (RemoveServers, DeleteListener, DeleteGroup)
"""Steps after which there is more room within the quotas."""
