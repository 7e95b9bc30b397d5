"""Questions to a node, at an API server that numbers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.kube.client import Client
from spiderpool.kube.node_accounts import TRIES, read_evidence, request_account
from spiderpool_lab.control_plane import ControlPlane
from tests.support.answering_agent import AnsweringAgent
from tests.support.api_server import ApiServer, Fault

real = pytest.mark.control_plane

NODE = "accounted"


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client


@pytest.fixture
async def agent(client: Client) -> AsyncIterator[AnsweringAgent]:
    agent = AnsweringAgent(client, await client.create(Node(metadata=ObjectMeta(name=NODE))))
    await agent.create()
    yield agent
    await client.delete(SpiderNode, NODE)
    await client.delete(Node, NODE)


@real
async def test_only_an_account_that_was_taken_after_the_question_answers_it(
    client: Client, agent: AnsweringAgent
) -> None:
    await agent.publish(1)
    sent = await request_account(client, await client.get(SpiderNode, NODE), timeout=5.0)
    assert sent is not None
    request, stored = sent
    assert request.generation == stored.metadata.generation == 2
    assert not request.is_answered(stored)
    await agent.publish(1)
    evidence = await read_evidence(client, NODE, request, timeout=5.0)
    assert evidence.answer(0.0) is None
    await agent.publish(2)
    evidence = await read_evidence(client, NODE, request, timeout=5.0)
    assert evidence.answer(0.0) is not None
    assert evidence.node is not None


@real
async def test_two_who_ask_at_once_have_a_number_each(client: Client, agent: AnsweringAgent) -> None:
    """The same value twice would be no change for the API server: it would not number the second question."""
    stale = await client.get(SpiderNode, NODE)
    sent = await asyncio.gather(*(request_account(client, stale, timeout=5.0) for _ in range(2)))
    numbers = {each[0].generation for each in sent if each}
    assert numbers == {2, 3}


@real
async def test_what_is_published_meanwhile_is_no_reason_to_give_up(client: Client, agent: AnsweringAgent) -> None:
    stale = await client.get(SpiderNode, NODE)
    await agent.publish(1)
    sent = await request_account(client, stale, timeout=5.0)
    assert sent is not None
    assert sent[0].generation == 2


@real
async def test_a_node_that_is_gone_cannot_be_asked(client: Client) -> None:
    stale = SpiderNode(metadata=ObjectMeta(name="nobody", resourceVersion="1"))
    assert await request_account(client, stale, timeout=5.0) is None
    assert (await read_evidence(client, "nobody", None, timeout=5.0)).node is None


@pytest.mark.unit
async def test_a_node_that_publishes_all_the_time_is_asked_later() -> None:
    async with ApiServer(SpiderNode.KIND) as server, server.client() as client:
        server.put(SpiderNode(metadata=ObjectMeta(name=NODE)))
        server.inject(Fault("patch", times=99, status=409))
        assert await request_account(client, server.stored(SpiderNode)[NODE], timeout=5.0) is None
        assert server.requests["patch"] == TRIES
