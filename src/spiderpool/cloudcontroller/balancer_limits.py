"""Lets no more balancers be made than the limits allow, by what the cloud and the Services show at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from spiderpool.api.core_v1 import Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.core.cloud.loadbalancer.counting import BalancerClaim, BalancerCount, count, excess
from spiderpool.core.cloud.loadbalancer.grants import limit
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, read_options
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, MadeBalancer
from spiderpool.errors import NotReady
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS, LOAD_BALANCERS

DELAY = 60.0
"""Seconds in which a new balancer may be missing in the cloud's list, and counts by its Service."""
AGE = 15.0
"""Seconds for which a list is used, well below DELAY: a thousand Services beyond the limit cost no more calls."""


class TooManyLoadBalancers(NotReady):
    """One balancer more would be beyond a limit; another may be deleted at any time."""


class BalancerLimits:
    """Counts balancers before each creation.

    Nothing is counted by memory but what was begun a moment ago, so a restart forgets nothing.
    """

    def __init__(
        self,
        balancers: LoadBalancers,
        services: Informer[Service],
        configuration: BalancerConfiguration,
        clock: Callable[[], float],
    ) -> None:
        self._balancers = balancers
        self._services = services
        self._configuration = configuration
        self._clock = clock
        self._lock = asyncio.Lock()  # two creations at a time would both see the last free place
        self._listed: tuple[float, Sequence[MadeBalancer]] = (float("-inf"), ())  # when, and what there was
        self._recent: dict[BalancerClaim, float] = {}  # what was begun → until when it counts by itself

    async def check(self, service: Service, kind: BalancerKind, grants: Sequence[LoadBalancerGrantSpec]) -> None:
        """Raises TooManyLoadBalancers when there is no place for a balancer, CloudError."""
        async with self._lock:
            await self._check(self._claim(service, kind), limit(self._configuration.max_per_namespace, grants))

    @asynccontextmanager
    async def place(
        self, service: Service, kind: BalancerKind, grants: Sequence[LoadBalancerGrantSpec]
    ) -> AsyncIterator[None]:
        """Holds a place for a balancer while it is made. Raises TooManyLoadBalancers, CloudError."""
        claim = self._claim(service, kind)
        async with self._lock:
            await self._check(claim, limit(self._configuration.max_per_namespace, grants))
            self._recent[claim] = float("inf")
        try:
            yield
        finally:  # also after an error: whether the balancer was made may be unknown
            self._recent[claim] = self._clock() + DELAY

    async def _check(self, claim: BalancerClaim, of_namespace: int) -> None:
        made = await self._made()
        if any((each.kind, each.name) == (claim.kind, claim.name) for each in made):
            return  # it has its place already
        counted = self._count(made, claim)
        reason = excess(counted, claim.namespace, of_namespace, self._configuration.max_per_cluster)
        if reason is not None:
            LOAD_BALANCER_REFUSALS.labels("limit").inc()
            raise TooManyLoadBalancers(reason)

    def _count(self, made: Sequence[MadeBalancer], claim: BalancerClaim) -> BalancerCount:
        """Counts all balancers but the one that is claimed."""
        now = self._clock()
        self._recent = {each: until for each, until in self._recent.items() if until > now}
        services = {self._name(service): service.metadata.namespace or "" for service in self._services.items()}
        claims = {*self._recent, *self._published()} - {claim}
        counted = count(made, claims, services)
        for state in ("used", "preserved", "orphaned"):
            LOAD_BALANCERS.labels(state).set(getattr(counted, state))
        return counted

    async def _made(self) -> Sequence[MadeBalancer]:
        """Returns the balancers in the cloud, as they were a moment ago."""
        at, made = self._listed
        now = self._clock()
        if now - at > AGE:
            cluster = self._configuration.cluster
            made = [each for api in self._balancers.apis.values() for each in await api.made(cluster)]
            self._listed = now, made
        return made

    def _published(self) -> Iterator[BalancerClaim]:
        """Yields the Services with an address that we published: nobody else may write it."""
        for service in self._services.items():
            kind = self._balancers.kind_of(service)
            if kind is None or not service.status.loadBalancer.ingress:
                continue
            if not read_options(service.metadata.annotations or {}, kind)["id"]:
                yield self._claim(service, kind)

    def _claim(self, service: Service, kind: BalancerKind) -> BalancerClaim:
        owner = owner_of(service, self._configuration)
        return BalancerClaim(kind.name, kind.naming.balancer_name(owner), owner.namespace)

    def _name(self, service: Service) -> str:
        """Returns the name by which tags name a Service, which all kinds of balancers have in common."""
        naming = next(iter(self._balancers.apis)).naming
        return naming.balancer_name(owner_of(service, self._configuration))
