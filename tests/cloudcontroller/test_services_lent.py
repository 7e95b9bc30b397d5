"""What becomes of the balancer that clients use, and of a lent one, while the latter is to take its place."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool_lab.alibaba.balancers import CLBGroup, CLBListener
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import HTTP, PretendCluster
from tests.cloudcontroller.service_cluster import ZONES
from tests.cloudcontroller.test_services_abandoned import LOCAL, lend_classic, with_network
from tests.cloudcontroller.test_services_succession import (
    CLB_FINALIZER,
    LENT,
    NLB_FINALIZER,
    granted,
    passes,
    with_classic,
    with_own_network_balancer,
)

__all__ = ["granted"]
pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

OVERRIDING = {"id": "lb-mine", "force_override_listeners": "true"}
CHECKED_PORT = "HealthCheckConnectPort"


async def lend_group(cluster: PretendCluster) -> None:
    """Puts a server group of the user's onto the lent balancer, and grants it."""
    await cluster.grant("groups", serverGroups=["rsp-mine"])
    cluster.simulated.account.tables.clb_groups.put(CLBGroup("rsp-mine", "mine", "lb-mine"))


def servers(cluster: PretendCluster) -> list[set[str]]:
    """The servers of each group of network balancers."""
    return [{each.server for each in group.backends} for group in cluster.simulated.account.tables.nlb_groups]


@pytest.mark.parametrize("group", [None, "rsp-mine:80"])
async def test_the_balancer_that_clients_use_follows_its_pods_until_the_user_has_made_a_listener(
    granted: PretendCluster, group: str | None
) -> None:
    lend_classic(granted)
    await lend_group(granted)
    await granted.endpoints("web", ("172.31.192.10", "a"))
    await granted.create("web", annotations={"type": "nlb", **ZONES}, **LOCAL)
    await granted.address("web")
    await granted.set("web", type="clb", id="lb-mine", vgroup_port=group)
    await granted.wait_for_event("ExchangingLoadBalancer", "a listener of it leads to")
    await granted.endpoints("web", ("172.31.192.11", "b"))
    await granted.until(lambda: servers(granted) == [{"i-b"}])


async def test_the_balancer_that_clients_use_asks_nodes_at_no_port_that_is_gone(granted: PretendCluster) -> None:
    lend_classic(granted)
    await granted.endpoints("web", ("172.31.192.10", "a"))
    await granted.create("web", annotations={"type": "nlb", **ZONES}, **LOCAL)
    await granted.address("web")
    await granted.set("web", type="clb", id="lb-mine")
    await granted.wait_for_event("ExchangingLoadBalancer", "a listener of it leads to")
    (group,) = granted.simulated.account.tables.nlb_groups
    assert group.health[CHECKED_PORT] == "31000"
    change = {"spec": {"externalTrafficPolicy": "Cluster", "healthCheckNodePort": 0}}
    await granted.client.patch(Service, "web", change, "default")
    tables = granted.simulated.account.tables
    await granted.until(lambda: [each.health[CHECKED_PORT] for each in tables.nlb_groups] == ["0"])


async def test_an_empty_group_of_the_users_gets_servers_in_spite_of_a_fault(granted: PretendCluster) -> None:
    lend_classic(granted)
    await lend_group(granted)
    tables = granted.simulated.account.tables
    (mine,) = tables.clbs
    listener = CLBListener("tcp", 80, {"VServerGroupId": "rsp-mine"}, running=True)
    tables.clbs.put(type(mine)(mine.identity, mine.name, mine.address, mine.settings, listeners=(listener,)))
    lent = {"type": "clb", "id": "lb-mine", "vgroup-port": "rsp-mine:80"}
    await granted.create("web", annotations=lent, **LOCAL)
    await granted.address("web")
    await granted.set("web", scheduler="nonsense")
    await granted.wait_for_event("InvalidService", "scheduler")
    await granted.endpoints("web", ("172.31.192.10", "a"))
    await granted.until(lambda: [[each.server for each in group.backends] for group in tables.clb_groups] == [["i-a"]])


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_lent_classic_balancer_is_handed_back_when_it_is_not_named_any_more(
    granted: PretendCluster, *, restarted: bool
) -> None:
    lend_classic(granted)
    await with_network(granted)
    await granted.set("web", type="clb", **OVERRIDING)
    await granted.at_this_moment("ExchangingLoadBalancer")
    if restarted:
        await granted.restart()
    await granted.set("web", id=None, force_override_listeners=None)
    await granted.has_only("web", CLB_FINALIZER)
    tables = granted.simulated.account.tables
    mine = tables.clbs.get("lb-mine")
    assert mine is not None
    assert (mine.tags, mine.listeners, len([*tables.clbs])) == ({}, (), 2)
    assert "lb-mine" not in [group.balancer for group in tables.clb_groups]


async def test_a_lent_network_balancer_is_handed_back_when_it_is_not_named_any_more(granted: PretendCluster) -> None:
    await with_own_network_balancer(granted)
    tables = granted.simulated.account.tables
    tables.nlb_listeners.remove("lsn-mine")
    await with_classic(granted)
    await granted.set("web", type="nlb", **LENT)
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.set("web", id=None, force_override_listeners=None)
    await granted.has_only("web", NLB_FINALIZER)
    mine = tables.nlbs.get("nlb-mine")
    assert mine is not None
    assert (mine.tags, len([*tables.nlbs])) == ({}, 2)
    assert "nlb-mine" not in [listener.balancer for listener in tables.nlb_listeners]


async def test_an_exchange_ends_although_a_port_redirects_meanwhile(granted: PretendCluster) -> None:
    lend_classic(granted)
    secure = {"name": "https", "port": 443, "targetPort": 8080, "nodePort": 30443, "protocol": "TCP"}
    await granted.grant("cert", certificates=["cert-1"])
    await granted.create("web", annotations={"type": "nlb", **ZONES}, ports=[{**HTTP, "name": "http"}, secure])
    await granted.address("web")
    await granted.set("web", type="clb", protocol_port="https:443,http:80", cert_id="cert-1", **OVERRIDING)
    await granted.at_this_moment("ExchangingLoadBalancer")
    await granted.set("web", forward_port="80:443")
    await granted.has_only("web", CLB_FINALIZER)


async def test_a_former_balancer_that_is_to_be_preserved_is_not_deleted_when_another_is_named(
    granted: PretendCluster,
) -> None:
    lend_classic(granted)
    await granted.grant("keeping", preserve=True)
    await with_classic(granted, **{"preserve-lb-on-delete": "on"})
    account = granted.simulated.account
    (own,) = (each.identity for each in account.tables.clbs if each.identity != "lb-mine")
    number = account.set_fault(Fault(kind="refuse", actions="slb:TagResources", code="OperationDenied.X", status=400))
    await granted.set("web", type="nlb")
    await granted.wait_for_event("SyncLoadBalancerFailed", "TagResources")
    await granted.set("web", type="clb", **OVERRIDING)
    account.faults.clear(number)
    await passes(granted, 60)
    assert account.tables.clbs.get(own) is not None


async def test_a_lent_balancer_that_serves_gets_its_label_back(granted: PretendCluster) -> None:
    """Although one of the Service's own is there still, which labels named before."""
    lend_classic(granted)
    await with_classic(granted)
    annotations = {f"{PREFIX}id": "lb-mine", f"{PREFIX}force-override-listeners": "true"}
    change = {"metadata": {"labels": {IDENTITY_LABEL: "lb-mine"}, "annotations": annotations}}
    await granted.client.patch(Service, "web", change, "default")
    mine = granted.simulated.account.tables.clbs.get("lb-mine")
    assert mine is not None

    async def uses_it() -> bool:
        return (await granted.marks("web"))[3] == mine.address

    await granted.eventually(uses_it)
    await granted.running.aclose()
    await granted.client.patch(Service, "web", {"metadata": {"labels": {IDENTITY_LABEL: None}}}, "default")
    await granted.restart()

    async def is_labelled() -> bool:
        return (await granted.marks("web"))[1] == "lb-mine"

    await granted.eventually(is_labelled)
