"""The balancers in the cloud, kind by kind, as they were listed last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.cloud.provider import CloudError
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.values import MadeBalancer
from spiderpool.telemetry import logger

DELAY = 60.0
"""Seconds in which the cloud's list may lack a new balancer, or still show one that was deleted."""
AGE = 15.0
"""Seconds for which a list is used, well below DELAY: a thousand Services beyond the limit cost no more calls."""
LAST_PAUSE = 300.0
"""The longest pause until a kind that nobody asks for is listed again after a failure."""

log = logger("services")


@dataclass(slots=True)
class KindList:
    """The balancers of one kind."""

    made: Sequence[MadeBalancer] = ()
    """As the cloud answered last."""
    is_known: bool = False
    """Whether it has ever answered."""
    asked: float = float("-inf")
    """When it was asked last."""
    failure: CloudError | None = None
    """Why it gave no answer then."""
    failing_since: float = 0.0

    def is_due(self, now: float, *, is_wanted: bool) -> bool:
        """Whether to ask again; ever more rarely in an outage that lasts, unless it is the kind that is wanted."""
        outage = 0.0 if self.failure is None or is_wanted else self.asked - self.failing_since
        return now - self.asked > (AGE if outage < DELAY else min(outage, LAST_PAUSE))

    def is_usable(self, now: float) -> bool:
        """Whether to go by what is known, though the cloud does not answer.

        Trouble that passes is waited for as long as nothing is known of what may be there.
        """
        failure = self.failure
        return failure is None or self.is_known or not failure.retriable or now - self.failing_since >= DELAY


class BalancerLists:
    """Lists the balancers of each kind; a kind whose API is in trouble does not stop the others."""

    def __init__(self, apis: Mapping[BalancerKind, LoadBalancerAPI], cluster: str, clock: Callable[[], float]) -> None:
        self._apis = apis
        self._cluster = cluster
        self._clock = clock
        self._lists = {kind: KindList() for kind in apis}
        self._deleted: dict[str, float] = {}  # identity of what we deleted → until when a list may still show it

    async def made(self, wanted: BalancerKind | None) -> Sequence[MadeBalancer]:
        """Returns the balancers in the cloud, as they were a moment ago. Raises CloudError.

        Of kinds other than the wanted one, if there is one, it returns what is known, when the cloud does not answer.
        """
        found: list[MadeBalancer] = []
        for kind, known in self._lists.items():
            if known.is_due(self._clock(), is_wanted=kind is wanted):
                await self._list(kind, known)
            if known.failure is not None and (kind is wanted or not known.is_usable(self._clock())):
                raise known.failure.with_traceback(None)  # it is raised again and again
            found += known.made
        return found

    def unlisted(self) -> Iterator[str]:
        """Yields which kinds are counted by what is known of them, and why."""
        for kind, known in self._lists.items():
            if known.failure is not None:
                counted = "those of the last list count" if known.is_known else "those of Services count"
                yield f"{kind} load balancers cannot be listed, and {counted}: {known.failure.message}"

    def expire(self, kind: BalancerKind) -> None:
        """Has balancers of a kind be listed again before the next count, as one of them was changed by us."""
        self._lists[kind].asked = float("-inf")

    def forget(self, kind: BalancerKind, identity: str) -> None:
        """Drops a balancer that we deleted, also from lists that still show it."""
        self._deleted[identity] = self._clock() + DELAY
        self._lists[kind].made = self._without_deleted(self._lists[kind].made)

    async def _list(self, kind: BalancerKind, known: KindList) -> None:
        known.asked = self._clock()
        try:
            made = await self._apis[kind].made(self._cluster)
        except CloudError as error:
            log.warning("balancers not listed", kind=kind.name, error=error.message)
            known.failing_since = known.asked if known.failure is None else known.failing_since
            known.failure = error
        else:
            known.made, known.is_known, known.failure = self._without_deleted(made), True, None

    def _without_deleted(self, made: Sequence[MadeBalancer]) -> Sequence[MadeBalancer]:
        now = self._clock()
        self._deleted = {identity: until for identity, until in self._deleted.items() if until > now}
        return [each for each in made if each.identity not in self._deleted]
