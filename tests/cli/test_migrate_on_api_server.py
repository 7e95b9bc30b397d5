"""A cluster with 200 pods of Spiderpool v1.2.2 is taken over and given back, on a real API server.

Its records are written by its rules, since its programs cannot be run here. Kubelets are played: nodes are ready, and
pods of its agents end when they are told to.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from spiderpool.api.applications import DaemonSet
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.main import cli
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.migration_groups import LABEL
from spiderpool.kube.client import Client, NotFound
from spiderpool_lab import chart
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.support.eventually import eventually
from tests.support.go_cluster import GoCluster
from tests.support.local_agent import AgentOptions, LocalAgent, node_objects

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(600)]

CAPACITY = {"cpu": "64", "memory": "64Gi", "pods": "500"}
NODES = ("n1", "n2", "n3", "n4")
OLD_AGENTS = """
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: spiderpool-agent
  namespace: kube-system
  annotations: {meta.helm.sh/release-name: spiderpool, meta.helm.sh/release-namespace: kube-system}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: spiderpool-agent}}
  updateStrategy: {rollingUpdate: {maxUnavailable: 2}}
  template:
    metadata: {labels: {app.kubernetes.io/component: spiderpool-agent}}
    spec:
      tolerations: [{operator: Exists}]
      affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
      containers: [{name: agent, image: none}]
      volumes: [{name: config-path, configMap: {name: spiderpool-conf}}]
"""
SETTINGS = {
    "enableIPv4": True,
    "enableIPv6": True,
    "enableStatefulSet": True,
    "enableKubevirtStaticIP": True,
    "enableSpiderSubnet": False,
    "clusterSubnetDefaultFlexibleIPNumber": 1,
}
NETWORK = """
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: any, namespace: shop}
spec:
  config: '{"cniVersion": "1.0.0", "name": "any", "type": "ipvlan", "master": "eth1", "ipam": {"type": "spiderpool"}}'
"""


class Kubelets:
    """All nodes' kubelets, in a thread: they report, and end the agents that are to end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Kubelets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _run(self) -> None:
        async with Client.load(self._plane.admin_kubeconfig) as client:
            while not self._ended.is_set():
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
                for name in NODES:
                    status = {"conditions": [ready], "capacity": CAPACITY, "allocatable": CAPACITY}
                    await client.patch(Node, name, {"status": status}, sub="status")
                for pod in await client.list(Pod, "kube-system", labels="app.kubernetes.io/component=spiderpool-agent"):
                    if pod.terminating:
                        with suppress(NotFound):
                            await client.delete(Pod, pod.name, "kube-system", grace=0)
                await asyncio.sleep(0.5)


def workload(kind: str, name: str, replicas: int, node: str) -> str:
    more = {"serviceName": "none", "podManagementPolicy": "Parallel"} if kind == "StatefulSet" else {}
    spec = {
        **more,
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(node)},
    }
    metadata = {"name": name, "namespace": "shop"}
    return json.dumps({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})


def pod_spec(node: str) -> dict[str, Any]:
    container = {"name": "c", "image": "none"}
    return {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 3600}


def bare_pod(name: str, node: str, machine: str = "") -> str:
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": machine, "uid": f"uid-{machine}"}
    metadata: dict[str, Any] = {"name": name, "namespace": "shop"}
    if machine:
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(node)})


class Shop:
    """The 200 pods, and what the other release has written for them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.go = GoCluster()
        self.addresses: dict[str, dict[str, dict[str, str]]] = {}
        """Pod → interface → pool → address."""
        self._last: dict[str, int] = {}
        self.go.pool("a", "10.66.0.0/24", "10.66.0.1-10.66.0.220", nodeName=["n1", "n2"], gateway="10.66.0.254")
        self.go.pool("net", "10.67.0.0/24", "10.67.0.1-10.67.0.100", nodeName=["n1", "n2"])
        self.go.pool("b", "10.68.0.0/24", "10.68.0.1-10.68.0.100", nodeName=["n3"])
        self.go.pool("b6", "fd66::/64", "fd66::1-fd66::ffff", nodeName=["n3"])
        self.go.pool("overlapping", "10.66.0.0/24", "10.66.0.220", nodeName=["n2"])

    async def fill(self) -> None:
        """Write everything for the pods as they are."""
        pods = sorted(await self.client.list(Pod, "shop"), key=lambda pod: pod.name)
        assert len(pods) == 200
        two_nics = {pod.name for pod in [each for each in pods if each.name.startswith("web-n2")][:20]}
        for pod in pods:
            addresses = self._give(pod, two_nics=pod.name in two_nics)
            self.addresses[pod.name] = addresses
            self.go.record(pod, addresses)
            self.go.endpoint(pod, addresses)
            phase = "Succeeded" if pod.name.startswith("finished") else "Running"
            ips = [{"ip": each} for each in addresses["eth0"].values()] if phase == "Running" else []
            running = {"running": {}} if phase == "Running" else {"terminated": {"exitCode": 0}}
            container = {
                "name": "c",
                "image": "none",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": running,
            }
            status = {"phase": phase, "podIPs": ips, "podIP": ips[0]["ip"] if ips else None}
            await self.client.patch(
                Pod, pod.name, {"status": {**status, "containerStatuses": [container]}}, "shop", sub="status"
            )
        for number in range(5):
            gone = {"pod": f"shop/gone-{number}", "podUid": f"gone-{number}"}
            self.go.records["a"][f"10.66.0.{210 + number}"] = gone
        for name, pool in (("bare-0", "a"), ("bare-1", "overlapping")):
            uid = next(pod.metadata.uid for pod in pods if pod.name == name)
            self.go.records[pool]["10.66.0.220"] = {"pod": f"shop/{name}", "podUid": uid}
        await self._store()

    def _give(self, pod: Pod, *, two_nics: bool) -> dict[str, dict[str, str]]:
        pools = {"n3": ("b", "b6")}.get(pod.spec.nodeName or "", ("a",))
        found = {"eth0": {pool: self._next(pool) for pool in pools}}
        return found | ({"net1": {"net": self._next("net")}} if two_nics else {})

    def _next(self, pool: str) -> str:
        number = self._last[pool] = self._last.get(pool, 0) + 1
        subnet = self.go.pools[pool].spec.subnet
        return f"fd66::{number:x}" if ":" in subnet else subnet.replace("0/24", str(number))

    async def _store(self) -> None:
        self.go.write()
        for pool in self.go.pools.values():
            made = await self.client.create(replace(pool, metadata=replace(pool.metadata, uid=None), status=None))
            assert pool.status is not None
            status = {"allocatedIPs": pool.status.allocatedIPs, "allocatedIPCount": pool.status.allocatedIPCount}
            await self.client.patch(SpiderIPPool, made.name, {"status": status}, sub="status")
        for endpoint in self.go.endpoints:
            await self.client.create(endpoint)


def run(plane: ControlPlane, *words: str) -> Result:
    return CliRunner().invoke(cli, ["migrate", *words, "--kubeconfig", str(plane.admin_kubeconfig)])


def said(plane: ControlPlane, *words: str) -> dict[str, Any]:
    result = run(plane, *words, "-o", "json")
    assert result.stdout, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """A cluster of the other release."""
    config = {"conf.yml": json.dumps(SETTINGS), "clusterNetwork": "any"}
    metadata = {"name": "spiderpool-conf", "namespace": "kube-system"}
    with node_objects(control_plane, *NODES), Kubelets(control_plane):
        control_plane.apply(
            json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
            json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "spiderpool"}}),
            json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": config}),
            OLD_AGENTS,
        )
        until_agents_are_on(control_plane, *NODES)
        yield control_plane
        control_plane.kubectl("delete", "daemonset", "spiderpool-agent", "-n", "kube-system")
        control_plane.kubectl("delete", "daemonset", "spiderpool-agent", "-n", "spiderpool", "--ignore-not-found")
        control_plane.kubectl("delete", "configmap", "spiderpool-conf", "-n", "kube-system")
        asyncio.run(clear(control_plane))


def agents_on(plane: ControlPlane) -> set[str]:
    """Nodes with agents of the other release."""
    jsonpath = "jsonpath={.items[*].spec.nodeName}"
    labels = "app.kubernetes.io/component=spiderpool-agent"
    return {*plane.kubectl("get", "pods", "-n", "kube-system", "-l", labels, "-o", jsonpath).split()}


def until_agents_are_on(plane: ControlPlane, *nodes: str) -> None:
    async def are_on() -> bool:
        return await asyncio.to_thread(agents_on, plane) == {*nodes}

    asyncio.run(eventually(are_on, timeout=60.0))


async def clear(plane: ControlPlane) -> None:
    """Remove all objects, also those with finalizers of programs that do not run."""
    async with Client.load(plane.admin_kubeconfig) as client:
        for kind in (SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderIP):
            for each in await client.list(kind):
                namespace = each.metadata.namespace
                with suppress(NotFound):
                    if each.metadata.finalizers:
                        await client.patch(kind, each.name, {"metadata": {"finalizers": None}}, namespace)
                    await client.delete(kind, each.name, namespace)
        plane.kubectl("delete", "deployments,statefulsets,replicasets", "-n", "shop", "--all")
        plane.delete_pods("shop")
        await client.delete(Namespace, "shop")


async def snapshot(client: Client) -> dict[str, Any]:
    """What is the other release's, but for what the API server changes at every write."""
    found: dict[str, Any] = {}
    for kind in (SpiderIPPool, SpiderEndpoint):
        for each in await client.list(kind):
            found[f"{kind.KIND.name} {each.key}"] = bare(each)
    raw = await client.get_raw(f"{DaemonSet.KIND.path('kube-system')}/spiderpool-agent")
    found["DaemonSet"] = json.loads(raw)["spec"]
    for node in await client.list(Node):
        found[f"Node {node.name}"] = node.metadata.labels or {}
    return found


def bare(obj: Object) -> Object:
    return replace(obj, metadata=replace(obj.metadata, resourceVersion=None, generation=None))


async def shop_of(plane: ControlPlane) -> Shop:
    """Make the pods, and write what the other release has of them."""
    plane.apply(NETWORK)
    plane.apply(
        workload("Deployment", "web-n1", 50, "n1"),
        workload("Deployment", "web-n2", 50, "n2"),
        workload("Deployment", "web-n3", 44, "n3"),
        workload("StatefulSet", "db", 20, "n1"),
        *(bare_pod(f"virt-launcher-vm-{number}", "n1", f"vm-{number}") for number in range(10)),
        *(bare_pod(f"{kind}-{number}", "n1") for kind in ("ending", "finished") for number in range(5)),
        *(bare_pod(f"bare-{number}", "n2") for number in range(16)),
    )
    plane.kubectl("delete", "pods", "-n", "shop", "--wait=false", *(f"ending-{number}" for number in range(5)))
    async with Client.load(plane.admin_kubeconfig) as client:

        async def all_there() -> bool:
            return len(await client.list(Pod, "shop")) == 200

        await eventually(all_there, timeout=120.0)
        shop = Shop(client)
        await shop.fill()
        return shop


async def read(plane: ControlPlane) -> tuple[dict[str, Any], dict[str, SpiderIP]]:
    async with Client.load(plane.admin_kubeconfig) as client:
        return await snapshot(client), {each.name: each for each in await client.list(SpiderIP)}


def install(plane: ControlPlane) -> None:
    """Our agents, as helm installs them for the time of a migration; their pods need no account here."""
    made = chart.templates("migration.agentsOnly=true", namespace="spiderpool")
    plane.apply(made["agent.yaml"])


@pytest.mark.full
def test_pods_keep_their_addresses_and_everything_can_be_given_back(plane: ControlPlane, tmp_path: Path) -> None:
    shop = asyncio.run(shop_of(plane))
    before, _ = asyncio.run(read(plane))

    # A dry run changes nothing, and says what is to be done first.
    found = said(plane)
    assert [(each["nodes"], each["side"]) for each in found["groups"]] == [
        (["n1", "n2"], "old"),
        (["n3"], "old"),
        (["n4"], "old"),
    ]
    assert len(found["addresses"]) == 200 + 44 + 20
    assert {each["subject"] for each in found["findings"] if each["fate"] == "held back"} == {"10.66.0.220"}
    assert sum(1 for each in found["findings"] if each["fate"] == "free") == 5
    assert "our agents are not installed in Namespace spiderpool" in found["problems"][0]
    assert "--set 'spiderpoolAgent.extraEnv[0].name=MULTUS_CLUSTER_NETWORK'" in "\n".join(found["steps"])
    assert asyncio.run(read(plane)) == (before, {})
    refused = run(plane, "--apply")
    assert (refused.exit_code, "our agents are not installed" in refused.output) == (1, True)
    assert asyncio.run(read(plane)) == (before, {})

    # One group moves with its pools; the others stay as they are.
    install(plane)
    result = run(plane, "--apply", "--node", "n1")
    assert "nodes n1, n2 have moved: 176 addresses taken over, 1 held back" in result.stdout, result.output
    after, records = asyncio.run(read(plane))
    assert {name: labels[LABEL] for name, labels in labels_of(after).items()} == {
        "n1": "new",
        "n2": "new",
        "n3": "old",
        "n4": "old",
    }
    assert {each.spec.pool for each in records.values()} == {"a", "net"}
    until_agents_are_on(plane, "n3", "n4")

    # Repeating it changes nothing. Undoing needs our agents to be gone, and leaves all as it was.
    run(plane, "--apply", "--node", "n2")
    assert asyncio.run(read(plane)) == (after, records)
    assert "our agents run: remove them first" in run(plane, "--undo", "--apply").output
    uninstall(plane)
    assert asyncio.run(read(plane)) == (after, records)
    assert "176 SpiderIPs deleted" in run(plane, "--undo", "--apply").output
    assert asyncio.run(read(plane)) == (before, {})
    assert reserved(plane) == []

    # All nodes move, and real agents give the same pods the same addresses.
    install(plane)
    result = run(plane, "--apply")
    assert "nodes n3 have moved: 88 addresses taken over, 0 held back" in result.stdout, result.output
    assert "helm uninstall spiderpool --namespace kube-system --no-hooks" in result.stdout
    assert result.exit_code == 1  # an address is held back
    assert reserved(plane) == ["10.66.0.220"]
    asyncio.run(allocate(plane, shop, tmp_path))

    # What they have given to new pods is known to the other release when it gets the nodes back.
    uninstall(plane)
    result = run(plane, "--undo", "--apply")
    assert "pool a has the records of pods that started meanwhile" in result.output, result.output
    again, records = asyncio.run(read(plane))
    assert records == {}
    asyncio.run(check_given_back(plane, before, again))


def labels_of(found: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("Node "): labels for name, labels in found.items() if name.startswith("Node ")}


def uninstall(plane: ControlPlane) -> None:
    plane.kubectl("delete", "daemonset", "spiderpool-agent", "-n", "spiderpool")


def reserved(plane: ControlPlane) -> list[str]:
    found = json.loads(plane.kubectl("get", "spiderreservedips", "-o", "json"))["items"]
    return [ip for each in found for ip in each["spec"]["ips"]]


async def allocate(plane: ControlPlane, shop: Shop, folder: Path) -> None:
    """Real agents of both groups are called for all pods again, for new ones, and for the next one of an ordinal."""
    async with Client.load(plane.admin_kubeconfig) as client:
        pods = {pod.name: pod for pod in await client.list(Pod, "shop")}
        before = {each.name for each in await client.list(SpiderIP)}
        for node, settings in (("n1", "enableIPv4: true"), ("n2", "enableIPv4: true"), ("n3", BOTH)):
            options = AgentOptions(settings=settings, environment={"MULTUS_CLUSTER_NETWORK": "shop/any"})
            agent = LocalAgent(plane, Processes(folder / "processes"), folder, node, options)
            await asyncio.to_thread(agent.start)
            try:
                for name, pod in pods.items():
                    if pod.spec.nodeName == node and not name.startswith(("ending", "finished", "bare-0", "bare-1")):
                        await check_same(agent, pod, shop.addresses[name])
                if node == "n1":
                    await check_new(plane, client, agent, before)
                    await check_next(client, agent, pods["db-3"], shop.addresses["db-3"])
            finally:
                agent.stop()


BOTH = "enableIPv4: true\nenableIPv6: true"


async def check_same(agent: LocalAgent, pod: Pod, addresses: dict[str, dict[str, str]]) -> None:
    answer = await agent.address("ADD", "shop", pod.name, pod.metadata.uid or "")
    given = {each["address"].partition("/")[0] for each in answer.get("ips", ())}
    assert given == {*addresses["eth0"].values()}, (pod.name, answer)


async def check_new(plane: ControlPlane, client: Client, agent: LocalAgent, before: set[str]) -> None:
    """New pods get addresses that nobody has, and none that is held back, until none is left."""
    await client.patch(SpiderIPPool, "a", {"spec": {"default": True}})
    plane.apply(*(bare_pod(f"new-{number:02}", agent.node) for number in range(70)))
    given: list[str] = []
    refused = 0
    for pod in [each for each in await client.list(Pod, "shop") if each.name.startswith("new-")]:
        answer = await agent.address("ADD", "shop", pod.name, pod.metadata.uid or "")
        given += [each["address"].partition("/")[0] for each in answer.get("ips", ())]
        refused += "code" in answer
    assert len({*given}) == len(given)
    assert not {object_name(each) for each in given} & before
    assert "10.66.0.220" not in given
    assert (len(given), refused) == (219 - 156, 70 - (219 - 156))


async def check_next(client: Client, agent: LocalAgent, pod: Pod, addresses: dict[str, dict[str, str]]) -> None:
    """The next pod of a StatefulSet's ordinal has the address of the one before."""
    await client.delete(Pod, pod.name, "shop", grace=0)

    async def successor() -> Pod | None:
        found = await client.find(Pod, pod.name, "shop")
        return found if found and found.metadata.uid != pod.metadata.uid else None

    found = await eventually(successor, timeout=30.0)
    assert found is not None
    await check_same(agent, found, addresses)


async def check_given_back(plane: ControlPlane, before: dict[str, Any], after: dict[str, Any]) -> None:
    """All that was there is there, and what is new is written as the other release does it."""
    changed = {name for name, each in before.items() if after.get(name) != each}
    assert changed == {"SpiderIPPool a", "SpiderEndpoint shop/db-3"}
    more = after.keys() - before.keys()
    assert len(more) == 219 - 156
    assert all(name.startswith("SpiderEndpoint shop/new-") for name in more)
    old, new = (json.loads(each["SpiderIPPool a"].status.allocatedIPs) for each in (before, after))
    async with Client.load(plane.admin_kubeconfig) as client:
        uids = {pod.key: pod.metadata.uid for pod in await client.list(Pod, "shop")}
    assert {address for address in old if new[address] != old[address]} <= {
        address for address, each in new.items() if each["pod"].startswith(("shop/db-3", "shop/new-"))
    }
    assert all(uids[each["pod"]] == each["podUid"] for each in new.values() if each["pod"].startswith("shop/new-"))
    made = after[sorted(more)[0]]
    assert made.metadata.finalizers == ["spiderpool.spidernet.io"]
    assert made.status.ownerControllerType == "Pod"
