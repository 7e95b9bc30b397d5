"""The HTTP API in one process, against a pretend API server."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from spiderpool.agent.api import AgentAPI
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.meta import ObjectMeta
from tests.agent.addressing_node import addressing_node, pool

pytestmark = pytest.mark.unit


async def test_an_add_reads_a_pod_that_is_not_cached_yet_once(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, pool("one", "10.0.0.1-10.0.0.9", nodeName=["n1"])) as node:
        metadata = ObjectMeta(name="p", namespace="default")
        node.server.put(Pod(metadata=metadata, spec=PodSpec(nodeName="not seen here")))
        application = web.Application()
        AgentAPI(node.cluster, node.addresses, node.ipam, add_timeout=10.0).register(application.router)
        call = {"podName": "p", "podNamespace": "default", "ifName": "eth0", "containerID": "c", "netNamespace": "/ns"}
        call["podUID"] = node.server.stored(Pod)["default/p"].metadata.uid or ""
        async with TestClient(TestServer(application)) as client:
            before = node.server.requests["get"]
            answer = await client.post("/v1/ipam/ip", json=call)
            assert (answer.status, await answer.json())[0] == 200
            assert node.server.requests["get"] - before == 1
