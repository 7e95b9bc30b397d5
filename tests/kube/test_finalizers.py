"""Finalizers against a pretend API server with other writers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.kube import finalizers
from spiderpool.kube.client import Client, Conflict, Invalid, NotFound
from tests.support.api_server import ApiServer

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


def pool(*names: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name="p", finalizers=[*names] or None), spec=IPPoolSpec("10.0.0.0/24"))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(SpiderIPPool.KIND, Service.KIND) as server:
        yield server


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


def held_by(server: ApiServer) -> list[str]:
    return server.stored(SpiderIPPool)["p"].metadata.finalizers or []


async def test_add_and_remove_leave_the_finalizers_of_others(server: ApiServer, client: Client) -> None:
    stored = await client.create(pool("theirs"))
    stored = await finalizers.add(client, stored, "ours")
    assert held_by(server) == ["theirs", "ours"]
    requests = server.requests.total()
    assert await finalizers.add(client, stored, "ours") is stored
    assert server.requests.total() == requests
    removed = await finalizers.remove(client, stored, "ours")
    assert held_by(server) == ["theirs"]
    assert removed is not None
    requests = server.requests.total()
    assert await finalizers.remove(client, removed, "ours") is removed
    assert server.requests.total() == requests


async def test_a_finalizer_that_another_writer_has_added_meanwhile_is_not_lost(
    server: ApiServer, client: Client
) -> None:
    stale = await client.create(pool("ours"))
    await finalizers.add(client, stale, "theirs")
    with pytest.raises(Conflict):
        await finalizers.remove(client, stale, "ours")
    with pytest.raises(Conflict):
        await finalizers.add(client, stale, "more")
    assert held_by(server) == ["ours", "theirs"]


async def test_removing_the_last_one_lets_a_deleted_object_go(server: ApiServer, client: Client) -> None:
    await client.create(pool("ours"))
    await client.delete(SpiderIPPool, "p")
    terminating = await client.get(SpiderIPPool, "p")
    assert terminating.terminating
    await finalizers.remove(client, terminating, "ours")
    assert server.stored(SpiderIPPool) == {}
    assert await finalizers.remove(client, terminating, "ours") is None
    with pytest.raises(NotFound):
        await finalizers.add(client, terminating, "more")


async def test_labels_change_in_the_same_write(server: ApiServer, client: Client) -> None:
    metadata = ObjectMeta(name="s", namespace="default", finalizers=["ours"], labels={"id": "lb-1", "app": "web"})
    stored = await client.create(Service(metadata=metadata))
    await finalizers.remove(client, stored, "ours", labels={"id": None})
    changed = server.stored(Service)["default/s"].metadata
    assert (changed.finalizers or [], changed.labels) == ([], {"app": "web"})
    assert server.requests["patch"] == 1


async def test_clear_is_for_one_object_of_any_version(server: ApiServer, client: Client) -> None:
    stale = await client.create(pool("a", "b"))
    await client.patch(SpiderIPPool, "p", {"metadata": {"labels": {"changed": "yes"}}})
    await finalizers.clear(client, stale)
    assert held_by(server) == []
    await finalizers.clear(client, await client.get(SpiderIPPool, "p"))
    await client.delete(SpiderIPPool, "p")
    await finalizers.clear(client, stale)
    await client.create(pool("theirs"))
    with pytest.raises(Invalid):
        await finalizers.clear(client, stale)
    assert held_by(server) == ["theirs"]
