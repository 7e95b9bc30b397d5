"""An exchange of kinds comes to its end although the former balancer is gone before its Service is released from it."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import ObjectReference, Pod
from spiderpool.api.discovery_v1 import SERVICE_LABEL, Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.pod_readiness import GatedPod, GatedPodSpec, GatedPodStatus, PodCondition, PodReadinessGate
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.alibaba.naming import READINESS_GATE_PREFIX
from spiderpool_lab.alibaba import balancers
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloudcontroller.pretend_cluster import PretendCluster
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

CLB_FINALIZER, NLB_FINALIZER = CLB.naming.finalizer, NLB.naming.finalizer
GATE = f"{READINESS_GATE_PREFIX}web"
IN_USE = Fault(kind="refuse", actions="nlb:DeleteServerGroup", code="ResourceInUse.ServerGroup", status=400)


async def begun(cluster: PretendCluster, kind: str, other: str, **annotations: str) -> str:
    """Has a Service with a balancer ask for the other kind; returns the former address, when the new one waits."""
    await cluster.grant(vSwitches=["vsw-2"])
    await cluster.create("web", annotations={"type": kind, **ZONES, **annotations})
    address = await cluster.address("web")
    await cluster.set("web", type=other)
    await cluster.at_this_moment("ExchangingLoadBalancer")
    return address


async def test_a_server_group_that_is_released_late_does_not_keep_the_exchange(pretended: PretendCluster) -> None:
    await begun(pretended, "nlb", "clb")
    pretended.simulated.account.set_fault(IN_USE)
    await pretended.wait_for_event("SyncLoadBalancerFailed", "DeleteServerGroup")
    pretended.simulated.account.faults.clear()
    await pretended.has_only("web", CLB_FINALIZER)
    made = pretended.clb()
    assert await pretended.marks("web") == ([CLB_FINALIZER], made.identity, "", made.address)
    assert not [*pretended.simulated.account.tables.nlb_groups]


@pytest.mark.parametrize(("kind", "other", "finalizer"), [("clb", "nlb", NLB_FINALIZER), ("nlb", "clb", CLB_FINALIZER)])
async def test_a_former_balancer_that_somebody_deletes_during_the_exchange_is_not_waited_for(
    pretended: PretendCluster, kind: str, other: str, finalizer: str
) -> None:
    await begun(pretended, kind, other)
    tables = pretended.simulated.account.tables
    if kind == "clb":
        tables.clbs.remove(pretended.clb().identity)
    else:
        for each in [*tables.nlb_listeners]:
            tables.nlb_listeners.remove(each.identity)
        tables.nlbs.remove(next(iter(tables.nlbs)).identity)
    await pretended.has_only("web", finalizer)


@pytest.mark.parametrize("hostname", ["", "web.example.com"])
async def test_the_balancer_that_clients_use_stays_when_the_former_kind_is_asked_for_no_longer(
    pretended: PretendCluster, hostname: str
) -> None:
    """The former one is gone, and its Service not released from it yet, whoever leads."""
    await begun(pretended, "nlb", "clb", **({"hostname": hostname} if hostname else {}))
    tables = pretended.simulated.account.tables
    pretended.simulated.account.set_fault(IN_USE)
    await pretended.until(lambda: not [*tables.nlbs])
    made = pretended.clb()
    finalizers, label, other, address = await pretended.marks("web")
    assert (sorted(finalizers), label, address) == (
        sorted((CLB_FINALIZER, NLB_FINALIZER)),
        made.identity,
        hostname or made.address,
    )
    assert other.startswith("nlb-"), "as long as something of it may be there"
    await pretended.restart()
    await pretended.set("web", type=None)
    pretended.simulated.account.faults.clear()
    await pretended.has_only("web", CLB_FINALIZER)
    assert ([each.identity for each in tables.clbs], [*tables.nlbs]) == ([made.identity], [])


async def test_a_lent_balancer_is_returned_although_the_label_names_the_new_one(pretended: PretendCluster) -> None:
    tables = pretended.simulated.account.tables
    tables.clbs.put(balancers.CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}))
    await pretended.grant(loadBalancers=["lb-mine"], overrideListeners=True, vSwitches=["vsw-2"])
    lent = {"id": "lb-mine", "force-override-listeners": "true"}
    await pretended.create("web", annotations=lent)
    await pretended.address("web")
    number = pretended.simulated.account.set_fault(
        Fault(kind="refuse", actions="slb:DeleteLoadBalancerListener", code="OperationUnsupported", status=400)
    )
    await pretended.set("web", type="nlb", zone_maps=ZONES["zone-maps"], id=None, force_override_listeners=None)
    await pretended.wait_for_event("SyncLoadBalancerFailed", "DeleteLoadBalancerListener")
    (made,) = tables.nlbs
    assert (await pretended.marks("web"))[1:3] == (made.identity, "lb-mine")
    await pretended.restart()
    pretended.simulated.account.faults.clear(number)
    await pretended.has_only("web", NLB_FINALIZER)
    assert (pretended.clb().listeners, pretended.clb().tags) == ((), {})
    assert (await pretended.marks("web"))[1:3] == (made.identity, "")


async def test_pods_become_ready_by_the_new_balancer_behind_a_name_of_the_users_own(pretended: PretendCluster) -> None:
    await begun(pretended, "nlb", "clb", hostname="web.example.com")
    tables = pretended.simulated.account.tables
    pretended.simulated.account.set_fault(IN_USE)
    await pretended.until(lambda: not [*tables.nlbs])
    spec = GatedPodSpec(readinessGates=[PodReadinessGate(GATE)])
    status = GatedPodStatus(conditions=[PodCondition("ContainersReady", "True")])
    pretended.server.put(GatedPod(metadata=ObjectMeta(name="p", namespace=NAMESPACE), spec=spec, status=status))
    uid = pretended.server.stored(GatedPod)[f"{NAMESPACE}/p"].metadata.uid
    pod = ObjectReference(kind=Pod.KIND.name, name="p", namespace=NAMESPACE, uid=uid)
    listed = [Endpoint(["172.31.192.11"], EndpointConditions(ready=False), nodeName="a", targetRef=pod)]
    metadata = ObjectMeta(name="web-1", namespace=NAMESPACE, labels={SERVICE_LABEL: "web"})
    ports = [EndpointPort("", 8080, "TCP")]
    pretended.server.put(EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=ports))

    def is_open() -> bool:
        return pretended.server.stored(GatedPod)[f"{NAMESPACE}/p"].is_true(GATE)

    await pretended.until(is_open)


async def test_a_new_balancer_that_somebody_deletes_is_made_again(pretended: PretendCluster) -> None:
    await begun(pretended, "clb", "nlb")
    tables = pretended.simulated.account.tables
    (deleted,) = tables.nlbs
    tables.nlbs.remove(deleted.identity)
    await pretended.has_only("web", NLB_FINALIZER)
    assert [each.identity for each in tables.nlbs] != [deleted.identity]
