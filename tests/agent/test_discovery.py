"""A node's ENIs on its Node object: what is published, what changes nothing, and what outlives a restart."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent.discovery import ENIDiscovery, HostLinks, InstanceCache, OwnServer, read_links
from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.cloud.alibaba.metadata import MetadataClient
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import KernelFailure
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import METADATA_READINGS
from spiderpool_lab.control_plane import ControlPlane
from tests.cloud.alibaba.far_end import ENIS, MAC0, MAC1, FarEnd
from tests.core.servers import MASTER
from tests.kernel.environment import World
from tests.support.eventually import eventually
from tests.support.local_agent import agent_kubeconfig
from tests.support.servers import describe

NODE = "with-cards"
LINKS = HostLinks(
    (Link("lo", 1, mac="00:00:00:00:00:00"), Link("ens5", 2, mac=MAC0), Link("ens6", 3, mac=MAC1)),
    ("172.31.199.183", "192.168.0.155", "2408:4005:3a0:b00::101"),
)

PRIVATE = f"{ENIS}{MAC1}/private-ipv4s"
SECOND = {True: '["192.168.0.155","192.168.0.156","192.168.0.157"]', False: '["192.168.0.155","192.168.0.156"]'}
"""The second ENI with a further address, and without."""


# --- on disk


@pytest.mark.unit
def test_a_description_is_kept_on_disk_for_us_alone(tmp_path: Path) -> None:
    cache = InstanceCache(tmp_path / "instance.json")
    assert cache.load() is None
    cache.store(MASTER)
    assert cache.load() == MASTER
    assert stat.S_IMODE((tmp_path / "instance.json").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["instance.json"]


@pytest.mark.unit
def test_a_file_of_another_format_broken_or_contradictory_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    cache = InstanceCache(path)
    cache.store(MASTER)
    text = path.read_text()
    other_version = json.dumps(json.loads(text) | {"version": 1})
    for bad in ("", "{", other_version, text.replace("eni-m1", "eni-m0"), text.replace("eni-m1", "\xff")):
        path.write_text(bad, encoding="latin-1")
        assert cache.load() is None


@pytest.mark.unit
def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path) -> None:
    InstanceCache(tmp_path / "missing" / "instance.json").store(MASTER)


# --- in the kernel


@pytest.mark.lab
async def test_links_and_addresses_of_a_node() -> None:
    world = World()
    try:
        world.build()
        links = await read_links(world.node)
    finally:
        world.destroy()
    assert {link.name for link in links.links} >= {"lo", "eth0"}
    assert all(":" in link.mac for link in links.links if link.name == "eth0")
    assert any("." in address for address in links.addresses)
    assert not any(address.startswith(("127.", "fe80", "::1")) for address in links.addresses)


# --- in the SpiderServer


class Station:
    """A node whose agent reads the metadata of a far end, and whose Node is at the real API server."""

    def __init__(self, client: Client, admin: Client, far_end: FarEnd, cache: Path) -> None:
        self.client = client
        self.admin = admin
        self.far_end = far_end
        self.cache = InstanceCache(cache)
        self.links: HostLinks | None = LINKS
        self.told: list[Instance] = []  # everything that was published

    async def read_links(self) -> HostLinks:
        if self.links is None:
            raise KernelFailure("the kernel does not answer")
        return self.links

    @asynccontextmanager
    async def agent(self, interval: float = 0.1) -> AsyncIterator[None]:
        """An agent's discovery for the length of a context."""
        nodes = Informer(self.client, Node, fields=f"metadata.name={NODE}")
        servers = Informer(self.client, SpiderServer, fields=f"metadata.name={NODE}")
        servers.subscribe(self._note)
        async with MetadataClient(self.far_end.endpoint) as source, asyncio.TaskGroup() as group:
            own = OwnServer(self.client, nodes, servers, NODE)
            work = ENIDiscovery(own, source, self.cache, interval, self.read_links)
            tasks = [group.create_task(each.run()) for each in (nodes, servers, work)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    def _note(self, _: SpiderServer | None, new: SpiderServer | None) -> None:
        if new and new.spec not in self.told:
            self.told.append(new.spec)

    async def published(self) -> Instance | None:
        found = await self.admin.find(SpiderServer, NODE)
        return found.spec if found else None

    async def addresses(self, eni: int = 1) -> tuple[str, ...] | None:
        published = await self.published()
        return published.enis[eni].addresses if published else None

    async def shows(self, *addresses: str) -> None:
        """Wait until the second ENI is published with these addresses."""

        async def so() -> bool:
            return await self.addresses() == addresses

        await eventually(so, timeout=20)

    async def rounds(self, count: int = 3) -> None:
        """Wait for so many further readings, whatever their outcome."""
        goal = readings() + count
        await eventually(lambda: readings() >= goal, timeout=30)


def readings(*outcomes: str) -> float:
    names = outcomes or ("good", "unanswered", "doubtful")
    return float(sum(METADATA_READINGS.labels(name)._value.get() for name in names))


@pytest.fixture
async def station(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Station]:
    """A station with the agent's own rights, and a Node whose server nobody has described."""
    async with Client.load(control_plane.admin_kubeconfig) as admin, FarEnd().serve() as far_end:
        await admin.create(Node(metadata=ObjectMeta(name=NODE)))
        kubeconfig = await asyncio.to_thread(agent_kubeconfig, control_plane, NODE)
        try:
            async with Client.load(kubeconfig) as client:
                yield Station(client, admin, far_end, tmp_path / "instance.json")
        finally:
            await admin.delete(Node, NODE)
            await describe(admin, NODE, None)


@pytest.mark.control_plane
async def test_the_enis_are_published_by_their_linux_names_and_only_when_they_change(station: Station) -> None:
    async with station.agent():
        await station.shows("192.168.0.156")
        published = await station.published()
        assert published is not None
        assert [eni.device for eni in published.enis] == ["ens5", "ens6"]
        assert published.enis[0].ipv6_addresses == ("2408:4005:3a0:b00::102",)
        assert published.provider_id == "cn-hangzhou.i-master"
        await station.rounds()
        assert len(station.told) == 1  # not the Node's version: other controllers of the cluster write to it as well


@pytest.mark.control_plane
async def test_growth_shows_at_once_and_a_loss_when_two_readings_agree(station: Station) -> None:
    async with station.agent():
        await station.shows("192.168.0.156")
        station.far_end.pages[PRIVATE] = SECOND[True]
        await station.shows("192.168.0.156", "192.168.0.157")
        station.far_end.pages[PRIVATE] = SECOND[False]
        await station.shows("192.168.0.156")


def refuses(far_end: FarEnd) -> None:
    far_end.faults = [403] * 1000


def lies_about_itself(far_end: FarEnd) -> None:
    far_end.pages["instance-id"] = "i-other"


def loses_the_primary_eni(far_end: FarEnd) -> None:
    far_end.pages[ENIS] = f"{MAC1}/"


def lists_nothing(far_end: FarEnd) -> None:
    far_end.pages[ENIS] = ""


def answers_in_part(far_end: FarEnd) -> None:
    far_end.pages[PRIVATE] = "[]"


def leaves_the_block(far_end: FarEnd) -> None:
    far_end.pages[PRIVATE] = '["192.168.0.155", "10.0.0.1"]'


@pytest.mark.control_plane
@pytest.mark.parametrize(
    "fault",
    [refuses, lies_about_itself, loses_the_primary_eni, lists_nothing, answers_in_part, leaves_the_block],
)
async def test_a_failed_or_false_answer_changes_nothing_and_is_counted(
    station: Station, fault: Callable[[FarEnd], None]
) -> None:
    async with station.agent():
        await station.shows("192.168.0.156")
        before, pages = await station.published(), dict(station.far_end.pages)
        bad = readings("unanswered", "doubtful")
        fault(station.far_end)
        await station.rounds()
        assert await station.published() == before
        assert readings("unanswered", "doubtful") >= bad + 2
        station.far_end.pages, station.far_end.faults = pages | {PRIVATE: SECOND[True]}, []
        await station.shows("192.168.0.156", "192.168.0.157")


@pytest.mark.control_plane
async def test_a_kernel_that_does_not_answer_changes_nothing(station: Station) -> None:
    async with station.agent():
        await station.shows("192.168.0.156")
        station.links = None
        await station.rounds()
        await station.shows("192.168.0.156")


@pytest.mark.control_plane
async def test_an_answer_about_another_machine_is_not_published(station: Station) -> None:
    station.links = replace(LINKS, links=(Link("eth0", 2, mac="00:16:3e:ff:ff:ff"),))
    async with station.agent():
        await station.rounds()
        assert await station.published() is None


@pytest.mark.control_plane
async def test_what_somebody_else_writes_is_replaced(station: Station) -> None:
    async with station.agent(interval=60.0):
        await station.shows("192.168.0.156")
        for somebody in (MASTER, None):
            await describe(station.admin, NODE, somebody)
            await station.shows("192.168.0.156")


@pytest.mark.control_plane
async def test_another_node_of_the_name_is_described_as_well(station: Station) -> None:
    async with station.agent(interval=60.0):
        await station.shows("192.168.0.156")
        await station.admin.delete(Node, NODE)
        made = await station.admin.create(Node(metadata=ObjectMeta(name=NODE)))

        async def is_described() -> bool:
            found = await station.admin.find(SpiderServer, NODE)
            return found is not None and found.is_of(made)

        await eventually(is_described, timeout=20)


@pytest.mark.control_plane
async def test_a_start_without_an_answer_publishes_what_was_known(station: Station) -> None:
    async with station.agent():
        await station.shows("192.168.0.156")
    await describe(station.admin, NODE, None)
    refuses(station.far_end)
    async with station.agent():
        await station.shows("192.168.0.156")


@pytest.mark.control_plane
async def test_a_file_of_another_machine_is_not_published(station: Station) -> None:
    station.cache.store(MASTER)
    station.links = replace(LINKS, links=(Link("eth0", 2, mac="00:16:3e:ff:ff:ff"),))
    refuses(station.far_end)
    async with station.agent():
        await station.rounds()
        assert await station.published() is None


@pytest.mark.control_plane
async def test_a_start_without_a_file_takes_nothing_away_at_its_first_reading(station: Station) -> None:
    """The cluster remembers too."""
    await describe(station.admin, NODE, MASTER)
    async with station.agent(interval=60.0):
        await station.rounds(1)
        await station.shows("192.168.0.156", "192.168.0.157")


@pytest.mark.control_plane
async def test_a_description_that_cannot_be_right_is_replaced(station: Station) -> None:
    await describe(station.admin, NODE, changed(MASTER, enis=MASTER.enis * 2))
    async with station.agent():
        await station.shows("192.168.0.156")
