"""What both kinds of balancers have in common: lost answers, servers that are gone, and values for comparison."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from spiderpool.cloud.alibaba.common import identity_of, oldest, side_by_side, tag_list, text
from spiderpool.cloud.provider import CloudUnavailable, StepsRefused
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.settling import serves
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.balancers import (
    HTTP,
    api_of,
    model,
    reached,
    spec_of,
)
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import node

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_a_creation_whose_answer_is_lost_is_made_once(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    balanced.account.set_fault(Fault(kind="lose", actions="*:CreateLoadBalancer", times=1))
    await reached(api_of(balanced, kind), model(balanced, HTTP, **spec_of(kind)))
    assert len(list(balanced.account.tables.clbs)) + len(list(balanced.account.tables.nlbs)) == 1


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_a_server_that_is_gone_keeps_no_other_out(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    spec = spec_of(kind)
    desired = model(balanced, HTTP, snapshot=BackendSnapshot([node("a"), node("gone"), node("b")]), **spec)
    cloud = api_of(balanced, kind)
    identity = await cloud.carry_out(plan(desired, None)[:1], None)
    observed = await cloud.find(desired.owner, identity)
    with pytest.raises(StepsRefused, match="i-gone") as refused:
        await cloud.carry_out(plan(desired, observed), observed)
    assert len(refused.value.refusals) == 1
    assert (made := await cloud.find(desired.owner)) is not None
    assert serves(desired, made)
    assert await reached(cloud, model(balanced, HTTP, **spec)) is not None


@pytest.mark.parametrize(("value", "written"), [(True, "true"), (False, "false"), (None, ""), (9, "9"), ("a", "a")])
def test_values_for_comparison(value: object, written: str) -> None:
    assert text(value) == written


def test_tags_as_the_api_takes_them() -> None:
    assert tag_list({"team": "x"}) == [{"Key": "team", "Value": "x"}]


def test_the_oldest_balancer_of_the_cluster_comes_first() -> None:
    owner = BalancerOwner("default", "web", "uid-1", "c1")
    found = [{"LoadBalancerId": f"lb-{day}", "CreateTime": f"2026-01-0{day}T00:00:00Z"} for day in (3, 1, 2)]
    assert oldest(found, lambda _: {}, owner) is found[1]
    assert oldest(found, lambda each: CLB.naming.own_tags(owner) if each is found[2] else {}, owner) is found[2]
    assert oldest([], lambda _: {}, owner) is None


def test_an_answer_about_a_balancer_names_it() -> None:
    assert identity_of({"LoadBalancerId": "lb-1"}) == "lb-1"
    with pytest.raises(CloudUnavailable):
        identity_of({})


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_balancers_that_were_looked_at_are_passed_over(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    desired, cloud = model(balanced, HTTP, **spec_of(kind)), api_of(balanced, kind)
    made = {await cloud.carry_out(plan(desired, None)[:1], None) for _ in range(2)}
    assert len(made) == 2
    seen: set[str] = set()
    while found := await cloud.find(desired.owner, without=seen):
        seen.add(found.identity)
    assert seen == made


async def test_reads_that_have_not_begun_end_with_the_others() -> None:
    reads = [asyncio.sleep(60, place) for place in range(20)]
    task = asyncio.create_task(side_by_side(reads))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {inspect.getcoroutinestate(read) for read in reads} == {inspect.CORO_CLOSED}
