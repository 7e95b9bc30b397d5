"""A change of class or kind deletes no balancer that clients use: the new one is made first, and is well before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import Event, Node, Service
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import CLASS
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL, ORIGIN_TAG
from spiderpool_lab.alibaba.balancers import CLB, NLB
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, ServiceCluster
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


async def at_this_moment(cluster: ServiceCluster, reason: str) -> None:
    """Waits for an Event while no time passes for the reconciler."""

    async def recorded() -> bool:
        return any(each.reason == reason for each in await cluster.client.list(Event, NAMESPACE))

    await eventually(recorded, timeout=60.0, interval=0.1)


def nlbs(cluster: ServiceCluster) -> list[NLB]:
    return list(cluster.simulated.account.tables.nlbs)


def clbs(cluster: ServiceCluster) -> list[CLB]:
    return list(cluster.simulated.account.tables.clbs)


async def test_the_former_balancer_serves_until_the_new_one_is_well(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    address, former = await cluster.address("web"), cluster.clb()
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await at_this_moment(cluster, "ExchangingLoadBalancer")
    web = await cluster.get("web")
    assert [each.ip for each in web.status.loadBalancer.ingress or []] == [address]
    assert (web.metadata.labels or {})[IDENTITY_LABEL] == former.identity
    assert (len(nlbs(cluster)), [each.port for each in former.listeners]) == (1, [80])
    assert [len(group.backends) for group in cluster.simulated.account.tables.nlb_groups] == [2]

    await cluster.start(control_plane)  # which knows of neither
    await cluster.until(lambda: not clbs(cluster))
    assert len(nlbs(cluster)) == 1
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")


async def test_a_change_that_is_taken_back_leaves_the_former_balancer(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    address, former = await cluster.address("web"), cluster.clb()
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await at_this_moment(cluster, "ExchangingLoadBalancer")
    await cluster.set("web", type=None, zone_maps=None)
    await cluster.until(lambda: not nlbs(cluster))
    assert (await cluster.address("web"), [each.identity for each in clbs(cluster)]) == (address, [former.identity])

    async def is_released() -> bool:
        web = await cluster.get("web")
        label = (web.metadata.labels or {}).get(IDENTITY_LABEL)
        return (web.metadata.finalizers, label) == ([kinds.CLB.naming.finalizer], former.identity)

    await cluster.eventually(is_released)


async def test_a_balancer_takes_the_place_of_another_although_a_setting_of_it_is_refused(
    cluster: ServiceCluster,
) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    address = await cluster.address("web")
    cluster.simulated.account.set_fault(
        Fault(kind="refuse", actions="nlb:UpdateLoadBalancerAttribute", code="OperationUnsupported", status=400)
    )
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"], cross_zone_enabled="off")
    await at_this_moment(cluster, "ExchangingLoadBalancer")
    assert (await cluster.address("web"), len(clbs(cluster))) == (address, 1), "its servers are not found well yet"
    await cluster.until(lambda: not clbs(cluster))
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")


async def test_a_new_balancer_that_somebody_deletes_during_the_exchange_is_made_again(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await at_this_moment(cluster, "ExchangingLoadBalancer")
    (deleted,) = nlbs(cluster)
    cluster.simulated.account.tables.nlbs.remove(deleted.identity)
    await cluster.until(lambda: not clbs(cluster))
    assert [each.identity for each in nlbs(cluster)] != [deleted.identity]
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")


async def test_servers_of_the_balancer_in_use_follow_while_neither_can_be_had(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await at_this_moment(cluster, "ExchangingLoadBalancer")
    await cluster.set("web", type=None, zone_maps=None, scheduler="nonsense")
    await cluster.wait_for_event("InvalidService", "nonsense")
    label = {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}}
    await cluster.client.patch(Node, "b", label)
    groups = cluster.simulated.account.tables.clb_groups
    await cluster.until(lambda: [len(group.backends) for group in groups] == [1])


async def test_a_lent_balancer_is_returned_after_another_kind_took_its_place(cluster: ServiceCluster) -> None:
    cluster.simulated.account.tables.clbs.put(CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await cluster.grant(loadBalancers=["lb-mine"], overrideListeners=True, vSwitches=["vsw-2"])
    await cluster.create("web", annotations={"id": "lb-mine", "force-override-listeners": "true"})
    assert await cluster.address("web") == "198.51.100.99"
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"], id=None, force_override_listeners=None)
    await cluster.until(lambda: not cluster.clb().listeners)
    assert cluster.clb().tags == {}
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")


@pytest.mark.reference_case("the Service has an empty class", "the Service gets the class of another controller")
async def test_a_class_that_comes_later_deletes_nothing(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={CLASS: ""})
    address = await cluster.address("web")
    await cluster.client.patch(Service, "web", {"metadata": {"annotations": {CLASS: "mine"}}}, NAMESPACE)
    await cluster.wait_for_event("LoadBalancerKept", "another controller")
    label = {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}}
    await cluster.client.patch(Node, "b", label)
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    assert await cluster.address("web") == address
    await cluster.client.patch(Service, "web", {"spec": {"type": "ClusterIP"}}, NAMESPACE)
    await cluster.until(lambda: not clbs(cluster))


@pytest.mark.reference_case("the Service has the annotation of the other kind")
async def test_the_kind_of_a_balancer_that_another_controller_made_stays(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    address, made = await cluster.address("web"), cluster.clb()
    others = {key: value for key, value in made.tags.items() if key != ORIGIN_TAG}
    cluster.simulated.account.tables.clbs.put(replace(made, tags=others))
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await cluster.wait_for_event("LoadBalancerKept", f"{made.identity} was made by another controller")
    await cluster.set("web", protocol_port="http:80")
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["http"])
    assert (await cluster.address("web"), nlbs(cluster)) == (address, [])


@pytest.mark.reference_case("it was made for a cluster with another ID")
async def test_a_balancer_of_a_cluster_with_another_id_is_left_alone_in_words(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    tags = {**cluster.clb().tags, "ack.aliyun.com": "c0"}
    cluster.simulated.account.tables.clbs.put(replace(cluster.clb(), tags=tags))
    await cluster.wait_for_event("SyncLoadBalancerFailed", "this cluster's ID is c1")
    await cluster.delete("web")
    await cluster.wait_for_event("ReturnedLoadBalancer", "stays, and costs on")
    assert cluster.clb().listeners


async def test_another_default_is_for_services_without_a_balancer_alone(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web")
    address = await cluster.address("web")
    cluster.default_type = "nlb"
    await cluster.start(control_plane)
    await cluster.create("new", annotations=ZONES)
    assert (await cluster.address("new")).endswith("nlb.aliyuncs.com")
    cluster.default_type = "clb"
    await cluster.start(control_plane)
    await cluster.set("new", established_timeout="60")  # of the other kind: the Service is looked at
    await cluster.wait_for_event("AnnotationIgnored", "established-timeout")
    assert (await cluster.address("web"), len(clbs(cluster)), len(nlbs(cluster))) == (address, 1, 1)
    await cluster.set("new", type="nlb")
    await cluster.set("new", type=None)
    await cluster.delete("new")
    assert (len(clbs(cluster)), nlbs(cluster)) == (1, [])


@pytest.mark.reference_case("a new balancer without zones")
async def test_zones_of_the_settings_are_for_new_balancers_alone(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    cluster.default_type, cluster.zones = "nlb", ZONES["zone-maps"]
    await cluster.start(control_plane)
    await cluster.create("web")
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")
    (made,) = nlbs(cluster)
    zones = {(zone.zone, zone.vswitch) for zone in made.zones}
    assert zones == {("cn-hangzhou-i", "vsw-1"), ("cn-hangzhou-h", "vsw-2")}
    cluster.zones = ""
    await cluster.start(control_plane)
    await cluster.set("web", cross_zone_enabled="off")
    await cluster.until(lambda: nlbs(cluster)[0].settings["CrossZoneEnabled"] == "false")
    assert {(zone.zone, zone.vswitch) for zone in nlbs(cluster)[0].zones} == zones
    await cluster.create("another")
    await cluster.wait_for_event("InvalidService", "zone-maps is missing")
