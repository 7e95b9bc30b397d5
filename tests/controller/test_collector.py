"""What the collector asks and tells the API server; the far end here is a pretended one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx2
import msgspec
import pytest

from spiderpool.api.core_v1 import Pod, PodIP, PodSpec, PodStatus
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller.collector import Collector
from spiderpool.kube.client import Client, encode
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer

pytestmark = pytest.mark.unit

ORPHAN = SpiderIP(
    metadata=ObjectMeta(name="10.6.0.1", uid="r-1", resourceVersion="7"),
    spec=IPSpec("10.6.0.1/24", "p", "n", "ns", "web", "u-1", "eth0"),
)
ALIVE = Pod(
    metadata=ObjectMeta(name="web", namespace="ns", uid="u-1", resourceVersion="9"),
    spec=PodSpec(nodeName="n"),
    status=PodStatus("Running", None, [PodIP("10.6.0.1")]),
)

Reply = Callable[[], httpx2.Response]


async def collect(pod: Reply, deleted: int = 200, pods: tuple[Pod, ...] = ()) -> list[httpx2.Request]:
    """Requests of a collector that knows one record and ``pods``, until it has asked for the pod three times."""
    requests: list[httpx2.Request] = []
    enough = asyncio.Event()

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if sum(each.method == "GET" for each in requests) >= 3:
            enough.set()
        return pod() if request.method == "GET" else httpx2.Response(deleted, json={})

    async with httpx2.AsyncClient(base_url="http://api", transport=httpx2.MockTransport(answer)) as http:
        client = Client(http)
        ips, known = Informer(client, SpiderIP), Informer(client, Pod)
        ips.note(ORPHAN)
        for each in pods:
            known.note(each)
        collector = Collector(client, ips, known, Recorder(client, "test"), interval=0.001, grace=0.01)
        task = asyncio.create_task(collector.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await enough.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return requests


def gone() -> httpx2.Response:
    return httpx2.Response(404, json={"code": 404})


async def test_a_release_names_the_very_record_and_follows_a_fresh_read() -> None:
    requests = await collect(gone)
    assert [request.method for request in requests[:2]] == ["GET", "DELETE"]
    assert requests[0].url.path == "/api/v1/namespaces/ns/pods/web"
    options = msgspec.json.decode(requests[1].content)
    assert options["preconditions"] == {"uid": "r-1", "resourceVersion": "7"}


async def test_a_pod_that_the_copy_does_not_know_yet_keeps_its_address() -> None:
    requests = await collect(lambda: httpx2.Response(200, content=encode(ALIVE)))
    assert {request.method for request in requests} == {"GET"}


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_an_error_of_the_api_releases_nothing(status: int) -> None:
    requests = await collect(lambda: httpx2.Response(status, json={"code": status}))
    assert {request.method for request in requests} == {"GET"}


async def test_no_answer_releases_nothing() -> None:
    def no_answer() -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    requests = await collect(no_answer)
    assert {request.method for request in requests} == {"GET"}


async def test_a_record_that_has_changed_since_is_left_alone() -> None:
    requests = await collect(gone, deleted=409)
    assert len(requests) > 2


async def test_a_live_pod_costs_no_request() -> None:
    assert await collect(gone, pods=(ALIVE,)) == []
