"""Looks at the balancers that Services have, with calls that change nothing, as spiderpool-cloud looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from spiderpool.api.core_v1 import Service
from spiderpool.cli.service_objects import ServiceObjects
from spiderpool.cloud.loadbalancers import LoadBalancers, find_first
from spiderpool.cloud.provider import CloudError
from spiderpool.core.cloud.loadbalancer import backends, succession
from spiderpool.core.cloud.loadbalancer.adoption import keeps_its_kind
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of
from spiderpool.core.cloud.loadbalancer.model import lent_groups, owner_of, ports_of_pods
from spiderpool.core.cloud.loadbalancer.printing import LeavingBalancer
from spiderpool.core.cloud.loadbalancer.succession import Standing
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, BalancerOwner, ObservedLoadBalancer


@dataclass(frozen=True, slots=True)
class PresentBalancers:
    """What a Service has in the cloud now."""

    kind: BalancerKind | None = None
    """That which it has or gets; None: it asks for none of ours."""
    observed: ObservedLoadBalancer | None = None
    """The balancer of this kind."""
    leaving: tuple[LeavingBalancer, ...] = ()
    """Those of other kinds."""
    is_kept: bool = False
    """Whether what is there is of another kind than the Service asks for, and stays."""
    faults: tuple[str, ...] = ()
    """Why its balancer is not looked at, or cannot be found."""


AT_A_TIME = 8
"""Services that are looked at at once."""


@dataclass(frozen=True, slots=True)
class SeenBalancers:
    """What the cloud has, by the key of each Service."""

    present: Mapping[str, PresentBalancers]
    snapshots: Mapping[str, BackendSnapshot]
    """The possible servers, with the ENIs of pods as the cloud has them."""


class BalancerLook:
    """Looks at the balancers of Services. Every call raises CloudError."""

    def __init__(self, balancers: LoadBalancers, configuration: BalancerConfiguration) -> None:
        self._balancers = balancers
        self._configuration = configuration

    async def all(self, objects: ServiceObjects) -> SeenBalancers:
        """Returns what the Services have that ask for a balancer of ours, or have one.

        What of one cannot be looked at is a fault of it, unless that is so for each of them. Raises CloudError.
        """
        ours = [each for each in objects.services if self._balancers.held(each) or self._balancers.kind_of(each)]
        turns = asyncio.Semaphore(AT_A_TIME)
        failures: list[CloudError] = []

        async def one(service: Service) -> tuple[PresentBalancers, BackendSnapshot]:
            known = objects.snapshot(service)
            async with turns:
                try:
                    return await self.present(service), await self.snapshot(service, known)
                except CloudError as error:
                    failures.append(error)
                    fault = f"its balancer was not looked at: {error.message}"
                    return PresentBalancers(self._balancers.standing(service).asked, faults=(fault,)), known

        found = await asyncio.gather(*map(one, ours))
        if failures and len(failures) == len(ours):
            raise failures[0]
        keys = [service.key for service in ours]
        return SeenBalancers(
            dict(zip(keys, (present for present, _ in found), strict=True)),
            dict(zip(keys, (snapshot for _, snapshot in found), strict=True)),
        )

    async def present(self, service: Service) -> PresentBalancers:
        """Returns what a Service has: of the kind that it asks for, and of those that it no longer asks for."""
        standing = self._balancers.standing(service)
        if succession.stays_for_another(service, standing):
            return PresentBalancers(leaving=await self._formers(service, standing.formers), is_kept=True)
        if kept := await self._kept_kind(service, standing):
            standing = standing.keeping(kept)
        leaving = await self._formers(service, standing.formers)
        found = PresentBalancers()
        if standing.asked is not None:
            found = await self._observed(service, standing.asked, succeeds=bool(standing.formers))
        return replace(found, leaving=leaving, is_kept=kept is not None)

    async def snapshot(self, service: Service, known: BackendSnapshot) -> BackendSnapshot:
        """Returns the possible servers, with the ENIs of pods that no node reports as the cloud has them."""
        kind = self._balancers.kind_of(service)
        options = options_of(service, kind) if kind else None
        ports = ports_of_pods(service, options, self._configuration) if options else []
        if options is None or not ports:
            return known
        addresses = backends.pod_addresses(ports, known.slices, options)
        unknown = [address for address in addresses if address not in known.enis]
        answered: Mapping[str, str] = await self._balancers.enis.holders(unknown) if unknown else {}
        return BackendSnapshot(known.nodes, known.slices, {**answered, **known.enis})

    async def _observed(self, service: Service, kind: BalancerKind, *, succeeds: bool) -> PresentBalancers:
        """Returns the balancer of the kind that a Service asks for; ``succeeds``: what it had is of another kind."""
        options, owner = options_of(service, kind), owner_of(service, self._configuration)
        if not succeeds and (fault := succession.identity_fault(service, options)):
            return PresentBalancers(kind, faults=(fault,))
        names = (options["id"],) if succeeds else succession.sought(service, options)
        observed = await self._find(owner, options, names)
        is_expected = not succeeds or bool(options["id"])
        absence = succession.absence(service, options, owner) if observed is None and is_expected else ""
        return PresentBalancers(kind, observed, faults=(absence,) if absence else ())

    async def _kept_kind(self, service: Service, standing: Standing) -> BalancerKind | None:
        """Returns the kind of a balancer that another controller made, and that an annotation shall not exchange."""
        if standing.asked is None:
            return None
        owner = owner_of(service, self._configuration)
        for each in await self._formers(service, standing.formers):
            if keeps_its_kind(service, each.kind, owner, each.observed):
                return each.kind
        return None

    async def _formers(self, service: Service, kinds: Iterable[BalancerKind]) -> tuple[LeavingBalancer, ...]:
        owner = owner_of(service, self._configuration)
        found: list[LeavingBalancer] = []
        for kind in kinds:
            names = succession.sought_of_former(service, kind)
            if (observed := await self._find(owner, options_of(service, kind), names)) is not None:
                found.append(LeavingBalancer(kind, observed, succession.preserves(service, kind)))
        return tuple(found)

    async def _find(
        self, owner: BalancerOwner, options: BalancerOptions, names: Iterable[str]
    ) -> ObservedLoadBalancer | None:
        return await find_first(self._balancers.apis[options.kind], owner, names, [*lent_groups(options).values()])
