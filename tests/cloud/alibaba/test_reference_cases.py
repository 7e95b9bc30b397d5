"""Cases in which the calls matter: how a balancer is made, and found again when somebody has taken its tag away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from tests.cloud.alibaba.balancers import HTTP, ZONES, api_of, model, reached, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
NAME_TAG = "kubernetes.do.not.delete"


async def untagged(simulated: SimulatedCloud, kind: BalancerKind, **annotations: str) -> LoadBalancerModel:
    """What a Service asks for whose balancer was made and has lost the tag with its name."""
    zones = {} if kind is CLB else ZONES
    desired = model(simulated, HTTP, **{**spec_of(kind), "annotations": {**zones, **annotations}})
    await reached(api_of(simulated, kind), desired)
    tables = simulated.account.tables
    table: Any = tables.clbs if kind is CLB else tables.nlbs
    (made,) = table
    table.put(replace(made, tags={key: value for key, value in made.tags.items() if key != NAME_TAG}))
    return desired


@shows("its tag is taken away by hand")
@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
async def test_it_is_found_by_its_name_and_tagged_again(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    desired = await untagged(balanced, kind)
    observed = await reached(api_of(balanced, kind), desired)
    assert observed.tags[NAME_TAG] == desired.name
    assert len([call for call in balanced.account.calls if call.action.endswith(":CreateLoadBalancer")]) == 1


@shows("its tag is taken away by hand, and it has a name of its own")
@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
async def test_it_is_not_found_by_a_name_of_its_own(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    desired = await untagged(balanced, kind, name="shop")
    assert await api_of(balanced, kind).find(desired.owner) is None


@shows("a balancer with the defaults")
async def test_a_network_balancer_is_protected_from_its_beginning(balanced: SimulatedCloud) -> None:
    desired = model(balanced, HTTP, **spec_of(NLB))
    await api_of(balanced, NLB).carry_out(plan(desired, None)[:1], None)
    (made,) = balanced.account.tables.nlbs
    assert made.settings["DeletionProtectionEnabled"] == "true"
    assert made.settings["ModificationProtectionStatus"] == "ConsoleProtection"
    await reached(api_of(balanced, NLB), desired)
    assert "nlb:UpdateLoadBalancerProtection" not in balanced.account.call_counts()
