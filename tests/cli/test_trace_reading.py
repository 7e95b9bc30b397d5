"""What `spiderpoolctl trace` reads of a cluster: the SpiderCoordinator that the agents obey, whatever its name."""

from __future__ import annotations

import pytest

from spiderpool.api.applications import DaemonSet
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Namespace, Node, Pod, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.networking_v1 import NetworkPolicy
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.trace.case import ClusterObjects, read_objects
from spiderpool.errors import Refused
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

KINDS = (
    *(Pod, Node, Service, EndpointSlice, NetworkAttachmentDefinition, SpiderIP, SpiderIPPool, Namespace),
    *(SpiderServer, SpiderNode, NetworkPolicy, ConfigMap, DaemonSet),
)


async def read(server: ApiServer) -> ClusterObjects:
    async with server.client() as client:
        return await read_objects(Cluster(client, 5.0), PolicyOptions("kube-system"))


@pytest.mark.parametrize("names", [(), ("cluster",), ("second", "cluster", "default")])
async def test_the_coordinator_is_the_first_by_name(names: tuple[str, ...]) -> None:
    async with ApiServer(*(kind.KIND for kind in (*KINDS, SpiderCoordinator))) as server:
        server.put(*(SpiderCoordinator(metadata=ObjectMeta(name=name)) for name in names))
        found = (await read(server)).coordinator
    assert (found.name if found else None) == min(names, default=None)


async def test_without_the_kind_of_coordinators_there_is_no_answer() -> None:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server:
        with pytest.raises(Refused, match="SpiderCoordinator objects may not be read"):
            await read(server)
