"""Services that ask for a load balancer: an input is a JSON object with ``annotations`` and ``spec`` of one.

Annotations may be written without the prefix of the cloud.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.kinds import kind_of
from spiderpool.core.cloud.loadbalancer import checking, grants
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, read_options
from spiderpool.core.cloud.loadbalancer.model import build_model
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal, reuse_fault, unchangeable
from spiderpool.core.cloud.loadbalancer.printing import service_dry_run
from tests.core.pretend_balancers import CONFIGURATION, KINDS, UID, carried_out, endpoints, node

SNAPSHOT = BackendSnapshot(
    [node("a"), node("b")],
    [endpoints(("10.6.0.9", "a"), ("10.6.0.10", "b")), endpoints(("fd00::9", "a"), family="IPv6")],
    {"10.6.0.9": "eni-1"},
)
EMPTY = BackendSnapshot((), (), {})


def run(data: bytes) -> None:
    """Plan the balancer of a Service, carry the plan out, and plan again. Of what is valid the second plan is empty."""
    try:
        service = service_of(data)
    except (ValueError, RecursionError):  # the API server refuses it
        return
    kind_of(service)
    for kind, snapshot in product(KINDS.values(), (SNAPSHOT, EMPTY)):
        service_dry_run(service, kind, snapshot, CONFIGURATION)
        _reconcile(service, kind, snapshot)


def service_of(data: bytes) -> Service:
    """The Service of an input. Raises ValueError."""
    found = msgspec.convert(json.loads(data), dict[str, Any])
    annotations = msgspec.convert(found.get("annotations") or {}, dict[str, str])
    named = {key if "/" in key else PREFIX + key: each for key, each in annotations.items()}
    metadata = {"namespace": "default", "name": "web", "uid": UID, "annotations": named}
    service = msgspec.convert({"metadata": metadata, "spec": found.get("spec") or {}}, Service)
    _check_ports(service.spec.ports or [])
    return service


def _check_ports(ports: list[ServicePort]) -> None:
    """What the API server checks. Raises ValueError."""
    if len({(each.port, each.protocol) for each in ports}) < len(ports) or len({each.name for each in ports}) < len(
        ports
    ):
        raise ValueError("two ports are alike")
    if not all(0 < each.port < 1 << 16 and 0 <= (each.nodePort or 0) < 1 << 16 for each in ports):
        raise ValueError("a port is none")


def _reconcile(service: Service, kind: BalancerKind, snapshot: BackendSnapshot) -> None:
    options = read_options(service.metadata.annotations or {}, kind)
    if checking.faults(service, options, CONFIGURATION):
        return
    needs = [*kind.needs(options, CONFIGURATION)]
    [grants.refusal(need, "default") for need in grants.missing(needs, ())]
    model = build_model(service, options, snapshot, CONFIGURATION)
    if model.reuse:
        return
    observed = carried_out(plan(model, None), None)
    assert observed is not None
    assert (plan(model, observed), unchangeable(model, observed), reuse_fault(model, observed)) == ((), (), None)
    [grants.is_in_use(need, model, observed) for need in needs]
    assert plan_removal(kind, model.owner, observed, preserve=False)
