"""Pods that wait for a load balancer by a readiness gate become ready when they are servers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import ObjectReference, Pod, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.kube.client import ApiRefusal, Client
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.service_cluster import ENI_BACKENDS, NAMESPACE, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

GATE = "service.readiness.alibabacloud.com/web"
NOT_READY = EndpointConditions(ready=False, serving=False, terminating=False)


@pytest.fixture
async def gated(cluster: ServiceCluster) -> AsyncIterator[ServiceCluster]:
    """The cluster, without pods at the end."""
    yield cluster
    for pod in await cluster.client.list(Pod, NAMESPACE):
        await cluster.client.delete(Pod, pod.name, NAMESPACE, grace=0)


async def new_pod(cluster: ServiceCluster, name: str, *gates: str) -> ObjectReference:
    """A pod with readiness gates, as an endpoint refers to it."""
    container = {"name": "c", "image": "none"}
    spec = {
        "containers": [container],
        "schedulerName": "none",
        "readinessGates": [{"conditionType": each} for each in gates],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    made = msgspec.convert(msgspec.json.decode(await cluster.client.apply_raw(Pod.KIND, body, name, NAMESPACE)), Pod)
    return ObjectReference(kind="Pod", name=name, namespace=NAMESPACE, uid=made.metadata.uid)


async def containers_ready(cluster: ServiceCluster, name: str) -> None:
    """What a kubelet writes when all containers of a pod are ready."""
    body = {"status": {"conditions": [{"type": "ContainersReady", "status": "True"}]}}
    await cluster.client.patch(Pod, name, body, NAMESPACE, sub="status", strategic=True)


async def conditions(client: Client, name: str) -> dict[str, str]:
    """The conditions of a pod."""
    pod = await client.get(GatedPod, name, NAMESPACE)
    return {each.type: each.status for each in pod.status.conditions or ()}


async def is_open(cluster: ServiceCluster, name: str) -> bool:
    """Whether the condition of a pod's gate is True."""
    return (await conditions(cluster.client, name)).get(GATE) == "True"


async def endpoints(cluster: ServiceCluster, **pods: ObjectReference) -> None:
    """The pods of the Service, none of which is ready: address, with underscores, and pod of each."""
    metadata = ObjectMeta(name="web-1", namespace=NAMESPACE, labels={SERVICE_LABEL: "web"})
    listed = [
        Endpoint([address.strip("_").replace("_", ".")], NOT_READY, "a", pod) for address, pod in sorted(pods.items())
    ]
    body = EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=[EndpointPort("", 8080, "TCP")])
    await cluster.client.apply(EndpointSlice, msgspec.to_builtins(body), metadata.name, NAMESPACE)


@pytest.mark.reference_case("readiness gates of pods")
@pytest.mark.parametrize(
    ("annotations", "policy", "servers"),
    [
        (ENI_BACKENDS, "Cluster", {"172.31.192.10": 100}),
        ({}, "Local", {"i-a": 1}),
        ({}, "Cluster", {"i-a": 100, "i-b": 100}),
    ],
)
async def test_a_pod_is_made_a_server_and_then_ready(
    gated: ServiceCluster, annotations: dict[str, str], policy: str, servers: dict[str, Any]
) -> None:
    waits, plain = await new_pod(gated, "waits", GATE), await new_pod(gated, "plain")
    await containers_ready(gated, "plain")
    await endpoints(gated, _172_31_192_10=waits, _172_31_192_11=plain)
    await gated.create("web", annotations=annotations, externalTrafficPolicy=policy)
    await gated.address("web")
    assert gated.weights() == ({} if policy == "Local" or annotations else servers)
    assert GATE not in await conditions(gated.client, "waits")

    await containers_ready(gated, "waits")  # of which no EndpointSlice tells

    async def opened() -> bool:
        return (await conditions(gated.client, "waits")).get(GATE) == "True"

    await gated.eventually(opened)
    assert gated.weights() == servers
    assert GATE not in await conditions(gated.client, "plain")


async def test_a_pod_of_which_no_eni_is_known_stays_closed(gated: ServiceCluster) -> None:
    known, unknown = await new_pod(gated, "known", GATE), await new_pod(gated, "unknown", GATE)
    for name in ("known", "unknown"):
        await containers_ready(gated, name)
    await endpoints(gated, _172_31_192_10=known, _172_31_192_99=unknown)
    await gated.create("web", annotations=ENI_BACKENDS)

    async def opened() -> bool:
        return (await conditions(gated.client, "known")).get(GATE) == "True"

    await gated.eventually(opened)
    await gated.wait_for_event("SyncLoadBalancerFailed", "172.31.192.99")
    assert GATE not in await conditions(gated.client, "unknown")


RUNNING = {
    **{"name": "debugger", "image": "none", "imageID": "", "ready": True, "restartCount": 0},
    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
}
"""The status of a container that runs."""


async def written_parts(client: Client) -> tuple[Any, Any]:
    """Labels and status of the pod ``victim``."""
    whole = msgspec.json.decode(await client.get_raw(Pod.KIND.object_path(NAMESPACE, "victim")))
    return whole["metadata"].get("labels"), whole["status"]


async def test_a_refusal_of_something_else_keeps_no_pod_waiting(gated: ServiceCluster) -> None:
    pod = await new_pod(gated, "waits", GATE)
    await gated.create("web")
    await gated.address("web")
    await gated.until(lambda: len(gated.weights()) == 2)
    refused = Fault(kind="refuse", actions="slb:SetLoadBalancerDeleteProtection", code="Forbidden.RAM", status=403)
    gated.simulated.account.set_fault(refused)
    await gated.set("web", delete_protection="off")
    await gated.wait_for_event("SyncLoadBalancerFailed", "SetLoadBalancerDeleteProtection")
    await containers_ready(gated, "waits")
    await endpoints(gated, _172_31_192_10=pod)

    async def opened() -> bool:
        return (await conditions(gated.client, "waits")).get(GATE) == "True"

    await gated.eventually(opened)


async def test_a_pod_that_has_become_a_server_waits_for_no_further_try(
    gated: ServiceCluster, control_plane: ControlPlane
) -> None:
    """The plan that adds it is refused in part, and tried again only after minutes."""
    first, second = await new_pod(gated, "first", GATE), await new_pod(gated, "second", GATE)
    for name in ("first", "second"):
        await containers_ready(gated, name)
    await endpoints(gated, _172_31_192_10=first)
    await gated.create("web", annotations=ENI_BACKENDS)
    await gated.eventually(lambda: is_open(gated, "first"))
    gated.period = gated.last_pause = 1000.0
    await gated.start(control_plane)
    refused = Fault(kind="refuse", actions="slb:SetLoadBalancerDeleteProtection", code="Forbidden.RAM", status=403)
    gated.simulated.account.set_fault(refused)
    await gated.set("web", delete_protection="off")
    await gated.wait_for_event("SyncLoadBalancerFailed", "SetLoadBalancerDeleteProtection")
    await endpoints(gated, _172_31_192_10=first, _172_31_192_11=second)
    await gated.eventually(lambda: is_open(gated, "second"))


async def test_a_pod_does_not_wait_for_a_balancer_that_is_refused(gated: ServiceCluster) -> None:
    pod = await new_pod(gated, "waits", GATE)
    await endpoints(gated, _172_31_192_10=pod)
    await gated.create("web", annotations={"scheduler": "no-such"})
    await gated.eventually(lambda: is_open(gated, "waits"))
    assert not gated.simulated.account.tables.clbs


async def test_a_pod_does_not_wait_for_a_balancer_that_goes(gated: ServiceCluster) -> None:
    pod = await new_pod(gated, "waits", GATE)
    await endpoints(gated, _172_31_192_10=pod)
    await gated.create("web")
    await gated.address("web")
    assert not await is_open(gated, "waits")
    await gated.client.patch(Service, "web", {"spec": {"type": "ClusterIP"}}, NAMESPACE)
    await gated.until(lambda: not gated.simulated.account.tables.clbs)
    assert await is_open(gated, "waits")


@pytest.mark.parametrize(
    "body",
    [
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}},
        {"status": {"podIP": "172.31.192.77", "podIPs": [{"ip": "172.31.192.77"}]}},
        {"status": {"phase": "Failed"}},
        {"status": {"hostIP": "172.31.192.77", "hostIPs": [{"ip": "172.31.192.77"}]}},
        {"status": {"ephemeralContainerStatuses": [RUNNING]}},
        {"status": {"startTime": "2026-01-01T00:00:00Z"}},
        {"metadata": {"labels": {"app": "web"}}, "status": {"reason": "mine"}},
    ],
)
async def test_nothing_else_of_a_pod_is_written(
    gated: ServiceCluster, control_plane: ControlPlane, body: dict[str, Any]
) -> None:
    await new_pod(gated, "victim", GATE)
    before = await written_parts(gated.client)
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")
    async with Client.load(kubeconfig) as thief:
        with pytest.raises(ApiRefusal):
            await thief.patch(Pod, "victim", body, NAMESPACE, sub="status", strategic=True)
        with pytest.raises(ApiRefusal):
            await thief.patch(Pod, "victim", body, NAMESPACE, strategic=True)
    assert await written_parts(gated.client) == before


def test_the_policy_names_every_field_of_a_pods_status(control_plane: ControlPlane) -> None:
    """A field that a later Kubernetes adds, and the policy lacks, could be written."""
    document = json.loads(control_plane.kubectl("get", "--raw", "/openapi/v2"))
    fields = {*document["definitions"]["io.k8s.api.core.v1.PodStatus"]["properties"]}
    assert {"conditions", "phase", "podIPs"} <= fields
    answer = control_plane.kubectl("get", "validatingadmissionpolicy", "spiderpool-readiness-gates", "--output", "json")
    (validation,) = json.loads(answer)["spec"]["validations"]
    compared = re.findall(r"object\.status\.\?(\w+) == oldObject\.status\.\?(\w+)", validation["expression"])
    named = {name for name, other in compared if name == other}
    assert fields - named == {"conditions"}
