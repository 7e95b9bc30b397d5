"""Leader election on a Lease (coordination.k8s.io/v1): of several equals, at most one leads at a time.

A holder counts as alive until its Lease has not changed for the Lease's duration, measured by our own
monotonic clock from when we saw the last change. The times that a holder writes are for people: clocks
of different nodes need not agree. Every write carries the resourceVersion that was read, so of several
that reach for a Lease at once the API server lets one have it.

The leader measures its own right from when it *sent* the last renewal that succeeded, which is before
anybody else can have seen it, and stops after ``renew`` seconds without another. The difference to
``duration`` is the time that its tasks have to end before somebody else may lead.
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

log = logger("lease")


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """Seconds of an election.

    A Lease that nobody renews for ``duration`` may be taken; its holder stops after ``renew``; everybody
    looks, and the holder renews, every ``retry``.
    """

    duration: float = 15.0
    renew: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew < self.duration:
            raise BadConfig(
                f"leader election needs 0 < retry period < renew deadline < duration, not {self.retry:g}, "
                f"{self.renew:g}, {self.duration:g} s; correct the variables SPIDERPOOL_LEADER_*"
            )


@dataclass(frozen=True, slots=True)
class ObservedLease:
    """A Lease as we saw it, and when by our own clock we first saw it so."""

    lease: Lease
    since: float

    def again(self, lease: Lease, now: float) -> ObservedLease:
        """The sighting after another look: only a change of the object counts as a sign of life."""
        same = lease.metadata.resourceVersion == self.lease.metadata.resourceVersion
        return self if same else ObservedLease(lease, now)

    def free_at(self, terms: LeaseTimings) -> float:
        """From when on the Lease may be taken; a released one at once."""
        spec = self.lease.spec
        return self.since + (spec.leaseDurationSeconds or terms.duration) if spec.holderIdentity else self.since


class Election:
    """One candidate of an election."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        identity: str,
        terms: LeaseTimings | None = None,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._terms = terms or LeaseTimings()
        self._clock = clock
        self._seen: ObservedLease | None = None
        self._valid_until = 0.0

    @property
    def leading(self) -> bool:
        """Whether we hold the Lease now."""
        return self._clock() < self._valid_until

    @property
    def leader(self) -> str | None:
        """Who leads, as far as we have seen; None when nobody does."""
        if self._seen is None or self._clock() >= self._seen.free_at(self._terms):
            return None
        return self._seen.lease.spec.holderIdentity

    async def run(self, lead: Lead) -> None:
        """Wait for the Lease, run ``lead()`` while we hold it, and again, until cancelled.

        ``lead`` is cancelled when the Lease is lost, and has ended before we reach for it again. What it
        raises is raised here. On the way out the Lease is given back, so that another need not wait.
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
        while not await self._try(self._terms.retry):
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Until the next look: sooner when the Lease becomes free sooner."""
        left = self._seen.free_at(self._terms) - self._clock() if self._seen else 0.0
        return min(left, self._terms.retry) if left > 0 else self._terms.retry

    async def _try(self, timeout: float) -> bool:
        """Take or renew the Lease if it may be ours; false when somebody else has it or nobody answers in time."""
        begin = self._clock()
        try:
            async with asyncio.timeout(timeout):
                taken = await self._look_and_take()
        except (SpiderpoolError, TimeoutError) as error:
            log.warning("lease not reached", lease=self._name, error=str(error) or "no answer in time")
            return False
        if taken is None:
            return False
        self._seen = ObservedLease(taken, begin)
        self._valid_until = begin + self._terms.renew
        return True

    async def _look_and_take(self) -> Lease | None:
        """The Lease as ours, or None when somebody else has it."""
        with suppress(AlreadyExists, Conflict):
            try:
                current = await self._client.get(Lease, self._name, self._namespace)
            except NotFound:
                metadata = ObjectMeta(name=self._name, namespace=self._namespace)
                return await self._client.create(Lease(metadata=metadata, spec=self._spec(None)))
            self._seen = (
                self._seen.again(current, self._clock()) if self._seen else ObservedLease(current, self._clock())
            )
            if current.spec.holderIdentity == self._identity or self._clock() >= self._seen.free_at(self._terms):
                return await self._client.replace(replace(current, spec=self._spec(current.spec)))
        return None

    def _spec(self, former: LeaseSpec | None) -> LeaseSpec:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = LeaseSpec(self._identity, max(round(self._terms.duration), 1), now, now, 0)
        if former is None:
            return spec
        if former.holderIdentity == self._identity:
            return replace(spec, acquireTime=former.acquireTime or now, leaseTransitions=former.leaseTransitions or 0)
        return replace(spec, leaseTransitions=(former.leaseTransitions or 0) + 1)

    async def _hold(self, lead: Lead) -> None:
        """Run ``lead`` and renew beside it; return when the Lease is lost and ``lead`` has ended."""
        task = asyncio.ensure_future(lead())
        try:
            while not task.done() and self.leading:
                await asyncio.wait((task,), timeout=min(self._terms.retry, self._left))
                if not task.done() and not await self._try(min(self._terms.retry, self._left)) and self._is_taken():
                    break
        finally:
            task.cancel()
            await asyncio.wait((task,))
            failure = None if task.cancelled() else task.exception()
        if failure:
            raise failure

    @property
    def _left(self) -> float:
        """Seconds for which we may still lead."""
        return self._valid_until - self._clock()

    def _is_taken(self) -> bool:
        """Whether somebody else was seen to hold the Lease."""
        holder = self._seen.lease.spec.holderIdentity if self._seen else None
        return holder is not None and holder != self._identity

    async def _release(self) -> None:
        """Give the Lease back if it is still ours; who may not, lets it run out."""
        held, self._valid_until = self._seen, 0.0
        if held is None or held.lease.spec.holderIdentity != self._identity:
            return
        spec = replace(held.lease.spec, holderIdentity=None, leaseDurationSeconds=1)
        with suppress(SpiderpoolError):
            await self._client.replace(replace(held.lease, spec=spec), timeout=self._terms.retry)
            log.info("lease given back", lease=self._name)
