"""Chaos test: creates and deletes pods on two nodes while it kills agents, controller and API server at random.

Checks that two pods never had the same address at the same time and that in the end no address is allocated and all
counters of pools are 0. Kills and pods are reproducible by a seed; the timing of processes is not.
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
from spiderpool_lab import chart, namespaces
from spiderpool_lab.cluster import CONTROLLER, LabCluster

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
RELEASE_TIMEOUT = 60.0
"""Seconds after the last pod within which all addresses must be released: several intervals of garbage collection."""

RETRY_INTERVAL = 0.3
"""Seconds between two tries of the simulated kubelet."""

QUICK = {"SPIDERPOOL_GC_AGENT_GRACE_SECONDS": "5"}
"""Environment of the controller: it waits no minutes for the agents, since pods here never end slowly."""

LOST_DEL_SHARE = 0.1
"""Share of pods for which DEL is never called, as after a power failure of the node."""


@dataclass(slots=True)
class ChaosResult:
    """What happened, and which rules were violated."""

    pods: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)  # address → name of the pod that has it
    violations: list[str] = field(default_factory=list)

    def record_allocation(self, pod: str, address: str) -> None:
        """A pod got an address; note a violation if another pod has it."""
        holder = self.holders.setdefault(address, pod)
        if holder != pod:
            self.violations.append(f"{address} was given to {pod} while {holder} holds it")

    def record_deletion(self, pod: str, address: str) -> None:
        """A pod is about to be deleted; from now on its address may be allocated again."""
        if self.holders.get(address) == pod:
            del self.holders[address]


class Chaos:
    """Runs the pods, a simulated kubelet and the kills."""

    def __init__(self, cluster: LabCluster, agents: dict[str, LocalAgent], client: Client, seed: int) -> None:
        self._cluster = cluster
        self._agents = agents
        self._client = client
        self._random = random.Random(seed)
        self.result = ChaosResult()

    async def run(self, seconds: float, pods: int, parallel: int = 24) -> None:
        """Run ``pods`` pods, at most ``parallel`` at a time, and kill processes for ``seconds``."""
        slots = asyncio.Semaphore(parallel)
        runs = [self._run_in_slot(slots, f"chaos-{number:04d}", seconds * parallel / pods) for number in range(pods)]
        killer = asyncio.create_task(self._kill(seconds))
        await asyncio.gather(*runs)
        await killer

    async def wait_until_released(self) -> None:
        """Wait until no address is allocated; note a violation after the timeout."""
        deadline = time.monotonic() + RELEASE_TIMEOUT
        while leftovers := await self._leftovers():
            if time.monotonic() > deadline:
                self.result.violations.append(f"not released after {RELEASE_TIMEOUT:.0f} s: {leftovers}")
                return
            await asyncio.sleep(0.5)

    async def _run_in_slot(self, slots: asyncio.Semaphore, name: str, share: float) -> None:
        async with slots:
            await self._run_pod(name, self._random.choice(NODES), self._random.uniform(0.2, 1.2) * share)

    async def _run_pod(self, name: str, node: str, seconds: float) -> None:
        """Create a pod, call ADD, wait, delete the pod, call DEL, as kubelet and container runtime do."""
        pod = await self._create(name, node)
        uid = pod.metadata.uid or ""
        self.result.pods += 1
        address = await self._attach(name, node, uid)
        await asyncio.sleep(seconds)
        self.result.record_deletion(name, address)
        await self._retry(lambda: self._delete(name))
        await self._detach(name, node, uid)

    async def _attach(self, name: str, node: str, uid: str) -> str:
        while True:
            answer = await self._call_agent("ADD", name, node, uid)
            if "ips" in answer:
                address = str(answer["ips"][0]["address"])
                self.result.record_allocation(name, address)
                return address
            await asyncio.sleep(RETRY_INTERVAL)

    async def _detach(self, name: str, node: str, uid: str) -> None:
        """Call DEL until it succeeds, or never for a share of the pods."""
        if self._random.random() < LOST_DEL_SHARE:
            return
        while (await self._call_agent("DEL", name, node, uid)).get("code"):
            await asyncio.sleep(RETRY_INTERVAL)

    async def _call_agent(self, command: str, name: str, node: str, uid: str) -> dict[str, Any]:
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
        return await self._retry(lambda: self._client.apply(Pod, body, name, "default", timeout=5))

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(Pod, name, "default", timeout=5)
        except NotFound:
            return

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat an idempotent call while the API server is down or an older pod of that name is being deleted."""
        while True:
            try:
                return await call()
            except (ApiUnavailable, AlreadyExists):
                await asyncio.sleep(RETRY_INTERVAL)

    async def _kill(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._random.uniform(1.5, 4.0))
            victim = self._random.choice((*NODES, *NODES, CONTROLLER, "kube-apiserver"))
            self.result.kills[victim] = self.result.kills.get(victim, 0) + 1
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
            self._cluster.start_controller(**QUICK)
        else:
            self._cluster.plane.restart_api_server()

    async def _leftovers(self) -> str:
        """Addresses and counters that are left after the last pod, in words; empty if there are none."""
        try:
            records = await self._client.list(SpiderIP)
            pools = await self._client.list(SpiderIPPool)
        except ApiUnavailable as error:
            return str(error)
        counts = {pool.name: pool.status.allocatedIPCount if pool.status else None for pool in pools}
        if records or any(counts.values()):
            names = ", ".join(record.name for record in records[:5])
            return f"{len(records)} addresses still held ({names}), counters {counts}"
        return ""


def main() -> None:
    """Run and print the result; exit status 1 if a rule was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pods", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    namespaces.leave_host()
    pods, seconds = arguments.pods, arguments.seconds
    print(f"{pods} pods come and go for {seconds:g} s while agents, controller and API server are killed", flush=True)
    with chaos_cluster("chaos") as (cluster, agents):
        result = asyncio.run(run_chaos(cluster, agents, arguments.seconds, arguments.pods, arguments.seed))
    print(f"{result.pods} pods came and went; killed: {result.kills}")
    print("\n".join(result.violations) or "no address was allocated twice, none is left, all counters are 0")
    sys.exit(1 if result.violations else 0)


async def run_chaos(
    cluster: LabCluster, agents: dict[str, LocalAgent], seconds: float, pods: int, seed: int
) -> ChaosResult:
    """Run once; the result lists the violations."""
    async with Client.load(cluster.plane.admin_kubeconfig) as client:
        chaos = Chaos(cluster, agents, client, seed)
        await chaos.run(seconds, pods)
        await chaos.wait_until_released()
        return chaos.result


@contextmanager
def chaos_cluster(name: str) -> Iterator[tuple[LabCluster, dict[str, LocalAgent]]]:
    """A control plane with our controller, and agents of two nodes that only allocate addresses."""
    cluster = LabCluster(name)
    cluster.prepare()
    try:
        cluster.plane.start()
        cluster.plane.apply(*chart.definitions(), *chart.requirements())
        cluster.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        cluster.plane.apply(*(NODE.format(name=node) for node in NODES))
        cluster.start_controller(**QUICK)
        cluster.wait_for("pools are admitted", lambda: _admitted(cluster), 60)
        agents = {node: LocalAgent(cluster.plane, cluster.processes, cluster.directory, node) for node in NODES}
        for agent in agents.values():
            agent.start()
        yield cluster, agents
    finally:
        cluster.down()


def _admitted(cluster: LabCluster) -> bool:
    try:
        cluster.plane.apply(*POOLS)
    except Exception:  # fails until the admission webhooks are registered and served; the caller tries again
        return False
    return len(cluster.objects("spiderippools")) == len(POOLS)


if __name__ == "__main__":
    main()
