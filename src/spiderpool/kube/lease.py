"""Leader election on a Lease (coordination.k8s.io/v1): of several equal processes, at most one leads at a time.

A holder counts as alive until its Lease has been unchanged for the Lease's duration. Each candidate measures that by
its own monotonic clock, from when it saw the last change; the times written in the Lease are for people, so clocks of
different nodes need not agree. Every write carries the resourceVersion that was read, so the API server lets only one
of several candidates take a free Lease.

The leader counts its own right to lead from when it *sent* the last renewal that succeeded, which is before any other
candidate can have seen it, and stops after ``renew`` seconds without another. The difference to ``duration`` is the
time that its tasks have to end before another candidate may lead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace

from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Client, Conflict, NotFound
from spiderpool.telemetry import logger

Clock = Callable[[], float]
Lead = Callable[[], Awaitable[None]]
GIVE_BACK_TIMEOUT = 2.0
"""Seconds in which the Lease is given back at the end, if it can be; then it is left to expire."""

log = logger("lease")


@dataclass(frozen=True, slots=True)
class LeaseLock:
    """Which Lease a candidate competes for, and under which name."""

    name: str
    namespace: str
    identity: str
    """Of the candidate; unique among all candidates."""


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """Seconds of an election. Raises BadConfig unless 0 < retry < renew < duration."""

    duration: float
    """Another candidate may take a Lease that was not renewed for so long."""
    renew: float
    """The leader stops when it could not renew for so long."""
    retry: float
    """Pause between two reads by a candidate, and between two renewals by the leader."""

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew < self.duration:
            raise BadConfig(
                f"leader election needs 0 < retry period < renew deadline < duration, not {self.retry:g}, "
                f"{self.renew:g}, {self.duration:g} s; correct the variables SPIDERPOOL_LEADER_*"
            )


@dataclass(frozen=True, slots=True)
class ObservedLease:
    """A Lease as it was read, and since when, by our own clock, it has been unchanged."""

    lease: Lease
    since: float

    def updated(self, lease: Lease, now: float) -> ObservedLease:
        """The observation after another read; only a new resourceVersion counts as a sign of life."""
        same = lease.metadata.resourceVersion == self.lease.metadata.resourceVersion
        return self if same else ObservedLease(lease, now)

    def free_at(self, timings: LeaseTimings) -> float:
        """Time on our own clock from which the Lease may be taken; a released Lease at once."""
        spec = self.lease.spec
        return self.since + (spec.leaseDurationSeconds or timings.duration) if spec.holderIdentity else self.since


class Election:
    """One candidate of an election."""

    def __init__(
        self,
        client: Client,
        lock: LeaseLock,
        timings: LeaseTimings,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._client = client
        self._name = lock.name
        self._namespace = lock.namespace
        self._identity = lock.identity
        self._timings = timings
        self._clock = clock
        self._wall_clock = wall_clock  # dates what people read in the Lease
        self._observed: ObservedLease | None = None  # None until the Lease was read or written once
        self._valid_until = 0.0  # until when, by our clock, we may lead

    @property
    def leading(self) -> bool:
        """Whether we hold the Lease now."""
        return self._clock() < self._valid_until

    @property
    def leader(self) -> str | None:
        """Identity of the holder of the last observed Lease; None when the Lease is free."""
        if self._observed is None or self._clock() >= self._observed.free_at(self._timings):
            return None
        return self._observed.lease.spec.holderIdentity

    async def run(self, lead: Lead) -> None:
        """Acquire the Lease, run ``lead()`` while we hold it, and repeat until cancelled.

        ``lead`` is cancelled when the Lease is lost, and has ended before we compete again. Its exceptions are raised
        here. The Lease is released in any case, so that another candidate need not wait.
        """
        while True:
            await self._acquire()
            log.info("leading", lease=self._name, identity=self._identity)
            try:
                await self._hold(lead)
            finally:
                await self._release()
            log.warning("no longer leading", lease=self._name, identity=self._identity)

    async def _acquire(self) -> None:
        while not await self._try(self._timings.retry):
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Seconds until the next try: the retry period, or less when the Lease becomes free sooner."""
        wait = self._observed.free_at(self._timings) - self._clock() if self._observed else 0.0
        return min(wait, self._timings.retry) if wait > 0 else self._timings.retry

    async def _try(self, timeout: float) -> bool:
        """Take or renew the Lease; false when another candidate holds it, or the API server fails to answer in time."""
        begin = self._clock()
        try:
            async with asyncio.timeout(timeout):
                taken = await self._acquire_or_renew()
        except (SpiderpoolError, TimeoutError) as error:
            log.warning("lease not reached", lease=self._name, error=str(error) or "no answer in time")
            return False
        if taken is None:
            return False
        self._observed = ObservedLease(taken, begin)
        self._valid_until = begin + self._timings.renew
        return True

    async def _acquire_or_renew(self) -> Lease | None:
        """The Lease as we wrote it; None when another candidate holds it, or wrote it at the same time."""
        with suppress(AlreadyExists, Conflict):  # another candidate was faster: the next try reads its write
            try:
                current = await self._client.get(Lease, self._name, self._namespace)
            except NotFound:
                metadata = ObjectMeta(name=self._name, namespace=self._namespace)
                return await self._client.create(Lease(metadata=metadata, spec=self._spec(None)))
            self._observed = (
                self._observed.updated(current, self._clock())
                if self._observed
                else ObservedLease(current, self._clock())
            )
            if current.spec.holderIdentity == self._identity or self._clock() >= self._observed.free_at(self._timings):
                return await self._client.replace(replace(current, spec=self._spec(current.spec)))
        return None

    def _spec(self, former: LeaseSpec | None) -> LeaseSpec:
        """The Lease with us as holder; ``former`` is what it held before, None for a new Lease."""
        now = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = LeaseSpec(self._identity, max(round(self._timings.duration), 1), now, now, 0)
        if former is None:
            return spec
        if former.holderIdentity == self._identity:
            return replace(spec, acquireTime=former.acquireTime or now, leaseTransitions=former.leaseTransitions or 0)
        return replace(spec, leaseTransitions=(former.leaseTransitions or 0) + 1)

    async def _hold(self, lead: Lead) -> None:
        """Run ``lead`` and renew the Lease beside it; returns when the Lease is lost and ``lead`` has ended."""
        task = asyncio.ensure_future(lead())
        try:
            while not task.done() and self.leading:
                await asyncio.wait((task,), timeout=min(self._timings.retry, self._remaining))
                if (
                    not task.done()
                    and not await self._try(min(self._timings.retry, self._remaining))
                    and self._is_taken()
                ):
                    break
        finally:
            task.cancel()
            await asyncio.wait((task,))
            failure = None if task.cancelled() else task.exception()
        if failure:
            raise failure

    @property
    def _remaining(self) -> float:
        """Seconds for which we may still lead."""
        return self._valid_until - self._clock()

    def _is_taken(self) -> bool:
        """Whether another candidate holds the Lease that was observed last."""
        holder = self._observed.lease.spec.holderIdentity if self._observed else None
        return holder is not None and holder != self._identity

    async def _release(self) -> None:
        """Release the Lease if we still hold it; when that fails, it expires by itself."""
        observed, self._valid_until = self._observed, 0.0
        if observed is None or observed.lease.spec.holderIdentity != self._identity:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT):
                await self._give_back(observed.lease)
        except (SpiderpoolError, TimeoutError) as error:
            log.warning("lease not given back", lease=self._name, error=str(error) or "no answer in time")
        else:
            log.info("lease given back", lease=self._name)

    async def _give_back(self, held: Lease) -> None:
        try:
            await self._client.replace(_released(held))
        except Conflict:  # a renewal that was cancelled before its answer came may have been written
            current = await self._client.get(Lease, self._name, self._namespace)
            if current.spec.holderIdentity != self._identity:
                raise
            await self._client.replace(_released(current))


def _released(lease: Lease) -> Lease:
    """The Lease without a holder, so that any candidate may take it at once."""
    return replace(lease, spec=replace(lease.spec, holderIdentity=None, leaseDurationSeconds=1))
