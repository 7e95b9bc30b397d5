"""Cases of source ranges: a balancer admits clients of some addresses alone."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.cloud.alibaba.reference_cases.playing import either, judged, of_others
from tests.core.pretend_balancers import KINDS, carried_out, reached

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])
OLDER = "service.beta.kubernetes.io/load-balancer-source-ranges"
SOME, OTHERS = ["192.168.0.0/16", "10.0.0.0/8"], ["192.168.0.0/16", "172.16.0.0/12"]
NAMES = {"clb": "k8s-clb-a0a1b2c3d4e5f60718293a4b5c6d7e8f", "nlb": "k8s-nlb-a0a1b2c3d4e5f60718293a4b5c6d7e8f"}
FIELD = "spec.loadBalancerSourceRanges"


def wanted(kind: str, ranges: list[str], **spec: Any) -> LoadBalancerModel:
    """A Service that admits clients of some ranges; without any, everybody."""
    return either(kind, loadBalancerSourceRanges=ranges, **spec)


def admitted(observed: ObservedLoadBalancer) -> set[str] | None:
    """The entries of the list by which a balancer admits clients; None: it admits all."""
    (listener,) = observed.listeners
    named = observed.settings.get("SecurityGroupIds") or listener.settings.get("AclId", "")
    return next(({*each.entries} for each in observed.source_lists if each.name == named), None)


def entries(kind: str, ranges: list[str]) -> set[str]:
    """The entries of an access list, or the rules of a security group."""
    return {*ranges} if kind == "clb" else {*(f"accept {each}" for each in ranges), "drop 0.0.0.0/0"}


@shows("source ranges, at first or later", FIELD)
@BOTH
def test_source_ranges_at_first_or_later(kind: str) -> None:
    at_first, later = (reached(wanted(kind, SOME), before) for before in (None, reached(either(kind), None)))
    assert [each.name for each in at_first.source_lists] == [NAMES[kind]]
    assert admitted(at_first) == admitted(later) == entries(kind, SOME)


@shows("source ranges are changed")
@BOTH
def test_source_ranges_are_changed(kind: str) -> None:
    before = reached(wanted(kind, SOME), None)
    after = reached(wanted(kind, OTHERS), before)
    assert admitted(after) == entries(kind, OTHERS)
    assert [each.identity for each in after.source_lists] == [each.identity for each in before.source_lists]


@shows("source ranges are taken away")
@BOTH
def test_source_ranges_are_taken_away(kind: str) -> None:
    after = reached(either(kind), reached(wanted(kind, SOME), None))
    assert (admitted(after), after.source_lists) == (None, ())


@shows("a Service with source ranges is deleted, or its balancer outlives it")
@BOTH
def test_a_service_with_source_ranges_is_deleted(kind: str) -> None:
    model = wanted(kind, SOME)
    observed = reached(model, None)
    removal = [str(step) for step in plan_removal(KINDS[kind], model.owner, observed, preserve=False)]
    assert any(NAMES[kind] in step and step.startswith("delete") for step in removal)
    preserved = carried_out(plan_removal(KINDS[kind], model.owner, observed, preserve=True), observed)
    assert preserved is not None
    assert admitted(preserved) == entries(kind, SOME)


@shows("it admits clients by the source ranges of its Service")
@BOTH
def test_it_admits_clients_by_the_source_ranges_of_its_service(kind: str) -> None:
    model = wanted(kind, SOME)
    observed = of_others(reached(model, None))
    assert plan(model, observed) == ()
    assert admitted(reached(either(kind), observed)) is None


@shows("source ranges beside annotations that admit clients")
@BOTH
def test_source_ranges_beside_annotations(kind: str) -> None:
    other = {"clb": {"acl-status": "on", "acl-id": "acl-1"}, "nlb": {"security-group-ids": "sg-1"}}[kind]
    found = judged(kind=KINDS[kind], annotations=other, loadBalancerSourceRanges=SOME)
    assert found.faults[0].startswith(FIELD)
    assert not found.steps


@shows("annotation service.beta.kubernetes.io/load-balancer-source-ranges")
@BOTH
def test_the_older_annotation(kind: str) -> None:
    older = either(kind, annotations={OLDER: ", ".join(SOME)})
    assert admitted(reached(older, None)) == entries(kind, SOME)
