"""The dry run: what would be done for a Service, as values and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.backends import VIRTUAL, BackendSnapshot
from spiderpool.core.cloud.loadbalancer.billing import BillingItem
from spiderpool.core.cloud.loadbalancer.checking import faults, remarks
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model, owner_of
from spiderpool.core.cloud.loadbalancer.planning import (
    ownership_fault,
    plan,
    plan_removal,
    reuse_fault,
    unchangeable,
)
from spiderpool.core.cloud.loadbalancer.steps import (
    DESCRIPTION,
    CreateBalancer,
    CreateListener,
    DeleteBalancer,
    DeleteListener,
    SetBalancer,
    SetGroup,
    SetListener,
    SetSourceList,
    Step,
    Unprotect,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer, Settings

FAULT = "fault: "
"""Begins the lines about what keeps a Service from its balancer."""
NOTE = "note: "
"""Begins the lines about what is left out, or has no effect."""
NOTHING = "nothing to do"
ANY_PORT = 1
UNASSIGNED = "spec.healthCheckNodePort is not assigned yet: health checks will ask nodes there"
"""Note of a Service that no API server has completed."""


@dataclass(frozen=True, slots=True)
class ServiceDryRun:
    """What would be done for a Service."""

    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """What keeps the Service from its balancer, or from a part of what it asks for."""
    steps: tuple[Step, ...] = ()
    model: LoadBalancerModel | None = None
    """The balancer that the Service asks for; None where that is not served."""
    bill: tuple[BillingItem, ...] = ()
    """What the cloud would count for a balancer that would be made."""


@dataclass(frozen=True, slots=True)
class LeavingBalancer:
    """A balancer of a kind that its Service no longer asks for."""

    kind: BalancerKind
    observed: ObservedLoadBalancer
    preserve: bool = False


def service_dry_run(
    service: Service,
    kind: BalancerKind,
    snapshot: BackendSnapshot,
    configuration: BalancerConfiguration,
    observed: ObservedLoadBalancer | None = None,
) -> ServiceDryRun:
    """Returns what would be done for a Service that asks for a kind of balancer."""
    options = options_of(service, kind)
    if found := faults(service, options, configuration):
        return ServiceDryRun(remarks(service, options), found)
    model = build_model(service, options, snapshot, configuration)
    unknown = (f"no ENI is known to have the pod address {address}" for address in model.unresolved)
    notes = (*remarks(service, options), *model.notes, *unknown, *map(VIRTUAL.format, model.virtual))
    if _awaits_node_port(service, model, snapshot, configuration):
        notes += (UNASSIGNED,)
    if observed and (fault := reuse_fault(model, observed) or ownership_fault(model, observed)):
        return ServiceDryRun(notes, (fault,))
    steps = plan(model, observed)
    makes_one = any(isinstance(step, CreateBalancer) for step in steps)
    if makes_one and (lacking := tuple(kind.creation_faults(options, configuration))):
        return ServiceDryRun(notes, lacking)
    bill = kind.bill(options, configuration) if makes_one else ()
    return ServiceDryRun(notes, unchangeable(model, observed) if observed else (), steps, model, bill)


def _awaits_node_port(
    service: Service, model: LoadBalancerModel, snapshot: BackendSnapshot, configuration: BalancerConfiguration
) -> bool:
    """Whether health checks will be others when the API server has assigned a port where nodes are asked."""
    if service.spec.healthCheckNodePort or model.reuse:
        return False
    spec = msgspec.structs.replace(service.spec, healthCheckNodePort=ANY_PORT)
    assigned = build_model(msgspec.structs.replace(service, spec=spec), model.options, snapshot, configuration)
    return (assigned.listeners, assigned.groups) != (model.listeners, model.groups)


def removal(
    service: Service, leaving: Iterable[LeavingBalancer], configuration: BalancerConfiguration
) -> tuple[Step, ...]:
    """Returns the steps that take from a Service what it no longer asks for."""
    owner = owner_of(service, configuration)
    return tuple(
        step for each in leaving for step in plan_removal(each.kind, owner, each.observed, preserve=each.preserve)
    )


def risks(steps: Sequence[Step], kind: BalancerKind | None) -> Iterator[str]:
    """Yields what of a plan ends traffic, gives up an address, or changes what somebody may have set by hand.

    ``kind`` is that of the balancer whose listeners are changed; None where none is.
    """
    open_to_all = kind.source_lists.unused if kind else {}
    made = {step.listener.key for step in steps if isinstance(step, CreateListener)}
    is_new = any(isinstance(step, CreateBalancer) for step in steps)
    for step in steps:
        match step:
            case DeleteBalancer(identity):
                yield f"balancer {identity} is deleted, and its address is given up"
            case DeleteListener(listener):
                again = ", and made again" if listener.key in made else ""
                yield f"listener {listener} is deleted{again}"
            case SetBalancer(_, aspect, changes) if not is_new:
                is_opened = any(open_to_all.get(each.parameter) == each.new for each in changes)
                effect = ", which no longer keeps any client out" if is_opened else ""
                yield f"the balancer's {aspect} is changed{effect}"
            case Unprotect(identity, _):
                yield f"balancer {identity} is no longer protected"
            case SetSourceList():
                yield f"who is admitted is changed: {step}"
            case SetListener() | SetGroup():
                yield from _risks_of_change(step, open_to_all)
            case _:
                pass


def _risks_of_change(step: SetListener | SetGroup, open_to_all: Settings) -> Iterator[str]:
    """Yields a line for what keeps clients out and no longer does, and one for all other parameters."""
    what = f"listener {step.listener}" if isinstance(step, SetListener) else f"server group {step.group.name}"
    changes = [each for each in step.changes if each.parameter != DESCRIPTION]
    opened = [each for each in changes if open_to_all.get(each.parameter) == each.new]
    if opened:
        yield f"{what} no longer keeps any client out: {', '.join(map(str, opened))}"
    if others := [each for each in changes if each not in opened]:
        yield f"{what} is changed: {', '.join(map(str, others))}"
