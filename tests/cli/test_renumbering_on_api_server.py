"""Pools that are emptied on a real API server, its budgets and controllers and a real agent; the kubelet is played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from spiderpool.api.core_v1 import Node
from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.main import cli
from spiderpool.errors import NotReady
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.cli.test_on_api_server import NETWORK
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, node_objects
from tests.support.successors import FarEnd

pytestmark = pytest.mark.control_plane

NODE, NAMESPACE = "emptied-1", "emptied"
OBJECTS = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: emptied}}
- apiVersion: spiderpool.spidernet.io/v2beta1
  kind: SpiderIPPool
  metadata: {name: emptied-old}
  spec: {subnet: 10.95.0.0/24, ipVersion: 4, ips: [10.95.0.1-10.95.0.9], default: true, namespaceName: [emptied]}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: emptied}
  spec:
    replicas: 2
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: web}]}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db, namespace: emptied}
  spec:
    replicas: 1
    serviceName: db
    selector: {matchLabels: {app: db}}
    template:
      metadata: {labels: {app: db}}
      spec: {terminationGracePeriodSeconds: 1, containers: [{name: db, image: db}]}
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: {name: web-budget, namespace: emptied}
  spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
"""
NEW = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: emptied-new}
spec: {subnet: 10.96.0.0/24, ipVersion: 4, ips: [10.96.0.1-10.96.0.9], default: true, namespaceName: [emptied]}
"""
BUDGET = '{"spec": {"minAvailable": 1}}'


@dataclass
class Emptied:
    """The cluster of these tests."""

    plane: ControlPlane
    client: Client
    far: FarEnd

    async def run(self, *words: str) -> tuple[int, str]:
        """The exit status of a command, and what it has printed and told."""
        arguments = [
            *words,
            "--yes",
            "--default-network",
            "default/operator",
            "--kubeconfig",
            str(self.plane.admin_kubeconfig),
        ]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        return result.exit_code, result.output

    async def held(self, prefix: str) -> list[str]:
        """The pods that have addresses that begin so."""
        found = await self.client.list(SpiderIP)
        return sorted(each.spec.pod for each in found if each.name.startswith(prefix))


@pytest.fixture
async def emptied(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Emptied]:
    """Three pods that serve, with addresses of one pool."""
    processes = Processes(tmp_path / "processes")
    with node_objects(control_plane, NODE):
        control_plane.apply(NETWORK, OBJECTS)
        agent = LocalAgent(control_plane, processes, tmp_path, NODE)
        try:
            await asyncio.to_thread(agent.start)
            async with Client.load(control_plane.admin_kubeconfig) as client:
                far = far_end(client, agent)
                async with far.playing():
                    found = Emptied(control_plane, client, far)

                    async def all_serve() -> bool:
                        assert not far.errors[20:], far.errors[-1]
                        return len(await found.held("10.95.0.")) == 3

                    await eventually(all_serve, "three pods have addresses", timeout=60.0)
                    yield found
        finally:
            agent.stop()
            control_plane.kubectl("delete", "deployments,statefulsets,pdb", "-n", NAMESPACE, "--all")
            control_plane.kubectl("delete", "pods", "-n", NAMESPACE, "--all", "--force")
            for name in control_plane.kubectl("get", "spiderippools", "-o", "name").split():  # there is no controller
                control_plane.kubectl("patch", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
            control_plane.kubectl(
                "delete", "spiderips,spiderippools,spiderreservedips,net-attach-def", "-n", "default", "--all"
            )


def far_end(client: Client, agent: LocalAgent) -> FarEnd:
    """A kubelet that calls the agent. Controllers are those of the control plane."""

    async def give(pod: EvictablePod) -> None:
        answer = await agent.address("ADD", NAMESPACE, pod.name, pod.metadata.uid or "")
        if "code" in answer:
            raise NotReady(f"pod {pod.name}: {answer}")

    async def take(pod: EvictablePod) -> None:
        await agent.address("DEL", NAMESPACE, pod.name, pod.metadata.uid or "")

    async def beat() -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now}
        room = {"cpu": "4", "memory": "4Gi", "pods": "20"}  # without which the scheduler gives it no pod
        status = {"conditions": [ready], "allocatable": room, "capacity": room}
        await client.patch(Node, NODE, {"status": status}, sub="status", strategic=True)

    return FarEnd(client, NAMESPACE, give, take, makes_pods=False, beat=beat)


async def test_a_pool_is_drained_as_its_budget_allows(emptied: Emptied) -> None:
    status, said = await emptied.run("pool", "drain", "emptied-old", "--move")
    assert status == 1
    assert "have no room for" in said
    assert not (await emptied.client.get(SpiderIPPool, "emptied-old")).spec.disable
    emptied.plane.apply(NEW)
    status, said = await emptied.run("pool", "drain", "emptied-old", "--move", "--timeout", "3")
    assert status == 1
    assert "disruption budget web-budget needs 2 healthy pods" in said
    assert (await emptied.client.get(SpiderIPPool, "emptied-old")).spec.disable, "it stays closed"
    emptied.plane.kubectl("patch", "pdb", "web-budget", "-n", NAMESPACE, "--type=merge", "-p", BUDGET)
    status, said = await emptied.run("pool", "drain", "emptied-old", "--move", "--timeout", "60")
    assert status == 0, (said, emptied.far.errors[-3:])
    assert await emptied.held("10.95.0.") == []
    assert "db-0" in await emptied.held("10.96.0."), "a StatefulSet has another address too"


async def test_a_part_of_a_pool_is_emptied(emptied: Emptied) -> None:
    emptied.plane.kubectl("patch", "pdb", "web-budget", "-n", NAMESPACE, "--type=merge", "-p", BUDGET)
    part = [each.name for each in await emptied.client.list(SpiderIP) if each.name.startswith("10.95.0.")][:1]
    words = ("pool", "resize", "emptied-old", "--remove", part[0])
    assert (await emptied.run(*words))[0] == 1
    status, said = await emptied.run(*words, "--move", "--timeout", "60")
    assert status == 0, (said, emptied.far.errors[-3:])
    assert part[0] not in [each.name for each in await emptied.client.list(SpiderIP)]
    assert len(await emptied.held("10.95.0.")) == 3


async def test_a_subnet_is_renumbered(emptied: Emptied) -> None:
    emptied.plane.kubectl("patch", "pdb", "web-budget", "-n", NAMESPACE, "--type=merge", "-p", BUDGET)
    words = ("subnet", "renumber", "10.95.0.0/24", "10.94.0.0/24", "--ips", "10.94.0.10-10.94.0.19", "--move")
    status, said = await emptied.run(*words, "--timeout", "60", "--delete-old", "-o", "json")
    assert status == 0, (said, emptied.far.errors[-3:])
    assert json.loads(said[said.index("{") : said.rindex("}") + 1])["pools"][0]["pool"] == "emptied-old-10-94-0-0-24"
    assert len(await emptied.held("10.94.0.1")) == 3
    assert await emptied.client.find(SpiderIPPool, "emptied-old") is None
    assert (await emptied.run(*words))[0] == 0, "again: nothing is left to do"
