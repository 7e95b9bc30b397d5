"""Batches of servers, some of which no longer exist."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.execution import lost_servers, send_servers
from spiderpool.cloud.provider import CloudNotFound
from spiderpool.core.cloud.loadbalancer.values import BackendServer

pytestmark = pytest.mark.unit


async def test_servers_are_sent_in_batches_and_one_by_one_around_those_that_are_gone() -> None:
    servers = [BackendServer(f"i-{number}", "instance", 80) for number in range(5)]
    sent: list[list[str]] = []

    async def send(part: list[BackendServer]) -> None:
        sent.append([server.identity for server in part])
        if "i-3" in sent[-1]:
            raise CloudNotFound("i-3 does not exist")

    errors = await send_servers(send, servers, 2)
    assert sent == [["i-0", "i-1"], ["i-2", "i-3"], ["i-2"], ["i-3"], ["i-4"]]
    assert [error.message for error in errors] == ["i-3 does not exist"]


def test_all_servers_that_are_gone_are_reported() -> None:
    one, two = CloudNotFound("i-1 is gone", cloud_code="NotFound"), CloudNotFound("i-2 is gone")
    assert lost_servers([one]) is one
    both = lost_servers([one, two])
    assert (both.message, both.cloud_code, both.details) == ("i-1 is gone", "NotFound", "i-2 is gone")
