"""Looks at the balancers that Services have, with calls that change nothing, as spiderpool-cloud looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from spiderpool.api.core_v1 import Service
from spiderpool.cli.service_objects import ServiceObjects
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloud.provider import CloudError
from spiderpool.core.cloud.loadbalancer import backends
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of
from spiderpool.core.cloud.loadbalancer.model import lent_groups, owner_of, ports_of_pods
from spiderpool.core.cloud.loadbalancer.printing import LeavingBalancer
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer

PRESERVING = "preserve-lb-on-delete"


@dataclass(frozen=True, slots=True)
class PresentBalancers:
    """What a Service has in the cloud now."""

    observed: ObservedLoadBalancer | None = None
    """The balancer of the kind that it asks for."""
    leaving: tuple[LeavingBalancer, ...] = ()
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
                    return PresentBalancers(faults=(f"its balancer was not looked at: {error.message}",)), known

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
        kind = None if service.terminating else self._balancers.kind_of(service)
        leaving = [await self._leaving(service, former) for former in self._balancers.held(service) if former != kind]
        others = tuple(each for each in leaving if each)
        found = await self._observed(service, kind) if kind else PresentBalancers()
        if others and kind and not options_of(service, kind)["id"]:  # what it had is of another kind
            found = replace(found, faults=())
        return replace(found, leaving=others)

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

    async def _observed(self, service: Service, kind: BalancerKind) -> PresentBalancers:
        options, recorded = options_of(service, kind), _recorded(service, kind)
        owner, api, lent = owner_of(service, self._configuration), self._balancers.apis[kind], options["id"]
        if lent and recorded and lent != recorded:
            key = options.annotation("id")
            return PresentBalancers(
                faults=(f"annotation {key} names {lent}, and this Service has balancer {recorded}",)
            )
        observed = await api.find(owner, lent or recorded, [*lent_groups(options).values()])
        if observed is None and recorded and not lent:
            observed = await api.find(owner)
        return PresentBalancers(observed, faults=() if observed else tuple(_missing(service, options, recorded)))

    async def _leaving(self, service: Service, kind: BalancerKind) -> LeavingBalancer | None:
        options, api = options_of(service, kind), self._balancers.apis[kind]
        owner, identity = owner_of(service, self._configuration), _recorded(service, kind) or options["id"]
        groups = [*lent_groups(options).values()]
        observed = (await api.find(owner, identity, groups) if identity else None) or await api.find(owner)
        unclear = any(PRESERVING in fault for fault in options.faults)  # then it is kept, as a deletion is final
        return LeavingBalancer(kind, observed, unclear or options.on(PRESERVING)) if observed else None


def _recorded(service: Service, kind: BalancerKind) -> str:
    return (service.metadata.labels or {}).get(kind.naming.identity_label, "")


def _missing(service: Service, options: BalancerOptions, recorded: str) -> Iterator[str]:
    """Yields that a balancer which the Service names, or had, is not there: then none is made in its place."""
    if options["id"]:
        yield f"load balancer {options['id']}, which annotation {options.annotation('id')} names, does not exist"
    elif recorded or service.status.loadBalancer.ingress:
        yield f"load balancer {recorded or 'of its address'} cannot be found; none is made in its place"
