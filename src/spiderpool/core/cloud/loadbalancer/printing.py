"""The dry run: what would be done for a Service, as text."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.annotations import read
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.checking import faults
from spiderpool.core.cloud.loadbalancer.model import kind_of, wanted
from spiderpool.core.cloud.loadbalancer.planning import immutable, lending_fault, plan
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer


def dry_run(
    service: Service,
    world: BackendSnapshot,
    configuration: BalancerConfiguration,
    seen: ObservedLoadBalancer | None = None,
) -> str:
    """What would be done for a Service whose balancer is as ``seen``, or is not there; and what stands in the way."""
    return "\n".join(_lines(service, world, configuration, seen))


def _lines(
    service: Service, world: BackendSnapshot, configuration: BalancerConfiguration, seen: ObservedLoadBalancer | None
) -> Iterator[str]:
    kind = kind_of(service)
    if kind is None:
        yield f"Service {service.key} asks for no load balancer of ours"
        return
    options = read(service.metadata.annotations or {}, kind)
    if found := faults(service, options, configuration):
        yield from (f"fault: {each}" for each in found)
        return
    model = wanted(service, options, world, configuration)
    lent = lending_fault(model, seen) if seen else None
    yield from (f"note: {each}" for each in (*options.remarks, *model.notes))
    yield from (f"note: no ENI is known to have the pod address {each}" for each in model.unresolved)
    yield from (f"fault: {each}" for each in ((lent,) if lent else immutable(model, seen) if seen else ()))
    if not lent:
        yield from [f"{number}. {step}" for number, step in enumerate(plan(model, seen), 1)] or ["nothing to do"]
