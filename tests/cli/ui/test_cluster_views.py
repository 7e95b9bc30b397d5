"""Quotas, subnets and refusals as the page lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Event, reference
from spiderpool.api.event_reasons import ADDRESS_REFUSED
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import IPQuotaSpec, IPQuotaStatus, SpiderIPQuota
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.api.subnet import (
    APPLICATION_NAME_LABEL,
    OWNER_SUBNET_LABEL,
    SpiderSubnet,
    SubnetSpec,
    SubnetStatus,
)
from spiderpool.cli.connection import Cluster
from spiderpool.cli.ui.cluster_views import node_documents, quota_documents, refusal_documents, subnet_documents
from spiderpool.cli.ui.documents import MapChangeDocument, MapDocument, pool_documents
from spiderpool.cli.ui.map_keeping import PageState
from spiderpool.cli.ui.pool_map import pool_maps
from spiderpool.cli.ui.recent_changes import GrowthDocument
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.cli.usage import reserved_by_family
from spiderpool.core.ipam.owners import Controller, application_affinity
from tests.cli.ui.objects import BASE, NOW, account, node, objects, pool, record
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

THEN = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture
async def watched() -> AsyncIterator[WatchedCluster]:
    """What is known of a cluster, from tests that say it."""
    async with ApiServer() as server, server.client() as client:
        yield WatchedCluster(Cluster(client, 5.0))


def quota(name: str, limit: int, used: int | None) -> SpiderIPQuota:
    metadata = ObjectMeta(name=name, namespace="shop")
    return SpiderIPQuota(metadata=metadata, spec=IPQuotaSpec(limit), status=IPQuotaStatus(used))


def test_the_quota_of_which_least_is_left_comes_first() -> None:
    found = quota_documents([quota("a", 10, 1), quota("b", 10, 9), quota("c", 5, None)])
    assert [(each.name, each.used) for each in found] == [("b", 9), ("c", None), ("a", 1)]


async def test_a_subnet_has_the_pools_that_are_cut_from_it(watched: WatchedCluster) -> None:
    spec, status = SubnetSpec("10.0.0.0/24", ips=["10.0.0.1-10.0.0.100"]), SubnetStatus(allocatedIPCount=20)
    mine = pool("auto", ips=[f"10.0.0.{each}" for each in range(1, 21, 2)])
    mine.metadata.labels = {OWNER_SUBNET_LABEL: "wide", APPLICATION_NAME_LABEL: "web"}
    mine.spec.podAffinity = LabelSelector(application_affinity(Controller("apps/v1", "Deployment", "shop", "web", "u")))
    watched.informer(SpiderSubnet).note(SpiderSubnet(metadata=ObjectMeta(name="wide"), spec=spec, status=status))
    for each in (mine, pool("other")):
        watched.informer(SpiderIPPool).note(each)
    (found,) = subnet_documents(watched, pool_maps(objects([mine]), NOW))
    assert (found.total, found.used, found.percent) == (100, 20, 20)
    (owned,) = found.pools
    assert (owned.name, owned.application, (owned.counts or [])[0]) == ("auto", "shop/web", 10)
    assert owned.ranges[-2:] == ["10.0.0.15", "… (+2)"]


async def test_a_node_has_its_enis_and_what_its_agent_says(watched: WatchedCluster) -> None:
    eni = ENI("eni-1", "02:00:00:aa:00:01", True, "10.0.0.252", ("10.0.0.3",), (), "vsw-1", "10.0.0.0/24")
    machine = SpiderServer(metadata=ObjectMeta(name="n1"), spec=Instance("alibaba", "r", "z", "i-1", "g7", (eni,)))
    blue = pool(nodeName=["n1"], ips=["10.0.0.1-10.0.0.4"])
    blue.metadata.labels = {"cloud.spidernet.io/card": "eni-1"}
    held, fenced = record(BASE + 3, blue), account((), "n2", fenced=True)
    for each in (machine, blue, held, node(), node("n2", ready=False), account([(BASE + 3, "a")]), fenced):
        watched.informer(type(each)).note(each)
    second, first = sorted(node_documents(watched), key=lambda each: -len(each.name + str(each.stopped)))
    assert (first.name, first.used, first.total, first.sandboxes) == ("n1", 1, 4, 1)
    assert [(each.id, each.addresses, each.pools) for each in first.enis] == [("eni-1", 1, ["blue"])]
    assert (second.name, second.stopped) == ("n2", "node n2 was fenced by an administrator")


async def test_the_names_by_which_the_page_knows_what_it_gets(watched: WatchedCluster) -> None:
    eni = ENI("eni-1", "02:00:00:aa:00:01", True, "10.0.0.252", (), (), "vsw-1", "10.0.0.0/24")
    machine = SpiderServer(metadata=ObjectMeta(name="n1"), spec=Instance("alibaba", "r", "z", "i-1", "g7", (eni,)))
    owned = pool()
    owned.metadata.labels = {OWNER_SUBNET_LABEL: "wide"}
    subnet = SpiderSubnet(metadata=ObjectMeta(name="wide"), spec=SubnetSpec("10.0.0.0/24"))
    for each in (machine, node(), owned, subnet):
        watched.informer(type(each)).note(each)
    maps = pool_maps(objects([owned]), NOW)
    refused = Event(
        involvedObject=reference(node()),
        reason=ADDRESS_REFUSED.name,
        message="p: is full",
        type="Warning",
        lastTimestamp="2026-01-01T12:00:00Z",
    )
    found = {
        "nodes": node_documents(watched),
        "quotas": quota_documents([quota("a", 10, 1)]),
        "subnets": subnet_documents(watched, maps),
        "pools": pool_documents([owned], reserved_by_family(()), maps),
        "map": MapDocument.of(maps["blue"], 7),
        "change": MapChangeDocument.of(maps["blue"], []),
        "new": MapChangeDocument.of(maps["blue"], None),
        "refusals": refusal_documents([refused], THEN),
        "state": PageState({}, None, []),
        "growth": GrowthDocument("blue", "0/d", ""),
    }
    assert keys(msgspec.json.decode(msgspec.json.encode(found))) == {
        "nodes": "name used free total shared ready stopped sandboxes answered observed type enis",
        "nodes.enis": "id mac device subnet primary addresses pools",
        "quotas": "namespace name used limit",
        "subnets": "name subnet used total percent pools",
        "subnets.pools": "name application counts ranges",
        "pools": "name version subnet used free total default disabled terminating for counts",
        "map": "name version subnet revision disabled terminating counts pieces",
        "change": "disabled terminating counts pieces",
        "new": "disabled terminating counts",
        "refusals": "at object reason message count",
        "state": "reading trouble leftOut",
        "growth": "name growth full",
    }


def keys(found: dict[str, Any], path: str = "") -> dict[str, str]:
    """The names of each object, by the way to it."""
    named: dict[str, str] = {path: " ".join(found)} if path else {}
    for name, value in found.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and inner:
            named |= keys(inner, f"{path}.{name}" if path else name)
    return named
