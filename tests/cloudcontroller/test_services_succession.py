"""When a balancer takes the place of one of another kind, and what is left where that is taken back or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool_lab.alibaba import balancers, nlb_groups
from spiderpool_lab.alibaba.balancers import BalancerBackend, NLBGroup
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import PretendCluster
from tests.cloudcontroller.service_cluster import ENI_BACKENDS, ZONES

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

CLB_FINALIZER, NLB_FINALIZER = CLB.naming.finalizer, NLB.naming.finalizer
DENIED = Fault(kind="refuse", actions="slb:DeleteLoadBalancer", code="OperationDenied.X", status=400)
LENT = {"id": "nlb-mine", "force_override_listeners": "true"}


@pytest.fixture
async def granted(pretended: PretendCluster) -> PretendCluster:
    """The cluster, whose Services may name vSwitches and balancers."""
    await pretended.grant(vSwitches=["vsw-2"], loadBalancers=["nlb-mine", "lb-mine"], overrideListeners=True)
    return pretended


async def with_classic(cluster: PretendCluster, **annotations: str) -> str:
    """Has a Service with a classic balancer; returns its address."""
    await cluster.create("web", annotations={"type": "clb", **ZONES, **annotations})
    return await cluster.address("web")


async def with_own_network_balancer(cluster: PretendCluster) -> None:
    """Puts a network balancer of the user's into the account, with a listener that leads to a group of the user's."""
    await cluster.create("other", annotations={"type": "nlb", **ZONES})
    await cluster.address("other")
    tables = cluster.simulated.account.tables
    (made,), (listener,), (group,) = tables.nlbs, tables.nlb_listeners, tables.nlb_groups
    tables.nlbs.put(replace(made, identity="nlb-mine", tags={}))
    tables.nlb_groups.put(replace(group, identity="sgp-mine", name="mine", tags={}))
    settings = {**listener.settings, "ServerGroupId": "sgp-mine", "ListenerDescription": "mine"}
    tables.nlb_listeners.put(replace(listener, identity="lsn-mine", balancer="nlb-mine", settings=settings))
    await cluster.delete("other")


async def passes(cluster: PretendCluster, seconds: int) -> None:
    """Lets time pass, and the reconciler do what there is to do."""
    end = cluster.clock.now + seconds

    async def is_over() -> bool:
        return cluster.clock.now >= end

    await cluster.eventually(is_over)


async def test_a_lent_balancer_whose_listener_leads_elsewhere_takes_no_place(granted: PretendCluster) -> None:
    await with_own_network_balancer(granted)
    address = await with_classic(granted)
    refused = Fault(kind="refuse", actions="nlb:UpdateListenerAttribute", code="OperationDenied.X", status=400)
    granted.simulated.account.set_fault(refused)
    await granted.set("web", type="nlb", **LENT)
    await granted.wait_for_event("SyncLoadBalancerFailed", "UpdateListenerAttribute")
    await passes(granted, 40)
    assert (await granted.marks("web"))[3] == address
    granted.simulated.account.faults.clear()
    await granted.has_only("web", NLB_FINALIZER)
    (listener,) = granted.simulated.account.tables.nlb_listeners
    assert listener.settings["ServerGroupId"] != "sgp-mine"


@pytest.mark.parametrize("how", ["deleted", "taken back"])
async def test_nothing_stays_on_a_lent_balancer_that_was_never_published(granted: PretendCluster, how: str) -> None:
    await with_own_network_balancer(granted)
    await with_classic(granted)
    tables = granted.simulated.account.tables
    tables.nlb_listeners.remove("lsn-mine")
    await granted.set("web", type="nlb", **LENT)
    await granted.at_this_moment("ExchangingLoadBalancer")
    assert [listener.balancer for listener in tables.nlb_listeners] == ["nlb-mine"]
    await granted.restart()
    if how == "deleted":
        await granted.delete("web")
    else:
        await granted.set("web", type="clb", id=None, force_override_listeners=None)
        await granted.has_only("web", CLB_FINALIZER)
    lent = tables.nlbs.get("nlb-mine")
    assert lent is not None
    assert (lent.tags, [*tables.nlb_listeners], [each.identity for each in tables.nlb_groups]) == ({}, [], ["sgp-mine"])


async def test_one_empty_answer_long_ago_proves_nothing_of_a_former_balancer(granted: PretendCluster) -> None:
    await with_classic(granted)
    tables, account = granted.simulated.account.tables, granted.simulated.account
    number = account.set_fault(Fault(kind="empty", actions="slb:DescribeLoadBalancers"))
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    account.faults.clear(number)
    await granted.set("web", idle_timeout="60")  # it is looked at again
    number = account.set_fault(DENIED)
    await granted.wait_for_event("SyncLoadBalancerFailed", "DeleteLoadBalancer")
    account.faults.clear(number)
    account.set_fault(Fault(kind="empty", actions="slb:DescribeLoadBalancers", times=3))
    await granted.has_only("web", NLB_FINALIZER)
    assert [*tables.clbs] == []


async def test_a_server_that_ends_must_be_found_well_too(granted: PretendCluster) -> None:
    pods = [("172.31.192.10", "a")]
    await granted.endpoints("web", *pods)
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
    await granted.create("web", annotations={"type": "clb", **ZONES}, **local)
    address = await granted.address("web")
    await granted.endpoints("web", ending=pods)
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    assert (await granted.marks("web"))[3] == address
    await granted.has_only("web", NLB_FINALIZER)


async def test_a_balancer_that_a_quota_keeps_servers_out_of_takes_no_place(
    granted: PretendCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nlb_groups, "TIMES_ADDED", 1)
    tables = granted.simulated.account.tables
    tables.nlb_groups.put(NLBGroup("sgp-other", "other", {}, {}, backends=(BalancerBackend("i-b", "Ecs", 9),)))
    address = await with_classic(granted)
    await granted.set("web", type="nlb")
    await granted.wait_for_event("SyncLoadBalancerFailed", "QuotaExceeded.ServerAddedNum")
    await passes(granted, 40)
    assert ((await granted.marks("web"))[3], len(tables.clbs)) == (address, 1)
    tables.nlb_groups.remove("sgp-other")
    await granted.has_only("web", NLB_FINALIZER)


async def test_a_grant_that_is_taken_away_late_keeps_no_former_balancer(granted: PretendCluster) -> None:
    await with_classic(granted)
    account = granted.simulated.account
    account.set_fault(DENIED)
    await granted.set("web", type="nlb")
    await granted.wait_for_event("SyncLoadBalancerFailed", "DeleteLoadBalancer")
    await granted.client.delete(SpiderLoadBalancerGrant, "granted")
    account.faults.clear()
    await granted.has_only("web", NLB_FINALIZER)
    assert ([*account.tables.clbs], len(account.tables.nlbs)) == ([], 1)


async def test_a_balancer_that_nobody_has_used_is_not_preserved(granted: PretendCluster) -> None:
    await granted.grant("keeping", preserve=True)
    address = await with_classic(granted, **{"preserve-lb-on-delete": "on"})
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.set("web", type="clb")
    await granted.has_only("web", CLB_FINALIZER)
    tables = granted.simulated.account.tables
    assert (len(tables.clbs), [*tables.nlbs], (await granted.marks("web"))[3]) == (1, [], address)


async def test_what_is_refused_of_one_balancer_does_not_keep_the_other(granted: PretendCluster) -> None:
    await with_classic(granted)
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    account = granted.simulated.account
    account.set_fault(DENIED)
    await granted.client.delete(type(await granted.get("web")), "web", "default")
    await granted.until(lambda: not [*account.tables.nlbs])
    assert len(account.tables.clbs) == 1
    account.faults.clear()
    await granted.eventually(lambda: granted.gone("web"))


async def test_pods_that_the_new_balancer_cannot_have_are_named(granted: PretendCluster) -> None:
    tables = granted.simulated.account.tables
    eni = tables.enis.get("eni-a")
    assert eni is not None
    tables.enis.put(replace(eni, secondaries=("172.31.192.10",)))
    await granted.endpoints("web", ("172.31.192.10", "a"), ("172.31.192.99", "b"))
    await with_classic(granted, **ENI_BACKENDS)
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.wait_for_event("SyncLoadBalancerFailed", "172.31.192.99")
    await passes(granted, 40)
    assert len(tables.clbs) == 1
    await granted.endpoints("web", ("172.31.192.10", "a"))
    await granted.has_only("web", NLB_FINALIZER)


async def test_a_lent_classic_balancer_is_left_as_it_was(granted: PretendCluster) -> None:
    tables = granted.simulated.account.tables
    tables.clbs.put(balancers.CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await granted.create("web", annotations={"type": "nlb", **ZONES})
    await granted.address("web")
    await granted.set("web", type="clb", id="lb-mine", force_override_listeners="true")
    await granted.at_this_moment("ExchangingLoadBalancer")
    assert (await granted.marks("web"))[2] == "lb-mine"
    await granted.delete("web")
    assert (granted.clb().listeners, granted.clb().tags) == ((), {})
