"""`spiderpoolctl explain`: what it says of pods that have an address, would get one, or get none."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click import UsageError
from msgspec.structs import replace

from spiderpool.api.core_v1 import (
    ConfigMap,
    Event,
    Namespace,
    Node,
    NodeCondition,
    NodeStatus,
    ObjectReference,
    Pod,
    PodSpec,
)
from spiderpool.api.ip import IP_OWNER_LABEL, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.ipquota import EXHAUSTED_LABEL, IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import Object, ObjectMeta, OwnerReference
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.explain.answer import Explanation
from spiderpool.cli.explain.question import PodQuestion
from spiderpool.cli.policies import AgentSet
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.dry_run import GrantOrigin
from spiderpool.core.ipam.owners import owner_label
from spiderpool.errors import BadConfig, Refused
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

KINDS = (
    *(Pod, Node, Namespace, Event, ConfigMap, AgentSet, SpiderIP, SpiderIPPool, SpiderIPQuota, SpiderReservedIP),
    *(SpiderNode, SpiderServer, NetworkAttachmentDefinition),
)
NAD = '{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ipvlan","master":"eth1","ipam":{"type":"spiderpool"}}]}'
OWN = "annotation ipam.spidernet.io/ippool"


def pool(name: str, ips: str = "10.0.0.1-10.0.0.4", **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": [ips], "default": True, "ipVersion": 4} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))


def of_eni(made: SpiderIPPool) -> SpiderIPPool:
    return replace(made, metadata=replace(made.metadata, labels={POOL_ENI_LABEL: "eni-1"}))


def record(address: str, uid: str = "uid-9", **changes: Any) -> SpiderIP:
    labels = {"ipam.spidernet.io/ippool": "blue", "ipam.spidernet.io/node": "n1"}
    spec = IPSpec(f"{address}/24", "blue", "n1", "default", "other", uid, "eth0")
    return SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=replace(spec, **changes))


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    metadata = ObjectMeta(name="web", namespace="default", annotations=annotations)
    return Pod(metadata=metadata, spec=PodSpec(**{"nodeName": "n1", **spec}))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with one network, one node and the settings of its agents."""
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server:
        nad = NetworkAttachmentDefinition(
            metadata=ObjectMeta(name="underlay", namespace="kube-system"), spec=NADSpec(config=NAD)
        )
        status = NodeStatus([NodeCondition("Ready", "True")])
        server.put(nad, Node(metadata=ObjectMeta(name="n1"), status=status), Namespace(metadata=ObjectMeta("default")))
        data = {"conf.yml": "enableIPv6: true", "clusterNetwork": "kube-system/underlay"}
        server.put(ConfigMap(metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data=data))
        server.put(agents())
        yield server


def agents() -> AgentSet:
    metadata = {
        "name": "agents",
        "namespace": "kube-system",
        "labels": {"app.kubernetes.io/component": "spiderpool-agent"},
    }
    reference = {"configMapKeyRef": {"name": "spiderpool-conf", "key": "clusterNetwork"}}
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    env = [{"name": "MULTUS_CLUSTER_NETWORK", "valueFrom": reference}, {"name": "NODE", "valueFrom": field}]
    return msgspec.convert(
        {"metadata": metadata, "spec": {"template": {"spec": {"containers": [{"env": env}]}}}}, AgentSet
    )


async def explained(server: ApiServer, *words: str, text: str | None = None, **options: Any) -> Explanation:
    given_options = {"node": None, "namespace": None, "values": None, "default_network": None}
    known = {**given_options, "spiderpool_namespace": "kube-system", **options}
    question = PodQuestion.of(words, io.StringIO(text) if text else None, **known)
    async with server.client() as client:
        return await question.answer(Cluster(client, 5.0))


async def test_a_pod_that_would_get_an_address(server: ApiServer) -> None:
    server.put(pod(), pool("blue", nodeName=["n1"]), pool("red", nodeName=["n2"]), record("10.0.0.1"))
    found = await explained(server, "pod", "default/web")
    assert printed(found, "table", View(width=80)) == (
        "Pod default/web on node n1 would get all its addresses now\n"
        "\n"
        "INTERFACE  NETWORK               MADE AS\n"
        "eth0       kube-system/underlay  ipvlan on eth1\n"
        "\n"
        "eth0, IPv4: would get 10.0.0.2 of pool blue: it is free\n"
        "Pools of the cluster's default pools:\n"
        "POOL  RULE  BECAUSE\n"
        "blue  kept  may serve this pod\n"
        "red   node  is for node n2, not n1"
    )
    assert (found.refusal, found.advice, found.notes) == (None, (), ())
    assert printed(found, "name", View()) == "spiderippool.spiderpool.spidernet.io/blue"
    for output in ("wide", "json", "yaml"):
        assert "10.0.0.2" in printed(found, output, View(wide=output == "wide"))


async def test_a_pod_that_holds_its_address(server: ApiServer) -> None:
    server.put(pod(), pool("blue"))
    uid = server.stored(Pod)["default/web"].metadata.uid or ""
    server.put(record("10.0.0.3", uid))
    found = await explained(server, "pod/web")
    assert found.outcome == "has 10.0.0.3"
    assert "eth0, IPv4: has 10.0.0.3 of pool blue" in printed(found, "table", View())


async def test_a_static_pod_holds_its_address_by_its_manifest(server: ApiServer) -> None:
    server.put(pod({"kubernetes.io/config.hash": "hash-1"}), pool("blue"), record("10.0.0.3", "hash-1"))
    assert (await explained(server, "pod/web")).outcome == "has 10.0.0.3"


@pytest.mark.parametrize(
    ("objects", "said", "advice"),
    [
        ((pool("blue", nodeName=["n2"]),), "blue: is for node n2, not n1", "spec.nodeName of pool blue"),
        ((pool("blue", disable=True),), "blue: is disabled", "set spec.disable of pool blue to false"),
        ((pool("blue", "10.0.0.1"), record("10.0.0.1")), "1 of 1 addresses in use", "add addresses to spec.ips"),
        ((pool("blue", namespaceName=["shop"]),), "is for namespace shop", "spec.namespaceName of pool blue"),
        ((pool("blue", multusName=["other"]),), "is for network kube-system/other", "spec.multusName of pool blue"),
        ((of_eni(pool("blue")),), "is for ENI eni-1, which node n1 does not report", "delete pool blue if its server"),
        ((pool("blue", "10.0.0.9-10.0.0.1"),), "its addresses cannot be read", "correct spec.ips"),
    ],
)
async def test_a_pod_that_is_refused_is_told_what_to_change(
    server: ApiServer, objects: tuple[Object, ...], said: str, advice: str
) -> None:
    server.put(pod(), *objects)
    found = await explained(server, "pod", "default/web")
    assert said in (found.refusal or "")
    assert len(found.advice) == 1
    assert advice in found.advice[0]
    shown = printed(found, "table", View(width=80))
    assert shown.startswith("Pod default/web on node n1 gets no address\n! no")
    assert "What to change:\n  - " in shown


async def test_a_pool_that_does_not_exist(server: ApiServer) -> None:
    server.put(pod({"ipam.spidernet.io/ippool": '{"ipv4": ["absent"]}'}), pool("blue"))
    found = await explained(server, "pod", "default/web")
    assert [verdict.reason for verdict in found.sources if verdict.kept] == [
        "decides, as number 3 in order of priority"
    ]
    assert found.advice == ("make pool absent for this node, or correct its name where it is written",)


def of_node(made: SpiderIPPool, node: str = "n2") -> SpiderIPPool:
    """A pool as the webhooks write it: agents of other nodes do not see it."""
    labels = {**(made.metadata.labels or {}), POOL_NODE_LABEL: node}
    return replace(made, metadata=replace(made.metadata, labels=labels), spec=replace(made.spec, nodeName=[node]))


@pytest.mark.parametrize("named", ["blue", "bl*"])
@pytest.mark.parametrize(
    ("made", "advice"),
    [
        (pool("blue"), "add the node to spec.nodeName of pool blue"),
        (of_eni(pool("blue")), "name a pool of the pod's own node: blue is for an ENI of node n2, or let the pod run"),
        (pool("blue", "fd00::1", subnet="fd00::/64", ipVersion=6), "name pools of both families in the right place"),
    ],
    ids=["made by hand", "of an ENI", "of the other family"],
)
async def test_a_pool_of_another_node_that_a_pod_names(
    server: ApiServer, named: str, made: SpiderIPPool, advice: str
) -> None:
    """The agent's words are those for a pool that does not exist: it does not see it."""
    server.put(pod({"ipam.spidernet.io/ippool": json.dumps({"ipv4": [named]})}), of_node(made))
    found = await explained(server, "pod", "default/web")
    assert "IPv4 pool" in (found.refusal or "")
    assert "that node n1 may use" in (found.refusal or "")
    (told,) = found.advice
    assert told.startswith(advice)


async def test_a_quota_of_which_nothing_is_left(server: ApiServer) -> None:
    quota = SpiderIPQuota(
        metadata=ObjectMeta(name="few", namespace="default", labels={EXHAUSTED_LABEL: "true"}), spec=IPQuotaSpec(1)
    )
    server.put(pod(), pool("blue"), quota)
    found = await explained(server, "pod", "default/web")
    assert "SpiderIPQuota default/few" in (found.refusal or "")
    assert "spec.addresses" in found.advice[0]


async def test_a_network_that_does_not_exist(server: ApiServer) -> None:
    server.put(pod({"v1.multus-cni.io/default-network": "kube-system/absent"}), pool("blue"))
    found = await explained(server, "pod", "default/web")
    assert found.refusal == (
        "network kube-system/absent does not exist; create a SpiderMultusConfig or NetworkAttachmentDefinition"
    )


async def test_a_pod_in_the_network_of_its_node(server: ApiServer) -> None:
    server.put(pod(hostNetwork=True))
    found = await explained(server, "pod", "default/web")
    assert (found.refusal, found.outcome[:11]) == (None, "is in the n")


async def test_an_address_that_a_sandbox_uses_without_a_record(server: ApiServer) -> None:
    interface = SandboxInterface("eth0", None, ["10.0.0.1"])
    sandbox = NodeSandbox("uid-5", "default", "lost", "c0ffee", [interface])
    account = SpiderNode(metadata=ObjectMeta(name="n1"), status=NodeAccount(1, sandboxes=[sandbox]))
    server.put(pod(), pool("blue", "10.0.0.1"), account)
    assert "1 of 1 addresses in use" in ((await explained(server, "pod", "default/web")).refusal or "")


async def test_an_address_that_the_pod_asks_for_and_another_pool_has(server: ApiServer) -> None:
    networks = '[{"name": "underlay", "namespace": "kube-system", "ips": ["10.0.0.2"]}]'
    server.put(pod({"v1.multus-cni.io/default-network": networks}), pool("blue"))
    taken = record("10.0.0.2", pool="red", node="n2")
    server.put(replace(taken, metadata=ObjectMeta(name="10.0.0.2", labels={"ipam.spidernet.io/ippool": "red"})))
    found = await explained(server, "pod", "default/web")
    assert "10.0.0.2 is in use" in (found.refusal or "")


async def test_what_the_last_attempts_said(server: ApiServer) -> None:
    server.put(pod(), pool("blue"))
    target = ObjectReference(kind="Pod", name="web", namespace="default")
    for number in range(5):
        server.put(
            Event(
                metadata=ObjectMeta(name=f"e{number}", namespace="default"),
                involvedObject=target,
                reason="FailedCreatePodSandBox\x1b]0;owned\x07",
                message=f"attempt {number}\x1b[31m",
                type="Warning",
                lastTimestamp=f"2026-01-01T00:00:0{number}Z",
            )
        )
    found = await explained(server, "pod", "default/web")
    assert [each.message[:9] for each in found.events] == [f"attempt {number}" for number in (4, 3, 2, 1, 0)]
    assert printed(found, "table", View()).count("FailedCreatePodSandBox") == 3
    assert "\x1b" not in printed(found, "wide", View(wide=True))


class TestManifests:
    @pytest.mark.parametrize(
        ("kind", "api", "name"), [("Deployment", "apps/v1", "web-new"), ("StatefulSet", "apps/v1", "web-0")]
    )
    async def test_a_pod_that_its_workload_would_make(self, server: ApiServer, kind: str, api: str, name: str) -> None:
        server.put(pool("blue"))
        template = {"metadata": {"annotations": {"ipam.spidernet.io/ippool": '{"ipv4": ["blue"]}'}}, "spec": {}}
        manifest = {"apiVersion": api, "kind": kind, "metadata": {"name": "web"}, "spec": {"template": template}}
        found = await explained(server, text=yaml.safe_dump(manifest), node="n1", namespace="shop")
        assert (found.pod, found.outcome) == (f"shop/{name}", "would get all its addresses now")
        assert found.addresses[0].source == OWN

    async def test_a_stateful_pod_gets_the_address_of_its_ordinal(self, server: ApiServer) -> None:
        owner = IPOwner("StatefulSet", "default", "web")
        kept = record("10.0.0.4", owner=owner, pod="web-0", releasedAt="2026-01-01T00:00:00Z", node="n2")
        labels = {IP_OWNER_LABEL: owner_label(owner, "web-0"), "ipam.spidernet.io/ippool": "blue"}
        server.put(pool("blue"), replace(kept, metadata=ObjectMeta(name="10.0.0.4", labels=labels)))
        manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {}}
        found = await explained(server, text=yaml.safe_dump(manifest), node="n1")
        assert (found.addresses[0].address, found.addresses[0].because) == ("10.0.0.4", GrantOrigin.OWNER)

    async def test_a_pod(self, server: ApiServer) -> None:
        server.put(pool("blue"))
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"nodeName": "n1"}}
        assert (await explained(server, text=yaml.safe_dump(manifest))).pod == "default/a"

    async def test_without_a_pod_or_a_node(self, server: ApiServer) -> None:
        with pytest.raises(BadConfig, match="neither a Pod nor a workload"):
            await explained(server, text="kind: Service", node="n1")
        with pytest.raises(Refused, match="is on no node yet, and addresses depend on the node: name one by --node"):
            await explained(server, text="{kind: Pod, metadata: {name: a}}")


async def test_a_pod_that_does_not_exist(server: ApiServer) -> None:
    with pytest.raises(Refused, match="pod default/absent does not exist"):
        await explained(server, "pod", "absent")


async def test_a_controller_that_does_not_exist(server: ApiServer) -> None:
    owner = OwnerReference("apps/v1", "ReplicaSet", "web-1", "u", controller=True)
    web = pod({"ipam.spidernet.io/subnet": '{"ipv4": ["blue"]}'})
    server.put(replace(web, metadata=replace(web.metadata, ownerReferences=[owner])))
    found = await explained(server, "pod", "default/web")
    assert "ReplicaSet default/web-1, which owns pod default/web" in (found.refusal or "")


async def test_settings_that_are_not_there_are_named(server: ApiServer, tmp_path: Path) -> None:
    for each in (*server.stored(ConfigMap).values(), *server.stored(AgentSet).values()):
        server.remove(each)
    server.put(pod(), pool("blue"))
    found = await explained(server, "pod", "default/web")
    assert "the pod names no network and the cluster has no default" in (found.refusal or "")
    assert len(found.notes) == 2
    values = tmp_path / "conf.yml"
    values.write_text("enableIPv4: false\nenableIPv6: true\n")
    found = await explained(server, "pod", "default/web", values=values, default_network="kube-system/underlay")
    assert "enableIPv4 is false in the ConfigMap" in (found.refusal or "")
    assert found.notes == ()
    values.write_text("ipam: {enableIPv4: false}")
    with pytest.raises(BadConfig, match="give what these become: `kubectl --namespace"):
        await explained(server, "pod", "default/web", values=values)


@pytest.mark.parametrize("words", [(), ("web",), ("node", "n1"), ("pod", "a", "b")])
def test_what_names_no_pod_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="name one pod"):
        PodQuestion.of(words, None)
