"""The client and answers that are none of an API server."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.discovery import find_kind, uid_of
from tests.support.clients import answered_by

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("body", [b"<html>", b'{"metadata": []}', b'{"metadata": {"resourceVersion": "\xff"}}', b""])
async def test_an_answer_that_is_no_object_is_no_answer(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    pod = Pod(metadata=ObjectMeta(name="p", namespace="default"))
    async with answered_by(answer) as client:
        for call in (
            client.find(Pod, "p", "default"),
            client.create(pod),
            client.replace(pod),
            client.patch(Pod, "p", {}, "default"),
            client.apply(Pod, {}, "p", "default"),
            client.list(Pod),
            uid_of(client, Pod.KIND, "p", "default"),
            find_kind(client, "example.com/v1", "Thing"),
        ):
            with pytest.raises(ApiUnavailable, match="that can be read"):
                await call


@pytest.mark.parametrize("cancel_after", [0.15, 0.25])
async def test_a_cancellation_is_not_lost_when_the_request_times_out_at_the_same_moment(cancel_after: float) -> None:
    asked = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(30)
        raise AssertionError

    async with answered_by(answer) as client:
        call = asyncio.create_task(client.find(Pod, "p", "default", timeout=0.2))
        await asked.wait()
        asyncio.get_running_loop().call_later(cancel_after, call.cancel)
        time.sleep(0.5)  # noqa: ASYNC251  # both are due when the loop goes on
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_pod_that_is_nested_too_deeply_does_not_hold_up_the_event_loop() -> None:
    """What is too deep is found bracket by bracket, also in the large pods of the same page."""
    deep = b'{"metadata":{"name":"deep"},"x":' + b'{"f":' * 5000 + b"1" + b"}" * 5000 + b"}"
    large = b'{"metadata":{"name":"large"},"x":[' + b",".join([b"{}"] * 250_000) + b"]}"
    body = b'{"metadata":{"resourceVersion":"7"},"items":[' + b",".join((large, large, deep)) + b"]}"

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    longest = last = 0.0

    async def tick() -> None:
        nonlocal longest, last
        while True:
            last = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - last)

    async with answered_by(answer) as client:
        ticking = asyncio.create_task(tick())
        pods = await client.list(Pod)
        ticking.cancel()
    assert [pod.name for pod in pods] == ["large", "large", "deep"]
    assert longest < 0.15, "seconds of this thread between two turns of the loop"
