"""An administrator with a kubeconfig, and what he or she has to answer for.

docs/usage/lost-nodes.md: a fence or the out-of-service taint says that nothing of a node runs any more. It counts while
the Node is not ready and its agent does not answer; if something runs there all the same, that is the administrator's
fault and not the product's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from spiderpool.api.core_v1 import Node
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.ipam.evidence import OUT_OF_SERVICE
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from tests.simulation.loop import Process
from tests.simulation.network import Link
from tests.support.api_store import Body

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.kernel import Namespace

SAMPLE = 2.0
"""Seconds between two looks at who can answer."""
SILENCE = 30.0
"""Seconds after which nobody acts on the former silence of an agent any more."""
UNANSWERED = 8.0
"""Seconds after which a question without an answer counts as silence: `ip release` waits for 10."""


class Administrator:
    """Runs commands, and knows which sandboxes they have cost their addresses."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._forfeited: set[tuple[str, str]] = set()  # path of a namespace, name of an address
        self._forfeited_by: set[tuple[str, str]] = set()  # UID of a pod, name of an address
        self._asked_at: dict[str, float] = {}  # node → since when it has owed an answer
        self._silent_at: dict[str, float] = {}  # node → when its agent could not answer last
        self._stated_at: dict[str, float] = {}  # node → when a statement about it held last
        self._process = Process("administrator")
        self._link = Link("administrator")

    def command(self, text: str, work: Callable[[Client], Awaitable[str]]) -> None:
        """Run one of the functions behind `spiderpoolctl`."""
        self._cluster.loop.start(self._process, self._run(text, work))

    async def _run(self, text: str, work: Callable[[Client], Awaitable[str]]) -> None:
        cluster = self._cluster
        cluster.note(f"administrator: {text}")
        try:
            async with cluster.api.client(self._link) as client:
                outcome = await work(client)
                cluster.api.faults["commands carried out"] += 1
        except SpiderpoolError as error:
            outcome = f"{type(error).__name__}: {error}"
            cluster.api.faults["commands refused"] += 1
        cluster.note(f"administrator: {text}: {outcome}")

    async def watch(self) -> None:
        """Notice which agents cannot answer, and what is said of their nodes, until cancelled."""
        while True:
            for node in self._cluster.nodes:
                self._sample(node.name)
            await asyncio.sleep(SAMPLE)

    def _sample(self, name: str) -> None:
        cluster, now = self._cluster, self._cluster.loop.time()
        node = next(each for each in cluster.nodes if each.name == name)
        answers = any(agent.listening and agent.process.runs for agent in node.agents)
        if not self._owes_answer(name):
            self._asked_at.pop(name, None)
        if not (answers and node.reachable) or now - self._asked_at.get(name, now) >= UNANSWERED:
            self._silent_at[name] = now
        if self._is_stated(name, node.boot_id):
            self._stated_at[name] = now

    def _owes_answer(self, name: str) -> bool:
        """Whether a node has not answered the last question; notes since when."""
        account = self._cluster.body(SpiderNode, name)
        seen = ((account or {}).get("status") or {}).get("observedGeneration")
        if account is not None and seen == account["metadata"]["generation"]:
            return False
        self._asked_at.setdefault(name, self._cluster.loop.time())
        return True

    def _is_stated(self, name: str, boot: str) -> bool:
        """Whether it is said of the present boot of a node that nothing of it runs, and no kubelet contradicts."""
        body = self._cluster.body(Node, name)
        if body is None or is_ready(body):
            return False
        account = self._cluster.body(SpiderNode, name) or {}
        return is_out_of_service(body) or (account.get("spec") or {}).get("fencedBootID") == boot

    def answers_for(self, namespace: Namespace, address: str) -> bool:
        """Whether it is by a wrong statement that an address was taken from a sandbox: now, or before.

        As long as its agent does not hear of it, it gives the next sandbox of the pod the same address.
        """
        key, of_pod = (namespace.path, address), (namespace.uid, address)
        if key not in self._forfeited and (self._inherits(namespace, address) or self._has_misled(namespace.node)):
            self._forfeited.add(key)
            self._forfeited_by.add(of_pod)
            self._cluster.api.faults["addresses forfeited"] += 1
            self._cluster.note(f"{address} of {namespace.container} is forfeited by a wrong statement", address)
        return key in self._forfeited

    def _inherits(self, namespace: Namespace, address: str) -> bool:
        """Whether it was taken from a former sandbox of the pod, and the agent cannot have heard of it."""
        return (namespace.uid, address) in self._forfeited_by and self._is_silent(namespace.node)

    def _has_misled(self, name: str) -> bool:
        """Whether somebody has said of late that nothing runs on a node, and its agent has been silent."""
        self._sample(name)
        return self._is_silent(name) and self._stated_at.get(name, 0.0) > self._cluster.loop.time() - SILENCE

    def _is_silent(self, name: str) -> bool:
        """Whether the agent of a node has been silent of late."""
        return self._silent_at.get(name, 0.0) > self._cluster.loop.time() - SILENCE

    def returned(self, namespace: Namespace, address: str) -> None:
        """A sandbox has the record of its address again."""
        self._forfeited.discard((namespace.path, address))
        self._forfeited_by.discard((namespace.uid, address))

    def is_forfeited(self, namespace: Namespace, address: str) -> bool:
        """Whether a sandbox has an address that was taken from it by a wrong statement."""
        return (namespace.path, address) in self._forfeited or self._inherits(namespace, address)


def is_ready(node: Body) -> bool:
    """Whether a Node is ready."""
    return any(each["status"] == "True" for each in (node.get("status") or {}).get("conditions", ()))


def is_out_of_service(node: Body) -> bool:
    """Whether a Node has the taint of an administrator."""
    return any(taint["key"] == OUT_OF_SERVICE for taint in node["spec"].get("taints") or ())
