"""Batches of servers, some of which no longer exist."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.execution import halves, send_servers
from spiderpool.cloud.provider import CloudError, CloudNotFound, CloudUnavailable, QuotaExceeded, Rejected
from spiderpool.core.cloud.loadbalancer.values import BackendServer

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", [CloudNotFound, Rejected])
async def test_servers_are_sent_in_batches_and_one_by_one_around_those_that_are_refused(
    kind: type[CloudError],
) -> None:
    servers = [BackendServer(f"i-{number}", "instance", 80) for number in range(5)]
    sent: list[list[str]] = []

    async def send(part: list[BackendServer]) -> None:
        sent.append([server.identity for server in part])
        if "i-3" in sent[-1]:
            raise kind("not i-3")

    errors = (await send_servers(send, servers, 2)).refusals
    assert sent == [["i-0", "i-1"], ["i-2", "i-3"], ["i-2"], ["i-3"], ["i-4"]]
    assert [error.message for error in errors] == ["not i-3"]


async def test_what_is_not_about_a_server_ends_the_step() -> None:
    sent: list[list[BackendServer]] = []

    async def send(part: list[BackendServer]) -> None:
        sent.append(part)
        raise CloudUnavailable("no answer")

    with pytest.raises(CloudUnavailable):
        await send_servers(send, [BackendServer(f"i-{number}", "instance", 80) for number in range(5)], 2)
    assert len(sent) == 1


async def test_at_a_quota_as_many_get_in_as_there_is_room_for() -> None:
    servers = [BackendServer(f"i-{number}", "instance", 80) for number in range(8)]
    present: list[str] = []

    async def send(part: list[BackendServer]) -> None:
        if len(present) + len(part) > 5:
            raise QuotaExceeded("five")
        present.extend(server.identity for server in part)

    sent = await send_servers(send, servers, 8)
    assert present == ["i-0", "i-1", "i-2", "i-3", "i-4"]
    assert [server.identity for server in sent.unplaced] == ["i-5", "i-6", "i-7"]
    assert sent.quota is not None
    assert not sent.refusals


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (2, [1, 1]), (5, [3, 1, 1])])
def test_what_makes_room_goes_by_halves(count: int, sizes: list[int]) -> None:
    assert [len(part) for part in halves([BackendServer("i", "instance", port) for port in range(count)])] == sizes
