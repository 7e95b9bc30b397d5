"""Addresses that are collected, and those that are not, against a real API server and under our own roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spiderpool.api.applications import StatefulSet
from spiderpool.api.core_v1 import Event, Node, Pod
from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.kube.client import Client, NotFound
from tests.support.answering_agent import AnsweringAgent, answering, sandbox
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

PATIENCE = 20.0
NODE = "gc-node"
UNUSED = 6.0
"""Seconds within which an address would be released, by the settings of the controller, if nothing kept it."""


@pytest.fixture
async def agent(client: Client) -> AsyncIterator[AnsweringAgent]:
    """The agent of the Node gc-node, which no kubelet speaks for."""
    made = await client.create(Node(metadata=ObjectMeta(name=NODE)))
    async with answering(client, made) as agent:
        yield agent
    await remove(client, Node, NODE)
    await remove(client, SpiderNode, NODE)
    for pod in await client.list(Pod, "default"):
        await remove(client, Pod, pod.name, "default", grace=0)
    for ip in await client.list(SpiderIP):
        await remove(client, SpiderIP, ip.name)


@pytest.fixture
def node(agent: AnsweringAgent) -> str:
    """A Node whose agent answers: it has no sandboxes."""
    return NODE


async def remove(client: Client, kind: Any, *name: str, **options: Any) -> None:
    try:
        await client.delete(kind, *name, **options)
    except NotFound:
        return


async def make_pod(client: Client, name: str, node: str, *reported: str) -> Pod:
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "i"}],
        },
    }
    pod = await client.apply(Pod, body, name, "default")
    if reported:
        status = {"phase": "Running", "podIP": reported[0], "podIPs": [{"ip": ip} for ip in reported]}
        pod = await client.patch(Pod, name, {"status": status}, "default", sub="status")
    return pod


async def hold(client: Client, address: str, pod: str, uid: str, **spec: Any) -> SpiderIP:
    pool = spec.pop("pool", "any")
    labels = {IP_POOL_LABEL: pool, IP_NODE_LABEL: NODE}
    whole = IPSpec(f"{address}/16", pool, NODE, "default", pod, uid, spec.pop("interface", "eth0"), **spec)
    return await client.create(SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=whole))


async def released(client: Client, *ips: SpiderIP) -> None:
    """Wait until the records are gone."""

    async def gone() -> bool:
        there = {each.metadata.uid for each in await client.list(SpiderIP)}
        return not there & {ip.metadata.uid for ip in ips}

    await eventually(gone, timeout=PATIENCE)


async def kept(client: Client, ip: SpiderIP) -> bool:
    return (await client.get(SpiderIP, ip.name)).metadata.uid == ip.metadata.uid


async def test_a_node_that_is_gone_takes_its_pods_addresses_with_it(client: Client, node: str) -> None:
    pod = await make_pod(client, "gc-1", node, "10.70.0.1")
    held = await hold(client, "10.70.0.1", "gc-1", pod.metadata.uid or "")
    other = await make_pod(client, "gc-elsewhere", "gc-node-2")
    elsewhere = await hold(client, "10.70.0.2", "gc-elsewhere", other.metadata.uid or "")
    await client.create(Node(metadata=ObjectMeta(name="gc-node-2")))
    try:
        await client.delete(Node, node)
        await released(client, held)
        assert (await client.get(Pod, "gc-1", "default")).metadata.uid == pod.metadata.uid
        assert await kept(client, elsewhere)
    finally:
        await client.delete(Node, "gc-node-2")


async def test_a_pod_that_does_not_end_loses_its_address_but_no_sticky_one(client: Client, node: str) -> None:
    pod = await make_pod(client, "gc-2", node, "10.70.0.11")
    uid = pod.metadata.uid or ""
    held = await hold(client, "10.70.0.11", "gc-2", uid)
    sticky = await hold(
        client, "10.70.0.12", "gc-2", uid, interface="net1", owner=IPOwner("StatefulSet", "default", "gc")
    )
    await client.delete(Pod, "gc-2", "default", grace=1)
    await released(client, held)
    assert (await client.get(Pod, "gc-2", "default")).terminating
    assert await kept(client, sticky)


async def test_of_two_addresses_of_one_interface_the_one_in_use_stays(client: Client, agent: AnsweringAgent) -> None:
    pod = await make_pod(client, "gc-3", NODE)
    uid = pod.metadata.uid or ""
    agent.sandboxes = [sandbox(uid, "gc-3", "10.70.0.22")]
    await agent.publish(1)
    unused = await hold(client, "10.70.0.21", "gc-3", uid)
    used = await hold(client, "10.70.0.22", "gc-3", uid)
    other = await hold(client, "10.70.0.23", "gc-3", uid, interface="net1")
    await released(client, unused)
    assert await kept(client, used)
    assert await kept(client, other)


@pytest.mark.usefixtures("node")
async def test_a_collected_address_cools_down_where_the_pool_wants_it(client: Client) -> None:
    spec = IPPoolSpec("10.71.0.0/16", ips=["10.71.0.1-10.71.0.9"], cooldownSeconds=3)
    await client.create(SpiderIPPool(metadata=ObjectMeta(name="cool"), spec=spec))
    try:
        held = await hold(client, "10.71.0.1", "gc-nobody", "u", pool="cool")

        async def cooling() -> bool:
            return (await client.get(SpiderIP, held.name)).spec.releasedAt is not None

        await eventually(cooling, timeout=PATIENCE)
        await released(client, held)
    finally:
        await client.delete(SpiderIPPool, "cool")


@pytest.mark.usefixtures("node")
async def test_a_sticky_address_stays_while_its_owner_wants_it(client: Client) -> None:
    template = {"spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}}
    body = {
        "metadata": {"name": "gc-db", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "serviceName": "gc-db",
            "selector": {"matchLabels": {"app": "gc-db"}},
            "template": {"metadata": {"labels": {"app": "gc-db"}}, **template},
        },
    }
    await client.apply(StatefulSet, body, "gc-db", "default")
    try:
        owner = IPOwner("StatefulSet", "default", "gc-db")
        wanted = await hold(client, "10.70.0.31", "gc-db-0", "of-an-earlier-pod", owner=owner)
        unwanted = await hold(client, "10.70.0.32", "gc-db-7", "of-an-earlier-pod", owner=owner)
        await released(client, unwanted)
        assert await kept(client, wanted)
        await client.patch(StatefulSet, "gc-db", {"spec": {"replicas": 0}}, "default")
        await released(client, wanted)
    finally:
        await client.delete(StatefulSet, "gc-db", "default")


async def stays(client: Client, ip: SpiderIP) -> bool:
    """Whether a record is still there after the time in which it would have been released."""
    await asyncio.sleep(UNUSED)
    return await kept(client, ip)


async def test_a_sandbox_that_outlives_its_pod_keeps_the_address_until_it_ends(
    client: Client, agent: AnsweringAgent
) -> None:
    pod = await make_pod(client, "gc-5", NODE, "10.70.0.41")
    uid = pod.metadata.uid or ""
    agent.sandboxes = [sandbox(uid, "gc-5", "10.70.0.41")]
    held = await hold(client, "10.70.0.41", "gc-5", uid)
    await client.delete(Pod, "gc-5", "default", grace=0)
    assert await stays(client, held)
    agent.sandboxes = []
    await agent.publish(1)  # before any question
    assert await stays(client, held)
    account = await client.get(SpiderNode, NODE)
    await agent.publish(account.metadata.generation)
    await released(client, held)


async def test_who_does_not_answer_keeps_its_addresses_and_is_reported(client: Client, agent: AnsweringAgent) -> None:
    agent.silent = True
    held = await hold(client, "10.70.0.51", "gc-6", "of-a-pod-that-is-gone")
    assert await stays(client, held)

    async def reported() -> list[Event]:
        events = await client.list(Event, "default")
        about = [each for each in events if each.reason == "AccountMissing" and each.involvedObject.name == NODE]
        return [each for each in about if "10.70.0.51/16 of default/gc-6" in each.message]

    await eventually(reported, timeout=PATIENCE)
    account = await client.get(SpiderNode, NODE)
    assert account.spec.accountRequest == 1  # asked once
    agent.silent = False
    await released(client, held)
    assert [each.count for each in await reported()] == [1]


async def test_a_node_without_an_account_keeps_its_addresses_until_it_is_out_of_service(client: Client) -> None:
    await client.create(Node(metadata=ObjectMeta(name="gc-node-3")))
    try:
        labels = {IP_POOL_LABEL: "any", IP_NODE_LABEL: "gc-node-3"}
        spec = IPSpec("10.70.0.61/16", "any", "gc-node-3", "default", "gc-7", "u", "eth0")
        held = await client.create(SpiderIP(metadata=ObjectMeta(name="10.70.0.61", labels=labels), spec=spec))
        assert await stays(client, held)
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await client.patch(Node, "gc-node-3", {"spec": {"taints": [taint]}})
        await released(client, held)
    finally:
        await remove(client, Node, "gc-node-3")
