"""The taint that keeps pods away from a new node goes once the node's own agent is ready, and nothing else goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, NodeSpec, NodeStatus, NodeSystemInfo, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, SpiderNode
from spiderpool.controller.startup_taints import StartupTaintReconciler
from spiderpool.core.network.startup_taint import STARTUP_TAINT
from spiderpool.kube.client import Client, Forbidden
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.controller.conftest import Running
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually, wait_until
from tests.support.running import running

BOOT = "11111111-1111-1111-1111-111111111111"
OURS = Taint(STARTUP_TAINT, effect="NoSchedule")
OTHER = Taint("node.kubernetes.io/not-ready", effect="NoSchedule")
WHILE = 0.2
"""Seconds for what must not happen."""


def new_node(name: str, *taints: Taint, boot: str | None = BOOT, uid: str | None = None) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, uid=uid),
        spec=NodeSpec(taints=list(taints) or None),
        status=NodeStatus(nodeInfo=NodeSystemInfo(bootID=boot)),
    )


def account_of(node: Node) -> SpiderNode:
    account = SpiderNode.of(node)
    account.status = NodeAccount(bootID=BOOT, sandboxes=[])
    return account


@asynccontextmanager
async def reconciling() -> AsyncIterator[ApiServer]:
    async with ApiServer(Node.KIND, SpiderNode.KIND) as server, server.client() as client:
        nodes, accounts = Informer(client, Node), Informer(client, SpiderNode)
        reconciler = StartupTaintReconciler(client, nodes, accounts)
        async with running(*(each.run() for each in (nodes, accounts, reconciler))):
            yield server


async def answer(server: ApiServer, name: str, number: int = 1) -> None:
    """Answer the question of that number, as the node's agent does."""

    def asked() -> bool:
        return server.stored(SpiderNode)[name].spec.accountRequest == number

    await eventually(asked, f"question {number} of {name}")
    stored = server.stored(SpiderNode)[name]
    status = NodeAccount(observedGeneration=stored.metadata.generation, bootID=BOOT, sandboxes=[])
    server.put(replace(stored, status=status))


def keys(server: ApiServer, name: str) -> list[str]:
    return [taint.key for taint in server.stored(Node)[name].spec.taints or ()]


@pytest.mark.unit
class TestReconciler:
    async def test_this_taint_goes_and_others_stay(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a", OURS, OTHER), new_node("b", OURS), new_node("c", OTHER))
            await asyncio.sleep(WHILE)
            assert keys(server, "a") == [STARTUP_TAINT, OTHER.key], "its agent has said nothing yet"
            server.put(account_of(server.stored(Node)["a"]), account_of(server.stored(Node)["c"]))
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [OTHER.key])
            await asyncio.sleep(WHILE)
            assert keys(server, "b") == [STARTUP_TAINT], "another node's agent is ready"
            assert server.requests["patch"] == 2, "one question, and one taint"

    async def test_the_account_may_be_there_before_the_kubelet_tells_the_boot(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a", OURS, boot=None))
            server.put(account_of(server.stored(Node)["a"]))
            await asyncio.sleep(WHILE)
            assert keys(server, "a") == [STARTUP_TAINT]
            server.put(new_node("a", OURS, uid=server.stored(Node)["a"].metadata.uid))
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [])

    async def test_a_taint_that_is_set_later_with_each_effect_goes_too(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a"))
            node = server.stored(Node)["a"]
            server.put(account_of(node))
            server.put(new_node("a", OURS, Taint(STARTUP_TAINT, "x", "NoExecute"), uid=node.metadata.uid))
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [])

    async def test_a_taint_that_is_set_again_waits_for_an_agent_that_has_gone_since(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a", OURS))
            node = server.stored(Node)["a"]
            server.put(account_of(node))
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [])
            server.put(new_node("a", OURS, uid=node.metadata.uid))
            await asyncio.sleep(WHILE)
            assert keys(server, "a") == [STARTUP_TAINT], "its former answer does not count"
            await answer(server, "a", 2)
            await eventually(lambda: keys(server, "a") == [])

    async def test_an_agent_that_has_gone_before_the_controller_began(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a", OURS))
            account = account_of(server.stored(Node)["a"])
            account.status = NodeAccount(observedGeneration=1, bootID=BOOT, sandboxes=[])
            server.put(account)
            await asyncio.sleep(WHILE)
            assert keys(server, "a") == [STARTUP_TAINT]

    async def test_a_node_that_is_registered_again_has_another_agent(self) -> None:
        async with reconciling() as server:
            server.put(new_node("a", OURS))
            server.put(account_of(server.stored(Node)["a"]))
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [])
            server.remove(server.stored(Node)["a"])
            server.remove(server.stored(SpiderNode)["a"])
            server.put(new_node("a", OURS))
            server.put(account_of(server.stored(Node)["a"]))
            await asyncio.sleep(WHILE)
            assert keys(server, "a") == [STARTUP_TAINT]
            await answer(server, "a")
            await eventually(lambda: keys(server, "a") == [])


# --- with a real API server


@pytest.fixture
def registered(control_plane: ControlPlane) -> Iterator[str]:
    """A node that was registered with the taint and another one."""
    taints = [{"key": STARTUP_TAINT, "effect": "NoSchedule"}, {"key": "example.com/kept", "effect": "NoSchedule"}]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "starting"}, "spec": {"taints": taints}}
    control_plane.kubectl("create", "-f", "-", input=json.dumps(node))
    ready = {"type": "Ready", "status": "True", "reason": "x", "message": "x"}
    status = {"status": {"nodeInfo": {"bootID": BOOT}, "conditions": [ready]}}
    control_plane.kubectl("patch", "node", "starting", "--subresource=status", "-p", json.dumps(status))

    def is_settled() -> bool:
        return OTHER.key not in control_plane.kubectl("get", "node", "starting", "-o", "jsonpath={.spec.taints}")

    wait_until(is_settled, "Kubernetes' own taint is gone", timeout=30.0)
    yield "starting"
    control_plane.kubectl("delete", "spidernode,node", "starting", "--ignore-not-found")


@pytest.mark.control_plane
async def test_the_controller_removes_it_with_its_own_rights(
    controller: Running, client: Client, registered: str
) -> None:
    await eventually(lambda: controller.is_leading, "it leads", timeout=60.0)
    await client.create(SpiderNode.of(await client.get(Node, registered)))
    assert STARTUP_TAINT in {taint.key for taint in (await client.get(Node, registered)).spec.taints or ()}
    await client.patch(SpiderNode, registered, {"status": {"bootID": BOOT, "sandboxes": []}}, sub="status")

    async def is_asked() -> bool:
        return (await client.get(SpiderNode, registered)).spec.accountRequest is not None

    await eventually(is_asked, "the agent is asked", timeout=30.0)
    assert STARTUP_TAINT in {taint.key for taint in (await client.get(Node, registered)).spec.taints or ()}
    generation = (await client.get(SpiderNode, registered)).metadata.generation
    await client.patch(SpiderNode, registered, {"status": {"observedGeneration": generation}}, sub="status")

    async def is_free() -> bool:
        taints = (await client.get(Node, registered)).spec.taints or []
        return [taint.key for taint in taints] == ["example.com/kept"]

    await eventually(is_free, "the taint is removed", timeout=30.0)


Taints = list[dict[str, Any]]
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}


def _spec(taints: Taints, **fields: Any) -> dict[str, Any]:
    return {"spec": {"taints": taints, **fields}}


EVIL: dict[str, Callable[[Taints, dict[str, Any]], dict[str, Any]]] = {
    "another taint is removed": lambda _, ours: _spec([ours]),
    "all taints are removed": lambda _, ours: _spec([]),
    "a taint is added": lambda others, _: _spec([*others, {"key": "example.com/evil", "effect": "NoSchedule"}]),
    "a taint is changed": lambda others, _: _spec([{**each, "value": "x"} for each in others]),
    "it is given back changed": lambda others, ours: _spec([*others, {**ours, "effect": "NoExecute"}]),
    "cordoned": lambda others, _: _spec(others, unschedulable=True),
    "bound to a server": lambda others, _: _spec(others, providerID="evil"),
    "addresses of pods": lambda others, _: _spec(others, podCIDR="10.6.0.0/24", podCIDRs=["10.6.0.0/24"]),
    "labels": lambda others, _: {**_spec(others), "metadata": {"labels": {"a": "b"}}},
    "annotations": lambda others, _: {**_spec(others), "metadata": {"annotations": {"a": "b"}}},
    "finalizers": lambda others, _: {**_spec(others), "metadata": {"finalizers": ["a.b/c"]}},
    "owners": lambda others, _: {**_spec(others), "metadata": {"ownerReferences": [OWNER]}},
}
"""What whoever has the controller's token shall not do to a Node, by name: from its other taints, and ours."""


@pytest.mark.control_plane
@pytest.mark.parametrize("what", EVIL)
async def test_its_account_changes_nothing_else_on_a_node(
    control_plane: ControlPlane, registered: str, what: str
) -> None:
    account = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    async with Client.load(account) as thief, Client.load(control_plane.admin_kubeconfig) as admin:
        before = await admin.get(Node, registered)
        taints = msgspec.to_builtins(before.spec.taints)
        ours = [each for each in taints if each["key"] == STARTUP_TAINT]
        others = [each for each in taints if each not in ours]
        with pytest.raises(Forbidden, match=f"removes the taint {STARTUP_TAINT} alone"):
            await thief.patch(Node, registered, EVIL[what](others, *ours))
        with pytest.raises(Forbidden):
            await thief.patch(Node, registered, {"status": {"conditions": None}}, sub="status")
        with pytest.raises(Forbidden):
            await thief.delete(Node, registered)
        after = await admin.get(Node, registered)
        assert (after.spec, after.metadata.labels) == (before.spec, before.metadata.labels)
        await thief.patch(Node, registered, _spec(others))
