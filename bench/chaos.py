"""Pods come and go on two nodes while agents, controller and API server are killed at random.

Afterwards no address was ever held by two pods, none is left behind, and every counter equals the records.
The kills and the pods follow a seed; what interleaves in between is the machine's own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.support.local_agent import LocalAgent

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import AlreadyExists, Client, NotFound
from spiderpool_lab.cluster import CHART, CONTROLLER, LabCluster

T = TypeVar("T")
NODES = ("chaos-1", "chaos-2")
NODE = "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}"
POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: {name}}}
spec: {{default: true, subnet: {subnet}, ips: [{ips}]{bound}}}
"""
POOLS = (
    POOL.format(name="shared", subnet="10.40.0.0/16", ips="10.40.0.1-10.40.0.100", bound=""),
    POOL.format(name="own", subnet="10.41.0.0/16", ips="10.41.0.1-10.41.0.30", bound=", nodeName: [chaos-1]"),
)
PATIENCE = 60.0
"""Seconds after the last kill within which everything must have settled: several collection intervals."""

RETRY = 0.3
"""Seconds between two tries of the pretended kubelet."""


@dataclass(slots=True)
class Score:
    """What happened, and what must not happen."""

    pods: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def granted(self, pod: str, address: str) -> None:
        """A pod was told an address: nobody else may hold it now."""
        holder = self.holders.setdefault(address, pod)
        if holder != pod:
            self.wrong.append(f"{address} was given to {pod} while {holder} holds it")

    def gone(self, pod: str, address: str) -> None:
        """A pod begins to end: from now on its address may be given away."""
        if self.holders.get(address) == pod:
            del self.holders[address]


class Chaos:
    """The pods, their pretended kubelet, and whoever kills."""

    def __init__(self, cluster: LabCluster, agents: dict[str, LocalAgent], client: Client, seed: int) -> None:
        self._cluster = cluster
        self._agents = agents
        self._client = client
        self._random = random.Random(seed)
        self.score = Score()

    async def run(self, seconds: float, pods: int, parallel: int = 24) -> None:
        """Let ``pods`` pods come and go, and kill for ``seconds``."""
        gate = asyncio.Semaphore(parallel)
        lives = [
            self._one_after_another(gate, f"chaos-{number:04d}", seconds * parallel / pods) for number in range(pods)
        ]
        killer = asyncio.create_task(self._kill(seconds))
        await asyncio.gather(*lives)
        await killer

    async def settle(self) -> None:
        """Wait until nothing is held any more and the counters say so."""
        deadline = time.monotonic() + PATIENCE
        while left := await self._left():
            if time.monotonic() > deadline:
                self.score.wrong.append(f"not settled after {PATIENCE:.0f} s: {left}")
                return
            await asyncio.sleep(0.5)

    async def _one_after_another(self, gate: asyncio.Semaphore, name: str, share: float) -> None:
        async with gate:
            await self._live(name, self._random.choice(NODES), self._random.uniform(0.2, 1.2) * share)

    async def _live(self, name: str, node: str, seconds: float) -> None:
        """A pod from its creation to the DEL of its sandbox, as kubelet and runtime do it."""
        pod = await self._create(name, node)
        uid = pod.metadata.uid or ""
        self.score.pods += 1
        address = await self._attach(name, node, uid)
        await asyncio.sleep(seconds)
        self.score.gone(name, address)
        await self._insist(lambda: self._delete(name))
        await self._detach(name, node, uid)

    async def _attach(self, name: str, node: str, uid: str) -> str:
        while True:
            answer = await self._ask("ADD", name, node, uid)
            if "ips" in answer:
                address = str(answer["ips"][0]["address"])
                self.score.granted(name, address)
                return address
            await asyncio.sleep(RETRY)

    async def _detach(self, name: str, node: str, uid: str) -> None:
        """One DEL in ten never comes: its node's power went."""
        if self._random.random() < 0.1:
            return
        while (await self._ask("DEL", name, node, uid)).get("code"):
            await asyncio.sleep(RETRY)

    async def _ask(self, command: str, name: str, node: str, uid: str) -> dict[str, Any]:
        try:
            return await self._agents[node].address(command, "default", name, uid)
        except OSError as error:
            return {"code": 11, "msg": str(error)}

    async def _create(self, name: str, node: str) -> Pod:
        body = {
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": "none"}],
            },
        }
        return await self._insist(lambda: self._client.apply(Pod, body, name, "default", timeout=5))

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(Pod, name, "default", timeout=5)
        except NotFound:
            return

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except (ApiUnavailable, AlreadyExists):
                await asyncio.sleep(RETRY)

    async def _kill(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._random.uniform(1.5, 4.0))
            victim = self._random.choice((*NODES, *NODES, CONTROLLER, "kube-apiserver"))
            self.score.kills[victim] = self.score.kills.get(victim, 0) + 1
            await asyncio.to_thread(self._kill_one, victim)

    def _kill_one(self, victim: str) -> None:
        processes = self._cluster.processes
        if victim in self._agents:
            agent = self._agents[victim]
            agent.kill()
            agent.start()
        elif victim == CONTROLLER:
            processes.kill(CONTROLLER, signal.SIGKILL)
            processes.stop(CONTROLLER)
            self._cluster.start_controller()
        else:
            self._cluster.plane.restart_api_server()

    async def _left(self) -> str:
        """What is not as it should be when all pods are gone; empty when all is well."""
        try:
            records = await self._client.list(SpiderIP)
            pools = await self._client.list(SpiderIPPool)
        except ApiUnavailable as error:
            return str(error)
        counts = {pool.name: pool.status.allocatedIPCount if pool.status else None for pool in pools}
        if records or any(counts.values()):
            names = ", ".join(each.name for each in records[:5])
            return f"{len(records)} addresses still held ({names}), counters {counts}"
        return ""


def main() -> None:
    """Run and print the verdict; exit status 1 when an address was held twice or left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pods", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with world("chaos") as (cluster, agents):
        score = asyncio.run(play(cluster, agents, arguments.seconds, arguments.pods, arguments.seed))
    print(f"{score.pods} pods came and went; killed: {score.kills}")
    print("\n".join(score.wrong) or "no address was held twice, none is left behind, counters equal the records")
    sys.exit(1 if score.wrong else 0)


async def play(cluster: LabCluster, agents: dict[str, LocalAgent], seconds: float, pods: int, seed: int) -> Score:
    """One run; the score tells what went wrong."""
    async with Client.load(cluster.plane.admin_kubeconfig) as client:
        chaos = Chaos(cluster, agents, client, seed)
        await chaos.run(seconds, pods)
        await chaos.settle()
        return chaos.score


@contextmanager
def world(name: str) -> Iterator[tuple[LabCluster, dict[str, LocalAgent]]]:
    """A control plane with our controller and two agents that give addresses only."""
    cluster = LabCluster(name)
    cluster.prepare()
    try:
        cluster.plane.start()
        cluster.plane.apply(*sorted(CHART.glob("crds/*.yaml")), *sorted(CHART.glob("templates/*-rbac.yaml")))
        cluster.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        cluster.plane.apply(*(NODE.format(name=node) for node in NODES))
        cluster.start_controller()
        cluster.wait_for("pools are admitted", lambda: _admitted(cluster), 60)
        kubeconfig = cluster.plane.service_account_kubeconfig("kube-system", "spiderpool-agent")
        agents = {node: LocalAgent(kubeconfig, cluster.processes, cluster.directory, node) for node in NODES}
        for agent in agents.values():
            agent.start()
        yield cluster, agents
    finally:
        cluster.down()


def _admitted(cluster: LabCluster) -> bool:
    try:
        cluster.plane.apply(*POOLS)
    except Exception:  # the webhooks are not registered or not served yet
        return False
    return len(cluster.objects("spiderippools")) == len(POOLS)


if __name__ == "__main__":
    main()
