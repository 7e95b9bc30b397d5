"""What a tenant who may write Services in a Namespace cannot do to the account's load balancers, and to its bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import Event, Namespace, Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL, REUSE_TAG
from spiderpool.kube.client import AlreadyExists, Client, Forbidden
from spiderpool_lab.alibaba.balancers import CLB, CLBGroup, CLBListener
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

BY_HAND = CLBListener("https", 443, {"ServerCertificateId": "crt-company", "Scheduler": "wrr"}, running=True)
"""A listener of the company's shop, made in the console."""
HTTPS = {"ports": [{"port": 443, "targetPort": 8443, "protocol": "TCP"}]}
TAKE_OVER = {"id": "lb-shop", "force-override-listeners": "true"}
CERTIFICATE = {"protocol-port": "https:443", "cert-id": "crt-company"}
OTHER_NAMESPACE = "tenant-b"


@pytest.fixture
async def tenant(control_plane: ControlPlane, cluster: ServiceCluster) -> AsyncIterator[ServiceCluster]:
    """The cluster, as a tenant sees it: one who has the ClusterRole admin in one Namespace, and no other right."""
    control_plane.apply(
        f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: tenant, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: tenant, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}
subjects: [{{kind: ServiceAccount, name: tenant, namespace: {NAMESPACE}}}]
"""
    )
    async with Client.load(control_plane.service_account_kubeconfig(NAMESPACE, "tenant")) as client:
        yield replace(cluster, client=client)
    control_plane.kubectl("delete", "serviceaccount/tenant", "rolebinding/tenant", "--namespace", NAMESPACE)


def shop(cluster: ServiceCluster, **tags: str) -> CLB:
    """The company's own balancer, with a listener made by hand."""
    found = CLB("lb-shop", "shop", "198.51.100.99", {**DEFAULTS}, listeners=(BY_HAND,), tags={"team": "x", **tags})
    cluster.simulated.account.tables.clbs.put(found)
    return found


def calls(cluster: ServiceCluster) -> list[str]:
    """The actions of load balancers that were called."""
    return [call.action for call in cluster.simulated.account.calls if call.action.startswith(("slb:", "nlb:"))]


def paid(cluster: ServiceCluster) -> int:
    """How many balancers the account pays for."""
    tables = cluster.simulated.account.tables
    return len(list(tables.clbs)) + len(list(tables.nlbs))


async def told(cluster: ServiceCluster, name: str, part: str = "", reason: str = "NotGranted") -> str:
    """The message of an Event about a Service, as soon as there is one."""
    found: list[str] = []

    async def recorded() -> bool:
        events = await cluster.client.list(Event, NAMESPACE)
        about = [each for each in events if (each.reason, each.involvedObject.name) == (reason, name)]
        found[:] = [each.message for each in about if part in each.message]
        return bool(found)

    await cluster.eventually(recorded)
    return found[0]


async def served(cluster: ServiceCluster, name: str) -> None:
    """A Service that has its balancer, and nothing left to do."""
    await cluster.create(name)
    await cluster.address(name)
    await cluster.until(lambda: bool(cluster.weights()))


async def turns(cluster: ServiceCluster) -> None:
    """Waits until our reconciler has had ample time."""
    for _ in range(20):
        cluster.clock.now += 1.0
        await asyncio.sleep(0.1)


async def test_a_tenant_writes_no_grants_and_no_status(tenant: ServiceCluster) -> None:
    """On this the other tests depend: what is granted, and what a Service was given, is not the tenant's to say."""
    grant = SpiderLoadBalancerGrant(metadata=ObjectMeta(name="mine"), spec=LoadBalancerGrantSpec(namespaces=["*"]))
    with pytest.raises(Forbidden):
        await tenant.client.create(grant)
    await tenant.create("web", annotations={"id": "lb-shop"})
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.99"}]}}}
    with pytest.raises(Forbidden):
        await tenant.client.patch(Service, "web", status, NAMESPACE, sub="status")


async def test_the_companys_balancer_is_not_taken_over(tenant: ServiceCluster) -> None:
    theirs = shop(tenant)
    await tenant.create("web", annotations={**TAKE_OVER, **CERTIFICATE}, **HTTPS)
    for annotation, lacks in (
        ("id", "lb-shop in spec.loadBalancers;"),
        ("force-override-listeners", "spec.overrideListeners: true"),
        ("cert-id", "crt-company in spec.certificates"),
    ):
        line = await told(tenant, "web", lacks)
        assert line.startswith(
            f"annotation {PREFIX}{annotation}: no SpiderLoadBalancerGrant for Namespace {NAMESPACE} has"
        )
    assert calls(tenant) == []
    assert tenant.clb() == theirs


@pytest.mark.parametrize(
    ("annotations", "lacks"),
    [
        ({"id": "lb-shop"}, "lb-shop in spec.loadBalancers"),
        (CERTIFICATE, "crt-company in spec.certificates"),
        ({"acl-status": "on", "acl-id": "acl-company"}, "acl-company in spec.accessLists"),
        ({"address-type": "intranet", "vswitch-id": "vsw-2"}, "vsw-2 in spec.vSwitches"),
        ({"resource-group-id": "rg-finance"}, "rg-finance in spec.resourceGroups"),
        ({"instance-charge-type": "PayBySpec", "spec": "slb.s3.large"}, "slb.s3.large in spec.specs"),
        (
            {"instance-charge-type": "PayBySpec", "charge-type": "paybybandwidth", "bandwidth": "5120"},
            "spec.maxBandwidth of at least 5120",
        ),
        ({"preserve-lb-on-delete": "on"}, "spec.preserve: true"),
        ({"type": "nlb", **ZONES}, "vsw-2 in spec.vSwitches"),
        ({"type": "nlb", "zone-maps": "a:vsw-1::eip-company,b:vsw-1"}, "eip-company in spec.elasticIPs"),
        ({"type": "nlb", **ZONES, "security-group-ids": "sg-company"}, "sg-company in spec.securityGroups"),
        ({"type": "nlb", **ZONES, "bandwidth-package-id": "cbwp-company"}, "cbwp-company in spec.bandwidthPackages"),
        (
            {"type": "nlb", **ZONES, "protocol-port": "tcpssl:443", "cert-id": "1", "cacert": "on", "cacert-id": "ca"},
            "ca in spec.certificates",
        ),
    ],
)
async def test_nothing_is_named_or_paid_without_a_grant(
    tenant: ServiceCluster, annotations: dict[str, str], lacks: str
) -> None:
    theirs = shop(tenant)
    await tenant.create("web", annotations=annotations, **HTTPS)
    await told(tenant, "web", lacks)
    assert calls(tenant) == []
    assert (paid(tenant), tenant.clb()) == (1, theirs)


async def test_no_server_is_put_into_a_server_group_that_is_not_granted(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    shop(tenant)
    tables = cluster.simulated.account.tables
    theirs = CLBGroup("rsp-company", "shop", "lb-shop")
    tables.clb_groups.put(theirs)
    await cluster.grant(loadBalancers=["lb-shop"])
    await tenant.create("web", annotations={"id": "lb-shop"})
    await tenant.address("web")
    await tenant.set("web", vgroup_port="rsp-company:80")
    await told(tenant, "web", "rsp-company in spec.serverGroups")
    await turns(tenant)
    assert tables.clb_groups.get("rsp-company") == theirs
    await cluster.grant("more", serverGroups=["rsp-company"])

    def has_servers() -> bool:
        group = tables.clb_groups.get("rsp-company")
        return group is not None and {each.server for each in group.backends} == {"i-a", "i-b"}

    await tenant.until(has_servers)
    await tenant.set("web", vgroup_port=None)
    await tenant.until(lambda: tables.clb_groups.get("rsp-company") == theirs)


async def test_a_grant_for_another_namespace_or_balancer_is_none(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    theirs = shop(tenant)
    await cluster.grant("others", namespaces=[OTHER_NAMESPACE], loadBalancers=["*"], overrideListeners=True)
    await cluster.grant("mine", loadBalancers=["lb-mine"], overrideListeners=True)
    await cluster.grant("lent", loadBalancers=["lb-shop"], certificates=["crt-company"])
    await tenant.create("web", annotations={**TAKE_OVER, **CERTIFICATE}, **HTTPS)
    await told(tenant, "web", "overrideListeners")
    assert tenant.clb() == theirs


async def test_a_service_that_has_a_balancer_gets_no_other_by_its_label(
    tenant: ServiceCluster, cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    """The balancer is even lent to another Service, and so has our tag."""
    theirs = shop(tenant, **{REUSE_TAG: "true"})
    tenant.simulated.account.tables.clbs.remove("lb-shop")
    await served(tenant, "web")
    tenant.simulated.account.tables.clbs.put(theirs)
    annotations = {PREFIX + key: text for key, text in TAKE_OVER.items()}
    body = {"metadata": {"annotations": annotations, "labels": {IDENTITY_LABEL: "lb-shop"}}}
    await cluster.running.aclose()  # it might write the label back
    await tenant.client.patch(Service, "web", body, NAMESPACE)
    await cluster.start(control_plane)
    await told(tenant, "web", "lb-shop in spec.loadBalancers")
    await tenant.client.delete(Service, "web", NAMESPACE)
    await turns(tenant)
    assert tenant.simulated.account.tables.clbs.get("lb-shop") == theirs


async def test_a_deletion_takes_nothing_from_a_balancer_that_was_never_given(tenant: ServiceCluster) -> None:
    theirs = shop(tenant, **{REUSE_TAG: "true"})
    await tenant.create("web", annotations={"id": "lb-shop"})
    body = {"metadata": {"labels": {IDENTITY_LABEL: "lb-shop"}, "finalizers": [kinds.CLB.naming.finalizer]}}
    await tenant.client.patch(Service, "web", body, NAMESPACE)
    await tenant.delete("web")
    assert tenant.clb() == theirs


async def test_a_service_that_is_served_installs_no_certificate(tenant: ServiceCluster) -> None:
    await tenant.create("web", **HTTPS)
    await tenant.address("web")
    await tenant.until(lambda: [each.protocol for each in tenant.clb().listeners] == ["tcp"])
    await tenant.set("web", protocol_port="https:443", cert_id="crt-company")
    await told(tenant, "web", "crt-company in spec.certificates")
    await turns(tenant)
    assert [each.protocol for each in tenant.clb().listeners] == ["tcp"]


# --- money


async def test_the_limit_of_a_namespace_holds_for_many_at_once(tenant: ServiceCluster) -> None:
    await asyncio.gather(*(tenant.create(f"web-{number}") for number in range(9)))
    await tenant.wait_for_event("TooManyLoadBalancers", f"may have {tenant.limits.of_namespace}")
    await turns(tenant)
    assert paid(tenant) == tenant.limits.of_namespace


async def test_preserved_balancers_count(
    tenant: ServiceCluster, cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    await cluster.grant(preserve=True)
    for number in range(tenant.limits.of_namespace):
        await tenant.create(f"web-{number}", annotations={"preserve-lb-on-delete": "on"})
        await tenant.address(f"web-{number}")
        await tenant.delete(f"web-{number}")
    assert paid(tenant) == tenant.limits.of_namespace
    await cluster.start(control_plane)  # nothing is forgotten
    await tenant.create("more")
    await told(tenant, "more", reason="TooManyLoadBalancers")
    assert paid(tenant) == tenant.limits.of_namespace


async def test_balancers_whose_finalizer_was_taken_away_count(
    tenant: ServiceCluster, cluster: ServiceCluster, control_plane: ControlPlane
) -> None:
    for number in range(tenant.limits.of_namespace):
        await tenant.create(f"web-{number}", annotations={"additional-resource-tags": "spiderpool.made-for=c1/other"})
        await tenant.address(f"web-{number}")
        await cluster.running.aclose()  # it would put the finalizer back
        await tenant.client.patch(Service, f"web-{number}", {"metadata": {"finalizers": None}}, NAMESPACE)
        await tenant.client.delete(Service, f"web-{number}", NAMESPACE)
        await cluster.start(control_plane)
    await tenant.create("more")
    await told(tenant, "more", reason="TooManyLoadBalancers")
    assert paid(tenant) == tenant.limits.of_namespace


async def test_one_tenant_leaves_room_for_another_until_the_cluster_is_full(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    with suppress(AlreadyExists):
        await cluster.client.create(Namespace(metadata=ObjectMeta(name=OTHER_NAMESPACE)))
    for number in range(tenant.limits.of_namespace):
        await tenant.create(f"web-{number}")
        await tenant.address(f"web-{number}")
    others = tenant.limits.of_cluster - tenant.limits.of_namespace
    for number in range(others + 1):
        await cluster.create(f"web-{number}", namespace=OTHER_NAMESPACE)
    await tenant.until(lambda: paid(tenant) == tenant.limits.of_cluster)
    await turns(tenant)
    assert paid(tenant) == tenant.limits.of_cluster


async def test_services_beyond_the_limit_cost_no_call_each(tenant: ServiceCluster, cluster: ServiceCluster) -> None:
    await cluster.grant(maxLoadBalancers=0)
    names = [f"web-{number}" for number in range(20)]
    for name in names:
        await tenant.create(name, annotations={"type": "nlb", "zone-maps": "a:vsw-1,b:vsw-1"})
    for name in names:
        await told(tenant, name, reason="TooManyLoadBalancers")
    tenant.simulated.account.calls.clear()
    await asyncio.sleep(3)  # they are tried again each second; our clock stands still
    assert len(calls(tenant)) <= 2


async def test_a_balancer_is_not_preserved_without_consent(tenant: ServiceCluster, cluster: ServiceCluster) -> None:
    """It is not deleted either, and has its tags as long as nobody has decided."""
    await served(tenant, "web")
    made = tenant.clb()
    await tenant.set("web", preserve_lb_on_delete="on")
    await told(tenant, "web", "cannot be deleted with this annotation", "UsedWithoutGrant")
    await tenant.client.delete(Service, "web", NAMESPACE)
    await told(tenant, "web", "or remove the annotation, after which the load balancer is deleted with its Service")
    await turns(tenant)
    assert tenant.clb().tags == made.tags
    await tenant.set("web", preserve_lb_on_delete=None)
    await tenant.eventually(lambda: tenant.gone("web"))
    assert paid(tenant) == 0


async def test_consent_ends_the_wait(tenant: ServiceCluster, cluster: ServiceCluster) -> None:
    await served(tenant, "web")
    await tenant.set("web", preserve_lb_on_delete="on")
    await tenant.client.delete(Service, "web", NAMESPACE)
    await told(tenant, "web")
    await cluster.grant(preserve=True)
    await tenant.eventually(lambda: tenant.gone("web"))
    assert tenant.clb().tags == {"spiderpool.made-for": f"c1/{NAMESPACE}/preserved"}


async def test_a_preserved_balancer_is_not_replaced_by_another_kind_beyond_the_limit(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    await cluster.grant(preserve=True, vSwitches=["vsw-2"], maxLoadBalancers=1)
    await served(tenant, "web")
    made = tenant.clb()
    await tenant.set("web", preserve_lb_on_delete="on", type="nlb", zone_maps=ZONES["zone-maps"])
    await told(tenant, "web", reason="TooManyLoadBalancers")
    await turns(tenant)
    assert (paid(tenant), tenant.clb().identity, tenant.clb().tags) == (1, made.identity, made.tags)


async def test_the_place_of_a_balancer_that_is_replaced_goes_to_no_other_service(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    await cluster.grant(vSwitches=["vsw-2"], maxLoadBalancers=1)
    await served(tenant, "web")
    for number in range(5):
        await tenant.create(f"more-{number}")
        await told(tenant, f"more-{number}", reason="TooManyLoadBalancers")
    await tenant.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    tables = tenant.simulated.account.tables
    await tenant.until(lambda: bool(list(tables.nlbs)) and not list(tables.clbs))
    await turns(tenant)
    assert paid(tenant) == 1


async def test_preserved_balancers_of_one_kind_count_while_their_api_refuses(
    tenant: ServiceCluster, cluster: ServiceCluster
) -> None:
    await cluster.grant(preserve=True, vSwitches=["vsw-2"], maxLoadBalancers=1)
    await tenant.create("old", annotations={"type": "nlb", "preserve-lb-on-delete": "on", **ZONES})
    await tenant.address("old")
    await tenant.delete("old")
    await tenant.create("web")
    await told(tenant, "web", reason="TooManyLoadBalancers")
    tenant.simulated.account.set_fault(
        Fault(kind="refuse", actions="nlb:ListLoadBalancers", code="Forbidden.RAM", status=403)
    )
    await turns(tenant)
    await turns(tenant)
    assert "Forbidden.RAM" in tenant.simulated.outcomes("nlb:ListLoadBalancers")
    assert paid(tenant) == 1
