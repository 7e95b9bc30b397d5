"""What a deletion leaves to others, and what it finds although labels and lists of the cloud are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool_lab.alibaba import balancers
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import HTTP, PretendCluster
from tests.cloudcontroller.service_cluster import ZONES

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
    await pretended.client.delete(type(await pretended.get("web")), "web", "default")
    await pretended.until(lambda: len(calls("slb:DeleteLoadBalancerListener")) > 4)
    assert not await pretended.gone("web")
    pretended.simulated.account.faults.clear(number)
    await pretended.eventually(lambda: pretended.gone("web"))
    assert pretended.clb().listeners == ()
