"""The client and the informer against the real API server."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from spiderpool.api.core_v1 import ConfigMap
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import ApiUnavailable, BadConfig
from spiderpool.kube import client as client_module
from spiderpool.kube import connections
from spiderpool.kube.client import AlreadyExists, Bookmark, Client, Conflict, Expired, Forbidden, Invalid, NotFound
from spiderpool.kube.config import ClientCredentials, ClusterAccess, load_access
from spiderpool.kube.informer import Informer
from spiderpool_lab import namespaces
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.local_agent import agent_kubeconfig

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(90)]


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client
        for record in await client.list(SpiderIP):
            await client.delete(SpiderIP, record.name)


def record(name: str, node: str = "n1") -> SpiderIP:
    return SpiderIP(
        metadata=ObjectMeta(name=name, labels={"node": node}),
        spec=IPSpec(f"{name}/24", "p", node, "default", "pod", "uid", "eth0"),
    )


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_create_read_change_delete(client: Client) -> None:
    made = await client.create(record("10.1.1.1"))
    assert made.metadata.uid
    assert await client.get(SpiderIP, "10.1.1.1") == made
    changed = await client.patch(SpiderIP, "10.1.1.1", {"spec": {"pod": "other"}})
    assert (changed.spec.pod, changed.spec.pool) == ("other", "p")
    with pytest.raises(Conflict):
        await client.replace(made)
    changed.spec.pod = "third"
    assert (await client.replace(changed)).spec.pod == "third"
    applied = await client.apply(SpiderIP, {"spec": {"pod": "fourth"}}, "10.1.1.1")
    assert applied.spec.pod == "fourth"
    assert (await client.find(SpiderIP, "10.1.1.1")) == applied
    await client.delete(SpiderIP, "10.1.1.1", uid=made.metadata.uid)
    with pytest.raises(NotFound):
        await client.get(SpiderIP, "10.1.1.1")
    assert await client.find(SpiderIP, "10.1.1.1") is None


async def test_the_address_of_a_record_is_one_and_stays(client: Client) -> None:
    made = await client.create(record("10.1.1.3"))
    with pytest.raises(Invalid, match=r"spec\.address: Forbidden: cannot be changed; "):
        await client.patch(SpiderIP, made.name, {"spec": {"address": "10.1.1.4/24"}})
    made.spec.address, made.metadata = "10.1.1.5", ObjectMeta(name="10.1.1.5")
    with pytest.raises(Invalid, match=r"spec\.address in body should match"):
        await client.create(made)


async def test_the_second_creator_is_refused_and_a_late_release_hits_nobody(client: Client) -> None:
    first = await client.create(record("10.1.1.2"))
    with pytest.raises(AlreadyExists):
        await client.create(record("10.1.1.2"))
    await client.delete(SpiderIP, "10.1.1.2", uid=first.metadata.uid)
    await client.create(record("10.1.1.2"))
    with pytest.raises(Conflict):
        await client.delete(SpiderIP, "10.1.1.2", uid=first.metadata.uid)


async def test_refusals_are_told_apart(client: Client, control_plane: ControlPlane) -> None:
    wrong = record("10.1.1.3")
    wrong.metadata.name = "Not A Name"
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await client.create(wrong)
    async with Client.load(agent_kubeconfig(control_plane, "n1")) as limited:
        with pytest.raises(Forbidden, match="configmaps"):
            await limited.list(ConfigMap)
    with pytest.raises(Expired):
        async for _ in client.watch(SpiderIP, "1", seconds=5):
            pass


async def test_no_answer_is_told_within_the_timeout(client: Client) -> None:
    with pytest.raises(ApiUnavailable, match="GET"):
        await client.list(SpiderIP, timeout=0.0001)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A network namespace of which nothing is known but its loopback."""
    netns = namespaces.create(f"client-{os.getpid()}")
    yield netns
    namespaces.delete(netns)


BEGINNING = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def watched(says: bytes, then: Callable[[], object]) -> float:
    """Seconds until a watch gives up a server that says this and no more; ``then`` is done once it has said it."""
    met, over = asyncio.Event(), asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        met.set()
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = ClusterAccess(f"http://127.0.0.1:{port}", ssl.create_default_context(), ClientCredentials())
    async with server, Client(access) as client:
        watch = asyncio.create_task(anext(client.watch(SpiderIP, "1")))
        await met.wait()
        await asyncio.sleep(0.2)
        then()
        begin = time.monotonic()
        with pytest.raises(ApiUnavailable):
            await watch
        over.set()
        return time.monotonic() - begin


async def test_a_watch_that_does_not_begin_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "DEFAULT_TIMEOUT", 0.5)
    assert await watched(b"", lambda: None) < 5


def test_a_watch_whose_packets_are_swallowed_is_given_up(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = dict(zip(connections.DEAD_AFTER, (1, 1, 1, 1, 2000), strict=True))
    monkeypatch.setattr(connections, "DEAD_AFTER", quick)
    cut = partial(namespaces.run_tool, ["ip", "-n", elsewhere.name, "link", "set", "lo", "down"])
    assert namespaces.call_in(elsewhere, lambda: asyncio.run(watched(BEGINNING, cut))) < 10


async def test_lists_come_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spiderpool.kube.client.PAGE", 2)
    for number in range(5):
        await client.create(record(f"10.1.2.{number}", "even" if number % 2 == 0 else "odd"))
    assert len(await client.list(SpiderIP)) == 5
    assert [each.name for each in await client.list(SpiderIP, labels="node=odd")] == ["10.1.2.1", "10.1.2.3"]


async def test_a_watch_that_sees_nothing_gets_bookmarks_which_carry_no_spec(client: Client) -> None:
    version, _ = await client.list_at(SpiderIP)

    async def traffic_of_another_node() -> None:
        for number in range(60):
            await client.create(record(f"10.1.3.{number}", "n2"))
            await asyncio.sleep(0.2)

    traffic = asyncio.create_task(traffic_of_another_node())
    events = [event async for event in client.watch(SpiderIP, version, labels="node=n1", seconds=8)]
    await ended(traffic)
    assert events
    assert all(isinstance(obj, Bookmark) for _, obj in events)


async def test_an_informer_follows_and_knows_its_own_writes_at_once(client: Client) -> None:
    await client.create(record("10.1.1.5"))
    informer = Informer(client, SpiderIP, labels="node=n1")
    changes: list[tuple[bool, bool]] = []
    informer.subscribe(lambda old, new: changes.append((old is not None, new is not None)))
    task = asyncio.create_task(informer.run())
    await informer.synced(10)
    assert [each.name for each in informer.items()] == ["10.1.1.5"]
    made = await client.create(record("10.1.1.6"))
    informer.note(made)
    assert informer.get("10.1.1.6") == made
    await client.create(record("10.1.1.7", "n2"))
    await client.patch(SpiderIP, "10.1.1.5", {"spec": {"pod": "other"}})
    await eventually(lambda: (informer.get("10.1.1.5") or made).spec.pod == "other")
    await client.delete(SpiderIP, "10.1.1.6")
    informer.forget(made)
    informer.note(made)
    assert informer.get("10.1.1.6") is None, "a late event must not bring back what is gone"
    assert informer.get("10.1.1.7") is None
    await ended(task)
    assert changes[:2] == [(False, True), (False, True)]
    assert (True, False) in changes


async def test_an_informer_survives_a_subscriber_that_fails(client: Client) -> None:
    informer = Informer(client, SpiderIP)
    seen: list[str] = []

    def fail_once(old: SpiderIP | None, new: SpiderIP | None) -> None:
        seen.append(new.name if new else "")
        if len(seen) == 1:
            raise RuntimeError("a bug")

    informer.subscribe(fail_once)
    task = asyncio.create_task(informer.run())
    await client.create(record("10.1.1.8"))
    await client.create(record("10.1.1.9"))
    await eventually(lambda: {"10.1.1.8", "10.1.1.9"} <= set(seen))
    await ended(task)


def test_a_missing_kubeconfig_says_what_to_set(control_plane: ControlPlane) -> None:
    with pytest.raises(BadConfig, match="set KUBECONFIG"):
        load_access(control_plane.directory / "missing")
    with pytest.raises(BadConfig, match="KUBERNETES_SERVICE_HOST is not set"):
        load_access(None, {})
    with pytest.raises(BadConfig, match="no kubeconfig with a current context"):
        load_access(control_plane.directory / "ports.json")
