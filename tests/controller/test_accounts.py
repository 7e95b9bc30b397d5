"""What is said about nodes that do not answer, and what administrators say about them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from spiderpool.api.core_v1 import Event, Node, NodeCondition, NodeStatus, NodeSystemInfo, Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.nodes import fence, unfence
from spiderpool.controller.accounts import SilenceReport
from spiderpool.controller.gc import ClusterGC, GCTimings
from spiderpool.core.ipam.gc import GCPolicy, ReleaseCandidate, ReleaseCause
from spiderpool.kube.client import Client
from spiderpool.kube.events import AGAIN, Recorder
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import COLLECTION_WAITING
from tests.controller.collecting import listers_of
from tests.support.api_server import ApiServer
from tests.support.clients import answered_by
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit


def candidates(count: int) -> list[ReleaseCandidate]:
    return [
        ReleaseCandidate(
            SpiderIP(
                metadata=ObjectMeta(name=f"10.6.0.{number}"),
                spec=IPSpec(f"10.6.0.{number}/24", "p", "n", "ns", f"web-{number}", f"u-{number}", "eth0"),
            ),
            ReleaseCause.POD_GONE,
            "",
            0.0,
        )
        for number in range(1, count + 1)
    ]


def waiting() -> float:
    """The number of waiting addresses, as the metric has it."""
    (sample,) = (each for metric in COLLECTION_WAITING.collect() for each in metric.samples)
    return sample.value


async def test_a_silence_is_reported_once_with_its_remedies() -> None:
    written: list[Event] = []

    async def create(request: web.Request) -> web.Response:
        body = await request.read()
        written.append(msgspec.json.decode(body, type=Event))
        return web.Response(body=body, status=201)

    async with answered_by(create) as client:
        nodes, recorder = Informer(client, Node), Recorder(client, "test")
        nodes.note(Node(metadata=ObjectMeta(name="n")))
        report = SilenceReport(recorder, nodes)
        report.update({"n": candidates(5), "gone": candidates(1)}, 0.0)
        report.update({"n": candidates(6)}, AGAIN - 1)
        assert waiting() == 6
        report.update({}, AGAIN - 1)
        assert waiting() == 0
        report.update({"n": candidates(1)}, AGAIN - 1)
        task = asyncio.create_task(recorder.run())

        async def both() -> bool:
            return len(written) == 2

        await eventually(both, timeout=5.0)
        task.cancel()
    first, second = written
    assert (first.involvedObject.kind, first.involvedObject.name, first.reason) == ("Node", "n", "AccountMissing")
    assert "10.6.0.1/24 of ns/web-1" in first.message
    assert "and 2 more wait for" in first.message
    assert "spiderpoolctl node fence n" in first.message
    assert "more" not in second.message


async def test_a_silence_that_lasts_is_reported_again_and_that_of_an_unknown_node_later() -> None:
    async with ApiServer(Event.KIND) as server, server.client() as client:
        nodes, recorder = Informer(client, Node), Recorder(client, "test")
        report = SilenceReport(recorder, nodes)
        report.update({"n": candidates(1)}, 0.0)
        nodes.note(Node(metadata=ObjectMeta(name="n")))
        for now in (60.0, AGAIN, AGAIN + 60.0, AGAIN + 120.0, 2 * AGAIN + 120.0):
            report.update({"n": candidates(1)}, now)
        async with running(recorder.run()):
            await eventually(lambda: [each.count for each in server.stored(Event).values()] == [3])


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[ApiServer, Client]]:
    """A collector, and an API server in which the node n, which is cut off, has the address of a pod that is gone."""
    kinds = (SpiderIP, Pod, Node, SpiderNode, SpiderIPPool, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        server.put(candidates(1)[0].record, node("Unknown"))
        listers = listers_of(client)
        informers = (listers.ips, listers.pods, listers.nodes, listers.accounts, listers.pools)
        timings = GCTimings(0.0, 0.1, grace=0.01, node_grace=0.01, agent_grace=0.01)
        recorder = Recorder(client, "test")
        collector = ClusterGC(client, listers, recorder, timings, GCPolicy(answer_time=0.2))
        tasks = [asyncio.create_task(each.run()) for each in (*informers, recorder, collector)]
        try:
            yield server, client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def node(ready: str) -> Node:
    status = NodeStatus([NodeCondition("Ready", ready)], nodeInfo=NodeSystemInfo(bootID="b"))
    return Node(metadata=ObjectMeta(name="n"), status=status)


async def test_a_fence_frees_addresses_and_unfence_takes_it_back() -> None:
    async with collecting() as (server, client):
        await fence(client, "n")
        await eventually(lambda: not server.stored(SpiderIP))
        assert server.stored(SpiderNode)["n"].spec.accountRequest, "its agent was asked first"
        await unfence(client, "n")
        server.put(candidates(2)[1].record)
        await eventually(lambda: "AccountMissing" in {each.reason for each in server.stored(Event).values()})
        assert list(server.stored(SpiderIP)) == ["10.6.0.2"]


async def test_a_fence_ends_when_its_node_is_ready() -> None:
    async with collecting() as (server, client):
        await fence(client, "n")
        server.put(node("True"))
        await eventually(lambda: server.stored(SpiderNode)["n"].spec.fencedBootID is None)
