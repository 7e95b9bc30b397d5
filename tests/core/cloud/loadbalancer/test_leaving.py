"""Servers that leave later than the Service says."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.leaving import leaving, with_answering, with_leaving_nodes
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.steps import RemoveServers
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.pretend_balancers import HTTP, model_of, node, reached, service

pytestmark = pytest.mark.unit

BY_ADDRESS = {"server-group-type": "Ip", "zone-maps": "i:v1,h:v2"}


def desired(*nodes: str) -> LoadBalancerModel:
    """A Service whose servers are nodes, by their addresses."""
    requested = service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=BY_ADDRESS)
    return model_of(requested, BackendSnapshot([node(name) for name in nodes]))


def address(name: str) -> str:
    """The address of a node."""
    return node(name).internal_addresses[0]


def removed(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> dict[str, bool]:
    """The servers that a plan removes, and whether they are known to answer no more."""
    steps = (step for step in plan(model, observed) if isinstance(step, RemoveServers))
    return {server.address: step.have_gone for step in steps for server in step.servers}


def test_a_node_that_is_known_by_its_address_leaves_when_another_is_well() -> None:
    former, model = reached(desired("a"), None), desired("b")
    assert removed(with_leaving_nodes(model, former, [], nodes={address("a")}), former) == {}
    assert removed(with_leaving_nodes(model, former, []), former) == {address("a"): False}, "perhaps it was a pod"


def test_a_group_that_is_stuck_keeps_what_answers_and_gives_up_what_has_gone() -> None:
    former, model = reached(desired("a", "b", "c"), None), desired("c", "d")
    (group,) = {each.name for each in model.groups}
    assert {server.address for server in leaving(model, former, {group})} == {address("a"), address("b")}
    assert not list(leaving(model, former, {"another"}))
    kept = with_answering(model, former, {group}, {address("a")})
    assert removed(kept, former) == {address("b"): True}
    assert with_answering(model, former, {"another"}, {address("a")}) == model


@pytest.mark.parametrize("stuck", [True, False])
def test_nodes_that_are_instances_are_known_to_be_there(stuck: bool) -> None:
    former = reached(model_of(service(HTTP), BackendSnapshot([node("a"), node("b")])), None)
    model = model_of(service(HTTP), BackendSnapshot([node("c")]))
    kept = with_answering(model, former, {group.name for group in model.groups} if stuck else (), ())
    assert len([step for step in plan(kept, former) if isinstance(step, RemoveServers)]) == (not stuck)


@pytest.mark.parametrize(
    ("present", "wanted", "unsettled", "leaves"),
    [
        ("a b c d", "e f g h", "", 3),
        ("a b c d", "c e", "c", 1),
        ("a b c d", "c e", "", 3),
        ("a b c d", "e", "", 1),
        ("a", "b", "", 0),
        ("d e f g", "e f g h", "e f g", 0),
        ("c d e f", "e f g h", "e f", 1),
    ],
)
def test_nodes_of_a_full_group_make_as_much_room_as_others_need_while_none_of_these_is_well(
    present: str, wanted: str, unsettled: str, leaves: int
) -> None:
    former, model = reached(desired(*present.split()), None), desired(*wanted.split())
    (group,) = model.groups
    known = {address(name) for name in present.split()}
    young = {(group.name, each.key) for each in group.servers if each.address in set(map(address, unsettled.split()))}
    assert len(removed(with_leaving_nodes(model, former, young, {group.name}, known), former)) == leaves
