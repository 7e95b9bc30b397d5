"""Tags that a Service has given a balancer are known for as long as the balancer has them."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.ordering import prerequisites
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal
from spiderpool.core.cloud.loadbalancer.steps import Step, Tag, Untag
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.pretend_balancers import HTTP, carried_out, model_of, node, reached, service

pytestmark = pytest.mark.unit

USERS = ObservedLoadBalancer("lb-u", "users", "198.51.100.9", tags={"stage": "prod"})


def tagged(tags: str, **annotations: str) -> LoadBalancerModel:
    """A Service that names further tags."""
    given = {**annotations, **({"additional-resource-tags": tags} if tags else {})}
    return model_of(service(HTTP, annotations=given), BackendSnapshot([node("a")]))


def without(refused: type[Step], steps: tuple[Step, ...], present: ObservedLoadBalancer) -> ObservedLoadBalancer:
    """The balancer after a plan of which all steps of a type were refused."""
    done = set[int]()
    for place, needs in enumerate(prerequisites(steps, present)):
        if not isinstance(steps[place], refused) and needs.done <= done:
            done.add(place)
    after = carried_out([steps[place] for place in sorted(done)], present)
    assert after is not None
    return after


@pytest.mark.parametrize("refused", [Tag, Untag])
@pytest.mark.parametrize("later", ["a=1", "b=2", "c=3", ""])
@pytest.mark.parametrize("balancer", ["", "lb-u"])
def test_no_tag_is_forgotten_that_the_cloud_refuses_to_change(refused: type[Step], later: str, balancer: str) -> None:
    named = {"id": balancer} if balancer else {}
    present = reached(tagged("a=1,b=2", **named), USERS if balancer else None)
    after = without(refused, plan(tagged(later, **named), present), present)
    assert reached(tagged(later, **named), after).tags == reached(tagged(later, **named), present).tags


def test_a_lent_balancer_is_returned_without_tags_when_the_cloud_allows_it_again() -> None:
    present = reached(tagged("a=1", id="lb-u"), USERS)
    owner = tagged("").owner
    steps = plan_removal(CLB, owner, present, preserve=False)
    assert isinstance(steps[-1], Untag)
    left = carried_out(steps[:-1], present)
    assert left is not None
    assert left.tags.keys() > USERS.tags.keys()
    again = plan_removal(CLB, owner, left, preserve=False)
    after = carried_out(again, left)
    assert after is not None
    assert after.tags == USERS.tags
    assert plan_removal(CLB, owner, after, preserve=False) == ()
