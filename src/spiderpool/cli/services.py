"""The dry run of spiderpool-cloud: plans load balancers from manifests alone; calls neither a cluster nor a cloud."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import msgspec
import yaml

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.manifests import check, documents, of_kind
from spiderpool.cli.printing import View, object_reference, plain, printable
from spiderpool.cloud.loadbalancers import KindOf
from spiderpool.core.cloud.instances import described
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, reported_enis
from spiderpool.core.cloud.loadbalancer.grants import limit, missing, suggested
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.printing import FAULT, NOTE, NOTHING, dry_run
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed
from spiderpool.errors import BadConfig


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What would be made for one Service."""

    service: str
    notes: tuple[str, ...]
    faults: tuple[str, ...]
    """What keeps the Service from its balancer."""
    steps: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """The Service, its notes and faults, and the numbered steps; on a terminal wrapped below their beginning."""
        yield self.service
        yield from (line for note in self.notes for line in _hanging(NOTE, note, view))
        yield from (line for fault in self.faults for line in _hanging(FAULT, fault, view))
        for number, step in enumerate(self.steps, 1):
            yield from _hanging(f"{number}. ", step, view)
        if not self.steps and not self.faults:
            yield NOTHING


def _hanging(before: str, text: str, view: View) -> list[str]:
    whole = printable(f"{before}{text}")
    if view.width is None:
        return [whole]
    return textwrap.wrap(whole, view.width, subsequent_indent=" " * len(before), break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Plans:
    """What would be made for some Services."""

    services: tuple[ServicePlan, ...]
    grants: tuple[SpiderLoadBalancerGrant, ...]
    """Those that the Services need and that are lacking."""

    @property
    def is_faulty(self) -> bool:
        """Whether a Service would not get its balancer as it asks for it: it is wrong, or a grant is lacking."""
        return bool(self.grants) or any(each.faults for each in self.services)

    def lines(self, view: View) -> Iterator[str]:
        """The Services one after the other, then what must be granted as a manifest, which is not wrapped."""
        for number, each in enumerate(self.services):
            if number:
                yield ""
            yield from each.lines(view)
        if self.grants:
            yield ""
            yield "# Not granted yet; --grants prints this part alone."
            yield from _manifest(self.grants).splitlines()

    def document(self) -> Any:
        """All of it."""
        return {"services": plain(self.services), "grants": [msgspec.to_builtins(each) for each in self.grants]}

    def names(self) -> Iterable[str]:
        """The grants that are lacking."""
        return (object_reference(SpiderLoadBalancerGrant, each.name) for each in self.grants)


def plans(text: str, configuration: BalancerConfiguration, kind_of: KindOf) -> Plans:
    """Returns the plans for all Services of type LoadBalancer in YAML documents, as if they had no balancers yet.

    Nodes, their SpiderServers and EndpointSlices among the documents, also in Lists, are the servers. What
    administrators must have granted and the SpiderLoadBalancerGrants among them lack follows as a manifest. Raises
    BadConfig.
    """
    found = _checked(text)
    services = _services(found, kind_of)
    nodes, slices = of_kind(found, "Node", Node), of_kind(found, "EndpointSlice", EndpointSlice)
    enis = reported_enis(described(nodes, of_kind(found, "SpiderServer", SpiderServer)))
    snapshots = [BackendSnapshot(nodes, _slices_of(service, slices), enis) for service in services]
    planned = [
        _plan(service.key, dry_run(service, kind_of(service), snapshot, configuration).splitlines())
        for service, snapshot in zip(services, snapshots, strict=True)
    ]
    return Plans(tuple(planned), _missing_grants(found, services, configuration, kind_of))


def _plan(service: str, lines: Sequence[str]) -> ServicePlan:
    notes, faults = (tuple(each.removeprefix(of) for each in lines if each.startswith(of)) for of in (NOTE, FAULT))
    steps = (each for each in lines if not each.startswith((NOTE, FAULT)) and each != NOTHING)
    return ServicePlan(service, notes, faults, tuple(each.partition(". ")[2] for each in steps))


def grants(text: str, configuration: BalancerConfiguration, kind_of: KindOf) -> str:
    """Returns the SpiderLoadBalancerGrants that the Services in YAML documents need and that are not among them.

    YAML to be applied; empty when they need none. Raises BadConfig.
    """
    found = _checked(text)
    return _manifest(_missing_grants(found, _services(found, kind_of), configuration, kind_of))


def _manifest(made: Iterable[SpiderLoadBalancerGrant]) -> str:
    known = [msgspec.to_builtins(each) for each in made]
    return yaml.safe_dump_all(known, sort_keys=False).rstrip() if known else ""


def _missing_grants(
    found: Iterable[dict[str, Any]],
    services: Iterable[Service],
    configuration: BalancerConfiguration,
    kind_of: KindOf,
) -> tuple[SpiderLoadBalancerGrant, ...]:
    present = of_kind(found, SpiderLoadBalancerGrant.KIND.name, SpiderLoadBalancerGrant)
    needed = _needed(services, [grant.spec for grant in present], configuration, kind_of)
    return tuple(
        SpiderLoadBalancerGrant(
            apiVersion=SpiderLoadBalancerGrant.KIND.api_version,
            kind=SpiderLoadBalancerGrant.KIND.name,
            metadata=ObjectMeta(name=name),
            spec=spec,
        )
        for name, spec in _named(needed, {grant.name for grant in present})
    )


def _checked(text: str) -> list[dict[str, Any]]:
    """The objects in YAML documents. Raises BadConfig, with all faults of those that are read of them."""
    found = list(documents(text))
    check(found, (Service, Node, EndpointSlice, SpiderServer, SpiderLoadBalancerGrant))
    return found


def _services(found: Iterable[dict[str, Any]], kind_of: KindOf) -> list[Service]:
    services = [service for service in of_kind(found, "Service", Service) if kind_of(service) is not None]
    if not services:
        raise BadConfig("there is no Service of type LoadBalancer that spiderpool-cloud would serve")
    return services


def _needed(
    services: Iterable[Service],
    present: Sequence[LoadBalancerGrantSpec],
    configuration: BalancerConfiguration,
    kind_of: KindOf,
) -> Iterator[LoadBalancerGrantSpec]:
    """Yields what must be granted to each Namespace beside what is."""
    needs: dict[str, list[GrantNeed]] = defaultdict(list)
    made: Counter[str] = Counter()
    for service in services:
        kind, namespace = kind_of(service), service.metadata.namespace or ""
        if kind is not None:
            options = options_of(service, kind)
            needs[namespace] += kind.needs(options, configuration)
            made[namespace] += not options["id"]
    for namespace in sorted(needs):
        granted = [grant for grant in present if grant.applies_to(namespace)]
        is_too_much = made[namespace] > limit(configuration.max_per_namespace, granted)
        yield from suggested(namespace, missing(needs[namespace], granted), made[namespace] if is_too_much else None)


def _named(specs: Iterable[LoadBalancerGrantSpec], taken: Iterable[str]) -> Iterator[tuple[str, LoadBalancerGrantSpec]]:
    """Yields grants with a name of their own each: applied, they must not take the place of another."""
    names = {*taken}
    for spec in specs:
        (namespace,) = spec.namespaces
        numbered = (f"{namespace}-{number}" for number in count(2))
        name = next(each for each in chain([namespace], numbered) if each not in names)
        names.add(name)
        yield name, spec


def _slices_of(service: Service, slices: Sequence[EndpointSlice]) -> list[EndpointSlice]:
    """Returns the slices of one Service."""
    return [
        each
        for each in slices
        if each.metadata.namespace == service.metadata.namespace
        and (each.metadata.labels or {}).get(SERVICE_LABEL) == service.name
    ]
