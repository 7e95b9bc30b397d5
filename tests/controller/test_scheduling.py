"""Webhook, controller, Kubernetes' own scheduler and agents together: no pod is sent where no address is left."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spiderpool.api.address_resources import AdvertisingNode, RequestingPod, whole
from spiderpool.api.applications import Deployment
from spiderpool.api.core_v1 import Event, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.annotations import POOL
from spiderpool.core.network.address_requests import AddressRequirement
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.conftest import own_control_plane
from tests.controller.conftest import Running, refuses, start_controller, unregister, wait
from tests.support.eventually import eventually
from tests.support.local_agent import AgentOptions, LocalAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]

FREE = {"small": 5, "middle": 10, "large": 40}
"""Name of a node → its addresses."""
NAMESPACE = "scheduling"
NETWORK = "kube-system/ipvlan-eth0"
RESOURCE = AddressRequirement(NETWORK).resource
PLUGIN = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
DEFINITION = {
    "apiVersion": "k8s.cni.cncf.io/v1",
    "kind": "NetworkAttachmentDefinition",
    "metadata": {"name": "ipvlan-eth0", "namespace": "kube-system"},
    "spec": {"config": json.dumps({"cniVersion": "1.0.0", "name": "ipvlan-eth0", "plugins": [PLUGIN]})},
}
CONFIG = "enableIPv6: false\n"
TEMPLATE: dict[str, Any] = {
    "tolerations": [{"operator": "Exists"}],
    "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "c", "image": "x"}],
}


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: webhooks are registered once for a cluster."""
    with own_control_plane(tmp_path_factory.mktemp("scheduling")) as plane:
        yield plane


@contextmanager
def controlling(plane: ControlPlane, directory: Path, resources: str) -> Iterator[Running]:
    """A controller whose webhooks the API server calls."""
    running = start_controller(
        plane, directory, config=CONFIG, SPIDERPOOL_NODE_ADDRESS_RESOURCES=resources, MULTUS_CLUSTER_NETWORK=NETWORK
    )
    try:
        wait(running, lambda: running.is_ready and running.is_leading, "not ready")
        wait(running, lambda: refuses(plane), "webhooks not in use")
        yield running
        running.stop()
    finally:
        running.kill()
        unregister(plane)


@pytest.fixture
def nodes(control_plane: ControlPlane) -> Iterator[None]:
    """Nodes with room for pods, each with a pool of its own."""
    for number, (name, count) in enumerate(FREE.items()):
        control_plane.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
        room = {"cpu": "32", "memory": "64Gi", "pods": "110"}
        status = {"status": {"capacity": room, "allocatable": room}}
        control_plane.kubectl("patch", "node", name, "--subresource=status", "-p", json.dumps(status))
        spec = {
            "subnet": f"10.{number}.0.0/24",
            "ips": [f"10.{number}.0.1-10.{number}.0.{count}"],
            "default": True,
            "nodeName": [name],
        }
        pool = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool", "metadata": {"name": name}}
        control_plane.apply(json.dumps({**pool, "spec": spec}))
    control_plane.apply(json.dumps(DEFINITION))
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield
    control_plane.kubectl("delete", "deployments", "--all", "-n", NAMESPACE)
    control_plane.kubectl("delete", "pods", "--all", "-n", NAMESPACE, "--force", "--grace-period=0")
    control_plane.kubectl("delete", "namespace", NAMESPACE)
    control_plane.kubectl("delete", "nodes", *FREE)
    control_plane.kubectl("delete", "network-attachment-definitions", "ipvlan-eth0", "-n", "kube-system")
    control_plane.kubectl("delete", "spiderips", "--all")
    for stored in control_plane.kubectl("get", "spiderippools", "-o", "name").split():  # no controller lets them go
        control_plane.kubectl("patch", stored, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        control_plane.kubectl("delete", stored)


@dataclass
class Kubelets:
    """Those of all nodes: each pod is attached once the scheduler has chosen its node, and runs then."""

    client: Client
    agents: dict[str, LocalAgent]
    refused: list[str] = field(default_factory=list)
    _attached: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Attach pods until cancelled."""
        while True:
            pods = [each for each in await self.client.list(Pod, NAMESPACE) if each.spec.nodeName]
            new = [each for each in pods if each.metadata.uid not in self._attached]
            await asyncio.gather(*(self._attach(each) for each in new))
            await asyncio.sleep(0.1)

    async def _attach(self, pod: Pod) -> None:
        agent, uid = self.agents[pod.spec.nodeName or ""], pod.metadata.uid or ""
        answer = await agent.address("ADD", pod.metadata.namespace or "", pod.name, uid)
        if "code" in answer:
            self.refused.append(answer["msg"])
            return
        self._attached.add(uid)
        address = answer["ips"][0]["address"].partition("/")[0]
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        await self.client.patch(Pod, pod.name, status, pod.metadata.namespace, sub="status")


@asynccontextmanager
async def kubelets(plane: ControlPlane, client: Client, directory: Path) -> AsyncIterator[Kubelets]:
    processes = Processes(directory / "processes")
    options = AgentOptions(CONFIG)
    agents = {name: LocalAgent(plane, processes, directory, name, options) for name in FREE}
    try:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in agents.values()))
        made = Kubelets(client, agents)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
    finally:
        processes.stop_all()


async def advertised(client: Client, name: str) -> dict[str, int]:
    """What a Node has to allocate of our resources."""
    stored = await client.get(AdvertisingNode, name)
    return {resource: whole(text) for resource, text in (stored.status.allocatable or {}).items()}


async def roll_out(client: Client, replicas: int) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": TEMPLATE}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    await client.apply(
        Deployment, {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec}, "web", NAMESPACE
    )


async def running_pods(client: Client) -> Counter[str]:
    """How many pods run on each node."""
    pods = await client.list(Pod, NAMESPACE)
    return Counter(each.spec.nodeName or "" for each in pods if each.status.phase == "Running")


@pytest.mark.full
async def test_a_roll_out_over_nodes_of_unequal_size(
    control_plane: ControlPlane, client: Client, tmp_path: Path, nodes: None
) -> None:
    with controlling(control_plane, tmp_path / "controller", "advertise"):
        for name, count in FREE.items():
            await eventually(partial(advertises, client, name, count), f"{name}: {count}", timeout=30)
        async with kubelets(control_plane, client, tmp_path) as kubelet:
            await roll_out(client, 40)

            async def all_run() -> bool:
                return (await running_pods(client)).total() == 40

            await eventually(all_run, "40 pods run", timeout=90)
            assert kubelet.refused == []
            (one, *_) = await client.list(RequestingPod, NAMESPACE)
            assert one.address_requests == {RESOURCE: 1}
            assert len(await client.list(SpiderIP)) == 40

            await roll_out(client, sum(FREE.values()) + 3)

            async def all_are_full() -> bool:
                return await running_pods(client) == FREE

            await eventually(all_are_full, "every address is in use", timeout=90)
            words = await eventually(lambda: refusal_of_scheduler(client), timeout=30)
            assert f"Insufficient {RESOURCE}" in words
            assert kubelet.refused == []
            for name, count in FREE.items():
                await eventually(partial(advertises, client, name, count), f"{name} as before", timeout=30)

            await kubelet_restarts(client, "small")
            await eventually(partial(advertises, client, "small", 5), "again after a kubelet's zero", timeout=30)
    with controlling(control_plane, tmp_path / "withdrawing", "withdraw"):
        for name in FREE:
            await eventually(partial(advertises, client, name, 0), f"{name}: nothing", timeout=30)


@pytest.mark.full
async def test_without_it_pods_are_sent_where_no_address_is_left(
    control_plane: ControlPlane, client: Client, tmp_path: Path, nodes: None
) -> None:
    """What the other test would miss if the scheduler had spread the pods well by itself."""
    with controlling(control_plane, tmp_path / "controller", "none"):
        async with kubelets(control_plane, client, tmp_path) as kubelet:
            await roll_out(client, 40)
            await eventually(lambda: kubelet.refused, "a pod is refused", timeout=90)
            assert "5 of 5 addresses in use" in kubelet.refused[0]


async def test_pods_that_name_pools_and_pods_that_nothing_can_serve(
    control_plane: ControlPlane, client: Client, tmp_path: Path, nodes: None
) -> None:
    await client.create(
        SpiderIPPool(
            metadata=ObjectMeta(name="named"),
            spec=IPPoolSpec("10.9.0.0/24", ips=["10.9.0.1-10.9.0.2"], nodeName=["middle"]),
        )
    )
    with controlling(control_plane, tmp_path / "controller", "advertise"):
        for name, pools in (("some", '{"ipv4": ["named"]}'), ("none", '{"ipv4": ["nowhere"]}')):
            metadata = {"name": name, "namespace": NAMESPACE, "annotations": {POOL: pools}}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": TEMPLATE}
            control_plane.apply(json.dumps(pod))

        async def is_on_its_node() -> bool:
            return (await client.get(Pod, "some", NAMESPACE)).spec.nodeName == "middle"

        await eventually(is_on_its_node, "the pool's node is chosen", timeout=30)
        words = await eventually(lambda: refusal_of_scheduler(client, "none"), timeout=30)
        assert f"Insufficient {AddressRequirement(NETWORK, ((4, ('nowhere',)),)).resource}" in words
        assert (await client.get(Pod, "none", NAMESPACE)).spec.nodeName is None


async def advertises(client: Client, name: str, count: int) -> bool:
    return (await advertised(client, name)).get(RESOURCE, 0) == count


async def refusal_of_scheduler(client: Client, pod: str = "") -> str:
    """What the scheduler says of a pod, or of any, for which there is no node."""
    events = await client.list(Event, NAMESPACE, fields="reason=FailedScheduling")
    of_pod = [each.message for each in events if pod in ("", each.involvedObject.name)]
    return next((each for each in of_pod if "Insufficient addresses" in each), "")


async def kubelet_restarts(client: Client, name: str) -> None:
    """As a kubelet that registers anew: it does not know whether extended resources are there yet."""
    zero = {RESOURCE: "0"}
    await client.patch(Node, name, {"status": {"capacity": zero, "allocatable": zero}}, sub="status")
    assert (await advertised(client, name))[RESOURCE] in (0, FREE[name])
