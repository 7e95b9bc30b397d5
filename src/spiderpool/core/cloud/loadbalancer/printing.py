"""The dry run: what would be done for a Service, as text."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.checking import faults, remarks
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, options_of
from spiderpool.core.cloud.loadbalancer.model import build_model
from spiderpool.core.cloud.loadbalancer.planning import plan, reuse_fault, unchangeable
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer

FAULT = "fault: "
"""Begins the lines about what keeps a Service from its balancer."""
NOTE = "note: "
"""Begins the lines about what is left out, or has no effect."""
NOTHING = "nothing to do"


def dry_run(
    service: Service,
    kind: BalancerKind | None,
    snapshot: BackendSnapshot,
    configuration: BalancerConfiguration,
    observed: ObservedLoadBalancer | None = None,
) -> str:
    """Returns the steps that would be done for a Service, and the faults that are in the way.

    ``kind`` is the kind of balancer that the Service asks for, ``observed`` its balancer if it has one.
    """
    if kind is None:
        return f"Service {service.key} asks for no load balancer of ours"
    return "\n".join(_lines(service, kind, snapshot, configuration, observed))


def _lines(
    service: Service,
    kind: BalancerKind,
    snapshot: BackendSnapshot,
    configuration: BalancerConfiguration,
    observed: ObservedLoadBalancer | None,
) -> Iterator[str]:
    options = options_of(service, kind)
    if found := faults(service, options, configuration):
        yield from (f"{FAULT}{fault}" for fault in found)
        return
    model = build_model(service, options, snapshot, configuration)
    yield from (f"{NOTE}{note}" for note in (*remarks(service, options), *model.notes))
    yield from (f"{NOTE}no ENI is known to have the pod address {address}" for address in model.unresolved)
    if observed and (fault := reuse_fault(model, observed)):
        yield f"{FAULT}{fault}"
        return
    yield from (f"{FAULT}{fault}" for fault in (unchangeable(model, observed) if observed else ()))
    yield from [f"{number}. {step}" for number, step in enumerate(plan(model, observed), 1)] or [NOTHING]
