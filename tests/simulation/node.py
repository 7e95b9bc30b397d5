"""A node of a simulation: machine, kubelet, container runtime and agent.

The kubelet and the runtime behave as real ones were seen to do:

- an ADD for each sandbox, with CNI_ARGS in random order, and after a failed one a single DEL that is never repeated;
- at the end of a pod a DEL that is repeated until it succeeds, and two more some seconds later without a namespace;
- after a reboot a DEL of the former sandbox without a namespace, before or after the next ADD;
- containers that take longer to stop than the grace period of their pod, and a DEL before the final phase.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from spiderpool.api.cni import CNICall
from spiderpool.api.core_v1 import Pod
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION
from spiderpool.errors import Refused, SpiderpoolError
from tests.simulation.cloud_daemon import discovery
from tests.simulation.daemons import AgentOptions, AgentProcess, ConnectionRefused
from tests.simulation.kernel import SimulatedKernel
from tests.simulation.loop import Process
from tests.simulation.network import Link, Requests
from tests.simulation.pod_worker import PodWorker
from tests.simulation.sandbox import Sandbox
from tests.support.api_store import Body

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

FINAL = ("Succeeded", "Failed")
EXEC_TIMEOUT = 110.0
"""Seconds that the CNI executable waits for the agent."""
ATTACH_CONFIG: Body = {"cniVersion": "1.0.0", "name": "spiderpool", "type": "spiderpool-attach"}
IPAM_CONFIG: Body = {
    "cniVersion": "1.0.0",
    "name": "spiderpool",
    "type": "ipvlan",
    "master": "eth0",
    "ipam": {"type": "spiderpool"},
}


class SimulatedNode:
    """One machine."""

    def __init__(self, cluster: Cluster, name: str, address: str, directory: Path) -> None:
        self.cluster = cluster
        self.name = name
        self.link = Link(name)
        self.kernel = SimulatedKernel(name, address, cluster.ledger, cluster.random)
        self.agents: list[AgentProcess] = []
        self.kubelet: Kubelet | None = None
        self.statics: dict[str, str] = {}
        """UID of each static pod that has a manifest on the node → its name."""
        self.disk: dict[str, Sandbox] = {}
        """Container → sandbox: outlives reboots."""
        self.directory = directory
        self.boot_id = ""
        self.gone = False
        """Whether the machine is gone for good: its Node is deleted, or is about to be."""

    @property
    def up(self) -> bool:
        """Whether the machine runs."""
        return self.kubelet is not None

    @property
    def reports(self) -> bool:
        """Whether Kubernetes hears of its kubelet."""
        return self.link.up and self.kubelet is not None and self.kubelet.process.runs

    @property
    def reachable(self) -> bool:
        """Whether its packets reach the API server, which answers."""
        return self.link.up and self.cluster.api.listening

    def boot(self) -> None:
        """Start the machine."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.boot_id = f"boot-{self.cluster.numbers()}"
        self.kubelet = Kubelet(self, [*self.disk.values()])
        self.kubelet.start()
        self.start_agent()

    def crash(self) -> None:
        """The machine loses its power."""
        for namespace in list(self.kernel.namespaces.values()):
            self.kernel.destroy(namespace)
        for agent in self.agents:
            agent.kill()
        self.agents.clear()
        if self.kubelet is not None:
            self.kubelet.process.kill()
        self.kubelet = None

    def start_agent(self) -> AgentProcess:
        """Start an agent beside those that run: the newest one gets the calls."""
        cluster = self.cluster
        agent = AgentProcess(
            self.kernel,
            self.link,
            cluster.api,
            directory=self.directory,
            settings=AgentOptions(
                cluster.policy,
                cluster.wall_clock(),
                self.boot_id,
                discovery(cluster.cloud, self.name, self.directory),
            ),
        )
        agent.start()
        self.agents.append(agent)
        return agent

    def heal(self) -> None:
        """Everything on the machine runs again."""
        if not self.up:
            self.boot()
        if not self.agents:
            self.start_agent()
        for agent in self.agents:
            agent.process.go_on(self.cluster.loop)
        if self.kubelet is not None:
            self.kubelet.process.go_on(self.cluster.loop)

    def kill_agent(self, agent: AgentProcess) -> None:
        """End an agent at once."""
        agent.kill()
        self.agents.remove(agent)


class Kubelet:
    """The kubelet of a node, and its container runtime."""

    def __init__(self, node: SimulatedNode, former: list[Sandbox]) -> None:
        self.node = node
        self.cluster = node.cluster
        self.random: Random = node.cluster.random
        self.process = Process(f"kubelet of {node.name}")
        self.workers: dict[str, PodWorker] = {}
        self.view: dict[str, Body] = {}
        """Pods of the API server that it knows, by UID."""
        self._former = former
        self._news = asyncio.Event()
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Begin to run."""
        for sandbox in self._former:
            if sandbox.uid not in self.node.statics:
                continue
            self._work_on(sandbox.uid, sandbox.key, static=True)
        self.spawn(self._observe())
        self.spawn(self._keep_statics())

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the kubelet."""
        return self.cluster.loop.start(self.process, work)

    def wake(self) -> None:
        """Something has changed in the API server."""
        self._news.set()

    def former(self, uid: str) -> Sandbox | None:
        """The sandbox that a pod had before the last reboot; handed out once."""
        found = next((each for each in self._former if each.uid == uid), None)
        if found is not None:
            self._former.remove(found)
        return found

    async def reach(self) -> None:
        """Wait until the API server can be reached."""
        while not self.node.reachable:
            await asyncio.sleep(self.random.uniform(0.5, 3.0))

    async def _observe(self) -> None:
        """Keep the view up to date and have a worker for each pod."""
        while True:
            await asyncio.sleep(self.random.uniform(0.005, 0.2))
            await self.reach()
            self.view = dict(self.cluster.pods_of(self.node.name))
            for uid, body in self.view.items():
                self._look_at(uid, body)
            for worker in self.workers.values():
                if not worker.static and worker.ending:
                    worker.changed.set()
            self._remove_former()
            try:
                async with asyncio.timeout(10.0):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()

    def _look_at(self, uid: str, body: Body) -> None:
        metadata = body["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        if _is_mirror(body):
            if metadata["annotations"][MIRROR_POD_ANNOTATION] not in {*self.node.statics, *self.workers}:
                self.cluster.remove(Pod, key)
        elif (body.get("status") or {}).get("phase") not in FINAL:
            self._work_on(uid, key, static=False)
        elif "deletionTimestamp" in metadata and uid not in self.workers:
            self.cluster.finish_deletion(key, uid)

    def _work_on(self, uid: str, key: str, *, static: bool) -> None:
        if uid not in self.workers:
            self.workers[uid] = worker = PodWorker(self, uid, key, static=static)
            self.spawn(worker.run())

    def _remove_former(self) -> None:
        """Take away sandboxes from before a reboot whose pods are gone."""
        for sandbox in list(self._former):
            if sandbox.uid not in self.view and sandbox.uid not in self.node.statics:
                self._former.remove(sandbox)
                self.spawn(self.late_delete(sandbox, 0.1))
                self.node.disk.pop(sandbox.container, None)

    async def _keep_statics(self) -> None:
        """Run the static pods, and see to it that each has a mirror."""
        while True:
            for uid, name in list(self.node.statics.items()):
                self._work_on(uid, f"default/{name}", static=True)
                if self.node.reachable:
                    self.cluster.mirror(self.node.name, uid, name)
            for worker in self.workers.values():
                if worker.static and worker.ending:
                    worker.changed.set()
            await asyncio.sleep(self.random.uniform(3.0, 40.0))

    # --- the runtime

    def container(self) -> str:
        """A new container ID."""
        return f"{self.node.name}-{self.cluster.numbers()}"

    async def late_delete(self, sandbox: Sandbox, after: float, prev_result: bool = True) -> None:
        """A DEL without a namespace, whose failure nobody minds."""
        await asyncio.sleep(after)
        await self.call("DEL", sandbox, "", sandbox.result if prev_result else None)

    async def call(self, command: str, sandbox: Sandbox, netns: str, result: Any = None) -> tuple[Any, str]:
        """A CNI call: its result, and an error or an empty text."""
        cluster = self.cluster
        config = dict(IPAM_CONFIG if cluster.ipam_only else ATTACH_CONFIG)
        if result is not None:
            config["prevResult"] = result
        namespace, name = sandbox.key.split("/")
        arguments = [
            "IgnoreUnknown=1",
            f"K8S_POD_NAMESPACE={namespace}",
            f"K8S_POD_NAME={name}",
            f"K8S_POD_INFRA_CONTAINER_ID={sandbox.container}",
            f"K8S_POD_UID={sandbox.uid}",
        ]
        self.random.shuffle(arguments)
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox.container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": ";".join(arguments),
            "CNI_PATH": "/opt/cni/bin",
        }
        plugin = "spiderpool" if cluster.ipam_only else "spiderpool-attach"
        call = CNICall(plugin, environment, msgspec.json.encode(config))
        text = f"{command} {sandbox.container} of {sandbox.key}{'' if netns else ' without namespace'}"
        cluster.note(text, sandbox.key, sandbox.uid)
        outcome, error = await self._exchange(call)
        cluster.note(f"{text}: {error or _brief(outcome)}", sandbox.key, sandbox.uid)
        if command == "DEL":
            cluster.checks.last_delete[sandbox.uid] = cluster.loop.time()
        return outcome, error

    async def _exchange(self, call: CNICall) -> tuple[Any, str]:
        """Hand a call to the agent that listens."""
        agent = next((each for each in reversed(self.node.agents) if each.listening), None)
        if agent is None:
            return None, "nobody listens"
        requests, begin = Requests(), self.cluster.loop.time()
        if call.command == "ADD":
            self.cluster.checks.add_begins(self.node.name, begin)
        try:
            async with asyncio.timeout(EXEC_TIMEOUT):
                return await agent.call(call, requests), ""
        except ConnectionRefused:
            return None, "connection refused"
        except TimeoutError:
            return None, "no answer"
        except Refused as error:
            self.cluster.checks.refused(self.node.name, error, begin)
            return None, f"Refused: {error}"
        except SpiderpoolError as error:
            return None, f"{type(error).__name__}: {error}"
        finally:
            if call.command == "ADD":
                self.cluster.checks.add_ends(self.node.name, begin)
                self.cluster.checks.count(call, requests.count)


def _is_mirror(body: Body) -> bool:
    return MIRROR_POD_ANNOTATION in (body["metadata"].get("annotations") or {})


def _brief(result: Any) -> str:
    return " ".join(each["address"] for each in result["ips"]) if isinstance(result, dict) and "ips" in result else "ok"
