"""The network statuses of pods, which are written after the ADD."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent import network_status
from spiderpool.agent.network_status import NetworkStatusPublisher
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import STATUS_ANNOTATION
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

PODS = [Pod(metadata=ObjectMeta(name=name, namespace="ns")) for name in "abc"]


def described(server: ApiServer) -> set[str]:
    """Names of the pods that have a status."""
    stored = server.stored(Pod).values()
    return {pod.name for pod in stored if STATUS_ANNOTATION in (pod.metadata.annotations or {})}


async def test_of_too_many_that_wait_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_status, "LONGEST_QUEUE", 2)
    async with ApiServer(Pod.KIND) as server, server.client() as client:
        server.put(*PODS)
        publisher = NetworkStatusPublisher(client)
        for pod in server.stored(Pod).values():
            publisher.publish(pod, ())
        task = asyncio.create_task(publisher.run())
        await eventually(lambda: described(server) == {"b", "c"})
        await asyncio.sleep(0.2)
        assert described(server) == {"b", "c"}
        task.cancel()
        await asyncio.wait((task,))
