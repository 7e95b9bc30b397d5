"""Real agents on a real API server: distinct addresses, and none lost or leaked when an agent is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.agent.address_cluster import until
from tests.agent.conftest import MakeAgent, MakePods
from tests.support.eventually import eventually
from tests.support.local_agent import AgentOptions, LocalAgent, node_objects

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

MakePool = Callable[..., None]


def records(plane: ControlPlane) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(plane.kubectl("get", "spiderips", "-o", "json"))["items"]
    return items


@pytest.mark.full
async def test_200_pods_through_two_agents_on_one_shared_pool(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: MakePool
) -> None:
    pool("shared", "10.9.0.1-10.9.0.200")
    agents = [await asyncio.to_thread(make_agent, node) for node in ("n1", "n2")]
    uids = await asyncio.to_thread(make_pods, 200, ["n1", "n2"])
    gate = asyncio.Semaphore(32)

    async def add(index: int, name: str) -> dict[str, Any]:
        async with gate:
            return await agents[index % 2].address("ADD", "default", name, uids[name])

    answers = await asyncio.gather(*(add(index, name) for index, name in enumerate(sorted(uids))))
    assert [answer for answer in answers if "code" in answer] == []
    addresses = {answer["ips"][0]["address"] for answer in answers}
    assert len(addresses) == 200
    assert {each["spec"]["address"] for each in records(control_plane)} == addresses

    await asyncio.to_thread(
        control_plane.kubectl, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"
    )
    for index, name in enumerate(sorted(uids)):
        assert await agents[index % 2].address("DEL", "default", name, uids[name]) == {}
    await until(lambda: not records(control_plane))


class Tap:
    """A TCP relay to the API server that can hold back what the server answers.

    TLS handshakes always pass, so that a request also reaches the server over a connection made while answers are held.
    """

    def __init__(self, host: str, port: int) -> None:
        self._far = host, port
        self.open = asyncio.Event()
        self.open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            for writer in self._writers:  # a task that has not begun closes nothing
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        far_reader, far_writer = await asyncio.open_connection(*self._far)
        self._writers.append(far_writer)
        asked = asyncio.Event()  # set when the client has said more than its first flight, the ClientHello
        for pump in (self._ask(reader, far_writer, asked), self._answer(far_reader, writer, asked)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        flights = 0
        with closing(server), suppress(ConnectionError):
            while data := await client.read(65536):
                flights += 1
                if flights > 1:
                    asked.set()
                server.write(data)

    async def _answer(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        with closing(client), suppress(ConnectionError):
            while data := await server.read(65536):
                if asked.is_set():
                    await self.open.wait()
                client.write(data)


def tapped(port: int) -> AgentOptions:
    """The tap in place of the API server."""
    return AgentOptions(server=f"https://127.0.0.1:{port}")


async def patiently(add: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Ask again, as runtimes do, while the agent says that it is not ready."""
    for _ in range(5):
        answer = await add()
        if answer.get("code") != 11:
            break
    return answer


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[None]:
    """The Node of the tapped agents."""
    with node_objects(control_plane, "n1"):
        yield


@pytest.mark.usefixtures("node")
async def test_an_agent_killed_between_claim_and_answer_grants_the_same_address_again(
    control_plane: ControlPlane, make_pods: MakePods, pool: MakePool, tmp_path: Path
) -> None:
    pool("shared", "10.9.0.1-10.9.0.200")
    uids = await asyncio.to_thread(make_pods, 2, ["n1"])
    uid = uids["pod-000"]
    processes = Processes(tmp_path / "processes")
    url = urlsplit(control_plane.server)
    tap = Tap(url.hostname or "", url.port or 0)
    async with tap.listening() as port:
        agent = LocalAgent(control_plane, processes, tmp_path, "n1", tapped(port))
        try:
            await asyncio.to_thread(agent.start)
            await agent.address("ADD", "default", "pod-001", uids["pod-001"])
            tap.open.clear()
            add = asyncio.create_task(agent.address("ADD", "default", "pod-000", uid))
            await until(lambda: len(records(control_plane)) == 2)
            assert not add.done()
            assert agent.pid is not None
            os.killpg(agent.pid, signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                await add
            tap.open.set()
            agent.stop()
            await asyncio.to_thread(agent.start)
            answer = await patiently(lambda: agent.address("ADD", "default", "pod-000", uid))
        finally:
            tap.open.set()
            processes.stop_all()
    (record,) = [each for each in records(control_plane) if each["spec"]["podUID"] == uid]
    assert answer["ips"][0]["address"] == record["spec"]["address"]


async def test_a_full_pool_refuses_with_its_name_and_an_event_then_serves_when_a_pod_goes(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: MakePool
) -> None:
    pool("small", "10.9.0.1-10.9.0.2")
    agent = await asyncio.to_thread(make_agent, "n1")
    uids = await asyncio.to_thread(make_pods, 3, ["n1"])
    for name in ("pod-000", "pod-001"):
        assert "ips" in await agent.address("ADD", "default", name, uids[name])
    refused = await agent.address("ADD", "default", "pod-002", uids["pod-002"])
    assert refused["code"] == 11
    assert "small: 2 of 2 addresses in use" in refused["msg"]
    await until(
        lambda: "small: 2 of 2 addresses in use" in control_plane.kubectl("describe", "pod", "pod-002"), seconds=10
    )
    await asyncio.to_thread(control_plane.kubectl, "delete", "pod", "pod-000", "--force", "--grace-period=0")
    await agent.address("DEL", "default", "pod-000", uids["pod-000"])

    async def served() -> bool:
        return "ips" in await agent.address("ADD", "default", "pod-002", uids["pod-002"])

    await eventually(served, timeout=5.0, interval=0.1)


@pytest.mark.usefixtures("node")
async def test_del_succeeds_without_the_api_server_and_the_address_is_released_later(
    control_plane: ControlPlane, make_pods: MakePods, pool: MakePool, tmp_path: Path
) -> None:
    pool("shared", "10.9.0.1-10.9.0.20")
    uid = (await asyncio.to_thread(make_pods, 1, ["n1"]))["pod-000"]
    processes = Processes(tmp_path / "processes")
    url = urlsplit(control_plane.server)
    tap = Tap(url.hostname or "", url.port or 0)
    async with tap.listening() as port:
        agent = LocalAgent(control_plane, processes, tmp_path, "n1", tapped(port))
        try:
            await asyncio.to_thread(agent.start)
            await agent.address("ADD", "default", "pod-000", uid)
            await asyncio.to_thread(control_plane.kubectl, "delete", "pod", "pod-000", "--force", "--grace-period=0")
            await asyncio.sleep(0)
            tap.open.clear()
            async with asyncio.timeout(10):
                assert await agent.address("DEL", "default", "pod-000", uid) == {}
            tap.open.set()
            await until(lambda: not records(control_plane), seconds=40)
        finally:
            tap.open.set()
            processes.stop_all()


async def test_a_repeated_add_gives_the_same_address_and_an_unknown_pod_is_told(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: MakePool
) -> None:
    pool("shared", "10.9.0.1-10.9.0.20")
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = (await asyncio.to_thread(make_pods, 1, ["n1"]))["pod-000"]
    first = await agent.address("ADD", "default", "pod-000", uid)
    assert await agent.address("ADD", "default", "pod-000", uid) == first
    assert await agent.address("CHECK", "default", "pod-000", uid) == {}
    gone = await agent.address("ADD", "default", "nobody", "no-uid")
    assert (gone["code"], "does not exist" in gone["msg"]) == (11, True)
    replaced = await agent.address("ADD", "default", "pod-000", "another-uid")
    assert (replaced["code"], "has been replaced" in replaced["msg"]) == (11, True)
    assert len(records(control_plane)) == 1
