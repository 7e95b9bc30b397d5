"""A bug of ours in the discovery of ENIs does not end the agent, which serves pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spiderpool.agent.discovery import ENIDiscovery, HostLinks, InstanceCache, OwnServer
from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.core.network.plumbing.values import Link
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from tests.core.servers import MASTER
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

NODE = Node(metadata=ObjectMeta(name="n1", uid="uid-n1"))
LINKS = HostLinks(tuple(Link(f"ens{index}", index, mac=eni.mac) for index, eni in enumerate(MASTER.enis, 1)), ())


class Metadata:
    """A metadata service, of whose answers our own code makes so many bugs."""

    def __init__(self, bugs: int = 0) -> None:
        self.bugs = bugs
        self.readings = 0

    async def read(self) -> Instance:
        self.readings += 1
        if self.readings <= self.bugs:
            raise ZeroDivisionError
        return MASTER

    def forget(self) -> None:
        """Nothing is kept."""


async def read_links() -> HostLinks:
    return LINKS


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(Node.KIND, SpiderServer.KIND) as server:
        server.put(NODE)
        yield server


@asynccontextmanager
async def discovering(server: ApiServer, writer: Client, metadata: Metadata, folder: Path) -> AsyncIterator[None]:
    """A discovery that writes by a client of its own; fails at the end if it has ended."""
    async with server.client() as reader:
        nodes, servers = Informer(reader, Node), Informer(reader, SpiderServer)
        cache = InstanceCache(folder / "instance.json")
        work = ENIDiscovery(OwnServer(writer, nodes, servers, NODE.name), metadata, cache, 0.02, read_links)
        async with running(nodes.run(), servers.run(), work.run()):
            yield


async def test_a_bug_of_the_reading_stops_nothing(server: ApiServer, tmp_path: Path) -> None:
    async with server.client() as writer, discovering(server, writer, Metadata(bugs=2), tmp_path):
        await eventually(lambda: NODE.name in server.stored(SpiderServer))


async def test_a_bug_of_the_writing_stops_nothing(server: ApiServer, tmp_path: Path) -> None:
    """As that of a client which is used after it was closed."""
    metadata = Metadata()
    async with server.client() as writer:
        await writer.close()
        async with discovering(server, writer, metadata, tmp_path):
            await eventually(lambda: metadata.readings >= 3)
