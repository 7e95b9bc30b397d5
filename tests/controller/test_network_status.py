"""The network status of pods is written as their own node tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import STATUS_ANNOTATION, NetworkDNS, NetworkStatusEntry
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SpiderNode
from spiderpool.controller.network_status import NetworkStatusReconciler
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

ENTRY = NetworkStatusEntry("ns/a", "eth0", NetworkDNS(), ["10.0.0.5"])
WHILE = 0.2
"""Seconds for what must not happen."""


def pod(name: str = "web", node: str | None = "n1") -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="ns", annotations={"a": "b"}), spec=PodSpec(nodeName=node))


def told(server: ApiServer, name: str, *entries: NetworkStatusEntry, node: str = "n1", uid: str | None = None) -> None:
    """The account of a node tells of a sandbox of the pod."""
    uid = uid or server.stored(Pod)[f"ns/{name}"].metadata.uid or ""
    sandbox = NodeSandbox(uid, "ns", name, "c", None, list(entries))
    server.put(SpiderNode(metadata=ObjectMeta(name=node), status=NodeAccount(sandboxes=[sandbox])))


def noted(server: ApiServer, name: str = "web") -> dict[str, str]:
    return server.stored(Pod)[f"ns/{name}"].metadata.annotations or {}


@asynccontextmanager
async def reconciling() -> AsyncIterator[ApiServer]:
    async with ApiServer(Pod.KIND, SpiderNode.KIND) as server, server.client() as client:
        accounts, pods = Informer(client, SpiderNode), Informer(client, Pod)
        reconciler = NetworkStatusReconciler(client, accounts, pods)
        async with running(*(each.run() for each in (accounts, pods, reconciler))):
            yield server


async def test_it_is_written_once_and_again_when_the_node_tells_something_else() -> None:
    async with reconciling() as server:
        server.put(pod())
        told(server, "web", ENTRY)
        await eventually(lambda: STATUS_ANNOTATION in noted(server))
        assert json.loads(noted(server)[STATUS_ANNOTATION])[0]["ips"] == ["10.0.0.5"]
        assert noted(server)["a"] == "b"
        told(server, "web", ENTRY)
        await asyncio.sleep(WHILE)
        assert server.requests["patch"] == 1
        told(server, "web", replace(ENTRY, ips=["10.0.0.6"]))
        await eventually(lambda: "10.0.0.6" in noted(server)[STATUS_ANNOTATION])


async def test_the_account_may_come_before_the_pod_is_known_to_be_bound() -> None:
    async with reconciling() as server:
        server.put(pod(node=None))
        told(server, "web", ENTRY)
        await asyncio.sleep(WHILE)
        assert STATUS_ANNOTATION not in noted(server)
        server.put(replace(server.stored(Pod)["ns/web"], spec=PodSpec(nodeName="n1")))
        await eventually(lambda: STATUS_ANNOTATION in noted(server))


async def test_no_node_tells_of_the_pods_of_another() -> None:
    async with reconciling() as server:
        server.put(pod(), pod("mine", "n2"))
        told(server, "web", ENTRY, node="n2")
        told(server, "web", ENTRY, uid="of-a-former-pod")
        await asyncio.sleep(WHILE)
        assert STATUS_ANNOTATION not in noted(server)
        assert server.requests["patch"] == 0
