"""`spiderpoolctl plan`: what it says of pods that are to come."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click import UsageError
from click.testing import CliRunner

from spiderpool.api.address_resources import AdvertisedStatus, AdvertisingNode
from spiderpool.api.core_v1 import ConfigMap, Event, Namespace, Node, NodeCondition, NodeStatus
from spiderpool.api.ip import IP_OWNER_LABEL, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.ipquota import IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.scheduling import (
    SCHEDULED_WORKLOADS,
    ScheduledDaemonSet,
    ScheduledDeployment,
    ScheduledPod,
    ScheduledReplicaSet,
    ScheduledSpec,
    ScheduledStatefulSet,
    ScheduledTemplate,
    SchedulingSpec,
)
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.cli.connection import Cluster
from spiderpool.cli.main import cli
from spiderpool.cli.plan.answer import AddressPlan, Placement
from spiderpool.cli.plan.question import PlanQuestion
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.owners import owner_label
from spiderpool.errors import BadConfig, Refused
from tests.cli.test_explain import NAD, agents
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

KINDS = (
    *(ScheduledPod, Node, Namespace, Event, ConfigMap, SpiderIP, SpiderIPPool, SpiderIPQuota, SpiderReservedIP),
    *(SpiderServer, SpiderSubnet, NetworkAttachmentDefinition, *SCHEDULED_WORKLOADS),
)
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec: {replicas: 5, template: {metadata: {labels: {app: web}}}}
"""


def node(name: str, **spec: Any) -> Node:
    made = Node(metadata=ObjectMeta(name=name), status=NodeStatus([NodeCondition("Ready", "True")]))
    for key, value in spec.items():
        setattr(made.spec, key, value)
    return made


def pool(name: str, ips: str, node: str | None = None, **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": [ips], "default": True, "ipVersion": 4} | spec
    labels = {POOL_NODE_LABEL: node} if node else None
    spec_of = IPPoolSpec(**fields | ({"nodeName": [node]} if node else {}))
    return SpiderIPPool(metadata=ObjectMeta(name=name, labels=labels), spec=spec_of)


def record(address: str, **spec: Any) -> SpiderIP:
    fields = {"pool": "one", "node": "n1", "namespace": "default", "pod": "other", "podUID": "u", "interface": "eth0"}
    made = IPSpec(address=f"{address}/24", **fields | spec)
    labels = {IP_OWNER_LABEL: owner_label(made.owner, made.pod)} if made.owner else None
    return SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=made)


def owned(name: str, owner: str, kind: str = "ReplicaSet", node: str | None = "n1", uid: str = "") -> ScheduledPod:
    reference = OwnerReference("apps/v1", kind, owner, f"uid-of-{owner}", controller=True)
    metadata = ObjectMeta(name=name, namespace="default", uid=uid or f"uid-of-{name}", ownerReferences=[reference])
    return ScheduledPod(metadata=metadata, spec=SchedulingSpec(nodeName=node))


def spec(replicas: int | None = None, annotations: dict[str, str] | None = None) -> ScheduledSpec:
    return ScheduledSpec(template=ScheduledTemplate(metadata=ObjectMeta(annotations=annotations)), replicas=replicas)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with two nodes, which have a pool of three and one of one address."""
    async with ApiServer(*{kind.KIND for kind in KINDS}) as server:
        metadata = ObjectMeta(name="underlay", namespace="kube-system")
        server.put(NetworkAttachmentDefinition(metadata=metadata, spec=NADSpec(config=NAD)))
        data = {"conf.yml": "enableIPv6: false", "clusterNetwork": "kube-system/underlay"}
        server.put(ConfigMap(metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data=data))
        server.put(agents(), Namespace(metadata=ObjectMeta(name="default")), node("n1"), node("n2"))
        server.put(pool("one", "10.0.0.1-10.0.0.3", "n1"), pool("two", "10.0.0.11", "n2"))
        yield server


async def planned(server: ApiServer, *words: str, texts: tuple[str, ...] = (), **options: Any) -> AddressPlan:
    known: dict[str, Any] = {"replicas": None, "namespace": None, "values": None, "default_network": None}
    known |= {"spiderpool_namespace": "kube-system"} | options
    question = PlanQuestion.of(words, [io.StringIO(text) for text in texts], **known)
    async with server.client() as client:
        return await question.answer(Cluster(client, 5.0))


def refused(found: AddressPlan) -> tuple[int, ...]:
    return tuple(found.refused(placement) for placement in Placement)


async def test_a_manifest(server: ApiServer) -> None:
    server.put(node("n3", unschedulable=True))
    found = await planned(server, texts=(DEPLOYMENT,))
    assert printed(found, "table", View(width=80)).partition("\n\n! worst")[0] == (
        "It does not fit: of 5 pods at least 1 get no address, on whatever nodes they are\n"
        "placed\n"
        "\n"
        "WORKLOAD                PODS  NODES\n"
        "Deployment default/web     5  2 of 3\n"
        "Not on other nodes, since the pod does not tolerate the taint\n"
        "node.kubernetes.io/unschedulable:NoSchedule (1 node)\n"
        "\n"
        "PLACEMENT  PODS  FIT  REFUSED\n"
        "best          5    4        1\n"
        "even          5    4        1\n"
        "worst         5    1        4\n"
        "\n"
        "POOL  TOTAL  FREE NOW  BEST  EVEN  WORST\n"
        "one       3         3     0     0      3\n"
        "two       1         1     0     0      0\n"
        "\n"
        "NODE  FREE NOW  BEST  EVEN  WORST\n"
        "n1           3     0     0      3\n"
        "n2           1     0     0      0\n"
        "\n"
        "! best, even: 1 pod of Deployment default/web on node n2: no IPv4 address for\n"
        "  eth0 of pod default/web-new on node n2 from the cluster's default pools: two:\n"
        "  1 of 1 addresses in use"
    )
    assert printed(found, "name", View()).split() == [
        "spiderippool.spiderpool.spidernet.io/one",
        "spiderippool.spiderpool.spidernet.io/two",
    ]


@pytest.mark.parametrize(
    ("replicas", "outcome", "said"),
    [
        (2, (0, 0, 0), "It fits: 1 pods get"),
        (3, (0, 0, 1), "It depends on the nodes: 0 to 1 of 2 pods get no address, 0 if they are spread evenly"),
        (0, (0, 0, 0), "No pod is to come"),
    ],
)
async def test_a_scale_plans_the_pods_that_are_not_there(
    server: ApiServer, replicas: int, outcome: tuple[int, ...], said: str
) -> None:
    server.put(ScheduledDeployment(metadata=ObjectMeta(name="web", namespace="default"), spec=spec(1)))
    deployment = server.stored(ScheduledDeployment)["default/web"]
    owner = deployment.as_owner(controller=True)
    metadata = ObjectMeta(name="web-5", namespace="default", ownerReferences=[owner])
    server.put(ScheduledReplicaSet(metadata=metadata, spec=spec(1)))
    pod = owned("web-5-x", "web-5")
    pod.metadata.ownerReferences = [server.stored(ScheduledReplicaSet)["default/web-5"].as_owner(controller=True)]
    server.put(pod, record("10.0.0.1"))
    found = await planned(server, "deploy", "web", replicas=replicas)
    assert refused(found) == outcome
    assert printed(found, "table", View(width=200)).startswith(said)


async def test_what_an_owner_keeps_is_not_needed_again(server: ApiServer) -> None:
    web = IPOwner("StatefulSet", "default", "web")
    server.put(ScheduledStatefulSet(metadata=ObjectMeta(name="web", namespace="default"), spec=spec(2)))
    server.put(record("10.0.0.1", pod="web-0", owner=web), record("10.0.0.2"), record("10.0.0.3"))
    found = await planned(server, "sts", "default/web", replicas=2)
    assert [(each.workload, each.pods) for each in found.workloads] == [("StatefulSet default/web", 1)] * 2
    assert refused(found) == (0, 0, 1)  # on n2 web-0 gets another one, as its own is of n1


async def test_a_drain_plans_what_comes_elsewhere_and_releases_what_ended(server: ApiServer) -> None:
    server.put(pool("shared", "10.0.0.31"))
    pods = [owned(f"a-{number}", "a") for number in range(3)]
    bare = owned("bare", "x")
    bare.metadata.ownerReferences = None
    mirror = owned("mirror", "y")
    mirror.metadata.annotations = {"kubernetes.io/config.mirror": "hash"}
    done = owned("done", "z")
    done.status.phase = "Succeeded"
    server.put(*pods, bare, mirror, done, owned("daemon", "d", "DaemonSet"))
    uid = server.stored(ScheduledPod)["default/a-0"].metadata.uid or ""
    server.put(record("10.0.0.31", pool="shared", pod="a-0", podUID=uid))
    found = await planned(server, "drain", "n1")
    assert [(each.workload, each.pods, each.nodes) for each in found.workloads] == [("ReplicaSet default/a", 3, 1)]
    assert refused(found) == (1, 1, 1)
    assert {each.pool: (each.free, each.best) for each in found.pools} == {"two": (1, 0), "shared": (0, 0)}
    assert found.notes == ("nobody makes again: default/bare",)
    assert "is drained (1 node)" in found.workloads[0].reasons[0]
    (refusal,) = found.placements[0].refusals
    assert refusal.message == (
        "no IPv4 address for eth0 of pod default/a-new on node n2 from the cluster's default pools: "
        "shared: 1 of 1 addresses in use; two: 1 of 1 addresses in use"
    )


async def test_a_daemon_set_has_a_pod_on_each_node_that_has_none(server: ApiServer) -> None:
    text = DEPLOYMENT.replace("Deployment", "DaemonSet").replace("replicas: 5, ", "")
    server.put(node("n3", unschedulable=True))
    found = await planned(server, texts=(text,))
    assert [(each.pods, each.nodes) for each in found.workloads] == [(3, 3)]
    assert refused(found) == (1, 1, 1)
    server.put(ScheduledDaemonSet(metadata=ObjectMeta(name="web", namespace="default"), spec=spec()))
    pod = owned("web-x", "web", "DaemonSet", "n3")
    pod.metadata.ownerReferences[0].uid = server.stored(ScheduledDaemonSet)["default/web"].metadata.uid  # type: ignore
    server.put(pod)
    again = await planned(server, texts=(text,))
    assert refused(again) == (0, 0, 0)
    assert "an update needs up to maxSurge" in again.notes[0]


async def test_jobs_pods_and_what_needs_no_address(server: ApiServer) -> None:
    job = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {parallelism: 3, completions: 2}}"
    cron = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {jobTemplate: {spec: {}}}}"
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeName: n2}}"
    host = "{apiVersion: v1, kind: Pod, metadata: {name: h}, spec: {hostNetwork: true}}"
    server.put(owned("there", "x"))
    there = "{apiVersion: v1, kind: Pod, metadata: {name: there}}"
    found = await planned(server, texts=("\n---\n".join((job, cron, pod, host, there)),))
    assert [(each.workload, each.pods, each.nodes) for each in found.workloads] == [
        ("Job default/j", 2, 2),
        ("CronJob default/c", 1, 2),
        ("Pod default/p", 1, 1),
    ]


async def test_pods_that_no_node_may_take(server: ApiServer) -> None:
    found = await planned(
        server, texts=(DEPLOYMENT.replace("template: {", "template: {spec: {nodeSelector: {a: b}}, "),)
    )
    assert [each.workload for each in found.pending] == ["Deployment default/web"]
    assert "! no node may take the pods of Deployment default/web" in printed(found, "table", View())


async def test_a_quota(server: ApiServer) -> None:
    server.put(SpiderIPQuota(metadata=ObjectMeta(name="few", namespace="default"), spec=IPQuotaSpec(3)))
    server.put(record("10.0.0.1"))
    found = await planned(server, texts=(DEPLOYMENT,))
    assert refused(found) == (3, 3, 4)
    assert "nothing is left of SpiderIPQuota default/few" in found.placements[0].refusals[0].message


SUBNET = {"ipam.spidernet.io/subnet": '{"ipv4": ["blue"]}'}


async def test_the_pool_of_an_application_grows_as_far_as_its_subnet_has_addresses(server: ApiServer) -> None:
    metadata = ObjectMeta(name="blue", labels={"ipam.spidernet.io/subnet-cidr": "10-1-0-0-24"})
    server.put(SpiderSubnet(metadata=metadata, spec=SubnetSpec("10.1.0.0/24", 4, ["10.1.0.1-10.1.0.4"])))
    deployment = ObjectMeta(name="web", namespace="default", uid="uid-web")
    server.put(ScheduledDeployment(metadata=deployment, spec=spec(1, SUBNET)))
    found = await planned(server, "deployment", "web", replicas=6)
    assert refused(found) == (2, 2, 2)
    (growth,) = found.growth
    assert "of SpiderSubnet blue is made with 4 addresses of 7 wanted ones" in growth
    assert (await planned(server, "deployment", "web", replicas=3)).growth[0].endswith("is made with 4 addresses")
    missing = DEPLOYMENT.replace("labels: {app: web}", 'annotations: {ipam.spidernet.io/subnet: \'{"ipv4": ["x"]}\'}')
    lost = await planned(server, texts=(missing,))
    assert lost.growth == ("SpiderSubnet x does not exist",)
    assert refused(lost) == (5, 5, 5)
    assert "has no IPv4 pool yet" in lost.placements[0].refusals[0].message


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ('ipam.spidernet.io/ippool: \'{"ipv4": ["none"]}\'', "none: no IPv4 pool of that name"),
        ("ipam.spidernet.io/ippool: x", "annotation ipam.spidernet.io/ippool"),
        ("v1.multus-cni.io/default-network: kube-system/none", "kube-system/none"),
    ],
)
async def test_pods_that_are_refused_anyway(server: ApiServer, annotations: str, said: str) -> None:
    found = await planned(server, texts=(DEPLOYMENT.replace("labels: {app: web}", f"annotations: {{{annotations}}}"),))
    assert refused(found) == (5, 5, 5)
    assert all(said in outcome.refusals[0].message for outcome in found.placements)


async def test_many_pools_and_nodes_are_shortened(server: ApiServer) -> None:
    for number in range(20):
        server.put(node(f"m{number}"), pool(f"p{number}", f"10.0.0.{100 + number}", f"m{number}"))
    found = await planned(server, texts=(DEPLOYMENT.replace("replicas: 5", "replicas: 200"),))
    text = printed(found, "table", View())
    assert text.count("… and 12 more pools: -o wide") == 1
    assert "more such refusals: -o wide" in text
    wide = printed(found, "wide", View(wide=True))
    assert "…" not in wide
    assert "BEST PODS" in wide
    json.dumps(found.document())


@pytest.mark.parametrize(
    ("words", "options", "error"),
    [
        ((), {}, UsageError),
        (("deploy", "web"), {}, UsageError),
        (("pod", "web"), {"replicas": 2}, UsageError),
        (("drain",), {}, UsageError),
        (("drain", "n1"), {"replicas": 2}, UsageError),
        (("drain", "n9"), {}, Refused),
        (("sts", "web"), {"replicas": 2}, Refused),
        ((), {"texts": ("{kind: Service}",)}, BadConfig),
    ],
)
async def test_questions_without_an_answer(
    server: ApiServer, words: tuple[str, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await planned(server, *words, **options)


async def test_without_pools_there_is_no_answer() -> None:
    async with ApiServer(Node.KIND) as server:
        with pytest.raises(Refused, match="SpiderIPPool objects may not be read"):
            await planned(server, texts=(DEPLOYMENT,))


@pytest.mark.parametrize("words", [("drain", "n1"), ("deploy", "web")], ids=["drain", "scale"])
async def test_pods_that_may_not_be_listed_are_not_none(server: ApiServer, words: tuple[str, ...]) -> None:
    server.put(ScheduledDeployment(metadata=ObjectMeta(name="web", namespace="default"), spec=spec(1)))
    server.inject(Fault("list", plural="pods", status=403))
    with pytest.raises(Refused, match="Pod objects may not be read"):
        await planned(server, *words, replicas=None if words[0] == "drain" else 3)


@pytest.mark.parametrize(
    ("plural", "kind"),
    [
        ("spiderreservedips", "SpiderReservedIP"),
        ("spiderquotas", "SpiderIPQuota"),
        ("namespaces", "Namespace"),
        ("network-attachment-definitions", "NetworkAttachmentDefinition"),
    ],
)
async def test_what_could_not_be_read_is_a_note(server: ApiServer, plural: str, kind: str) -> None:
    plural = SpiderIPQuota.KIND.plural if kind == "SpiderIPQuota" else plural
    assert (await planned(server, texts=(DEPLOYMENT,))).unread == ()
    server.inject(Fault("list", plural=plural, status=403))
    found = await planned(server, texts=(DEPLOYMENT,))
    assert found.unread == (kind,), "so the exit status is 1"
    assert f"what could not be read may change the answer: {kind}" in found.notes
    assert kind in json.loads(printed(found, "json", View()))["notes"][0]


async def test_addresses_that_nodes_advertise_are_a_note(server: ApiServer) -> None:
    said = "nodes advertise free addresses, which is not considered"
    assert not [each for each in (await planned(server, texts=(DEPLOYMENT,))).notes if each.startswith(said)]
    allocatable = {"cpu": "4", "addresses.spidernet.io/kube-system.underlay": "3"}
    status = AdvertisedStatus([NodeCondition("Ready", "True")], allocatable=allocatable)
    server.put(AdvertisingNode(metadata=ObjectMeta(name="n1"), status=status))
    assert [each for each in (await planned(server, texts=(DEPLOYMENT,))).notes if each.startswith(said)]


def test_the_command_is_described() -> None:
    result = CliRunner().invoke(cli, ["plan", "--help"])
    assert "spiderpoolctl plan drain worker-1" in result.output
    assert CliRunner().invoke(cli, ["plan"]).exit_code == 2
