"""Lets no more balancers be made than the limits allow, by what the cloud and the Services show at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from spiderpool.api.core_v1 import Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloudcontroller.balancer_lists import DELAY, BalancerLists
from spiderpool.core.cloud.loadbalancer import succession
from spiderpool.core.cloud.loadbalancer.counting import BalancerClaim, BalancerCount, BalancerService, count, excess
from spiderpool.core.cloud.loadbalancer.grants import limit
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, read_options
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, MadeBalancer
from spiderpool.errors import NotReady
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS, logger

log = logger("services")


class TooManyLoadBalancers(NotReady):
    """One balancer more would be beyond a limit; another may be deleted at any time."""


class BalancerLimits:
    """Counts balancers before each creation, and once in a while.

    Nothing is counted by memory but what was begun a moment ago, so a restart forgets nothing. A count looks at
    balancers alone: of Services without one there may be any number.
    """

    def __init__(
        self,
        balancers: LoadBalancers,
        services: Informer[Service],
        configuration: BalancerConfiguration,
        clock: Callable[[], float],
    ) -> None:
        self._balancers = balancers
        self._configuration = configuration
        self._clock = clock
        self._owners = services.index(self._names, self._owner)
        self._published = services.index(self._claims)
        self._lock = asyncio.Lock()  # two creations at a time would both see the last free place
        self._lists = BalancerLists(balancers.apis, configuration.cluster, clock)
        self._recent: dict[BalancerClaim, float] = {}  # what was begun → until when it counts by itself
        self._orphans: tuple[str, ...] = ()  # as they were counted last
        self._by_state: dict[str, int] = {}  # as they were counted last
        self._released: set[BalancerClaim] = set()  # of balancers that are gone, whose Services have not been told yet

    async def check(self, service: Service, kind: BalancerKind, grants: Sequence[LoadBalancerGrantSpec]) -> None:
        """Raises TooManyLoadBalancers when there is no place for a balancer, CloudError."""
        async with self._lock:
            await self._check(kind, self._claim(service, kind), grants)

    async def reserve(
        self,
        service: Service,
        kind: BalancerKind,
        grants: Sequence[LoadBalancerGrantSpec],
        leaving: Collection[BalancerKind],
        *,
        others_stay: bool = False,
    ) -> None:
        """Keeps the place for a balancer that takes that of the Service's others, which are ``leaving``.

        With ``others_stay`` some of them are preserved, so that there is one more for good, and one that was made is
        not used before there is a place. Raises TooManyLoadBalancers, CloudError.
        """
        claim = self._claim(service, kind)
        former = {replace(claim, kind=each.name) for each in leaving}
        async with self._lock:
            await self._check(kind, claim, grants, former, has_place=not others_stay)
            for each in former:  # a balancer that is still there is in the cloud's list
                self._recent.pop(each, None)
            self._begin(claim, self._clock() + DELAY)

    @asynccontextmanager
    async def place(
        self,
        service: Service,
        kind: BalancerKind,
        grants: Sequence[LoadBalancerGrantSpec],
        leaving: Collection[BalancerKind] = (),
    ) -> AsyncIterator[tuple[str, ...]]:
        """Holds a place for a balancer while it is made; what could not be counted exactly is the value.

        The Service's others, which are ``leaving``, do not count: they go when this one is well. Until then there may
        be one balancer more than a limit says, and not two: those of Services that are exchanged at the time all count.
        Raises TooManyLoadBalancers, CloudError.
        """
        claim = self._claim(service, kind)
        former = {replace(claim, kind=each.name) for each in leaving}
        async with self._lock:
            await self._check(kind, claim, grants, former)
            self._begin(claim, float("inf"))
        try:
            yield tuple(self._lists.unlisted())
        finally:  # also after an error: whether the balancer was made may be unknown
            self._recent[claim] = self._clock() + DELAY

    async def recount(self) -> None:
        """Counts all balancers for the metric, and names those without a Service. Raises CloudError."""
        async with self._lock:
            self._count(await self._lists.made(None), ())

    def by_state(self) -> dict[tuple[str, ...], float]:
        """Returns how many balancers there are in each state; nothing before the first count."""
        return {(state,): float(number) for state, number in self._by_state.items()}

    def preserve(self, kind: BalancerKind) -> None:
        """Has a balancer that was preserved be counted as such, whatever the last list says of it."""
        self._lists.expire(kind)

    def forget(self, kind: BalancerKind, identity: str) -> None:
        """Counts a balancer no longer that we deleted, whatever the cloud's list still shows."""
        self._lists.forget(kind, identity)

    def release(self, service: Service, kind: BalancerKind) -> None:
        """Counts no place any more for a balancer that is gone, although the Service has its finalizer for a while."""
        self._released.add(self._claim(service, kind))

    def _begin(self, claim: BalancerClaim, until: float) -> None:
        """Counts a balancer that is about to be made, whatever is known of a former one."""
        self._released.discard(claim)
        self._recent[claim] = until

    async def _check(
        self,
        kind: BalancerKind,
        claim: BalancerClaim,
        grants: Sequence[LoadBalancerGrantSpec],
        leaving: Collection[BalancerClaim] = (),
        *,
        has_place: bool = True,
    ) -> None:
        """``has_place``: a balancer that is there already has its place."""
        made = await self._lists.made(kind)
        if has_place and any((each.kind, each.name) == (claim.kind, claim.name) for each in made):
            return
        counted = self._count(made, {claim, *leaving})
        of_namespace = limit(self._configuration.max_per_namespace, grants)
        reason = excess(counted, claim.namespace, of_namespace, self._configuration.max_per_cluster)
        if reason is not None:
            LOAD_BALANCER_REFUSALS.labels("limit").inc()
            raise TooManyLoadBalancers(reason)

    def _count(self, made: Sequence[MadeBalancer], without: Collection[BalancerClaim]) -> BalancerCount:
        """Counts all balancers but those of the claims ``without``; the metric counts these, too."""
        now = self._clock()
        self._recent = {each: until for each, until in self._recent.items() if until > now}
        absent = {(each.kind, each.name) for each in without}
        published = {*self._published}
        self._released &= published
        claims = {*self._recent, *published} - self._released
        others = [each for each in made if (each.kind, each.name) not in absent]
        whole = count(made, claims, self._service_of)
        self._by_state = {state: getattr(whole, state) for state in ("used", "preserved", "orphaned")}
        if new := set(whole.orphans).difference(self._orphans):
            log.warning("load balancers without a Service", new=sorted(new), all=sorted(whole.orphans))
        self._orphans = whole.orphans
        return count(others, claims.difference(without), self._service_of)

    def _service_of(self, kind: str, name: str) -> BalancerService | None:
        """Returns the Service whose balancer has a kind and a name; None: there is no such Service."""
        return next(iter(self._owners.get((kind, name))), None)

    def _owner(self, service: Service) -> BalancerService:
        named = (identity for kind in self._balancers.apis for identity in succession.labelled(service, kind))
        return BalancerService(service.metadata.namespace or "", frozenset(named))

    def _claims(self, service: Service) -> Iterator[BalancerClaim]:
        """Yields the balancers that a Service has by the address that we published: nobody else may write it.

        A Service that asks for another kind has the former one as long as it has its finalizer.
        """
        if not service.status.loadBalancer.ingress:
            return
        asked = self._balancers.kind_of(service)
        for kind in self._balancers.held(service) or ([asked] if asked else []):
            if not read_options(service.metadata.annotations or {}, kind)["id"]:
                yield self._claim(service, kind)

    def _claim(self, service: Service, kind: BalancerKind) -> BalancerClaim:
        owner = owner_of(service, self._configuration)
        return BalancerClaim(kind.name, kind.naming.balancer_name(owner), owner.namespace)

    def _names(self, service: Service) -> set[tuple[str, str]]:
        """Returns kinds of balancers that a Service has or asks for, and the names by which their tags name it."""
        owner, asked = owner_of(service, self._configuration), self._balancers.kind_of(service)
        kinds = {*self._balancers.held(service), *((asked,) if asked else ())}
        return {(kind.name, kind.naming.balancer_name(owner)) for kind in kinds}
