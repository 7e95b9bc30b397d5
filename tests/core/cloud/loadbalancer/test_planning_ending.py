"""What becomes of servers whose pods are terminating and still answer: they stay as long as nobody else is well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.leaving import with_leaving_nodes
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.settling import waits
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, ServerPlace
from tests.core.pretend_balancers import HTTP, carried_out, endpoints, model_of, node, reached, service

pytestmark = pytest.mark.unit

GROUP = "k8s/30698/web/default/c1"
ENDING = {"ready": False, "serving": True, "terminating": True}
ENI = {"service.beta.kubernetes.io/backend-type": "eni"}
NODES = [node("a"), node("b"), node("excluded", labels={"type": "virtual-kubelet"})]
NEW: ServerPlace = (GROUP, ("i-b", "", 30698))


def pods(*ready: tuple[str, str], ending: Iterable[tuple[str, str]] = ()) -> list[EndpointSlice]:
    """Slices of pods: address and node of each."""
    return [endpoints(*ready), endpoints(*ending, conditions=ENDING)]


def local(slices: list[EndpointSlice], **annotations: str) -> LoadBalancerModel:
    """Nodes as servers, those with pods alone."""
    requested = service(HTTP, externalTrafficPolicy="Local", annotations=annotations)
    return model_of(requested, BackendSnapshot(NODES, slices))


def of_pods(slices: list[EndpointSlice], enis: dict[str, str]) -> LoadBalancerModel:
    """Pods as servers."""
    return model_of(service(HTTP, annotations=ENI), BackendSnapshot([], slices, enis))


def weights(observed: ObservedLoadBalancer | None) -> dict[str, int]:
    """The servers of the only group."""
    group = observed.group(GROUP) if observed else None
    group = group or (observed.groups[0] if observed else None)
    return {each.address or each.identity: each.weight for each in group.servers} if group else {}


A, B = ("10.0.0.1", "a"), ("10.0.0.2", "b")


@pytest.fixture
def before() -> ObservedLoadBalancer:
    """One server, i-a."""
    return reached(local(pods(A)), None)


def after(model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Any = ()) -> ObservedLoadBalancer:
    """The balancer after one plan."""
    found = carried_out(plan(model, observed, unsettled), observed)
    assert found is not None
    return found


def test_a_rolling_update_always_has_a_server_that_is_well(before: ObservedLoadBalancer) -> None:
    update = local(pods(B, ending=[A]))
    assert waits(update, before, {NEW})
    added = after(update, before)
    assert weights(added) == {"i-a": 1, "i-b": 1}
    assert plan(update, added, {NEW}) == ()
    drained = after(update, added)
    assert weights(drained) == {"i-a": 0, "i-b": 1}
    assert plan(update, drained) == ()
    assert not waits(update, drained, set())
    assert not waits(local(pods(ending=[A])), drained, set()), "an endpoint has to change first"
    assert weights(after(local(pods(B)), drained)) == {"i-b": 1}


def test_a_server_that_could_not_be_added_is_not_well_however_long_it_is_ready(before: ObservedLoadBalancer) -> None:
    update = local(pods(B, ending=[A]))
    assert [str(step) for step in plan(update, before)] == [f"add to {GROUP}: i-b:30698 weight 1"], "at each attempt"


@pytest.mark.parametrize("slices", [pods(ending=[A]), pods(("10.0.0.2", "excluded"), ending=[A])])
def test_a_server_stays_where_no_pod_is_ready_on_a_node_that_may_be_one(
    before: ObservedLoadBalancer, slices: list[EndpointSlice]
) -> None:
    assert plan(local(slices), before) == ()


def test_a_node_that_gets_a_new_pod_has_its_weight_again(before: ObservedLoadBalancer) -> None:
    drained = after(local(pods(B, ending=[A])), after(local(pods(B, ending=[A])), before))
    assert weights(drained) == {"i-a": 0, "i-b": 1}
    assert weights(after(local(pods(B, ("10.0.0.3", "a"), ending=[A])), drained)) == {"i-a": 1, "i-b": 1}


def test_a_node_whose_pods_end_is_added_only_where_nobody_else_is(before: ObservedLoadBalancer) -> None:
    assert weights(after(local(pods(A, ending=[B])), before)) == {"i-a": 1}
    assert weights(after(local(pods(ending=[A, B])), before)) == {"i-a": 1, "i-b": 1}


def test_a_server_goes_at_once_where_weights_are_left_alone(before: ObservedLoadBalancer) -> None:
    update = local(pods(B, ending=[A]), **{"ignore-weight-update": "on"})
    added = after(update, before)
    assert weights(added) == {"i-a": 1, "i-b": 1}
    assert weights(after(update, added)) == {"i-b": 1}


def test_a_new_pod_whose_eni_is_not_known_is_not_well() -> None:
    present = reached(of_pods(pods(A), {"10.0.0.1": "eni-1"}), None)
    assert plan(of_pods(pods(B, ending=[A]), {"10.0.0.1": "eni-1"}), present) == ()


def test_a_pod_that_ends_and_has_lost_its_address_goes() -> None:
    enis = {"10.0.0.1": "eni-1", "10.0.0.2": "eni-2"}
    present = reached(of_pods(pods(A, B), enis), None)
    model = of_pods(pods(B, ending=[A]), {"10.0.0.2": "eni-2"})
    assert model.unresolved == ()
    assert weights(after(model, present)) == {"10.0.0.2": 100}


@given(
    history=st.lists(
        st.tuples(st.sets(st.sampled_from("ab")), st.sets(st.sampled_from("ab")), st.booleans()), min_size=1, max_size=6
    )
)
def test_whoever_answers_is_reached(history: list[tuple[set[str], set[str], bool]]) -> None:
    """After every plan a server with a weight has a pod that answers, if any does; one alone is enough."""
    observed = reached(local(pods(A)), None)
    well = {"i-a"}
    for ready, ending, has_time in history:
        slices = pods(*((f"10.0.0.{n}", n) for n in sorted(ready)), ending=[(f"10.0.1.{n}", n) for n in sorted(ending)])
        young = {(GROUP, (name, "", 30698)) for name in {"i-a", "i-b"} - well}
        observed = after(local(slices), observed, young)
        there = weights(observed)
        assert {name for name, weight in there.items() if weight} <= {f"i-{name}" for name in ready | ending}
        answering = {name for name, weight in there.items() if weight and name in well}
        possible = well & {f"i-{name}" for name in ready | ending}
        assert answering or not possible, "one that was well and answers was given up for nobody"
        well = {name for name in there if there[name] and (has_time or name in well)}


def labelled(name: str, unsettled: Any = ()) -> tuple[LoadBalancerModel, ObservedLoadBalancer]:
    """The model of a Service whose only server was i-a, and shall now be another node."""
    former = reached(model_of(service(HTTP), BackendSnapshot([node("a")])), None)
    model = model_of(service(HTTP), BackendSnapshot([node(name)] if name else []))
    return with_leaving_nodes(model, former, unsettled), former


def test_a_node_leaves_when_another_is_well() -> None:
    model, former = labelled("b")
    second = after(model, former)
    assert weights(second) == {"i-a": 100, "i-b": 100}
    assert waits(model, former, [NEW])
    desired = model_of(service(HTTP), BackendSnapshot([node("b")]))
    assert weights(after(with_leaving_nodes(desired, second, [NEW]), second, [NEW])) == {"i-a": 100, "i-b": 100}
    assert weights(after(with_leaving_nodes(desired, second, []), second)) == {"i-b": 100}


def test_a_node_does_not_wait_for_another_where_one_is_well_or_none_is_wanted() -> None:
    former = reached(model_of(service(HTTP), BackendSnapshot([node("a"), node("b")])), None)
    one = model_of(service(HTTP), BackendSnapshot([node("b"), node("c")]))
    assert with_leaving_nodes(one, former, []) == one
    none, present = labelled("")
    assert weights(after(none, present)) == {}


def test_a_node_leaves_first_where_its_group_is_full_and_only_there() -> None:
    former = reached(model_of(service(HTTP), BackendSnapshot([node("a"), node("c")])), None)
    desired = model_of(service(HTTP), BackendSnapshot([node("b")]))
    full = with_leaving_nodes(desired, former, [], {GROUP})
    assert weights(after(full, former)) == {"i-b": 100, "i-c": 100}
    elsewhere = with_leaving_nodes(desired, former, [], {"another"})
    assert weights(after(elsewhere, former)) == {"i-a": 100, "i-b": 100, "i-c": 100}


def test_a_pod_that_has_gone_leaves_at_once() -> None:
    former = reached(of_pods(pods(A), {"10.0.0.1": "eni-1"}), None)
    model = with_leaving_nodes(of_pods(pods(B), {"10.0.0.2": "eni-2"}), former, [])
    assert weights(after(model, former)) == {"10.0.0.2": 100}
