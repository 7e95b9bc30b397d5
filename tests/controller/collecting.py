"""A collector against an API server that answers as a test says, with the agent of one node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus, Pod, PodIP, PodSpec, PodStatus
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from spiderpool.controller.gc import ClusterGC, GCListers, GCTimings
from spiderpool.core.ipam.gc import GCPolicy
from spiderpool.kube.client import Client, encode
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from tests.support.clients import answered_by

ORPHAN = SpiderIP(
    metadata=ObjectMeta(name="10.6.0.1", uid="r-1", resourceVersion="7"),
    spec=IPSpec("10.6.0.1/24", "p", "n", "ns", "web", "u-1", "eth0"),
)
ALIVE = Pod(
    metadata=ObjectMeta(name="web", namespace="ns", uid="u-1", resourceVersion="9"),
    spec=PodSpec(nodeName="n"),
    status=PodStatus("Running", [PodIP("10.6.0.1")]),
)

NODE = Node(metadata=ObjectMeta(name="n", resourceVersion="3"), status=NodeStatus([NodeCondition("Ready", "True")]))

ACCOUNT = SpiderNode(metadata=ObjectMeta(name="n", uid="sn", resourceVersion="10", generation=4), status=NodeAccount(4))
USING = NodeSandbox("u-1", "ns", "web", "c", [SandboxInterface("eth0", None, ["10.6.0.1"])])

HANG_UP = 999
"""A status that stands for no answer at all."""

Reply = Callable[[], web.Response]
PODS, NODES, IPS, ACCOUNTS = "/api/v1/namespaces/ns/pods/", "/api/v1/nodes/", "/spiderips/", "/spidernodes/"
STATEFUL_SETS = "/apis/apps/v1/namespaces/ns/statefulsets/"


@dataclass(frozen=True)
class Received:
    """One request as the far end has received it."""

    method: str
    path: str
    body: bytes


class FarEnd:
    """An API server that answers reads by their path, and every other request alike; with the agent of node n."""

    def __init__(self, given: Given, pod: Reply) -> None:
        self.received: list[Received] = []
        self.enough = asyncio.Event()
        self._given = given
        self._node = ACCOUNT
        self._replies = {PODS: pod, NODES: found(NODE), ACCOUNTS: self._account} | given.replies

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received.append(Received(request.method, request.path, body))
        if sum(each.path.startswith(PODS) for each in self.received) >= 3:
            self.enough.set()
        if request.method == "PATCH":
            return self._question(msgspec.json.decode(body))
        if request.method != "GET":
            return web.json_response({"metadata": {}, "spec": _SPEC}, status=self._given.deleted)
        reply = next((reply for path, reply in self._replies.items() if path in request.path), gone)()
        if reply.status == HANG_UP:
            assert request.transport is not None
            request.transport.abort()
        return reply

    def _account(self) -> web.Response:
        return found(self._node)()

    def _question(self, body: dict[str, Any]) -> web.Response:
        """Number a question, and have the agent answer it before the answer to the question arrives."""
        given, meta = self._given, self._node.metadata
        if given.conflicts > sum(each.method == "PATCH" for each in self.received) - 1:
            return failing(409)
        assert body["metadata"]["resourceVersion"] == meta.resourceVersion
        generation = (meta.generation or 0) + 1
        meta = replace(meta, generation=generation, resourceVersion=str(100 + generation))
        account = NodeAccount(generation, sandboxes=list(given.sandboxes)) if given.answers else NodeAccount(4)
        spec = msgspec.convert(body["spec"], SpiderNodeSpec)
        self._node = replace(self._node, metadata=meta, spec=spec, status=account)
        return self._account()


_SPEC = msgspec.to_builtins(ORPHAN.spec)


@dataclass(frozen=True)
class Given:
    """What a collector finds in its caches and at the far end, and how it works."""

    ips: tuple[SpiderIP, ...] = (ORPHAN,)
    known: tuple[Pod | Node | SpiderIPPool, ...] = (NODE,)
    accounts: tuple[SpiderNode, ...] = (ACCOUNT,)
    replies: dict[str, Reply] = field(default_factory=dict)
    deleted: int = 200
    """Status of the answers to writes."""
    seconds: float = 0.5
    policy: GCPolicy = field(default_factory=GCPolicy)
    full_interval: float = 0.1
    agent_grace: float = 0.01
    sandboxes: tuple[NodeSandbox, ...] = ()
    """What the agent of node n says when it is asked."""
    answers: bool = True
    conflicts: int = 0
    """Questions that are refused first, since the agent has published meanwhile."""


async def collect(pod: Reply, **changes: Any) -> list[Received]:
    """Requests of a collector until it has asked for the pod three times; ``changes`` are fields of Given."""
    given = Given(**changes)
    far_end = FarEnd(given, pod)
    async with answered_by(far_end.answer) as client:
        listers = listers_of(client)
        for ip in given.ips:
            listers.ips.note(ip)
        for account in given.accounts:
            listers.accounts.note(account)
        informers: dict[type, Informer[Any]] = {Pod: listers.pods, Node: listers.nodes, SpiderIPPool: listers.pools}
        for other in given.known:
            informers[type(other)].note(other)
        timings = GCTimings(0, given.full_interval, grace=0.01, node_grace=0.01, agent_grace=given.agent_grace)
        collector = ClusterGC(client, listers, Recorder(client, "test"), timings, given.policy)
        task = asyncio.create_task(collector.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(given.seconds):
                await far_end.enough.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return far_end.received


def listers_of(client: Client) -> GCListers:
    """Caches without objects."""
    return GCListers(*(Informer[Any](client, kind) for kind in (SpiderIP, Pod, Node, SpiderNode, SpiderIPPool)))


def methods(requests: list[Received]) -> set[str]:
    return {request.method for request in requests}


def failing(status: int) -> web.Response:
    return web.json_response({"code": status}, status=status)


def found(obj: Object) -> Reply:
    return lambda: web.Response(body=encode(obj))


def gone() -> web.Response:
    return failing(404)
