"""Services that admit clients of some ranges alone: whom their balancers admit, from the first moment to the last."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool_lab.alibaba.admitting import ClientRule
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.forwarding import frontends
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

NLB = {"annotations": {"type": "nlb", **ZONES}}
SOME, OTHERS = ["198.51.100.0/24", "203.0.113.7/32"], ["198.51.100.0/24", "192.0.2.0/24"]


def admitted(cluster: ServiceCluster) -> set[frozenset[str]]:
    """The ranges that the ports of balancers admit now; of one that is open to all the empty set."""
    found = (frontend.admission for frontend in frontends(cluster.simulated.account.tables))
    return {_accepted(rules) for rules in found}


def _accepted(rules: tuple[ClientRule, ...]) -> frozenset[str]:
    return frozenset(rule.source for rule in rules if rule.admits)


def lists(cluster: ServiceCluster) -> int:
    """How many lists of admitted clients there are in the account."""
    tables = cluster.simulated.account.tables
    return len([*tables.access_lists, *(each for each in tables.security_groups if each.rules)])


async def patch(cluster: ServiceCluster, ranges: list[str]) -> None:
    """Changes the ranges of the Service."""
    await cluster.client.patch(Service, "web", {"spec": {"loadBalancerSourceRanges": ranges or None}}, NAMESPACE)


@pytest.mark.parametrize("spec", [{}, NLB], ids=["clb", "nlb"])
async def test_a_service_is_never_open_to_more_clients_than_it_asks_for(
    cluster: ServiceCluster, spec: dict[str, Any]
) -> None:
    seen = set[frozenset[str]]()
    cluster.simulated.account.subscribe(lambda _: seen.update(admitted(cluster)))
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web", loadBalancerSourceRanges=SOME, **spec)
    await cluster.address("web")
    await cluster.until(lambda: admitted(cluster) == {frozenset(SOME)})
    assert seen == {frozenset(SOME)}
    await patch(cluster, OTHERS)
    await cluster.until(lambda: admitted(cluster) == {frozenset(OTHERS)})
    assert seen == {frozenset(SOME), frozenset({*SOME, *OTHERS}), frozenset(OTHERS)}
    await patch(cluster, [])
    await cluster.until(lambda: admitted(cluster) == {frozenset()} and lists(cluster) == 0)
    await patch(cluster, SOME)
    await cluster.until(lambda: admitted(cluster) == {frozenset(SOME)})
    await cluster.delete("web")
    await cluster.until(lambda: lists(cluster) == 0)


async def test_what_outlives_its_balancer_is_deleted_before_the_service_goes(cluster: ServiceCluster) -> None:
    await cluster.create("web", loadBalancerSourceRanges=SOME)
    await cluster.address("web")
    refusal = Fault(kind="refuse", actions="slb:DeleteAccessControlList", code="AclInUsed", status=400, times=1)
    cluster.simulated.account.set_fault(refusal)
    await cluster.delete("web")
    assert lists(cluster) == 0


async def test_a_list_that_others_use_is_left_to_them_and_the_service_goes(cluster: ServiceCluster) -> None:
    await cluster.create("web", loadBalancerSourceRanges=SOME)
    await cluster.address("web")
    refusal = Fault(kind="refuse", actions="slb:DeleteAccessControlList", code="AclInUsed", status=400)
    cluster.simulated.account.set_fault(refusal)
    await cluster.delete("web")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "delete it when nothing does")
    assert lists(cluster) == 1


async def test_a_list_that_is_refused_keeps_ports_closed_and_is_told(cluster: ServiceCluster) -> None:
    number = cluster.simulated.account.set_fault(
        Fault(kind="refuse", actions="slb:CreateAccessControlList", code="OperationUnsupported", status=400)
    )
    await cluster.create("web", loadBalancerSourceRanges=SOME)
    await cluster.wait_for_event("SyncLoadBalancerFailed", "CreateAccessControlList was refused")
    assert not cluster.clb().listeners
    cluster.simulated.account.faults.clear(number)
    await cluster.address("web")
    assert admitted(cluster) == {frozenset(SOME)}
