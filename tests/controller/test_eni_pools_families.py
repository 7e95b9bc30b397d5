"""An ENI has a pool of each family, and what becomes of one does not depend on the other."""

from __future__ import annotations

import asyncio

import pytest
from bench.scale_cluster import NAMESPACE, Size, cluster
from msgspec.structs import replace

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller.eni_pools import ENIPoolReconciler, ENIPoolRules
from spiderpool.core.cloud.eni_pools import subnet_version
from spiderpool.kube.events import Recorder
from tests.support.api_server import ApiServer
from tests.support.caches import note
from tests.support.eni_listers import eni_listers
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


def changed(server: SpiderServer) -> SpiderServer:
    """A server whose second ENI has lost an IPv4 address, and has an IPv6 address now."""
    first, second = server.spec.enis
    fields = {"addresses": second.addresses[1:], "ipv6_addresses": ("fd00::1",), "subnet6": "fd00::/64"}
    return replace(server, spec=replace(server.spec, enis=(first, replace(second, **fields))))


async def test_a_pool_that_cannot_be_written_does_not_keep_that_of_the_other_family_from_being_made() -> None:
    kinds = (Node, SpiderIPPool, SpiderIP, SpiderMultusConfig, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        made = list(cluster(Size(1, 0)))
        (pool,) = (each for each in made if isinstance(each, SpiderIPPool))
        (node,) = (each for each in made if isinstance(each, Node))
        (described,) = (each for each in made if isinstance(each, SpiderServer))
        server.put(pool)
        listers = eni_listers(client)
        listers.pools.note(server.stored(SpiderIPPool)[pool.name])
        server.put(replace(pool, spec=replace(pool.spec, disable=True)))  # not noticed, so that writes are refused
        listers.nodes.note(node)
        note(listers.servers.informer, changed(described), 1)
        rules = ENIPoolRules(frozenset({4, 6}), NAMESPACE, primary_eni=False, node_grace=0.0)
        task = asyncio.create_task(ENIPoolReconciler(client, listers, Recorder(client, "test"), rules).run())
        await eventually(lambda: {subnet_version(each) for each in server.stored(SpiderIPPool).values()} == {4, 6})
        task.cancel()
        assert server.stored(SpiderIPPool)[pool.name].spec.ips == pool.spec.ips
