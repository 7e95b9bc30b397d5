"""What becomes of a balancer that was to take the place of another one, when its Service changes meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.cloud.provider import NotPermitted, StepsRefused, Throttled
from spiderpool.cloudcontroller import services
from spiderpool.cloudcontroller.service_state import is_refusal
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool.telemetry import LOAD_BALANCERS
from spiderpool_lab.alibaba import balancers, nlb_groups
from spiderpool_lab.alibaba.balancers import BalancerBackend, NLBGroup
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import PretendCluster
from tests.cloudcontroller.service_cluster import ZONES, Limits
from tests.cloudcontroller.test_services_succession import (
    CLB_FINALIZER,
    DENIED,
    LENT,
    NLB_FINALIZER,
    granted,
    passes,
    with_classic,
    with_own_network_balancer,
)
from tests.core.pretend_balancers import node
from tests.support.eventually import eventually

__all__ = ["granted"]
pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

NO_LISTENER = Fault(kind="refuse", actions="nlb:CreateListener", code="OperationDenied.X", status=400)
LOCAL = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}


def lend_classic(cluster: PretendCluster, identity: str = "lb-mine") -> None:
    """Puts a classic balancer of the user's into the account, without listeners."""
    address = f"198.51.100.{90 + len([*cluster.simulated.account.tables.clbs])}"
    cluster.simulated.account.tables.clbs.put(balancers.CLB(identity, "mine", address, {**DEFAULTS}))


async def with_network(cluster: PretendCluster) -> str:
    """Has a Service with a network balancer; returns its address."""
    await cluster.create("web", annotations={"type": "nlb", **ZONES})
    return await cluster.address("web")


async def test_a_lent_balancer_takes_no_place_before_the_users_listener_leads_to_the_service(
    granted: PretendCluster,
) -> None:
    tables = granted.simulated.account.tables
    lend_classic(granted)
    address = await with_network(granted)
    await granted.set("web", type="clb", id="lb-mine")
    await granted.wait_for_event("ExchangingLoadBalancer", "a listener of it leads to k8s/30080/web/default/c1")
    await passes(granted, 60)
    assert ((await granted.marks("web"))[3], len([*tables.nlbs])) == (address, 1)
    (group,) = tables.clb_groups
    mine = tables.clbs.get("lb-mine")
    assert mine is not None
    listener = balancers.CLBListener("tcp", 80, {"VServerGroupId": group.identity}, running=True)
    tables.clbs.put(replace(mine, listeners=(listener,)))
    await granted.has_only("web", CLB_FINALIZER)
    assert ((await granted.marks("web"))[3], [*tables.nlbs]) == (mine.address, [])


async def test_a_label_of_another_tenant_changes_no_health_check(granted: PretendCluster) -> None:
    tables = granted.simulated.account.tables
    await granted.grant("keeping", preserve=True)
    await granted.endpoints("web", ("172.31.192.10", "a"))
    await granted.create("web", annotations={"type": "clb", "preserve-lb-on-delete": "on"}, **LOCAL)
    await granted.address("web")
    balancer = granted.clb().identity
    await granted.delete("web")
    await granted.grant("lent", loadBalancers=[balancer], overrideListeners=True)
    await granted.create(
        "web", annotations={"type": "clb", "id": balancer, "force-override-listeners": "true"}, **LOCAL
    )
    await granted.address("web")

    def listeners() -> object:
        found = tables.clbs.get(balancer)
        return found and found.listeners

    before = listeners()
    planted = {"scheduler": "nonsense", "health-check-connect-port": "9", "health-check-type": "tcp"}
    await granted.create("other", namespace="tenant", labels={IDENTITY_LABEL: balancer}, annotations=planted)
    await passes(granted, 60)
    assert listeners() == before


async def test_checks_begin_behind_a_listener(granted: PretendCluster) -> None:
    """The servers have been in their group for long when the listener is made; time stands still then."""
    address = await with_classic(granted)
    tables = granted.simulated.account.tables
    granted.simulated.account.set_fault(NO_LISTENER)
    await granted.set("web", type="nlb")
    await granted.wait_for_event("SyncLoadBalancerFailed", "CreateListener")
    await passes(granted, 30)
    granted.simulated.account.faults.clear()

    async def made() -> bool:
        return bool([*tables.nlb_listeners])

    await eventually(made, timeout=20.0, interval=0.05)
    await granted.at_this_moment("ExchangingLoadBalancer")
    assert ((await granted.marks("web"))[3], len([*tables.clbs])) == (address, 1)
    await granted.has_only("web", NLB_FINALIZER)


@pytest.mark.parametrize("how", ["tags are gone", "lists are empty"])
async def test_an_exchange_that_is_taken_back_makes_no_second_balancer(granted: PretendCluster, how: str) -> None:
    address = await with_classic(granted, name="my-clb")
    account, tables = granted.simulated.account, granted.simulated.account.tables
    await granted.restart()
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    made = granted.clb()
    if how == "tags are gone":
        tables.clbs.put(replace(made, tags={}))
        await granted.restart()
    else:
        account.set_fault(Fault(kind="empty", actions="slb:DescribeLoadBalancers"))
    await granted.set("web", type="clb")
    await passes(granted, 60)
    assert ([each.identity for each in tables.clbs], (await granted.marks("web"))[3]) == ([made.identity], address)
    account.faults.clear()
    tables.clbs.put(made)
    await granted.has_only("web", CLB_FINALIZER)
    assert ([each.identity for each in tables.clbs], (await granted.marks("web"))[3]) == ([made.identity], address)


async def test_a_balancer_that_was_made_goes_when_a_lent_one_is_named(granted: PretendCluster) -> None:
    await with_own_network_balancer(granted)
    tables = granted.simulated.account.tables
    tables.nlb_listeners.remove("lsn-mine")
    await with_classic(granted)
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    assert len([*tables.nlbs]) == 2
    await granted.set("web", **LENT)
    await granted.has_only("web", NLB_FINALIZER)
    assert [each.identity for each in tables.nlbs] == ["nlb-mine"]
    assert [each.balancer for each in tables.nlb_listeners] == ["nlb-mine"]


async def test_a_lent_balancer_is_handed_back_when_another_one_is_named(granted: PretendCluster) -> None:
    await granted.grant("more", loadBalancers=["lb-b"], overrideListeners=True)
    tables = granted.simulated.account.tables
    for identity in ("lb-mine", "lb-b"):
        lend_classic(granted, identity)
    await with_network(granted)
    await granted.set("web", type="clb", id="lb-mine", force_override_listeners="true")
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.restart()
    await granted.set("web", id="lb-b")
    await granted.has_only("web", CLB_FINALIZER)
    mine, other = tables.clbs.get("lb-mine"), tables.clbs.get("lb-b")
    assert mine is not None
    assert other is not None
    assert (mine.tags, mine.listeners, len(other.listeners)) == ({}, (), 1)
    assert [group.balancer for group in tables.clb_groups] == ["lb-b"]


async def test_a_label_that_is_taken_away_changes_no_balancer(granted: PretendCluster) -> None:
    address = await with_classic(granted)
    lend_classic(granted)
    annotations = {f"{PREFIX}id": "lb-mine", f"{PREFIX}force-override-listeners": "true"}
    change = {"metadata": {"labels": {IDENTITY_LABEL: None}, "annotations": annotations}}
    await granted.client.patch(Service, "web", change, "default")
    await granted.wait_for_event("SyncLoadBalancerFailed", "delete the Service and create it again")
    assert (await granted.marks("web"))[3] == address


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("how", ["deleted", "taken back"])
async def test_what_no_client_has_used_is_not_preserved(granted: PretendCluster, how: str, *, restarted: bool) -> None:
    await granted.grant("keeping", preserve=True)
    await with_classic(granted, **{"preserve-lb-on-delete": "on"})
    tables = granted.simulated.account.tables
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    if restarted:
        await granted.restart()
    if how == "deleted":
        await granted.delete("web")
    else:
        await granted.set("web", type="clb")
        await granted.has_only("web", CLB_FINALIZER)
    assert (len([*tables.clbs]), [*tables.nlbs]) == (1, [])


async def test_a_quota_that_fills_after_the_exchange_keeps_no_former_balancer(
    granted: PretendCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_classic(granted)
    account, tables = granted.simulated.account, granted.simulated.account.tables
    number = account.set_fault(DENIED)
    await granted.set("web", type="nlb")
    await granted.wait_for_event("SyncLoadBalancerFailed", "DeleteLoadBalancer")
    monkeypatch.setattr(nlb_groups, "TIMES_ADDED", 1)
    account.add_instance("c", identity="i-c")
    account.add_eni("vsw-1", instance="i-c", identity="eni-c")
    tables.nlb_groups.put(NLBGroup("sgp-other", "other", {}, {}, backends=(BalancerBackend("i-c", "Ecs", 9),)))
    granted.server.put(node("c"))
    await granted.wait_for_event("SyncLoadBalancerFailed", "QuotaExceeded.ServerAddedNum")
    account.faults.clear(number)
    await granted.has_only("web", NLB_FINALIZER)
    assert [*tables.clbs] == []


async def test_a_former_balancer_that_is_to_be_preserved_counts_beside_the_new_one(granted: PretendCluster) -> None:
    granted.limits = Limits(1, 4)
    await granted.restart()
    await granted.grant("keeping", preserve=True)
    address = await with_classic(granted)
    await granted.set("web", type="nlb")
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.set("web", preserve_lb_on_delete="on")
    await granted.wait_for_event("TooManyLoadBalancers", "has 1 load balancers")
    await passes(granted, 30)
    assert (await granted.marks("web"))[3] == address
    await granted.set("web", preserve_lb_on_delete=None)
    await granted.has_only("web", NLB_FINALIZER)
    assert [*granted.simulated.account.tables.clbs] == []


def counted(state: str) -> float:
    """How many balancers there are in a state, as the metric has it."""
    samples = (each for metric in LOAD_BALANCERS.collect() for each in metric.samples)
    return next((each.value for each in samples if each.labels == {"state": state}), 0.0)


async def test_a_balancer_whose_service_was_let_go_by_hand_is_counted_and_named_without_another_creation(
    granted: PretendCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "LEAST_RECOUNT", 0.1)
    await granted.restart()
    await with_classic(granted)
    await granted.until(lambda: (counted("used"), counted("orphaned")) == (1, 0))
    change = {"metadata": {"finalizers": None}, "spec": {"type": "ClusterIP"}}
    await granted.client.patch(Service, "web", change, "default")
    await granted.until(lambda: (counted("used"), counted("orphaned")) == (0, 1))
    identity = granted.clb().identity
    said = [line for line in capsys.readouterr().out.splitlines() if "load balancers without a Service" in line]
    assert len(said) == 1
    assert identity in said[0]


async def test_a_balancer_that_was_just_preserved_is_no_orphan(granted: PretendCluster) -> None:
    await granted.grant("keeping", preserve=True)
    await with_classic(granted, **{"preserve-lb-on-delete": "on"})
    await granted.create("two", annotations={"type": "clb"})
    await granted.address("two")
    await granted.delete("web")
    await granted.create("three", annotations={"type": "clb"})
    await granted.address("three")
    assert (counted("preserved"), counted("orphaned")) == (1, 0)


def test_a_creation_that_was_throttled_may_have_been_carried_out() -> None:
    """The first request got no answer, and its repetition was throttled: it is looked for before another is made."""
    throttled = Throttled("too many calls", retry_after=1.0)
    assert not is_refusal(throttled)
    assert not is_refusal(StepsRefused([NotPermitted("no", action="slb:CreateLoadBalancer"), throttled]))
    assert is_refusal(StepsRefused([NotPermitted("no", action="slb:CreateLoadBalancer")]))
