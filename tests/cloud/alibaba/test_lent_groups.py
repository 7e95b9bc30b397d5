"""Server groups that users made: a Service puts its servers in and takes them out, and leaves the others alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.adoption import adapted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal, reuse_fault
from spiderpool_lab.alibaba.balancers import BalancerBackend
from tests.cloud.alibaba.balancers import HTTP, api_of, model, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import node

pytestmark = pytest.mark.unit

THEIRS = BalancerBackend("i-n1", "ecs", 8080, 30, "172.31.208.2", "by hand")


async def lent_to_us(simulated: SimulatedCloud, kind: BalancerKind) -> tuple[str, str, Any]:
    """A balancer of the user's with a server group that has a server; both identities, and the table of groups."""
    api, made = api_of(simulated, kind), model(simulated, HTTP, **spec_of(kind))
    identity = await api.carry_out(plan(made, None), None)
    observed = await api.find(made.owner, identity)
    assert observed is not None
    await api.carry_out(plan_removal(kind, made.owner, observed, preserve=True), observed)
    table: Any = simulated.account.tables.clb_groups if kind is CLB else simulated.account.tables.nlb_groups
    (group,) = table
    table.put(replace(group, name="mine", backends=(THEIRS,), **({} if kind is CLB else {"tags": {}})))
    return identity, group.identity, table


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_servers_come_and_go_beside_those_of_others(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    identity, lent, table = await lent_to_us(balanced, kind)
    api, spec = api_of(balanced, kind), spec_of(kind)
    spec["annotations"] = {"id": identity, "vgroup-port": f"{lent}:80", "weight": "40"}
    weights = []
    for names in ("ab", "b"):
        desired = model(balanced, HTTP, snapshot=BackendSnapshot([node(name) for name in names]), **spec)
        observed = await api.find(desired.owner, identity, [lent])
        assert observed is not None
        assert reuse_fault(desired, observed) is None
        await api.carry_out(plan(desired, observed), observed)
        observed = await api.find(desired.owner, identity, [lent])
        assert observed is not None
        assert plan(desired, observed) == ()
        weights.append({each.server: each.weight for each in table.get(lent).backends})
    assert weights == [{"i-n1": 30, "i-a": 20, "i-b": 20}, {"i-n1": 30, "i-b": 40}]
    assert len(list(table)) == 1, "no group is made"
    assert observed is not None
    await api.carry_out(plan_removal(kind, desired.owner, observed, preserve=False), observed)
    assert table.get(lent).backends == (THEIRS,)


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_a_server_that_is_in_the_group_already_stays_its_owners(
    balanced: SimulatedCloud, kind: BalancerKind
) -> None:
    identity, lent, table = await lent_to_us(balanced, kind)
    theirs = replace(THEIRS, server="i-a", port=HTTP["nodePort"])
    table.put(replace(table.get(lent), backends=(theirs,)))
    api, spec = api_of(balanced, kind), spec_of(kind)
    spec["annotations"] = {"id": identity, "vgroup-port": f"{lent}:80"}
    desired = model(balanced, HTTP, snapshot=BackendSnapshot([node("a"), node("b")]), **spec)
    observed = await api.find(desired.owner, identity, [lent])
    assert observed is not None
    await api.carry_out(plan(desired, observed), observed)
    observed = await api.find(desired.owner, identity, [lent])
    assert observed is not None
    assert plan(desired, observed) == ()
    assert table.get(lent).backends[0] == theirs
    await api.carry_out(plan_removal(kind, desired.owner, observed, preserve=False), observed)
    assert table.get(lent).backends == (theirs,)


@pytest.mark.parametrize("kind", [CLB, NLB])
async def test_a_group_that_was_made_for_a_service_is_not_lent(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    identity, lent, table = await lent_to_us(balanced, kind)
    other = {CLB: "k8s/80/other/default/c1", NLB: "k8s.80.tcp.other.default.c1"}[kind]
    table.put(replace(table.get(lent), name=other))
    spec = spec_of(kind)
    spec["annotations"] = {"id": identity, "vgroup-port": f"{lent}:80"}
    desired = model(balanced, HTTP, **spec)
    observed = await api_of(balanced, kind).find(desired.owner, identity, [lent])
    assert observed is not None
    assert "is no server group of yours" in (reuse_fault(desired, observed) or "")


async def test_servers_wait_for_the_check_of_the_users_group(balanced: SimulatedCloud) -> None:
    identity, lent, table = await lent_to_us(balanced, NLB)
    slow = {"HealthCheckInterval": "50", "HealthyThreshold": "3"}
    table.put(replace(table.get(lent), health={**table.get(lent).health, **slow}))
    spec = spec_of(NLB)
    spec["annotations"] = {"id": identity, "vgroup-port": f"{lent}:80"}
    desired = model(balanced, HTTP, **spec)
    observed = await api_of(balanced, NLB).find(desired.owner, identity, [lent])
    assert observed is not None
    assert adapted(desired, observed).settling == 3 * 50 + 1
