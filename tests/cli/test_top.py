"""`spiderpoolctl top`: what is used, free and there, in the order of use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.subnet import OWNER_SUBNET_LABEL, SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import View, printed
from spiderpool.cli.top import UsageTable, node_table, pool_table, subnet_table, top_nodes, top_pools, top_subnets
from spiderpool.cli.usage import reserved_by_family
from spiderpool.errors import Refused
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

NOTHING = reserved_by_family(())


def pool(name: str, used: int | None, ips: str = "10.0.0.1-10.0.0.10", **spec: Any) -> SpiderIPPool:
    ranges = [f"10.0.0.1-10.0.0.{used}"] if used else []
    status = None if used is None else IPPoolStatus(allocatedIPCount=used, allocatedRanges=ranges)
    labels = {OWNER_SUBNET_LABEL: "blue"} if name == "cut" else None
    fields = IPPoolSpec("10.0.0.0/24", ips=[ips], **spec)
    return SpiderIPPool(metadata=ObjectMeta(name=name, labels=labels), spec=fields, status=status)


def record(address: str, pool: str, node: str) -> SpiderIP:
    spec = IPSpec(f"{address}/24", pool, node, "default", "a", "u", "eth0")
    return SpiderIP(metadata=ObjectMeta(name=address), spec=spec)


def text(shown: UsageTable, *, wide: bool = False) -> list[str]:
    return printed(shown, "wide" if wide else "table", View(wide=wide, width=80)).splitlines()


def test_pools_are_sorted_by_their_use() -> None:
    shown = pool_table([pool("a", 1), pool("b", 9, nodeName=["n1"]), pool("c", None), pool("d", 10)], NOTHING)
    assert text(shown) == [
        "POOL  USED  FREE  TOTAL  USE",
        "d       10     0     10  100%",
        "b        9     1     10  90%",
        "a        1     9     10  10%",
        "c        -     -     10  -",
    ]
    assert text(shown, wide=True)[2] == "b        9     1     10  90%         4  10.0.0.0/24  no       node n1"
    assert next(iter(json.loads(printed(shown, "json", View()))["items"]))["percent"] == 100


def test_ninety_nine_of_a_hundred_and_some_are_not_all() -> None:
    (only,) = pool_table([pool("a", 199, "10.0.0.1-10.0.0.200")], NOTHING).items
    assert (only.percent, only.free) == (99, 1)


def test_reserved_addresses_are_not_free() -> None:
    spec = ReservedIPSpec(4, ["10.0.0.1", "10.0.0.9"])  # the first is in use
    reserved = reserved_by_family([SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=spec)])
    (only,) = pool_table([pool("a", 1)], reserved).items
    assert (only.used, only.free, only.total) == (1, 8, 10)


def test_a_pool_whose_use_is_too_scattered_for_its_status() -> None:
    scattered = pool("a", None)
    scattered.status = IPPoolStatus(allocatedIPCount=4, compressedRanges="x")
    (only,) = pool_table([scattered], NOTHING).items
    assert (only.used, only.free) == (4, 6)


def test_a_pool_that_cannot_be_read_or_is_empty() -> None:
    shown = pool_table([pool("a", 0, "nonsense")], NOTHING)
    assert text(shown)[1] == "a        0     0      0  -"


def test_nodes_have_their_own_pools_and_addresses_of_shared_ones() -> None:
    pools = [pool("one", 2, nodeName=["n1"]), pool("more", 0, "10.0.0.21-10.0.0.30", nodeName=["n1"])]
    pools += [pool("shared", 1, "10.0.0.40-10.0.0.49", nodeName=["n1", "n2"])]
    records = [record("10.0.0.1", "one", "n1"), record("10.0.0.2", "one", "n1"), record("10.0.0.40", "shared", "n2")]
    shown = node_table(["n1", "n2", "n3"], pools, records, NOTHING)
    assert text(shown, wide=True) == [
        "NODE  USED  FREE  TOTAL  USE  SHARED  POOLS",
        "n1       2    18     20  10%       0      2",
        "n2       -     -      -  -         1      0",
        "n3       -     -      -  -         0      0",
    ]


def test_subnets_and_what_their_pools_hold() -> None:
    def subnet(name: str, held: int | None, ips: str = "10.0.0.1-10.0.0.10") -> SpiderSubnet:
        status = None if held is None else SubnetStatus(allocatedIPCount=held)
        return SpiderSubnet(metadata=ObjectMeta(name=name), spec=SubnetSpec("10.0.0.0/24", ips=[ips]), status=status)

    shown = subnet_table([subnet("red", None), subnet("blue", 5)], [pool("cut", 0), pool("other", 0)])
    assert text(shown, wide=True) == [
        "SUBNET  USED  FREE  TOTAL  USE  VERSION  CIDR         POOLS",
        "blue       5     5     10  50%        4  10.0.0.0/24      1",
        "red        -     -     10  -          4  10.0.0.0/24      0",
    ]
    assert printed(shown, "name", View()).splitlines()[0] == "spidersubnet.spiderpool.spidernet.io/blue"


async def test_they_are_read_from_the_cluster() -> None:
    kinds = (SpiderIPPool, SpiderReservedIP, SpiderIP, Node, SpiderSubnet)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        server.put(pool("a", 1, nodeName=["n1"]), record("10.0.0.1", "a", "n1"))
        cluster = Cluster(client, 5.0)
        assert [each.name for each in (await top_pools(cluster)).items] == ["a"]
        assert [each.used for each in (await top_nodes(cluster)).items] == [1]
        assert (await top_subnets(cluster)).items == ()
        server.inject(Fault("list", plural="nodes", status=403))
        assert [each.name for each in (await top_nodes(cluster)).items] == ["n1"]
        server.inject(Fault("list", plural="spiderippools", status=403))
        with pytest.raises(Refused, match="SpiderIPPool objects may not be read"):
            await top_pools(cluster)
