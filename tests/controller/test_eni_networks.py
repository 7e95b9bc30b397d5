"""A node that reports ever new names of NICs, as a hostile one may, makes no networks without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from bench.scale_cluster import NAMESPACE, Size, cluster
from msgspec.structs import replace

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.core.cloud.eni_pools import MOST_NETWORKS, new_network
from spiderpool.kube.events import Recorder
from tests.support.api_server import ApiServer, Fault
from tests.support.caches import note
from tests.support.eni_listers import eni_listers
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


def renamed(server: SpiderServer, device: str) -> SpiderServer:
    """A server whose second ENI has another Linux name."""
    first, second = server.spec.enis
    spec = replace(server.spec, enis=(first, replace(second, device=device)))
    return replace(server, metadata=replace(server.metadata), spec=spec)


@dataclass(frozen=True)
class Reconciled:
    """What runs, and the servers of two nodes."""

    server: ApiServer
    listers: ENIPoolListers
    described: list[SpiderServer]

    def is_made(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return any(each.name == name for each in self.server.stored(SpiderMultusConfig).values())

    def names(self, network: str) -> bool:
        """Whether a pool is for this network."""
        pools = self.server.stored(SpiderIPPool).values()
        return any(f"{NAMESPACE}/{network}" in (pool.spec.multusName or []) for pool in pools)

    def has_said(self, reason: str, times: int = 1) -> bool:
        """Whether something was said so many times."""
        events = self.server.stored(Event).values()
        return sum(each.count or 1 for each in events if each.reason == reason) == times


@asynccontextmanager
async def reconciling() -> AsyncIterator[Reconciled]:
    kinds = (Node, SpiderIPPool, SpiderIP, SpiderMultusConfig, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        made = list(cluster(Size(2, 0)))
        nodes = [each for each in made if isinstance(each, Node)]
        described = [each for each in made if isinstance(each, SpiderServer)]
        listers = eni_listers(client)
        for node in nodes:
            listers.nodes.note(node)
        recorder = Recorder(client, "test")
        rules = ENIPoolRules(frozenset({4}), NAMESPACE, primary_eni=False, node_grace=0.0)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (ENIPoolReconciler(client, listers, recorder, rules).run(), recorder.run())
            ]

            yield Reconciled(server, listers, described)
            for task in tasks:
                task.cancel()


async def test_one_nodes_reports_make_so_many_networks_and_no_more() -> None:
    async with reconciling() as running:
        servers = running.listers.servers.informer
        one, other = running.described
        for number in range(MOST_NETWORKS):
            note(servers, renamed(one, f"x{number}"), number + 1)
            await eventually(partial(running.is_made, f"ipvlan-x{number}"))
        note(servers, renamed(one, "beyond"), MOST_NETWORKS + 1)
        await eventually(partial(running.has_said, "NoNetworkForCard"))
        note(servers, renamed(other, "eth7"), 1)
        await eventually(partial(running.is_made, "ipvlan-eth7"), "another node's is made")
        assert not running.is_made("ipvlan-beyond")


@pytest.mark.parametrize("gone", [False, True], ids=["it got one meanwhile", "the ENI was gone meanwhile"])
async def test_an_eni_without_a_network_is_told_again_when_it_comes_to_that_again(gone: bool) -> None:
    async with reconciling() as running:
        servers = running.listers.servers.informer
        one = running.described[0]
        for number in range(MOST_NETWORKS):
            note(servers, renamed(one, f"x{number}"), number + 1)
            await eventually(partial(running.is_made, f"ipvlan-x{number}"))
        note(servers, renamed(one, "beyond"), 100)
        await eventually(partial(running.has_said, "NoNetworkForCard"))
        if gone:
            running.server.inject(Fault("delete", times=1000, status=500))  # so that the pool stays
            spec = replace(one.spec, enis=one.spec.enis[:1])
            note(servers, replace(one, metadata=replace(one.metadata), spec=spec), 101)
            await eventually(lambda: running.server.requests["delete"])
        else:
            note(servers, renamed(one, "x0"), 101)
            await eventually(partial(running.names, "ipvlan-x0"))
        note(servers, renamed(one, "beyond"), 102)
        await eventually(partial(running.has_said, "NoNetworkForCard", 2))


async def test_a_network_that_is_of_another_name_again_is_told_again() -> None:
    async with reconciling() as running:
        servers, networks = running.listers.servers.informer, running.listers.networks
        one = running.described[0]
        right = new_network("eth7", NAMESPACE, one.name, [])
        wrong = replace(right, metadata=replace(right.metadata), spec=new_network("eth8", NAMESPACE, one.name, []).spec)
        for version, network, said in ((1, wrong, 1), (2, right, 1), (3, wrong, 2)):
            note(servers, renamed(one, "x"), 2 * version)
            await eventually(partial(running.names, "ipvlan-x"))  # so whatever concerned eth7 is done
            note(networks, network, version)
            note(servers, renamed(one, "eth7"), 2 * version + 1)
            await eventually(partial(running.names, "ipvlan-eth7"))
            await eventually(partial(running.has_said, "OtherCard", said))
