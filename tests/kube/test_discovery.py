"""Discovery of kinds and objects that we have no types for."""

from __future__ import annotations

import pytest

from spiderpool.api.applications import Deployment
from spiderpool.api.core_v1 import ConfigMap, Node
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, Scope
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.discovery import find_kind, uid_of
from tests.support.api_server import ApiServer, Fault

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


async def test_finds_kinds_of_the_core_and_of_groups() -> None:
    async with ApiServer(Node.KIND, ConfigMap.KIND, Deployment.KIND) as server, server.client() as client:
        node = await find_kind(client, "v1", "Node")
        deployment = await find_kind(client, "apps/v1", "Deployment")
        assert node is not None
        assert (node.api_version, node.plural, node.scope) == ("v1", "nodes", Scope.CLUSTER)
        assert deployment is not None
        assert deployment.object_path("ns", "web") == "apis/apps/v1/namespaces/ns/deployments/web"
        assert await find_kind(client, "apps/v1", "DaemonSet") is None
        assert await find_kind(client, "example.com/v1", "Thing") is None


async def test_the_uid_of_an_object_is_read_afresh() -> None:
    async with ApiServer(SpiderIPPool.KIND, ConfigMap.KIND) as server, server.client() as client:
        pool = await client.create(SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec("10.0.0.0/24")))
        config = await client.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="ns")))
        assert await uid_of(client, SpiderIPPool.KIND, "p", None) == pool.metadata.uid
        assert await uid_of(client, ConfigMap.KIND, "c", "ns") == config.metadata.uid
        assert await uid_of(client, ConfigMap.KIND, "c", "elsewhere") is None


async def test_an_error_is_not_taken_for_absence() -> None:
    async with ApiServer(SpiderIPPool.KIND) as server, server.client() as client:
        server.inject(Fault("get", status=500))
        with pytest.raises(ApiUnavailable):
            await uid_of(client, SpiderIPPool.KIND, "p", None)
