"""What a deletion leaves to others, and what it finds although labels and lists of the cloud are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool_lab.alibaba import balancers
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import HTTP, PretendCluster
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

LENT = {"force-override-listeners": "true"}
STAYS = "it was made for this Service and stays, as something else uses it"


async def test_a_server_group_that_a_listener_of_another_balancer_uses_is_left_to_it(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    await pretended.grant(vSwitches=["vsw-2"], loadBalancers=["nlb-mine"], overrideListeners=True)
    await pretended.create("own", annotations={"type": "nlb", **ZONES})
    await pretended.address("own")
    (own,) = tables.nlbs
    tables.nlbs.put(replace(own, identity="nlb-mine", name="mine", tags={}))
    await pretended.create("web", annotations={"id": "nlb-mine", **LENT}, ports=[{**HTTP, "port": 90}])
    await pretended.address("web")
    (listener,) = (each for each in tables.nlb_listeners if each.balancer == "nlb-mine")
    settings = {**listener.settings, "ListenerDescription": "console"}
    tables.nlb_listeners.put(
        replace(listener, identity="lsn-console@99", balancer=own.identity, port=99, settings=settings)
    )
    await pretended.delete("web")
    await pretended.wait_for_event("SyncLoadBalancerFailed", STAYS)
    assert ["web" in each.name for each in tables.nlb_groups].count(True) == 1
    assert not [each for each in tables.nlb_listeners if each.balancer == "nlb-mine"]


async def test_a_server_group_that_a_rule_uses_is_left_to_it(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    tables.clbs.put(balancers.CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await pretended.grant(loadBalancers=["lb-mine"], overrideListeners=True)
    await pretended.create("web", annotations={"id": "lb-mine", **LENT})
    await pretended.address("web")
    refusal = Fault(kind="refuse", actions="slb:DeleteVServerGroup", code="RspoolVipExist", status=400)
    pretended.simulated.account.set_fault(refusal)
    await pretended.delete("web")
    await pretended.wait_for_event("SyncLoadBalancerFailed", STAYS)
    assert (pretended.clb().tags, pretended.clb().listeners) == ({}, ())


async def test_what_another_listener_of_the_same_balancer_uses_is_left_to_it_and_told(
    pretended: PretendCluster,
) -> None:
    tables = pretended.simulated.account.tables
    tables.clbs.put(balancers.CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await pretended.grant(loadBalancers=["lb-mine"], overrideListeners=True)
    given = {"id": "lb-mine", **LENT}
    await pretended.create("web", annotations=given, loadBalancerSourceRanges=["10.0.0.0/8"])
    await pretended.address("web")
    (own,) = pretended.clb().listeners
    (name,) = (each.name for each in tables.access_lists)
    (group,) = (each.name for each in tables.clb_groups)
    by_hand = replace(own, port=99, settings={**own.settings, "Description": "console"})
    tables.clbs.put(replace(pretended.clb(), listeners=(own, by_hand)))
    await pretended.delete("web")
    await pretended.wait_for_event("SyncLoadBalancerFailed", f"access list {name}: {STAYS}")
    await pretended.wait_for_event("SyncLoadBalancerFailed", f"server group {group}: {STAYS}")
    assert pretended.clb().listeners == (by_hand,)


async def test_a_listener_that_cannot_be_deleted_keeps_the_service(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    tables.clbs.put(balancers.CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await pretended.grant(loadBalancers=["lb-mine"], overrideListeners=True)
    await pretended.create("web", annotations={"id": "lb-mine", **LENT})
    await pretended.address("web")
    number = pretended.simulated.account.set_fault(
        Fault(kind="refuse", actions="slb:DeleteLoadBalancerListener", code="ServiceIsStopping", status=400)
    )
    calls = pretended.simulated.outcomes
    await pretended.client.delete(Service, "web", NAMESPACE)
    await pretended.until(lambda: len(calls("slb:DeleteLoadBalancerListener")) > 4)
    assert not await pretended.gone("web")
    pretended.simulated.account.faults.clear(number)
    await pretended.eventually(lambda: pretended.gone("web"))
    assert pretended.clb().listeners == ()


async def test_a_label_that_was_copied_from_another_service_saves_no_balancer(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    for name in ("one", "two"):
        await pretended.create(name)
        await pretended.address(name)
    (_, one, *_), (_, two, *_) = await pretended.marks("one"), await pretended.marks("two")
    await pretended.client.patch(Service, "two", {"metadata": {"labels": {IDENTITY_LABEL: one}}}, NAMESPACE)
    await pretended.delete("two")
    assert [each.identity for each in tables.clbs] == [one]
    assert two != one


async def test_all_balancers_that_were_made_for_a_service_go_with_it(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    await pretended.create("web")
    await pretended.address("web")
    made = pretended.clb()
    tables.clbs.put(replace(made, identity="lb-again", listeners=()))
    await pretended.delete("web")
    assert not [*tables.clbs]


async def test_none_is_made_beside_one_that_may_have_been_asked_for(pretended: PretendCluster) -> None:
    """It was made, and nothing could be written on the Service; the cloud's list shows it a little later."""
    tables, account = pretended.simulated.account.tables, pretended.simulated.account
    number = account.set_fault(Fault(kind="stale", actions="slb:DescribeLoadBalancers"))
    await pretended.create("web")
    await pretended.until(lambda: bool([*tables.clbs]))
    await pretended.running.aclose()
    await pretended.client.patch(Service, "web", {"metadata": {"labels": {IDENTITY_LABEL: None}}}, NAMESPACE)
    await pretended.restart()
    await pretended.at_this_moment("SyncLoadBalancerFailed", "may have been asked for")
    account.faults.clear(number)
    assert await pretended.address("web") == pretended.clb().address


async def test_a_balancer_that_was_never_made_is_made_after_a_restart(pretended: PretendCluster) -> None:
    account = pretended.simulated.account
    account.set_fault(Fault(kind="refuse", actions="slb:CreateLoadBalancer", code="OperationUnsupported", status=400))
    await pretended.create("web")
    await pretended.wait_for_event("SyncLoadBalancerFailed", "CreateLoadBalancer was refused")
    await pretended.restart()
    account.faults.clear()
    assert await pretended.address("web") == pretended.clb().address
