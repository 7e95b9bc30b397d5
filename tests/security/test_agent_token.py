"""Whoever has the token of one node's agent does no harm beyond that node: the real API server refuses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.applications import Job
from spiderpool.api.core_v1 import Event, EventSource, Node, ObjectReference, Pod
from spiderpool.api.ip import IP_NODE_LABEL, IPOwner, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import STATUS_ANNOTATION
from spiderpool.api.spidernode import SpiderNode, SpiderNodeSpec
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.kube.client import Client, Forbidden
from spiderpool.kube.owners import OwnerReader
from spiderpool_lab.control_plane import ControlPlane
from tests.core.servers import MASTER
from tests.support.eventually import eventually
from tests.support.local_agent import agent_kubeconfig, node_objects

pytestmark = pytest.mark.control_plane

OWN, OTHER = "own", "other"
WEB = IPOwner("StatefulSet", "default", "web")
KEPT = ["example.com/kept"]
RELEASED = "2026-01-01T00:00:00Z"


def event(component: str, host: str) -> Event:
    metadata, involved = ObjectMeta(generateName="e-", namespace="default"), ObjectReference(kind="Node", name=OTHER)
    source = EventSource(component, host)
    return Event(metadata=metadata, involvedObject=involved, reason="R", message="m", type="Normal", source=source)


def record(address: str, node: str, label: str | None = None, **spec: Any) -> SpiderIP:
    fields = {"pool": "p", "namespace": "default", "pod": "web-0", "podUID": "u", "interface": "eth0"} | spec
    metadata = ObjectMeta(name=address, labels={IP_NODE_LABEL: label or node})
    return SpiderIP(metadata=metadata, spec=IPSpec(address=f"{address}/16", node=node, **fields))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of two Nodes; ``agent`` has the token of the agent of OWN, and nothing else."""

    admin: Client
    agent: Client

    async def stored(self, made: SpiderIP) -> SpiderIP:
        return await self.admin.create(made)


@pytest.fixture(scope="module")
def kubeconfigs(control_plane: ControlPlane) -> Any:
    with node_objects(control_plane, OWN, OTHER):
        yield control_plane.admin_kubeconfig, agent_kubeconfig(control_plane, OWN)


@pytest.fixture
async def cluster(kubeconfigs: Any) -> AsyncIterator[Cluster]:
    """Once the policy is in force; what the test leaves goes."""
    async with Client.load(kubeconfigs[0]) as admin, Client.load(kubeconfigs[1]) as agent:
        for name in (OWN, OTHER):
            await admin.create(SpiderNode.of(await admin.get(Node, name)))
        try:
            await eventually(lambda: _in_force(agent), timeout=30)
            yield Cluster(admin, agent)
        finally:
            for kind in (SpiderIP, SpiderNode, SpiderServer):
                for left in await admin.list(kind):
                    await admin.delete(kind, left.name)


async def _in_force(agent: Client) -> bool:
    """Whether a write that changes nothing is refused."""
    try:
        await agent.patch(SpiderNode, OTHER, {"status": {}}, sub="status")
    except Forbidden as error:
        return "writes the account of its own node" in str(error)
    return False


# --- SpiderIPs


async def test_its_own_addresses_are_claimed_and_released(cluster: Cluster) -> None:
    made = await cluster.agent.create(record("10.66.0.1", OWN))
    made.spec.releasedAt = RELEASED
    cold = await cluster.agent.replace(made)
    await cluster.agent.delete(SpiderIP, cold.name, uid=cold.metadata.uid)


@pytest.mark.parametrize(("node", "label"), [(OTHER, OTHER), (OTHER, OWN), (OWN, OTHER)])
async def test_no_address_is_claimed_for_another_node(cluster: Cluster, node: str, label: str) -> None:
    with pytest.raises(Forbidden, match=r"writes no SpiderIP of node other|must name node own"):
        await cluster.agent.create(record("10.66.0.1", node, label))


@pytest.mark.parametrize("stays", [{"owner": WEB}, {"releasedAt": RELEASED}])
async def test_an_address_that_stays_when_its_pod_goes_is_taken_over(cluster: Cluster, stays: dict[str, Any]) -> None:
    held = await cluster.stored(record("10.66.0.1", OTHER, **stays))
    wanted = record("10.66.0.1", OWN, podUID="next", owner=stays.get("owner"))
    wanted.metadata.resourceVersion = held.metadata.resourceVersion
    wanted.metadata.uid = held.metadata.uid
    taken = await cluster.agent.replace(wanted)
    assert taken.spec.node == OWN
    await cluster.agent.delete(SpiderIP, taken.name)


async def test_the_address_of_another_nodes_pod_is_not_taken(cluster: Cluster) -> None:
    held = await cluster.stored(record("10.66.0.1", OTHER))
    for stolen in ({"node": OWN}, {"releasedAt": RELEASED}, {"podUID": "x"}, {"owner": {"kind": "StatefulSet"}}):
        body = {"metadata": {"labels": {IP_NODE_LABEL: OWN}}, "spec": stolen}
        with pytest.raises(Forbidden):
            await cluster.agent.patch(SpiderIP, held.name, body)
    wanted = record("10.66.0.1", OWN)
    wanted.metadata.resourceVersion = held.metadata.resourceVersion
    with pytest.raises(Forbidden, match="takes no SpiderIP from node other"):
        await cluster.agent.replace(wanted)
    with pytest.raises(Forbidden, match="takes no SpiderIP from node other"):
        await cluster.agent.delete(SpiderIP, held.name)
    assert (await cluster.admin.get(SpiderIP, held.name)).spec == held.spec


async def test_the_fixed_address_of_another_node_is_disowned_and_changed_in_nothing_else(cluster: Cluster) -> None:
    held = await cluster.stored(record("10.66.0.1", OTHER, owner=WEB))
    given_up = SpiderIP(metadata=held.metadata, spec=record("10.66.0.1", OTHER, podUID="x").spec)
    with pytest.raises(Forbidden, match="writes no SpiderIP of node other"):
        await cluster.agent.replace(given_up)
    with pytest.raises(Forbidden, match="takes no SpiderIP from node other"):
        await cluster.agent.delete(SpiderIP, held.name)
    given_up.spec.podUID = "u"
    assert (await cluster.agent.replace(given_up)).spec.owner is None


async def test_no_object_is_made_to_stay_when_it_is_deleted(cluster: Cluster) -> None:
    """With a finalizer an object outlives its Node, and what an administrator does against it."""
    own = await cluster.agent.create(record("10.66.0.1", OWN))
    own.metadata.finalizers = KEPT
    with pytest.raises(Forbidden, match="no finalizers"):
        await cluster.agent.replace(own)
    fixed = await cluster.stored(record("10.66.0.2", OTHER, owner=WEB))
    fixed.spec.owner = None
    for changes in ({"finalizers": KEPT}, {"labels": {**(fixed.metadata.labels or {}), "a": "b"}}):
        disowned = SpiderIP(metadata=changed(fixed.metadata, **changes), spec=fixed.spec)
        with pytest.raises(Forbidden, match=r"no finalizers|changes no label"):
            await cluster.agent.replace(disowned)
    server = await cluster.agent.create(SpiderServer.of(await cluster.admin.get(Node, OWN), MASTER))
    with pytest.raises(Forbidden, match="describes the server of its own node alone"):
        await cluster.agent.patch(SpiderServer, server.name, {"metadata": {"finalizers": KEPT}})
    await cluster.admin.delete(SpiderNode, OWN)
    made = SpiderNode.of(await cluster.admin.get(Node, OWN))
    made.metadata.finalizers = KEPT
    with pytest.raises(Forbidden, match="writes the account of its own node"):
        await cluster.agent.create(made)


async def test_an_address_is_not_foisted_on_another_node(cluster: Cluster) -> None:
    held = await cluster.agent.create(record("10.66.0.1", OWN, owner=WEB))
    for foisted in (record("10.66.0.1", OTHER, owner=WEB), record("10.66.0.1", OWN, OTHER, owner=WEB)):
        foisted.metadata.resourceVersion = held.metadata.resourceVersion
        with pytest.raises(Forbidden):
            await cluster.agent.replace(foisted)


# --- SpiderNodes


async def test_its_own_account_is_published_and_another_node_is_asked(cluster: Cluster) -> None:
    await cluster.agent.patch(SpiderNode, OWN, {"status": {"bootID": "b"}}, sub="status")
    for number in (1, 2):
        await cluster.agent.patch(SpiderNode, OTHER, {"spec": {"accountRequest": number}})


@pytest.mark.parametrize("name", [OWN, OTHER])
@pytest.mark.parametrize(
    "body",
    [
        {"spec": {"fencedBootID": "b"}},
        {"spec": {"accountRequest": 1, "fencedBootID": "b"}},
        {"spec": {"accountRequest": 2**62}},
        {"metadata": {"labels": {"a": "b"}}, "spec": {"accountRequest": 1}},
        {"metadata": {"finalizers": ["example.com/f"]}, "spec": {"accountRequest": 1}},
        {"metadata": {"ownerReferences": None}, "spec": {"accountRequest": 1}},
    ],
)
async def test_of_a_spidernode_nothing_but_the_question_is_changed(
    cluster: Cluster, name: str, body: dict[str, Any]
) -> None:
    with pytest.raises(Forbidden, match="writes the account of its own node"):
        await cluster.agent.patch(SpiderNode, name, body)


async def test_no_account_is_published_for_another_node(cluster: Cluster) -> None:
    with pytest.raises(Forbidden, match="writes the account of its own node"):
        await cluster.agent.patch(SpiderNode, OTHER, {"status": {"sandboxes": []}}, sub="status")
    with pytest.raises(Forbidden):
        await cluster.agent.delete(SpiderNode, OTHER)
    await cluster.admin.delete(SpiderNode, OTHER)
    other, own = await cluster.admin.get(Node, OTHER), await cluster.admin.get(Node, OWN)
    with pytest.raises(Forbidden, match="writes the account of its own node"):
        await cluster.agent.create(SpiderNode.of(other))
    await cluster.admin.delete(SpiderNode, OWN)
    with pytest.raises(Forbidden, match="writes the account of its own node"):
        await cluster.agent.create(SpiderNode.of(own, SpiderNodeSpec(fencedBootID="b")))
    await cluster.agent.create(SpiderNode.of(own))


# --- SpiderServers and Nodes


async def test_its_own_server_is_described_and_no_other(cluster: Cluster) -> None:
    own, other = [await cluster.admin.get(Node, name) for name in (OWN, OTHER)]
    await cluster.agent.create(SpiderServer.of(own, MASTER))
    await cluster.agent.patch(SpiderServer, OWN, {"spec": {"zone": "z"}})
    await cluster.admin.create(SpiderServer.of(other, MASTER))
    with pytest.raises(Forbidden, match="describes the server of its own node alone"):
        await cluster.agent.patch(SpiderServer, OTHER, {"spec": {"zone": "z"}})
    await cluster.admin.delete(SpiderServer, OTHER)
    with pytest.raises(Forbidden, match="describes the server of its own node alone"):
        await cluster.agent.create(SpiderServer.of(other, MASTER))


@pytest.mark.parametrize("name", [OWN, OTHER])
@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"annotations": {"cloud.spidernet.io/instance": "{}"}}},
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
        {"spec": {"providerID": "cn-hangzhou.i-other"}},
    ],
)
async def test_no_node_is_changed(cluster: Cluster, name: str, body: dict[str, Any]) -> None:
    for sub in ("", "status"):
        with pytest.raises(Forbidden):
            await cluster.agent.patch(Node, name, body, sub=sub)


# --- pods


@pytest.fixture
async def pod(cluster: Cluster) -> AsyncIterator[Pod]:
    """A pod of the other node."""
    body = {"spec": {"nodeName": OTHER, "containers": [{"name": "c", "image": "none"}]}, "metadata": {"name": "web"}}
    made = await cluster.admin.apply(Pod, body, "web", "default")
    yield made
    await cluster.admin.delete(Pod, "web", "default", grace=0)


async def test_no_pod_is_changed(cluster: Cluster, pod: Pod) -> None:
    bodies: list[dict[str, Any]] = [
        {"status": {"podIP": "6.6.6.6", "podIPs": [{"ip": "6.6.6.6"}]}},
        {"metadata": {"annotations": {STATUS_ANNOTATION: "[]"}}},
        {"metadata": {"labels": {"app": "web"}}},
    ]
    for body in bodies:
        for sub in ("", "status"):
            with pytest.raises(Forbidden):
                await cluster.agent.patch(Pod, pod.name, body, "default", sub=sub)


async def test_the_controller_changes_one_annotation_of_pods(
    control_plane: ControlPlane, cluster: Cluster, pod: Pod
) -> None:
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    bodies: list[dict[str, Any]] = [
        {"metadata": {"labels": {"app": "web"}}},
        {"metadata": {"annotations": {"other": "x"}}},
        {"metadata": {"annotations": {"kept": None}}},
        {"metadata": {"finalizers": ["example.com/f"]}},
        {"spec": {"activeDeadlineSeconds": 1}},
    ]
    await cluster.admin.patch(Pod, pod.name, {"metadata": {"annotations": {"kept": "x"}}}, "default")
    async with Client.load(kubeconfig) as controller:
        for body in bodies:
            with pytest.raises(Forbidden, match="writes the annotation"):
                await controller.patch(Pod, pod.name, body, "default")
        with pytest.raises(Forbidden):
            await controller.patch(Pod, pod.name, {"status": {"podIP": "6.6.6.6"}}, "default", sub="status")
        await controller.patch(Pod, pod.name, {"metadata": {"annotations": {STATUS_ANNOTATION: "[]"}}}, "default")


# --- what it reads one at a time


async def test_the_job_of_a_pod_and_a_pool_of_another_node_are_read(cluster: Cluster) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}}
    body = {"metadata": {"name": "batch"}, "spec": {"suspend": True, "template": template}}
    job = await cluster.admin.apply(Job, body, "batch", "default")
    metadata = ObjectMeta(name="batch-1", namespace="default", ownerReferences=[job.as_owner(controller=True)])
    try:
        top = await OwnerReader(cluster.agent).top(Pod(metadata=metadata), timeout=5.0)
    finally:
        await cluster.admin.delete(Job, "batch", "default")
    assert top is not None
    assert str(top) == "Job default/batch"
    assert await ClusterCache(cluster.agent, OWN).read_pool("none") is None, "there is none, and it may know that"


async def test_whether_a_virtual_machine_keeps_its_address_is_read(cluster: Cluster) -> None:
    owned = record("10.66.0.1", OWN, owner=IPOwner("VirtualMachineInstance", "default", "gone"))
    assert not await OwnerReader(cluster.agent).is_needed(owned, timeout=5.0)


# --- Events


async def test_an_event_tells_the_node_that_it_comes_from(cluster: Cluster) -> None:
    made = await cluster.agent.create(event("spiderpool-agent", OWN))
    await cluster.agent.patch(Event, made.name, {"count": 2}, "default")
    for component, host in (("spiderpool-agent", OTHER), ("kubelet", OWN)):
        with pytest.raises(Forbidden, match="with itself as source"):
            await cluster.agent.create(event(component, host))
    foreign = await cluster.admin.create(event("spiderpool-agent", OTHER))
    with pytest.raises(Forbidden, match="with itself as source"):
        await cluster.agent.patch(Event, foreign.name, {"source": {"host": OWN}}, "default")


# --- the token itself


async def test_a_token_that_is_bound_to_no_pod_writes_nothing(control_plane: ControlPlane, cluster: Cluster) -> None:
    assert cluster, "the policy is in force"
    async with Client.load(control_plane.service_account_kubeconfig("kube-system", "spiderpool-agent")) as unbound:
        for write in (
            unbound.create(record("10.66.0.1", OWN)),
            unbound.create(record("10.66.0.1", "", "x")),
            unbound.patch(SpiderNode, OWN, {"status": {"bootID": "b"}}, sub="status"),
            unbound.create(event("spiderpool-agent", "")),
        ):
            with pytest.raises(Forbidden, match="is bound to no pod of a node"):
                await write


async def test_the_policies_are_typed_right(cluster: Cluster, control_plane: ControlPlane) -> None:
    assert cluster, "the API server has looked at them"
    status = control_plane.kubectl("get", "validatingadmissionpolicies", "-o", "jsonpath={.items[*].status}")
    assert "expressionWarnings" not in status
