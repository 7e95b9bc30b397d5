"""The status of pools, computed from their SpiderIPs, and the finalizers of pools and subnets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.agent.pool_cache import PoolCache
from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Condition, ObjectMeta
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.controller.pools import LARGE, MAX_VIEW, PoolListers, PoolReconciler, status_of, users_text
from spiderpool.controller.subnets import SubnetReconciler, readiness
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.allocation import address_of
from spiderpool.kube.client import Client
from spiderpool.kube.conditions import StatusTimings
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIME = "2026-01-01T00:00:00Z"


def pool(subnet: str = "10.6.0.0/16", *ips: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec(subnet=subnet, ips=list(ips)))


def holder(address: str) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=address), spec=IPSpec(f"{address}/16", "p", "n", "ns", "web", "u", "eth0"))


class TestPoolStatus:
    def test_nobody(self) -> None:
        status = status_of(pool("10.6.0.0/16", "10.6.0.1-10.6.0.9"), [], NOW)
        ready = Condition("Ready", "True", "InForce", "pods may get its 9 addresses", TIME)
        assert status == IPPoolStatus(None, 9, 0, [], conditions=[ready])

    def test_some(self) -> None:
        holders = [holder(f"10.6.0.{n}") for n in (9, 10, 2)]
        entry = '{"pod":"ns/web","podUid":"u"}'
        view = f'{{"10.6.0.10":{entry},"10.6.0.2":{entry},"10.6.0.9":{entry}}}'
        status = status_of(pool(), holders, NOW)
        assert replace(status, conditions=None) == IPPoolStatus(view, 0, 3, ["10.6.0.2", "10.6.0.9-10.6.0.10"])

    def test_too_many_for_the_hint_and_the_view(self) -> None:
        scattered = [holder(f"10.6.{n // 100}.{n % 100 * 2}") for n in range(hints.MAX_RANGES + 1)]
        status = status_of(pool(), scattered, NOW)
        assert status.allocatedRanges is None
        found = hints.read(replace(pool(), status=status), 4)
        assert found == AddressSet.of_addresses(map(address_of, scattered), 4), "but compressed, every single one"
        assert status.allocatedIPs is not None
        assert status.conditions is not None
        assert "allocatedRanges" in status.conditions[1].message
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        status = status_of(pool(), dense, NOW)
        assert status.allocatedRanges == ["10.6.0.0-10.6.7.208"]
        assert status.allocatedIPs is None
        assert status.allocatedIPCount == MAX_VIEW + 1
        _, condition = status.conditions or []
        assert (condition.type, condition.status) == ("AllocationsPublished", "False")
        assert "allocatedIPs" in condition.message
        assert "ipam.spidernet.io/ippool=p" in condition.message
        assert condition.lastTransitionTime == "2026-01-01T00:00:00Z"

    def test_what_is_left_out_has_been_so_since_it_began(self) -> None:
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        before = replace(pool(), status=status_of(pool(), dense, NOW))
        assert status_of(before, dense, NOW + timedelta(hours=1)) == before.status
        assert conditions(status_of(before, dense[:-1], NOW)) == {"Ready": ("False", "NoAddresses")}

    def test_sizes_that_no_integer_of_the_api_holds_and_pools_that_cannot_be_read(self) -> None:
        assert status_of(pool("fd00::/64", "fd00::-fd00::ffff:ffff:ffff:ffff"), [], NOW).totalIPCount == 2**63 - 1
        assert status_of(pool("10.6.0.0/16", "x"), [], NOW).totalIPCount == 0

    @pytest.mark.parametrize(
        ("spec", "missing", "reason"),
        [
            ({"ips": ["10.6.0.1"]}, None, "InForce"),
            ({"ips": ["10.6.0.1"], "disable": False}, None, "InForce"),
            ({"ips": ["10.6.0.1"], "disable": True}, None, "Disabled"),
            ({"ips": ["10.6.0.0"]}, None, "NoAddresses"),
            ({"ips": ["x"]}, None, "Malformed"),
            ({"ips": ["10.6.0.1"]}, "it is for Node a, which does not exist", "NotFound"),
        ],
    )
    def test_whether_it_is_ready(self, spec: dict[str, Any], missing: str | None, reason: str) -> None:
        found = SpiderIPPool(metadata=ObjectMeta(name="p", generation=4), spec=IPPoolSpec("10.6.0.0/16", **spec))
        (condition,) = status_of(found, [], NOW, missing).conditions or []
        status = "True" if reason == "InForce" else "False"
        assert (condition.type, condition.status, condition.reason) == ("Ready", status, reason)
        assert (condition.observedGeneration, condition.lastTransitionTime) == (4, TIME)
        assert missing is None or condition.message == missing

    def test_who_keeps_a_pool_that_is_being_deleted(self) -> None:
        leaving = replace(pool(), metadata=ObjectMeta(name="p", deletionTimestamp=TIME))
        assert conditions(status_of(leaving, [], NOW)) == {"Ready": ("False", "Terminating")}
        status = status_of(leaving, [holder("10.6.0.1")], NOW)
        assert conditions(status) == {"Ready": ("False", "Terminating"), "Terminating": ("True", "InUse")}
        assert (status.conditions or [])[1].message == "1 address in use by ns/web"

    @pytest.mark.parametrize(
        ("holders", "text"),
        [
            (["a", "b", "b"], "3 addresses in use by ns/a, ns/b"),
            ([*"abcdefg"], "7 addresses in use by ns/a, ns/b, ns/c, ns/d, ns/e and 2 more"),
            (["a", "-", "-"], "1 address in use by ns/a, 2 in their cooldown"),
            (["-"], "1 in their cooldown"),
        ],
    )
    def test_users_by_name(self, holders: list[str], text: str) -> None:
        records = [
            replace(each, spec=replace(each.spec, pod=name, releasedAt=TIME if name == "-" else None))
            for number, name in enumerate(holders, 1)
            for each in [holder(f"10.6.0.{number}")]
        ]
        assert users_text(records) == text


def conditions(status: IPPoolStatus | SubnetStatus) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in status.conditions or ()}


@pytest.mark.parametrize(
    ("spec", "leaving", "pools", "found"),
    [
        ({"ips": ["10.7.0.1-10.7.0.9"]}, False, [], "InForce: pools may get its 9 addresses"),
        ({}, False, [], "NoAddresses: it has no address that a pool could get: add some to spec.ips"),
        ({"ips": ["x"]}, False, [], "Malformed: "),
        ({}, True, [], "Terminating: it has no pools"),
        ({}, True, ["b"], "InUse: 1 pool has addresses of it: b"),
        ({}, True, ["b", "a"], "InUse: 2 pools have addresses of it: a, b"),
    ],
)
def test_whether_a_subnet_is_ready(spec: dict[str, Any], leaving: bool, pools: list[str], found: str) -> None:
    metadata = ObjectMeta(name="s", deletionTimestamp=TIME if leaving else None)
    held = [replace(pool(), metadata=ObjectMeta(name=name)) for name in pools]
    *_, last = readiness(SpiderSubnet(metadata=metadata, spec=SubnetSpec("10.7.0.0/16", **spec)), held)
    assert f"{last.reason}: {last.message}".startswith(found)


@dataclass
class Cluster:
    """The reconcilers of pools and subnets beside an API server."""

    server: ApiServer
    client: Client
    networks: Informer[NetworkAttachmentDefinition]

    async def told(self, kind: type[SpiderIPPool] | type[SpiderSubnet], name: str, what: str) -> None:
        """Wait for a condition, as ``Type=reason: message``."""

        async def is_told() -> bool:
            found = await self.client.get(kind, name)
            said = found.status.conditions if found.status else None
            return any(what in f"{each.type}={each.reason}: {each.message}" for each in said or ())

        await eventually(is_told, what)


KINDS = (SpiderIPPool, SpiderIP, SpiderSubnet, Node, NetworkAttachmentDefinition, Event)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, server.client() as client:
        recorder = Recorder(client, "test")
        pools, ips = Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        subnets, nodes = Informer(client, SpiderSubnet), Informer(client, Node)
        networks = Informer(client, NetworkAttachmentDefinition)
        listers = PoolListers(pools, ips, nodes, networks)
        reconcilers = (
            PoolReconciler(client, listers, recorder, namespace="ours", timings=StatusTimings(0.0)),
            SubnetReconciler(client, subnets, pools, recorder, timings=StatusTimings(0.0)),
        )
        informers = (pools, ips, subnets, nodes, networks)
        tasks = [asyncio.create_task(each.run()) for each in (recorder, *informers, *reconcilers)]
        try:
            for informer in informers:
                await informer.synced(5)
            yield Cluster(server, client, networks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_pools_and_subnets_that_wait_say_so_by_condition_and_event(cluster: Cluster) -> None:
    client = cluster.client
    held = ObjectMeta(name="p", finalizers=[FINALIZER])
    await client.create(replace(pool("10.6.0.0/16", "10.6.0.1-10.6.0.9"), metadata=held))
    subnet = SpiderSubnet(metadata=replace(held, name="s"), spec=SubnetSpec("10.6.0.0/16", ips=["10.6.0.1-10.6.0.9"]))
    await client.create(subnet)
    await client.create(holder("10.6.0.1"))
    await cluster.told(SpiderIPPool, "p", "Ready=InForce: pods may get its 9 addresses")
    await cluster.told(SpiderSubnet, "s", "Ready=InForce: pools may get its 9 addresses")
    await eventually(lambda: cluster.server.stored(SpiderIPPool)["p"].controller, "its adoption")
    await client.delete(SpiderSubnet, "s")
    await cluster.told(SpiderIPPool, "p", "Terminating=InUse: 1 address in use by ns/web")
    await cluster.told(SpiderSubnet, "s", "Terminating=InUse: 1 pool has addresses of it: p")
    await eventually(lambda: len(cluster.server.stored(Event)) == 2)
    events = [(each.involvedObject.name, each.reason, each.message) for each in await client.list(Event)]
    assert sorted(events) == [
        ("p", "Terminating", "1 address in use by ns/web"),
        ("s", "Terminating", "1 pool has addresses of it: p"),
    ]
    await client.delete(SpiderIP, "10.6.0.1")
    await eventually(lambda: not cluster.server.stored(SpiderIPPool) and not cluster.server.stored(SpiderSubnet))


async def test_a_pool_gets_its_finalizer_back(cluster: Cluster) -> None:
    """A removal of Spiderpool took it, so that the pool could be deleted meanwhile."""
    await cluster.client.create(replace(pool("10.6.0.0/16", "10.6.0.1"), metadata=ObjectMeta(name="p")))
    await cluster.client.create(holder("10.6.0.1"))
    await eventually(lambda: cluster.server.stored(SpiderIPPool)["p"].metadata.finalizers == [FINALIZER])
    await cluster.client.delete(SpiderIPPool, "p")
    await cluster.told(SpiderIPPool, "p", "Terminating=InUse: 1 address in use by ns/web")


async def test_a_pool_for_a_node_and_a_network_is_ready_once_they_exist(cluster: Cluster) -> None:
    made = pool("10.6.0.0/16", "10.6.0.1")
    await cluster.client.create(replace(made, spec=replace(made.spec, nodeName=["a", "b"], multusName=["x"])))
    await cluster.told(SpiderIPPool, "p", "Ready=NotFound: it is for Node a, b, which does not exist")
    await cluster.client.create(Node(metadata=ObjectMeta(name="b")))
    await cluster.told(SpiderIPPool, "p", "it is for NetworkAttachmentDefinition ours/x, which does not exist")
    await cluster.client.create(NetworkAttachmentDefinition(metadata=ObjectMeta(name="x", namespace="ours")))
    await cluster.told(SpiderIPPool, "p", "Ready=InForce")
    await cluster.client.delete(Node, "b")
    await cluster.told(SpiderIPPool, "p", "Ready=NotFound: it is for Node a, b")


async def counted(cluster: Cluster, number: int) -> None:
    """Wait until the status of the pool counts so many addresses."""

    async def is_counted() -> bool:
        status = (await cluster.client.get(SpiderIPPool, "p")).status
        return status is not None and status.allocatedIPCount == number

    await eventually(is_counted, timeout=30.0)


def holders(first: int, number: int) -> list[SpiderIP]:
    return [holder(f"10.6.{n // 200}.{n % 200 + 1}") for n in range(first, first + number)]


async def test_a_large_status_is_written_seldom_but_soon_where_somebody_waits_for_it(cluster: Cluster) -> None:
    await cluster.client.create(pool("10.6.0.0/16", "10.6.0.1-10.6.255.250"))
    cluster.server.put(*holders(0, MAX_VIEW))
    await counted(cluster, MAX_VIEW)
    written = cluster.server.requests["patch"]
    for n in range(10):
        cluster.server.remove(holder(f"10.6.0.{n + 1}"))
        await asyncio.sleep(0.05)
    assert cluster.server.requests["patch"] <= written + 1
    await cluster.client.patch(SpiderIPPool, "p", {"spec": {"disable": True}})
    await cluster.told(SpiderIPPool, "p", "Ready=Disabled")
    await counted(cluster, MAX_VIEW - 10)


async def test_an_agent_knows_from_a_status_which_addresses_are_free(cluster: Cluster) -> None:
    """Also where they are so scattered that the status has them compressed."""
    await cluster.client.create(pool("10.6.0.0/16", "10.6.0.1-10.6.9.250"))
    for number in (2, hints.MAX_RANGES + 1):
        taken = [holder(f"10.6.{n // 100}.{n % 100 * 2 + 1}") for n in range(number)]
        cluster.server.put(*taken)
        await counted(cluster, number)
        found = await cluster.client.get(SpiderIPPool, "p")
        assert found.status is not None
        assert (found.status.compressedRanges is not None) == (number > hints.MAX_RANGES)
        cache = PoolCache(found, "n", AddressSet(4))
        assert cache.free == cache.addresses - AddressSet.of_addresses(map(address_of, taken), 4)


async def test_the_status_of_a_very_large_pool_is_computed_beside_the_event_loop(cluster: Cluster) -> None:
    await cluster.client.create(pool("10.6.0.0/16", "10.6.0.1-10.6.255.250"))
    cluster.server.put(*holders(0, LARGE + 1))
    await counted(cluster, LARGE + 1)


@pytest.mark.parametrize("names", [(FINALIZER,), (FORMER_FINALIZER,), (FORMER_FINALIZER, FINALIZER)])
async def test_idle_pools_and_subnets_go_whatever_our_finalizer_was_called(
    cluster: Cluster, names: tuple[str, ...]
) -> None:
    metadata = ObjectMeta(name="p", finalizers=[*names])
    await cluster.client.create(replace(pool(), metadata=metadata))
    await cluster.client.create(SpiderSubnet(metadata=replace(metadata, name="s"), spec=SubnetSpec("10.7.0.0/16")))
    await cluster.client.delete(SpiderIPPool, "p")
    await cluster.client.delete(SpiderSubnet, "s")
    await eventually(lambda: not cluster.server.stored(SpiderIPPool) and not cluster.server.stored(SpiderSubnet))


async def test_a_pool_stays_for_an_address_that_was_taken_a_moment_ago() -> None:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, server.client() as client:
        leaving = ObjectMeta(name="p", finalizers=[FINALIZER], deletionTimestamp=TIME)
        metadata = ObjectMeta(name="10.6.0.1", labels={IP_POOL_LABEL: "p"})
        server.put(replace(pool(), metadata=leaving), replace(holder("10.6.0.1"), metadata=metadata))
        pools = Informer(client, SpiderIPPool)
        late = PoolListers(
            pools, Informer(client, SpiderIP), Informer(client, Node), Informer(client, NetworkAttachmentDefinition)
        )
        reconciler = PoolReconciler(
            client, late, Recorder(client, "test"), namespace="ours", timings=StatusTimings(0.0)
        )
        pools.note(server.stored(SpiderIPPool)["p"])
        task = asyncio.create_task(reconciler.run())
        await eventually(lambda: server.requests["list"])
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert "p" in server.stored(SpiderIPPool)
