"""A node that reports ever new names of NICs, as a hostile one may, makes no networks without end."""

from __future__ import annotations

import asyncio
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
from spiderpool.core.cloud.eni_pools import MOST_NETWORKS
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.support.api_server import ApiServer
from tests.support.caches import note
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


def renamed(server: SpiderServer, device: str) -> SpiderServer:
    """A server whose second ENI has another Linux name."""
    first, second = server.spec.enis
    spec = replace(server.spec, enis=(first, replace(second, device=device)))
    return replace(server, metadata=replace(server.metadata), spec=spec)


async def test_one_nodes_reports_make_so_many_networks_and_no_more() -> None:
    kinds = (Node, SpiderIPPool, SpiderIP, SpiderMultusConfig, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        made = list(cluster(Size(2, 0)))
        nodes = [each for each in made if isinstance(each, Node)]
        described = [each for each in made if isinstance(each, SpiderServer)]
        listers = ENIPoolListers(
            Informer(client, Node),
            NodeServers(Informer(client, SpiderServer)),
            Informer(client, SpiderIPPool),
            Informer(client, SpiderIP),
            Informer(client, SpiderMultusConfig),
        )
        for node in nodes:
            listers.nodes.note(node)
        recorder = Recorder(client, "test")
        rules = ENIPoolRules(frozenset({4}), NAMESPACE, primary_eni=False, node_grace=0.0)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (ENIPoolReconciler(client, listers, recorder, rules).run(), recorder.run())
            ]

            def is_made(name: str) -> bool:
                return any(each.name == name for each in server.stored(SpiderMultusConfig).values())

            for number in range(MOST_NETWORKS):
                note(listers.servers.informer, renamed(described[0], f"x{number}"), number + 1)
                await eventually(partial(is_made, f"ipvlan-x{number}"))
            note(listers.servers.informer, renamed(described[0], "beyond"), MOST_NETWORKS + 1)
            await eventually(lambda: [e for e in server.stored(Event).values() if e.reason == "NoNetworkForCard"])
            note(listers.servers.informer, renamed(described[1], "eth7"), 1)
            await eventually(partial(is_made, "ipvlan-eth7"), "another node's is made")
            assert not is_made("ipvlan-beyond")
            for task in tasks:
                task.cancel()
