"""What one Node costs must not depend on how many there are."""

from __future__ import annotations

from typing import Any

import pytest
from bench.scale_cluster import NAMESPACE, Size, cluster, node

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller.eni_pools import ENIPoolReconciler, ENIPoolRules
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from tests.support.caches import fill, note, unused_client
from tests.support.calls import counted_calls
from tests.support.eni_listers import eni_listers

pytestmark = pytest.mark.unit


async def costs(size: Size) -> tuple[int, int]:
    """Calls for the heartbeat of a node, and for a node that is lost."""
    async with unused_client() as client:
        listers = eni_listers(client)
        rules = ENIPoolRules(frozenset({4}), NAMESPACE, primary_eni=True, node_grace=60.0)
        ENIPoolReconciler(client, listers, Recorder(client, "test"), rules)
        caches: dict[type[Object], Informer[Any]] = {
            Node: listers.nodes,
            SpiderServer: listers.servers.informer,
            SpiderIPPool: listers.pools,
            SpiderIP: listers.ips,
            SpiderMultusConfig: listers.networks,
        }
        fill(caches, cluster(size))
        found = []
        for version, ready in ((1_000_000, True), (1_000_001, False)):
            event = node(1, size, ready=ready)
            with counted_calls() as calls:
                note(listers.nodes, event, version)
            found.append(calls.count)
        return found[0], found[1]


async def test_a_heartbeat_and_a_lost_node_cost_no_look_at_others() -> None:
    assert await costs(Size(20, 40)) == await costs(Size(200, 400))
