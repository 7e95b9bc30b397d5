"""Services of a real API server get, change and return balancers of a simulated account."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE, CLASS, PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool.core.cloud.loadbalancer import planning
from spiderpool.core.cloud.loadbalancer.steps import Step
from spiderpool.kube.client import Invalid
from spiderpool_lab.alibaba.balancers import CLB
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import EIP
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.conftest import BLOCK, CloudCluster, Start
from tests.cloudcontroller.service_cluster import ENI_BACKENDS, NAMESPACE, REGION, ZONES, ServiceCluster, empty
from tests.support.eventually import eventually
from tests.support.servers import describe

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


async def test_the_life_of_a_service(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"), ("172.31.192.11", "a"), ("172.31.192.20", "b"))
    await cluster.create("web", externalTrafficPolicy="Local")
    address = await cluster.address("web")
    made = cluster.clb()
    assert address == made.address
    service = await cluster.get("web")
    assert kinds.CLB.naming.finalizer in (service.metadata.finalizers or ())
    assert (service.metadata.labels or {})[IDENTITY_LABEL] == made.identity
    assert made.settings["DeleteProtection"] == "on"
    (listener,) = made.listeners
    assert (listener.protocol, listener.port, listener.running) == ("tcp", 80, True)
    assert cluster.weights() == {"i-a": 2, "i-b": 1}
    await cluster.wait_for_event("EnsuredLoadBalancer", made.identity)

    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.until(lambda: cluster.weights() == {"i-a": 1})
    await cluster.set("web", protocol_port="http:80")
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["http"])
    await cluster.set("web", protocol_port=None)
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["tcp"])

    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.wait_for_event("DeletedLoadBalancer")


@pytest.mark.reference_case("the Service becomes internal, or is deleted")
async def test_a_service_that_becomes_internal_returns_its_balancer(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.client.patch(Service, "web", {"spec": {"type": "ClusterIP"}}, NAMESPACE)
    await cluster.until(lambda: not list(cluster.simulated.account.tables.clbs))

    async def released() -> bool:
        service = await cluster.get("web")
        return not service.metadata.finalizers and not service.status.loadBalancer.ingress

    await cluster.eventually(released)


async def test_pods_as_servers_of_a_network_balancer(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.endpoints("web", ("172.31.192.10", "a"), ("172.31.192.99", "b"))
    await cluster.create("web", annotations={"type": "nlb", **ZONES, **ENI_BACKENDS})
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")
    assert cluster.weights() == {"172.31.192.10": 100}
    await cluster.wait_for_event("SyncLoadBalancerFailed", "172.31.192.99")
    eni = cluster.simulated.account.tables.enis.get("eni-b")
    assert eni is not None
    cluster.simulated.account.tables.enis.put(replace(eni, secondaries=(*eni.secondaries, "172.31.192.99")))
    await cluster.until(lambda: cluster.weights() == {"172.31.192.10": 100, "172.31.192.99": 100})
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.nlbs)
    assert not list(cluster.simulated.account.tables.nlb_groups)


@pytest.mark.reference_case("an elastic IP as the published address")
async def test_the_elastic_ip_of_a_private_balancer_is_published(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={"address-type": "intranet", "external-ip-type": "eip"})
    await cluster.wait_for_event("SyncLoadBalancerFailed", "no elastic IP is bound")
    assert not (await cluster.get("web")).status.loadBalancer.ingress
    eip = EIP("eip-1", "198.51.100.201", cluster.clb().identity, "SlbInstance")
    cluster.simulated.account.tables.eips.put(eip)
    assert await cluster.address("web") == eip.address
    await cluster.set("web", external_ip_type=None)

    async def private() -> bool:
        return (await cluster.address("web")) == cluster.clb().address

    await cluster.eventually(private)


async def test_pods_are_the_servers_of_a_service_without_node_ports(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", allocateLoadBalancerNodePorts=False)
    await cluster.until(lambda: len(list(cluster.simulated.account.tables.clb_groups)) == 1)
    await cluster.until(lambda: cluster.weights() == {"172.31.192.10": 100})


async def test_a_rolling_update_keeps_the_old_server_until_the_new_one_is_well(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", externalTrafficPolicy="Local")
    await cluster.until(lambda: cluster.weights() == {"i-a": 1})
    await cluster.endpoints("web", ("172.31.192.20", "b"), ending=[("172.31.192.10", "a")])
    began = cluster.clock.now
    await cluster.until(lambda: cluster.weights() == {"i-a": 1, "i-b": 1})
    await cluster.until(lambda: cluster.weights() == {"i-a": 0, "i-b": 1})
    assert cluster.clock.now - began >= 5, "two checks, 2 s apart, and the first one's moment"
    await cluster.endpoints("web", ("172.31.192.20", "b"))
    await cluster.until(lambda: cluster.weights() == {"i-b": 1})


async def test_a_server_that_settles_while_a_plan_is_carried_out_still_takes_the_place_of_an_ending_one(
    cluster: ServiceCluster, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.period = 1000.0  # nothing but the plan itself asks for another look
    await cluster.start(control_plane)
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", externalTrafficPolicy="Local")
    await cluster.until(lambda: cluster.weights() == {"i-a": 1})
    await cluster.endpoints("web", ("172.31.192.20", "b"), ending=[("172.31.192.10", "a")])
    await eventually(lambda: cluster.weights() == {"i-a": 1, "i-b": 1}, timeout=30)
    plan, kept = planning.plan_adapted, list[int]()

    def slow(*given: Any) -> tuple[Step, ...]:
        """Calls of the cloud take so long that the new server is well when they are answered."""
        steps = plan(*given)
        kept.append(len(steps))
        cluster.clock.now += 100.0
        return steps

    monkeypatch.setattr(planning, "plan_adapted", slow)
    await eventually(lambda: cluster.weights() == {"i-a": 0, "i-b": 1}, timeout=30)
    assert (kept[0], len(kept)) == (0, 2), "the first look kept the ending server"


async def test_enis_that_a_node_tells_need_no_call(cluster: ServiceCluster) -> None:
    eni = ENI(
        "eni-a", "00:16:3e:00:00:01", True, "172.31.192.2", ("172.31.192.10",), (), "vsw-1", BLOCK, None, None, None
    )
    await describe(cluster.client, "a", Instance("alibaba", REGION, f"{REGION}-i", "i-a", "ecs.g7.large", (eni,)))
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", annotations=ENI_BACKENDS)
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"172.31.192.10": 100})
    assert "ecs:DescribeNetworkInterfaces" not in cluster.simulated.account.call_counts()


async def test_drift_is_repaired(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    made = cluster.clb()
    (listener,) = made.listeners
    harmed = replace(listener, running=False, settings={**listener.settings, "Scheduler": "rr"})
    cluster.simulated.account.tables.clbs.put(replace(made, listeners=(harmed,), name="other"))
    (group,) = cluster.simulated.account.tables.clb_groups
    cluster.simulated.account.tables.clb_groups.put(replace(group, backends=group.backends[:1]))

    def repaired() -> bool:
        (now,) = cluster.clb().listeners
        same = now.settings.items() >= listener.settings.items() and now.running
        return same and cluster.clb().name == made.name and len(cluster.weights()) == 2

    await cluster.until(repaired)


async def test_nothing_is_changed_while_nothing_has_changed(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.wait_for_event("EnsuredLoadBalancer")
    reads = ("slb:Describe", "nlb:List", "nlb:Get")

    def looks() -> int:
        return sum(call.action == "slb:DescribeVServerGroupAttribute" for call in cluster.simulated.account.calls)

    before = looks()
    await cluster.until(lambda: looks() > before)
    cluster.simulated.account.calls.clear()
    await cluster.until(lambda: looks() > 2)
    assert all(call.action.startswith(reads) for call in cluster.simulated.account.calls)


async def test_a_lent_balancer(cluster: ServiceCluster) -> None:
    lent = CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}, tags={"team": "x"})
    cluster.simulated.account.tables.clbs.put(lent)
    given = {"id": "lb-mine", "force-override-listeners": "true"}
    await cluster.grant(loadBalancers=["lb-mine"], overrideListeners=True)
    await cluster.create("web", annotations=given)
    assert await cluster.address("web") == "198.51.100.99"
    assert [each.port for each in cluster.clb().listeners] == [80]
    await cluster.delete("web")
    assert cluster.clb() == lent


async def test_what_is_in_use_without_a_grant_stays_and_is_told(
    cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    """As after an update from a version without grants, or a switch from Alibaba Cloud's own controller."""
    lent = CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS})
    cluster.simulated.account.tables.clbs.put(lent)
    await cluster.grant(loadBalancers=["lb-mine"], overrideListeners=True, certificates=["crt-1"])
    given = {"id": "lb-mine", "force-override-listeners": "true", "protocol-port": "https:443", "cert-id": "crt-1"}
    port = {"port": 443, "targetPort": 8080, "protocol": "TCP"}
    await cluster.create("web", annotations=given, ports=[port])
    await cluster.until(lambda: len(cluster.weights()) == 2 and len(cluster.clb().listeners) == 1)
    await cluster.address("web")
    await cluster.running.aclose()
    await cluster.client.delete(SpiderLoadBalancerGrant, "granted")
    await cluster.start(control_plane)
    for annotation in ("id", "force-override-listeners", "cert-id"):
        await cluster.wait_for_event("UsedWithoutGrant", f"{PREFIX}{annotation}: ")
    await cluster.set("web", scheduler="rr")
    await cluster.until(lambda: [each.settings["Scheduler"] for each in cluster.clb().listeners] == ["rr"])

    await cluster.set("web", cert_id="crt-2")
    await cluster.wait_for_event("NotGranted", "crt-2 in spec.certificates")
    await cluster.client.patch(Node, "b", {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}})
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})
    assert [each.settings["ServerCertificateId"] for each in cluster.clb().listeners] == ["crt-1"]
    await cluster.grant(certificates=["crt-2"])
    await cluster.until(lambda: [each.settings["ServerCertificateId"] for each in cluster.clb().listeners] == ["crt-2"])
    await cluster.delete("web")
    assert cluster.clb() == lent


async def test_a_grant_says_that_it_is_in_force(cluster: ServiceCluster) -> None:
    await cluster.grant(loadBalancers=["lb-1"])

    async def ready() -> bool:
        grant = await cluster.client.get(SpiderLoadBalancerGrant, "granted")
        conditions = (grant.status.conditions if grant.status else None) or []
        return [(each.type, each.status) for each in conditions] == [("Ready", "True")]

    await cluster.eventually(ready)


@pytest.mark.parametrize("spec", [{"namespaces": []}, {"namespaces": ["A"]}, {"loadBalancers": ["lb 1"]}])
async def test_a_grant_that_names_nothing_is_refused(cluster: ServiceCluster, spec: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await cluster.grant(**spec)


async def test_a_namespace_may_have_more_by_its_grant(cluster: ServiceCluster) -> None:
    names = [f"web-{number}" for number in range(cluster.limits.of_namespace + 1)]
    for name in names:
        await cluster.create(name)
    await cluster.wait_for_event("TooManyLoadBalancers")
    await cluster.grant(maxLoadBalancers=len(names))
    for name in names:
        await cluster.address(name)


@pytest.mark.reference_case("a lent balancer that was made for a Service")
async def test_a_balancer_of_another_service_is_not_lent(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    await cluster.grant(loadBalancers=[made.identity])
    await cluster.create("thief", annotations={"id": made.identity})
    await cluster.wait_for_event("SyncLoadBalancerFailed", "cannot be lent")
    await cluster.delete("thief")
    assert cluster.clb() == made


async def test_a_label_does_not_give_away_somebody_elses_balancer(cluster: ServiceCluster) -> None:
    theirs = CLB("lb-theirs", "theirs", "198.51.100.99", {**DEFAULTS})
    cluster.simulated.account.tables.clbs.put(theirs)
    service = await cluster.create("web", annotations={"scheduler": "best"})
    body = {"metadata": {"labels": {IDENTITY_LABEL: "lb-theirs"}, "annotations": {f"{PREFIX}scheduler": None}}}
    await cluster.client.patch(Service, service.name, body, NAMESPACE)
    await cluster.wait_for_event("SyncLoadBalancerFailed", "lacks the tags")
    await cluster.delete("web")
    assert cluster.clb() == theirs


@pytest.mark.reference_case("its balancer outlives the Service")
async def test_a_preserved_balancer(cluster: ServiceCluster) -> None:
    await cluster.grant(preserve=True)
    await cluster.create("web", annotations={"preserve-lb-on-delete": "on"})
    await cluster.address("web")
    await cluster.delete("web")
    assert cluster.clb().tags == {"spiderpool.made-for": "c1/default/preserved"}
    assert [each.port for each in cluster.clb().listeners] == [80]


async def test_a_throttled_cloud_gets_there_in_the_end(cluster: ServiceCluster) -> None:
    cluster.simulated.account.set_fault(Fault(kind="throttle", actions="slb:*", every=3, seconds=0.1))
    cluster.simulated.account.set_fault(Fault(kind="lose", actions="slb:Create*", every=2))
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.until(lambda: [each.running for each in cluster.clb().listeners] == [True])
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)


async def test_a_balancer_that_was_deleted_by_hand_is_not_made_again(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    cluster.simulated.account.tables.clbs.remove(made.identity)
    await cluster.wait_for_event("LoadBalancerNotFound", made.identity)
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.delete("web")


async def test_an_empty_answer_neither_makes_a_second_balancer_nor_loses_the_first(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    number = cluster.simulated.account.set_fault(Fault(kind="empty", actions="slb:Describe*"))
    await cluster.wait_for_event("SyncLoadBalancerFailed", "cannot be found")
    assert cluster.clb().identity == made.identity
    cluster.simulated.account.faults.clear(number)
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)


async def test_an_ipv6_service_is_told_why_before_the_cloud_is_asked(cluster: ServiceCluster) -> None:
    given = {"backend-ip-version": "ipv6", "ip-version": "ipv6"}
    await cluster.create("web", annotations=given)
    await cluster.wait_for_event("InvalidService", "ServerGroupNotSupportIpv6")
    assert not [call for call in cluster.simulated.account.calls if call.action.startswith("slb:")]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"], "annotations": {"acl-status": "off"}},
            "acl-status both say who is admitted",
        ),
        (
            {"allocateLoadBalancerNodePorts": False, "annotations": {BACKEND_TYPE: "ecs"}},
            "so nodes cannot serve port 80",
        ),
        (
            {
                "sessionAffinity": "ClientIP",
                "ports": [{"port": 53, "targetPort": 53, "protocol": "UDP"}],
            },
            "spec.sessionAffinity ClientIP is not served by udp listeners",
        ),
    ],
)
async def test_fields_that_are_not_served_are_told_before_the_cloud_is_asked(
    cluster: ServiceCluster, spec: dict[str, Any], said: str
) -> None:
    await cluster.create("web", **spec)
    await cluster.wait_for_event("InvalidService", said)
    assert not [call for call in cluster.simulated.account.calls if call.action.startswith("slb:")]


async def test_a_client_stays_at_its_server_for_as_long_as_the_service_says(cluster: ServiceCluster) -> None:
    config = {"clientIP": {"timeoutSeconds": 60}}
    await cluster.create("web", sessionAffinity="ClientIP", sessionAffinityConfig=config)
    await cluster.address("web")
    (listener,) = cluster.clb().listeners
    assert listener.settings["PersistenceTimeout"] == "60"
    spec = {"sessionAffinity": "None", "sessionAffinityConfig": None}
    await cluster.client.patch(Service, "web", {"spec": spec}, NAMESPACE)
    await cluster.until(lambda: cluster.clb().listeners[0].settings["PersistenceTimeout"] == "0")


async def test_annotations_are_checked(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={"scheduler": "best", "bandwith": "1"})
    await cluster.wait_for_event("InvalidService", "scheduler must be one of")
    await cluster.wait_for_event("AnnotationIgnored", "did you mean bandwidth?")
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.set("web", scheduler="rr")
    await cluster.address("web")
    await cluster.set("web", address_type="intranet")
    await cluster.wait_for_event("CannotBeChanged", "address-type")
    await cluster.set("web", scheduler="best")
    await cluster.client.patch(Node, "b", {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}})
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})


async def test_a_service_that_takes_another_kind_returns_the_former_balancer(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await cluster.wait_for_event("NotGranted", "vsw-2 in spec.vSwitches")
    assert cluster.clb().listeners
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.until(lambda: [each.status for each in cluster.simulated.account.tables.nlbs] == ["Active"])
    await cluster.until(lambda: not list(cluster.simulated.account.tables.clbs))
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")

    async def is_released() -> bool:
        return (await cluster.get("web")).metadata.finalizers == [kinds.NLB.naming.finalizer]

    await cluster.eventually(is_released)
    (made,) = cluster.simulated.account.tables.nlbs
    assert ((await cluster.get("web")).metadata.labels or {})[IDENTITY_LABEL] == made.identity


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"zone_maps": ZONES["zone-maps"]}, "NotGranted"),
        ({}, "InvalidService"),
        ({"zone_maps": "a:vsw-1,b:vsw-1"}, "TooManyLoadBalancers"),
        ({"zone_maps": "a:vsw-1,b:vsw-1"}, "SyncLoadBalancerFailed"),
    ],
)
async def test_a_service_that_cannot_have_another_kind_keeps_its_balancer_and_its_servers(
    cluster: ServiceCluster, annotations: dict[str, str], reason: str
) -> None:
    for name in ("other", "web"):
        await cluster.create(name)
        await cluster.address(name)
    made = (await cluster.get("web")).status.loadBalancer
    await cluster.client.delete(Service, "other", NAMESPACE) if reason != "TooManyLoadBalancers" else None
    await cluster.grant(maxLoadBalancers=1)
    if reason == "SyncLoadBalancerFailed":
        cluster.simulated.account.set_fault(
            Fault(kind="refuse", actions="nlb:ListLoadBalancers", code="Forbidden.RAM", status=403)
        )
    await cluster.set("web", type="nlb", **annotations)
    await cluster.wait_for_event(reason)
    await without_node_b(cluster)
    assert (await cluster.get("web")).status.loadBalancer == made


async def test_a_lent_balancer_is_not_exchanged_for_one_that_does_not_exist(cluster: ServiceCluster) -> None:
    cluster.simulated.account.tables.clbs.put(CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await cluster.grant(loadBalancers=["lb-mine"], overrideListeners=True, vSwitches=["vsw-2"])
    await cluster.create("web", annotations={"id": "lb-mine", "force-override-listeners": "true"})
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await cluster.wait_for_event("SyncLoadBalancerFailed", "does not exist")
    await without_node_b(cluster)
    assert [each.port for each in cluster.clb().listeners] == [80]


async def test_a_balancer_of_another_kind_takes_the_place_of_the_former_at_the_limit(cluster: ServiceCluster) -> None:
    await cluster.grant(vSwitches=["vsw-2"], maxLoadBalancers=1)
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await cluster.until(lambda: [each.status for each in cluster.simulated.account.tables.nlbs] == ["Active"])
    await cluster.until(lambda: not list(cluster.simulated.account.tables.clbs))


async def test_a_kind_whose_api_refuses_does_not_stop_the_other(cluster: ServiceCluster) -> None:
    cluster.simulated.account.set_fault(
        Fault(kind="refuse", actions="nlb:*", code="OperationDenied.NotOpened", status=400)
    )
    await cluster.create("web")
    await cluster.address("web")
    await cluster.wait_for_event("LoadBalancersNotListed", "OperationDenied.NotOpened")


@pytest.mark.parametrize("change", [{"preserve_lb_on_delete": "on"}, {"resource_group_id": "rg-1"}])
async def test_the_servers_of_a_balancer_without_a_published_address_follow_without_a_grant(
    cluster: ServiceCluster, control_plane: ControlPlane, change: dict[str, str]
) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.running.aclose()  # it would publish the address again
    await cluster.client.patch(Service, "web", {"status": {"loadBalancer": None}}, NAMESPACE, sub="status")
    await cluster.set("web", **change)
    await cluster.start(control_plane)
    await cluster.wait_for_event("NotGranted")
    await without_node_b(cluster)


async def test_the_servers_of_a_balancer_follow_while_its_service_waits_for_consent(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", preserve_lb_on_delete="on")
    await cluster.client.delete(Service, "web", NAMESPACE)
    await cluster.wait_for_event("NotGranted", "balancer and Service stay")
    await without_node_b(cluster)


async def test_the_servers_of_a_balancer_follow_while_its_service_names_another(cluster: ServiceCluster) -> None:
    cluster.simulated.account.tables.clbs.put(CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", id="lb-mine")
    await cluster.wait_for_event("SyncLoadBalancerFailed", "delete the Service and create it again")
    await without_node_b(cluster)


async def without_node_b(cluster: ServiceCluster) -> None:
    """Takes a node away and waits until all balancers have only the other one as their server."""
    await cluster.client.patch(Node, "b", {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}})
    groups = cluster.simulated.account.tables.clb_groups
    await cluster.until(
        lambda: [[each.server for each in group.backends] for group in groups] == [["i-a"]] * len(list(groups))
    )


async def test_another_class_is_left_alone(cluster: ServiceCluster) -> None:
    await cluster.create("other", annotations={CLASS: "mine"})
    await cluster.create("web")
    await cluster.address("web")
    assert not (await cluster.get("other")).metadata.finalizers


async def test_the_process_balances(cloud_cluster: CloudCluster, start: Start) -> None:
    cloud_cluster.add_server("a")
    await cloud_cluster.add_node("a")
    cluster = ServiceCluster(cloud_cluster.client, cloud_cluster.simulated, cloud_cluster.clock)
    running = start(cloud_cluster)
    try:
        await cluster.create("web")
        address = await cluster.address("web")
        assert address == cluster.clb().address
        assert cluster.clb().tags["ack.aliyun.com"] == "clusterid"
        await cluster.until(lambda: cluster.weights() == {"i-a": 100})
        await cluster.delete("web")
        assert not list(cloud_cluster.simulated.account.tables.clbs)
        assert "Traceback" not in running.log.read_text()
    finally:
        await empty(cloud_cluster.client)
