"""Which pod a call means, and whether it may still be attached."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.cni import PodArgs
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION
from spiderpool.errors import NotReady
from tests.support.api_server import ApiServer, Fault
from tests.support.clients import answered_by

pytestmark = pytest.mark.unit

WEB = PodArgs("shop", "web", "u")
KINDS = (Pod, SpiderIP, SpiderIPPool, SpiderReservedIP, NetworkAttachmentDefinition, SpiderCoordinator, Namespace, Node)
LEAVING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
MIRROR: dict[str, Any] = {"annotations": {STATIC_POD_ANNOTATION: "hash"}}


def pod(phase: str = "Running", **metadata: Any) -> Pod:
    named = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1"}
    return msgspec.convert({"metadata": named | metadata, "status": {"phase": phase}}, Pod)


@pytest.fixture
async def cluster() -> AsyncIterator[ClusterCache]:
    """The cache of a node, with an API server that has one pod, shop/stored, and lists pods."""

    async def answer(request: web.Request) -> web.Response:
        match request.path.removeprefix("/api/v1/namespaces/shop/pods"):
            case "/stored":
                return web.json_response({"metadata": {"name": "stored", "namespace": "shop", "uid": "s"}})
            case "" | "/":
                return web.json_response({"kind": "PodList", "metadata": {}, "items": []})
            case _:
                return web.json_response({"code": 404}, status=404)

    async with answered_by(answer) as client:
        yield ClusterCache(client, "n1")


async def test_a_pod_is_cached_or_read(cluster: ClusterCache) -> None:
    cluster.pods.note(pod())
    assert (await cluster.pod(WEB)).metadata.uid == "u"
    assert (await cluster.pod(PodArgs("shop", "stored", ""))).metadata.uid == "s"
    with pytest.raises(NotReady, match="pod shop/web does not exist"):
        await cluster.pod(PodArgs("shop", "web", "another"))
    with pytest.raises(NotReady, match="has UID s, the runtime attaches another"):
        await cluster.pod(PodArgs("shop", "stored", "another"))


async def test_a_cached_pod_that_the_runtime_does_not_name_by_uid_may_be_a_former_one(cluster: ClusterCache) -> None:
    cluster.pods.note(pod(name="stored", uid="former"))
    assert (await cluster.pod(PodArgs("shop", "stored", ""))).metadata.uid == "s"


async def test_a_list_is_never_read_as_a_pod(cluster: ClusterCache) -> None:
    for name in ("", "../pods", "a/b"):
        assert await cluster.find_pod(PodArgs("shop", name, "")) is None
    assert await cluster.find_pod(PodArgs("", "stored", "")) is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod(), None),
        (pod("Pending"), None),
        (pod("Failed"), "has ended (Failed)"),
        (pod("Succeeded"), "has ended (Succeeded)"),
        (pod(**LEAVING), "is being deleted"),
        (pod(**LEAVING, **MIRROR), None),
        (pod("Failed", **MIRROR), None),
    ],
)
async def test_a_pod_that_has_ended_is_not_attached(cluster: ClusterCache, found: Pod, said: str | None) -> None:
    cluster.pods.note(found)
    if said is None:
        assert await cluster.living_pod(WEB) == found
    else:
        with pytest.raises(NotReady) as refused:
            await cluster.living_pod(WEB)
        assert refused.value.message == f"pod shop/web {said}; it gets no addresses any more"


async def test_whether_the_first_lists_have_come_is_known_in_time(cluster: ClusterCache) -> None:
    assert not await cluster.synced_within(0.05)
    with pytest.raises(NotReady, match="within 0 s"):
        await cluster.listed(0.05)
    assert not cluster.ready


@pytest.mark.parametrize("status", [403, 404, 503])
async def test_pods_are_attached_though_no_quotas_can_be_read(status: int) -> None:
    """As where the CRD or the new role of an update has not been applied yet."""
    kinds = (*KINDS, SpiderIPQuota)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        server.inject(Fault("list", times=1000, plural=SpiderIPQuota.KIND.plural, status=status))
        cluster = ClusterCache(client, "n1")
        task = asyncio.create_task(cluster.run())
        await cluster.listed(5)
        assert cluster.ready
        assert cluster.exhausted_quota("shop") is None
        task.cancel()
        await asyncio.wait((task,))


async def test_of_the_first_lists_only_those_that_may_lack_nothing_come_from_etcd() -> None:
    """A list of one node's pods from etcd reads those of all nodes; one of records from a cache may lack some."""
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, server.client() as client:
        cluster = ClusterCache(client, "n1")
        task = asyncio.create_task(cluster.run())
        await cluster.synced(5)
        task.cancel()
        await asyncio.wait((task,))
        versions = [(plural, query.get("resourceVersion")) for plural, query in server.list_queries]
    consistent = (SpiderIP, SpiderReservedIP)
    every = (*KINDS, SpiderIPPool)  # pools twice: the node's own, and shared ones
    cached = [kind for kind in every if kind not in consistent]
    assert Counter(versions) == Counter(
        [(kind.KIND.plural, "0") for kind in cached] + [(kind.KIND.plural, None) for kind in consistent]
    )
