"""What spiderpool-cloud would do for Services: from manifests alone, or against the balancers that they have."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

import msgspec
import yaml

from spiderpool.api.core_v1 import Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.present_balancers import PresentBalancers, SeenBalancers
from spiderpool.cli.printing import Alert, View, object_reference, plain, printable
from spiderpool.cli.service_objects import ServiceObjects
from spiderpool.cloud.loadbalancers import KindOf
from spiderpool.core.cloud.loadbalancer.adoption import keeps_its_kind
from spiderpool.core.cloud.loadbalancer.billing import BillingItem, total
from spiderpool.core.cloud.loadbalancer.grants import is_in_use, limit, missing, refusal, reminder, suggested
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, options_of, wants_balancer
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.printing import (
    FAULT,
    NOTE,
    NOTHING,
    ServiceDryRun,
    removal,
    risks,
    service_dry_run,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed
from spiderpool.errors import BadConfig


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What would be done for one Service."""

    service: str
    notes: tuple[str, ...]
    faults: tuple[str, ...]
    """What keeps the Service from its balancer."""
    steps: tuple[str, ...]
    risks: tuple[str, ...] = ()
    """What of the steps ends traffic, gives up an address, or changes what somebody may have set by hand."""
    bill: tuple[BillingItem, ...] = ()
    """What the cloud would bill for a balancer that would be made."""

    def lines(self, view: View) -> Iterator[str]:
        """The Service, its notes and faults, and the numbered steps; on a terminal wrapped below their beginning."""
        yield self.service
        yield from (line for note in self.notes for line in _hanging(NOTE, note, view))
        yield from (line for fault in self.faults for line in _hanging(FAULT, fault, view))
        for number, step in enumerate(self.steps, 1):
            yield from _hanging(f"{number}. ", step, view)
        if not self.steps and not self.faults:
            yield NOTHING
        if self.bill:
            yield from _hanging(BILL, _joined(self.bill), view)
        for risk in self.risks:
            yield from map(Alert, _hanging("! ", risk, view))


BILL = "billed: "
"""Begins the line about what the cloud would bill."""


def _joined(items: Iterable[BillingItem]) -> str:
    return ", ".join(map(str, items))


def _hanging(before: str, text: str, view: View) -> list[str]:
    whole = printable(f"{before}{text}")
    if view.width is None:
        return [whole]
    return textwrap.wrap(whole, view.width, subsequent_indent=" " * len(before), break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Plans:
    """What would be done for some Services."""

    services: tuple[ServicePlan, ...]
    grants: tuple[SpiderLoadBalancerGrant, ...]
    """Those that the Services need and that are lacking."""
    seen: bool = False
    """Whether the plan starts from the balancers that there are."""

    @property
    def is_faulty(self) -> bool:
        """Whether a Service would not get its balancer as it asks for it: it is wrong, or a grant is lacking."""
        return bool(self.grants) or any(each.faults for each in self.services)

    def lines(self, view: View) -> Iterator[str]:
        """The Services one after the other, all in one line, then what must be granted as a manifest, not wrapped."""
        for number, each in enumerate(self.services):
            if number:
                yield ""
            yield from each.lines(view)
        if self.seen or len(self.services) > 1:
            yield ""
            yield from _hanging("", self._summary(), view)
        if self.grants:
            yield ""
            yield "# Not granted yet; --grants prints this part alone."
            yield from manifest(self.grants).splitlines()

    def _summary(self) -> str:
        steps = sum(len(each.steps) for each in self.services)
        marked = sum(len(each.risks) for each in self.services)
        bill = _joined(total(item for each in self.services for item in each.bill))
        changed = sum(bool(each.steps) for each in self.services)
        return "; ".join(
            filter(
                None,
                (
                    f"{steps} steps for {changed} of {len(self.services)} Services",
                    f"{marked} to think about, marked with !" if marked else "",
                    f"{BILL}{bill}" if bill else "",
                ),
            )
        )

    def document(self) -> Any:
        """All of it."""
        return {"services": plain(self.services), "grants": [msgspec.to_builtins(each) for each in self.grants]}

    def names(self) -> Iterable[str]:
        """The grants that are lacking."""
        return (object_reference(SpiderLoadBalancerGrant, each.name) for each in self.grants)


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What decides about every Service."""

    configuration: BalancerConfiguration
    kind_of: KindOf


def plans(objects: ServiceObjects, rules: PlanRules, seen: SeenBalancers | None = None) -> Plans:
    """Returns the plans for all Services that ask for a balancer of ours, or have one.

    Without ``seen`` as if they had none yet. What administrators must have granted and have not follows as a
    manifest. Raises BadConfig where there is no such Service.
    """
    services = [service for service in objects.services if _concerns(service, rules, seen)]
    if not services:
        raise BadConfig("there is no Service of type LoadBalancer that spiderpool-cloud would serve")
    planned = tuple(_plan(service, objects, rules, seen) for service in services)
    return Plans(planned, missing_grants(objects, rules), seen is not None)


def _concerns(service: Service, rules: PlanRules, seen: SeenBalancers | None) -> bool:
    leaving = seen.present[service.key].leaving if seen and service.key in seen.present else ()
    return rules.kind_of(service) is not None or bool(leaving)


def _plan(service: Service, objects: ServiceObjects, rules: PlanRules, seen: SeenBalancers | None) -> ServicePlan:
    present = seen.present.get(service.key, PresentBalancers()) if seen else PresentBalancers()
    snapshot = (seen.snapshots.get(service.key) if seen else None) or objects.snapshot(service)
    kind, present, kept = _kept(service, rules, present)
    found = ServiceDryRun(notes=kept)
    if present.faults:
        found = ServiceDryRun(faults=present.faults)
    elif kind is not None:
        found = service_dry_run(service, kind, snapshot, rules.configuration, present.observed)
        found = replace(found, notes=(*kept, *found.notes))
    notes, faults = found.notes, found.faults
    if kind is not None and found.model is not None and seen:
        needs = _lacking(service, kind, objects, rules)
        used = [need for need in needs if present.observed and is_in_use(need, found.model, present.observed)]
        namespace = service.metadata.namespace or ""
        notes += tuple(reminder(need, namespace) for need in used)
        faults += tuple(refusal(need, namespace) for need in needs if need not in used)
    steps = (*found.steps, *removal(service, present.leaving, rules.configuration))
    return ServicePlan(service.key, notes, faults, tuple(map(str, steps)), tuple(risks(steps, kind)), found.bill)


def _kept(
    service: Service, rules: PlanRules, present: PresentBalancers
) -> tuple[BalancerKind | None, PresentBalancers, tuple[str, ...]]:
    """Returns which kind of balancer the Service has or gets, without those that stay whatever it asks for.

    The third value says what stays.
    """
    kind, owner = rules.kind_of(service), owner_of(service, rules.configuration)
    if not wants_balancer(service):
        return kind, present, ()
    if kind is None:
        names = [each.observed.identity for each in present.leaving]
        notes = tuple(f"balancer {name} stays, and only its servers are kept up to date" for name in names)
        return None, replace(present, leaving=()), notes
    for each in present.leaving:
        if keeps_its_kind(service, each.kind, owner, each.observed):
            others = tuple(other for other in present.leaving if other is not each)
            note = f"balancer {each.observed.identity} was made by another controller, and stays a {each.kind} one"
            return each.kind, PresentBalancers(each.observed, others), (note,)
    return kind, present, ()


def _lacking(service: Service, kind: BalancerKind, objects: ServiceObjects, rules: PlanRules) -> tuple[GrantNeed, ...]:
    """Returns what a Service needs and no grant gives to its Namespace."""
    options, namespace = options_of(service, kind), service.metadata.namespace or ""
    granted = [grant.spec for grant in objects.grants if grant.spec.applies_to(namespace)]
    return missing(kind.needs(options, rules.configuration), granted)


def manifest(made: Iterable[SpiderLoadBalancerGrant]) -> str:
    """Returns grants as YAML to be applied; empty when there are none."""
    known = [msgspec.to_builtins(each) for each in made]
    return yaml.safe_dump_all(known, sort_keys=False).rstrip() if known else ""


def missing_grants(objects: ServiceObjects, rules: PlanRules) -> tuple[SpiderLoadBalancerGrant, ...]:
    """Returns the grants that Services need beside those that there are."""
    present = [grant.spec for grant in objects.grants]
    return tuple(
        SpiderLoadBalancerGrant(
            apiVersion=SpiderLoadBalancerGrant.KIND.api_version,
            kind=SpiderLoadBalancerGrant.KIND.name,
            metadata=ObjectMeta(name=name),
            spec=spec,
        )
        for name, spec in _named(_needed(objects.services, present, rules), {grant.name for grant in objects.grants})
    )


def _needed(
    services: Iterable[Service], present: Sequence[LoadBalancerGrantSpec], rules: PlanRules
) -> Iterator[LoadBalancerGrantSpec]:
    """Yields what must be granted to each Namespace beside what is."""
    needs: dict[str, list[GrantNeed]] = defaultdict(list)
    made: Counter[str] = Counter()
    for service in services:
        kind, namespace = rules.kind_of(service), service.metadata.namespace or ""
        if kind is not None:
            options = options_of(service, kind)
            needs[namespace] += kind.needs(options, rules.configuration)
            made[namespace] += not options["id"]
    for namespace in sorted(needs):
        granted = [grant for grant in present if grant.applies_to(namespace)]
        is_too_much = made[namespace] > limit(rules.configuration.max_per_namespace, granted)
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
