"""Quotas, subnets and refusals as the page lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

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
from spiderpool.cli.ui.cluster_views import node_documents, quota_documents, subnet_documents
from spiderpool.cli.ui.pool_map import pool_maps
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.core.ipam.owners import Controller, application_affinity
from tests.cli.ui.objects import BASE, NOW, account, node, objects, pool, record
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


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
    assert [(each["name"], each["used"]) for each in found] == [("b", 9), ("c", None), ("a", 1)]


async def test_a_subnet_has_the_pools_that_are_cut_from_it(watched: WatchedCluster) -> None:
    spec, status = SubnetSpec("10.0.0.0/24", ips=["10.0.0.1-10.0.0.100"]), SubnetStatus(allocatedIPCount=20)
    mine = pool("auto", ips=[f"10.0.0.{each}" for each in range(1, 21, 2)])
    mine.metadata.labels = {OWNER_SUBNET_LABEL: "wide", APPLICATION_NAME_LABEL: "web"}
    mine.spec.podAffinity = LabelSelector(application_affinity(Controller("apps/v1", "Deployment", "shop", "web", "u")))
    watched.informer(SpiderSubnet).note(SpiderSubnet(metadata=ObjectMeta(name="wide"), spec=spec, status=status))
    for each in (mine, pool("other")):
        watched.informer(SpiderIPPool).note(each)
    (found,) = subnet_documents(watched, pool_maps(objects([mine]), NOW))
    assert (found["total"], found["used"], found["percent"]) == (100, 20, 20)
    (owned,) = found["pools"]
    assert (owned["name"], owned["application"], owned["counts"][0]) == ("auto", "shop/web", 10)
    assert owned["ranges"][-2:] == ["10.0.0.15", "… (+2)"]


async def test_a_node_has_its_enis_and_what_its_agent_says(watched: WatchedCluster) -> None:
    eni = ENI("eni-1", "02:00:00:aa:00:01", True, "10.0.0.252", ("10.0.0.3",), (), "vsw-1", "10.0.0.0/24")
    machine = SpiderServer(metadata=ObjectMeta(name="n1"), spec=Instance("alibaba", "r", "z", "i-1", "g7", (eni,)))
    blue = pool(nodeName=["n1"], ips=["10.0.0.1-10.0.0.4"])
    blue.metadata.labels = {"cloud.spidernet.io/card": "eni-1"}
    held, fenced = record(BASE + 3, blue), account((), "n2", fenced=True)
    for each in (machine, blue, held, node(), node("n2", ready=False), account([(BASE + 3, "a")]), fenced):
        watched.informer(type(each)).note(each)
    second, first = sorted(node_documents(watched), key=lambda each: -len(each["name"] + str(each["stopped"])))
    assert (first["name"], first["used"], first["total"], first["sandboxes"]) == ("n1", 1, 4, 1)
    assert [(each["id"], each["addresses"], each["pools"]) for each in first["enis"]] == [("eni-1", 1, ["blue"])]
    assert (second["name"], second["stopped"]) == ("n2", "node n2 was fenced by an administrator")
