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
from spiderpool.core.cloud.loadbalancer.billing import BillingItem, total
from spiderpool.core.cloud.loadbalancer.grants import limit, missing, refusal, reminder, suggested
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, owner_of
from spiderpool.core.cloud.loadbalancer.printing import (
    FAULT,
    NOTE,
    NOTHING,
    LeavingBalancer,
    ServiceDryRun,
    removal,
    risks,
    service_dry_run,
)
from spiderpool.core.cloud.loadbalancer.succession import (
    Eligibility,
    eligibility_of,
    refused_preservation,
    standing_of,
    waiting_for_consent,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed, ObservedLoadBalancer
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
    return Plans(planned, missing_grants(objects, rules, seen), seen is not None)


def _concerns(service: Service, rules: PlanRules, seen: SeenBalancers | None) -> bool:
    present = _present(service, rules, seen)
    return present.kind is not None or bool(present.leaving)


def _present(service: Service, rules: PlanRules, seen: SeenBalancers | None) -> PresentBalancers:
    """Returns what a Service has: nothing where nobody has looked."""
    if seen is not None:
        return seen.present.get(service.key, PresentBalancers())
    return PresentBalancers(standing_of(service, rules.kind_of(service), ()).asked)


def _plan(service: Service, objects: ServiceObjects, rules: PlanRules, seen: SeenBalancers | None) -> ServicePlan:
    present, configuration = _present(service, rules, seen), rules.configuration
    snapshot = (seen.snapshots.get(service.key) if seen else None) or objects.snapshot(service)
    found, may_go = ServiceDryRun(faults=present.faults), not present.faults and not _is_for_another(present)
    if present.kind is not None and not present.faults:
        found = service_dry_run(service, present.kind, snapshot, configuration, present.observed)
        may_go = found.model is not None
        if seen and found.model is not None:
            eligibility = eligibility_of(
                service, found.model.options, configuration, objects.granted(service.metadata.namespace or "")
            )
            found, may_go = _with_grants(found, found.model, eligibility, present.observed), eligibility.may_take_over
    going, refusals = _going(service, present.leaving, objects, rules) if may_go else ((), ())
    staying = tuple(STAYS.format(each.observed.identity) for each in present.leaving if each not in going)
    notes = (*_made_by_another(present), *found.notes, *staying)
    steps = (*found.steps, *removal(service, going, configuration))
    faults = (*found.faults, *refusals)
    return ServicePlan(
        service.key, notes, faults, tuple(map(str, steps)), tuple(risks(steps, present.kind)), found.bill
    )


STAYS = "balancer {} stays, and only its servers are kept up to date"


def _is_for_another(present: PresentBalancers) -> bool:
    """Whether the Service asks another controller now, and keeps what it has."""
    return present.is_kept and present.kind is None


def _made_by_another(present: PresentBalancers) -> Iterator[str]:
    """Yields that a balancer is not exchanged, although an annotation asks for another kind."""
    if present.is_kept and present.observed is not None:
        yield f"balancer {present.observed.identity} was made by another controller, and stays a {present.kind} one"


def _with_grants(
    found: ServiceDryRun, model: LoadBalancerModel, eligibility: Eligibility, observed: ObservedLoadBalancer | None
) -> ServiceDryRun:
    """Returns a dry run with what the Service needs and no grant gives to its Namespace."""
    refused, namespace = eligibility.refused(model, observed), model.owner.namespace
    used = [need for need in eligibility.missing if need not in refused]
    return replace(
        found,
        notes=(*found.notes, *(reminder(need, namespace) for need in used)),
        faults=(*found.faults, *(refusal(need, namespace) for need in refused)),
    )


def _going(
    service: Service, leaving: Iterable[LeavingBalancer], objects: ServiceObjects, rules: PlanRules
) -> tuple[tuple[LeavingBalancer, ...], tuple[str, ...]]:
    """Returns the balancers that a Service loses, and why it keeps the others for now."""
    going: list[LeavingBalancer] = []
    refusals: list[str] = []
    for each in leaving:
        if need := _refused(service, each, objects.granted(service.metadata.namespace or ""), rules):
            refusals.append(waiting_for_consent(need, service.metadata.namespace or ""))
        else:
            going.append(each)
    return tuple(going), tuple(refusals)


def _refused(
    service: Service, each: LeavingBalancer, granted: Sequence[LoadBalancerGrantSpec], rules: PlanRules
) -> GrantNeed | None:
    owner = owner_of(service, rules.configuration)
    return refused_preservation(service, each.kind, owner, each.observed, granted)


def manifest(made: Iterable[SpiderLoadBalancerGrant]) -> str:
    """Returns grants as YAML to be applied; empty when there are none."""
    known = [msgspec.to_builtins(each) for each in made]
    return yaml.safe_dump_all(known, sort_keys=False).rstrip() if known else ""


def missing_grants(
    objects: ServiceObjects, rules: PlanRules, seen: SeenBalancers | None = None
) -> tuple[SpiderLoadBalancerGrant, ...]:
    """Returns the grants that Services need beside those that there are."""
    return tuple(
        SpiderLoadBalancerGrant(
            apiVersion=SpiderLoadBalancerGrant.KIND.api_version,
            kind=SpiderLoadBalancerGrant.KIND.name,
            metadata=ObjectMeta(name=name),
            spec=spec,
        )
        for name, spec in _named(_needed(objects, rules, seen), {grant.name for grant in objects.grants})
    )


def _needed(objects: ServiceObjects, rules: PlanRules, seen: SeenBalancers | None) -> Iterator[LoadBalancerGrantSpec]:
    """Yields what must be granted to each Namespace beside what is."""
    needs: dict[str, list[GrantNeed]] = defaultdict(list)
    made: Counter[str] = Counter()
    for service in objects.services:
        present, namespace = _present(service, rules, seen), service.metadata.namespace or ""
        kind, leaving = present.kind, () if _is_for_another(present) else present.leaving
        if kind is not None:
            options = options_of(service, kind)
            needs[namespace] += kind.needs(options, rules.configuration)
            made[namespace] += not options["id"]
        needs[namespace] += filter(None, (_refused(service, each, (), rules) for each in leaving))
    for namespace in sorted(needs):
        granted = objects.granted(namespace)
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
