"""What the cloud refuses, and what a Service exchanges, does not stop its traffic nor that of others."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node, Service
from spiderpool_lab.alibaba import clb_groups
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

EXCLUDED = {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}}


async def test_each_refusal_is_an_event_and_servers_and_address_go_on(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    await cluster.create("web")
    address = await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    for action in ("SetLoadBalancerDeleteProtection", "ModifyLoadBalancerInstanceChargeType"):
        cluster.simulated.account.set_fault(
            Fault(kind="refuse", actions=f"slb:{action}", code="OperationUnsupported", status=400)
        )
    await cluster.grant(specs=["slb.s2.small"])
    await cluster.set("web", delete_protection="off", instance_charge_type="PayBySpec", spec="slb.s2.small")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "SetLoadBalancerDeleteProtection was refused")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "ModifyLoadBalancerInstanceChargeType was refused")
    await cluster.client.patch(Node, "b", EXCLUDED)
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    await cluster.running.aclose()  # it would publish the address again
    await cluster.client.patch(Service, "web", {"status": {"loadBalancer": None}}, NAMESPACE, sub="status")
    await cluster.start(control_plane)
    assert await cluster.address("web") == address
    cluster.simulated.account.faults.clear()
    await cluster.until(lambda: cluster.clb().settings["DeleteProtection"] == "off")


async def test_no_address_is_published_while_a_port_is_refused(cluster: ServiceCluster) -> None:
    number = cluster.simulated.account.set_fault(
        Fault(kind="refuse", actions="slb:CreateLoadBalancerTCPListener", code="OperationUnsupported", status=400)
    )
    await cluster.create("web")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "CreateLoadBalancerTCPListener was refused")
    assert cluster.weights() == {"i-a": 100, "i-b": 100}
    assert not (await cluster.get("web")).status.loadBalancer.ingress
    cluster.simulated.account.faults.clear(number)
    assert await cluster.address("web") == cluster.clb().address


async def test_groups_that_outlive_their_balancer_are_deleted(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web", annotations={"type": "nlb", **ZONES})
    await cluster.address("web")
    cluster.simulated.account.set_fault(
        Fault(kind="refuse", actions="nlb:DeleteServerGroup", code="OperationUnsupported", status=400, times=1)
    )
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.nlb_groups)


async def test_a_node_leaves_after_another_has_been_found_well(cluster: ServiceCluster) -> None:
    for name, role in (("a", "old"), ("b", "new")):
        await cluster.client.patch(Node, name, {"metadata": {"labels": {"role": role}}})
    await cluster.create("web", annotations={"backend-label": "role=old"})
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    began = cluster.clock.now
    await cluster.set("web", backend_label="role=new")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.until(lambda: cluster.weights() == {"i-b": 100})
    assert cluster.clock.now - began >= 7, "three checks, 2 s apart, and the first one's moment"


async def test_at_a_quota_the_last_node_stays_until_there_is_room_for_another(
    cluster: ServiceCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clb_groups, "BACKENDS_PER_GROUP", 1)
    for name, role in (("a", "old"), ("b", "new")):
        await cluster.client.patch(Node, name, {"metadata": {"labels": {"role": role}}})
    await cluster.create("web", annotations={"backend-label": "role=old"})
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    await cluster.set("web", backend_label="role=new")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "AddVServerGroupBackendServers was refused")
    assert cluster.weights() == {"i-a": 100}
    monkeypatch.setattr(clb_groups, "BACKENDS_PER_GROUP", 2)
    await cluster.until(lambda: cluster.weights() == {"i-b": 100})


async def test_what_is_taken_back_after_a_refusal_is_undone_at_the_balancer(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    """The Service asks once more for what its balancer was like; part of what it asked for meanwhile is done."""
    cluster.period = 1000.0  # nothing is compared by itself
    await cluster.start(control_plane)
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    refused = Fault(
        kind="refuse", actions="slb:SetLoadBalancerDeleteProtection", code="OperationUnsupported", status=400
    )
    cluster.simulated.account.set_fault(refused)
    before = cluster.clb().listeners[0].settings["Scheduler"]
    await cluster.set("web", scheduler="wlc" if before != "wlc" else "wrr", delete_protection="off")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "SetLoadBalancerDeleteProtection was refused")
    assert cluster.clb().listeners[0].settings["Scheduler"] != before
    await cluster.set("web", scheduler=None, delete_protection=None)
    await cluster.until(lambda: cluster.clb().listeners[0].settings["Scheduler"] == before)


async def test_servers_that_changed_while_a_service_was_not_valid_are_changed_back(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    await cluster.client.patch(Node, "a", {"metadata": {"labels": {"role": "old"}}})
    cluster.period = 1000.0
    await cluster.start(control_plane)
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.set("web", scheduler="nonsense", backend_label="role=old")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    await cluster.set("web", scheduler=None, backend_label=None)
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
