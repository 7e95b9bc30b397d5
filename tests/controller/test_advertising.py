"""Nodes advertise what they have left, and again whenever that changes or a kubelet has forgotten it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from spiderpool.api.address_resources import AdvertisedStatus, AdvertisingNode, RequestingPod
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Kind, ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller import advertising, requested_resources, shared_pools
from spiderpool.controller.advertising import AddressAdvertiser, AdvertisingListers
from spiderpool.controller.node_resources import changes, withdraw
from spiderpool.core.annotations import NAMESPACE_POOLS, POOL
from spiderpool.core.ipam.node_capacity import PLENTY
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.address_requests import AddressRequirement
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

WHILE = 0.6
"""Seconds for what must not happen."""
KINDS: tuple[Kind, ...] = tuple(
    each.KIND
    for each in (
        Node,
        Pod,
        Namespace,
        SpiderIPPool,
        SpiderIP,
        SpiderReservedIP,
        NetworkAttachmentDefinition,
        SpiderServer,
    )
)
NETWORK = "kube-system/a"
A = AddressRequirement(NETWORK).resource
POLICIES = AttachmentPolicy(NETWORK, "kube-system"), AddressPolicy(families=(4,))


def network(*pools: str) -> NetworkAttachmentDefinition:
    ipam = {"type": "spiderpool", **({"default_ipv4_ippool": list(pools)} if pools else {})}
    plugins = [{"type": "ipvlan", "master": "eth0", "ipam": ipam}]
    config = json.dumps({"cniVersion": "1.0.0", "name": "a", "plugins": plugins})
    return NetworkAttachmentDefinition(
        metadata=ObjectMeta(name="a", namespace="kube-system"), spec=NADSpec(config=config)
    )


def node(name: str = "n", held: dict[str, str] | None = None) -> AdvertisingNode:
    return AdvertisingNode(metadata=ObjectMeta(name=name), status=AdvertisedStatus(capacity=held, allocatable=held))


def pool(name: str, *nodes: str, count: int = 10, **spec: Any) -> SpiderIPPool:
    number = int(name[1:])
    fields: dict[str, Any] = {
        "subnet": f"10.{number}.0.0/24",
        "ips": [f"10.{number}.0.1-10.{number}.0.{count}"],
        "default": True,
        "nodeName": list(nodes) or None,
    }
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**(fields | spec)))


def pod(
    name: str, on: str | None = "n", *, resource: str | None = A, status: dict[str, Any] | None = None, **metadata: Any
) -> RequestingPod:
    resources = {"requests": {resource: "1"}, "limits": {resource: "1"}} if resource else {}
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": name, **metadata},
        "spec": {"nodeName": on, "containers": [{"resources": resources}]},
        "status": status or {},
    }
    return msgspec.convert(body, RequestingPod)


def record(address: str, pod_uid: str, in_pool: str = "p1", on: str = "n", **spec: Any) -> SpiderIP:
    fields = IPSpec(f"{address}/24", in_pool, on, "default", pod_uid, pod_uid, "eth0", **spec)
    return SpiderIP(metadata=ObjectMeta(name=address), spec=fields)


@dataclass(frozen=True)
class Cluster:
    """A pretended API server, and the advertiser beside it."""

    server: ApiServer
    client: Client
    advertiser: AddressAdvertiser

    def advertises(self, name: str = "n") -> dict[str, int]:
        """What the Node has as capacity, which is also allocatable."""
        status = self.server.stored(AdvertisingNode)[name].status
        assert status.capacity == status.allocatable
        return {each: int(text) for each, text in (status.capacity or {}).items()}

    def held(self, address: str, by: str, on: str = "n") -> SpiderIP:
        """The record of a pod that is stored."""
        pods = {each.name: each for each in self.server.stored(Pod).values()}
        return record(address, pods[by].metadata.uid or "", on=on)

    async def reaches(self, count: int, name: str = "n", resource: str = A) -> None:
        """Wait until it advertises so many, or nothing (0)."""
        await eventually(lambda: self.advertises(name).get(resource, 0) == count, f"{resource} of {name}: {count}")


@asynccontextmanager
async def cluster(*objects: Any, withdrawing: bool = False, policies: Any = POLICIES) -> AsyncIterator[Cluster]:
    async with ApiServer(*KINDS) as server, server.client() as client:
        server.put(*objects)
        nodes: Informer[Node] = Informer(client, AdvertisingNode)
        pods: Informer[Pod] = Informer(client, RequestingPod)
        listers = AdvertisingListers(
            nodes,
            pods,
            Informer(client, Namespace),
            Informer(client, SpiderIPPool),
            Informer(client, SpiderIP),
            Informer(client, SpiderReservedIP),
            Informer(client, NetworkAttachmentDefinition),
            NodeServers(Informer(client, SpiderServer)),
        )
        advertiser = AddressAdvertiser(client, listers, policies, Recorder(client, "c"), withdrawing=withdrawing)
        informers: list[Informer[Any]] = [
            nodes, pods, listers.namespaces, listers.pools, listers.ips, listers.reserved, listers.networks,
            listers.servers.informer,
        ]  # fmt: skip
        async with running(*(each.run() for each in informers)):
            for each in informers:
                await each.synced(10.0)
            async with running(advertiser.run()):
                yield Cluster(server, client, advertiser)


async def test_a_node_advertises_its_own_free_addresses() -> None:
    async with cluster(node(), node("m"), network(), pool("p1", "n"), record("10.1.0.1", "old")) as made:
        await made.reaches(9)
        assert made.advertises("m") == {}


async def test_a_pod_that_comes_gets_its_address_and_goes_writes_nothing() -> None:
    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        writes = made.server.requests["patch"]
        made.server.put(pod("a"))
        await asyncio.sleep(WHILE)
        made.server.put(made.held("10.1.0.1", "a"))
        await asyncio.sleep(WHILE)
        made.server.put(pod("a", status={"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}]}, finalizers=["a/b"]))
        await asyncio.sleep(WHILE)
        await made.client.delete(Pod, "a", "default")
        await made.client.delete(SpiderIP, "10.1.0.1")
        await asyncio.sleep(WHILE)
        made.server.remove(pod("a"))
        await asyncio.sleep(WHILE)
        assert made.advertises() == {A: 10}
        assert made.server.requests["patch"] == writes


async def test_an_address_that_is_held_without_a_request_is_not_free() -> None:
    async with cluster(node(), network(), pool("p1", "n"), pod("a", resource=None)) as made:
        await made.reaches(9)  # it waits for its address
        made.server.put(made.held("10.1.0.1", "a"))
        await asyncio.sleep(WHILE)
        assert made.advertises() == {A: 9}
        made.server.put(pod("f", status={"phase": "Succeeded"}))
        made.server.put(made.held("10.1.0.2", "f"))
        await made.reaches(8)  # the scheduler counts it no more, its address is not released yet


async def test_pods_of_another_network_take_nothing() -> None:
    running_elsewhere = {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}]}
    async with cluster(node(), network(), pool("p1", "n"), pod("a", resource=None, status=running_elsewhere)) as made:
        await made.reaches(10)


async def test_a_kubelet_that_has_put_it_to_zero() -> None:
    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        for lost in ({A: "0"}, {A: None}):
            await made.client.patch(Node, "n", {"status": {"capacity": lost, "allocatable": lost}}, sub="status")
            await made.reaches(10)
        await made.client.patch(Node, "n", {"status": {"allocatable": {A: "0"}}}, sub="status")
        await eventually(lambda: (made.server.stored(AdvertisingNode)["n"].status.allocatable or {}).get(A) == "10")


async def test_pools_and_reserved_addresses_that_change() -> None:
    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        made.server.put(pool("p2", "n", count=4))
        await made.reaches(14)
        made.server.put(
            SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ipVersion=4, ips=["10.1.0.1-10.1.0.3"]))
        )
        await made.reaches(11)
        made.server.put(pool("p2", "n", count=4, disable=True))
        await made.reaches(7)
        made.server.put(network("p2"))
        await made.reaches(0)
        made.server.put(network("p1"))
        await made.reaches(7)


async def test_addresses_that_cool_down() -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cooling = record("10.1.0.1", "old", releasedAt=now)
    async with cluster(node(), network(), pool("p1", "n", cooldownSeconds=3), cooling) as made:
        await made.reaches(9)
        await made.reaches(10)


async def test_a_shared_pool_advertises_plenty_until_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (advertising, shared_pools):
        monkeypatch.setattr(module, "SHARED_DEBOUNCE", 0.05)
    async with cluster(node(), node("m"), network(), pool("p1", count=2), pod("a", "m")) as made:
        await made.reaches(PLENTY)
        await made.reaches(PLENTY, "m")
        made.server.put(made.held("10.1.0.1", "a", on="m"), record("10.1.0.2", "b", on="n"))
        await made.reaches(0)
        await made.reaches(1, "m")  # what its pod has, and no more
        await made.client.delete(SpiderIP, "10.1.0.2")
        await made.reaches(PLENTY)
        made.server.put(pool("p1", count=2, nodeName=["m"]))
        await made.reaches(0)
        await made.reaches(2, "m")


async def test_a_shared_pool_that_is_full_is_known_before_the_first_figure() -> None:
    held = [record(f"10.1.0.{number}", f"x{number}", on="elsewhere") for number in (1, 2)]
    async with cluster(node(), network(), pool("p1", count=2), *held) as made:
        await asyncio.sleep(WHILE)
        assert made.server.requests["patch"] == 0


async def test_a_shared_pool_whose_cooldown_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (advertising, shared_pools):
        monkeypatch.setattr(module, "SHARED_DEBOUNCE", 0.05)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cooling = record("10.1.0.1", "old", releasedAt=now)
    async with cluster(node(), network(), pool("p1", count=1, cooldownSeconds=2), cooling) as made:
        await asyncio.sleep(WHILE)
        assert made.advertises() == {}
        await made.reaches(PLENTY)


async def test_pools_that_a_pod_names() -> None:
    named = AddressRequirement(NETWORK, ((4, ("p2",)),)).resource
    annotations = {POOL: '{"ipv4": ["p2"]}'}
    objects = (node(), node("m"), network(), pool("p1", "n"), pool("p2", "n", count=4, default=False))
    async with cluster(*objects) as made:
        await made.reaches(10)
        made.server.put(pod("a", None, resource=named, annotations=annotations))  # which waits for the scheduler
        await made.reaches(4, resource=named)
        assert made.advertises() == {A: 10, named: 4}
        assert made.advertises("m") == {}


async def test_resources_of_the_same_pools_are_not_offered_twice() -> None:
    named = AddressRequirement(NETWORK, ((4, ("p1",)),)).resource
    annotations = {POOL: '{"ipv4": ["p1"]}'}
    async with cluster(node(), network(), pool("p1", "n")) as made:
        made.server.put(pod("a", resource=named, annotations=annotations))
        await made.reaches(10, resource=named)
        await made.reaches(9)
        made.server.put(pod("b"))
        await made.reaches(9, resource=named)


async def test_a_resource_that_nobody_requests_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requested_resources, "LINGER", 0.3)
    named = AddressRequirement(NETWORK, ((4, ("p1",)),)).resource
    one = pod("a", None, resource=named, annotations={POOL: '{"ipv4": ["p1"]}'})
    async with cluster(node(), network(), pool("p1", "n"), one) as made:
        await made.reaches(10, resource=named)
        await asyncio.sleep(WHILE)
        assert named in made.advertises()
        await made.client.delete(Pod, "a", "default")
        await made.reaches(0, resource=named)
        assert made.advertises() == {A: 10}


async def test_a_resource_that_the_pod_cannot_explain_is_not_advertised() -> None:
    async with cluster(node(), network(), pool("p1", "n"), pod("a", resource=f"{A}-lie")) as made:
        await made.reaches(9)
        assert made.advertises() == {A: 9}


async def test_what_is_not_advertised_any_more_goes_and_others_resources_stay() -> None:
    stale = {"addresses.spidernet.io/gone": "5"}
    async with cluster(node(held=stale), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        assert made.advertises() == {A: 10}


async def test_withdrawing_takes_all() -> None:
    async with cluster(node(held={A: "5"}), network(), pool("p1", "n"), withdrawing=True) as made:
        await made.reaches(0)
        await asyncio.sleep(WHILE)
        assert made.server.requests["patch"] == 1


async def test_the_api_server_fails_for_a_while() -> None:
    async with cluster(network(), pool("p1", "n")) as made:
        made.server.inject(Fault("patch", times=2, status=500))
        made.server.put(node())
        await made.reaches(10)


async def test_a_removal_takes_all_from_all_nodes() -> None:
    async with ApiServer(Node.KIND) as server, server.client() as client:
        server.put(node("a", {A: "5"}), node("b"))
        await withdraw(client)
        assert not server.stored(AdvertisingNode)["a"].status.capacity
        assert server.requests["patch"] == 1
        server.put(node("c", {A: "5"}))
        server.inject(Fault("patch", status=403))
        await withdraw(client)
        server.inject(Fault("list", status=403))
        await withdraw(client)
        assert server.stored(AdvertisingNode)["c"].status.capacity == {A: "5"}


def test_a_quantity_that_the_api_server_has_shortened_is_no_change() -> None:
    held = {A: "100k"}
    stored = AdvertisingNode(status=AdvertisedStatus(capacity=held, allocatable=held))
    assert changes(stored, {A: 100_000}) is None
    assert changes(stored, {A: 5}) == {"status": {"capacity": {A: "5"}, "allocatable": {A: "5"}}}
    assert changes(stored, {}) == {"status": {"capacity": {A: None}, "allocatable": {A: None}}}
    assert changes(AdvertisingNode(), {A: 1}) == {"status": {"capacity": {A: "1"}, "allocatable": {A: "1"}}}


async def test_a_namespace_brings_so_many_lists_of_pools_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requested_resources, "MOST_OF_NAMESPACE", 2)
    monkeypatch.setattr(requested_resources, "LINGER", 0.3)

    def pod_of(number: int, namespace: str = "default") -> RequestingPod:
        names = ("p1", *(["p1*"] * number))
        resource = AddressRequirement(NETWORK, ((4, names),)).resource
        listed = {POOL: json.dumps({"ipv4": list(names)})}
        return pod(f"a{number}", None, resource=resource, annotations=listed, namespace=namespace)

    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        for number in (1, 2, 3):
            made.server.put(pod_of(number))
        await eventually(lambda: len(made.advertises()) == 3)
        await asyncio.sleep(WHILE)
        assert len(made.advertises()) == 3, "that of the default network, and two"
        made.server.put(pod_of(4, "other"))
        await eventually(lambda: len(made.advertises()) == 4)
        made.server.remove(pod_of(1))
        with_room = AddressRequirement(NETWORK, ((4, ("p1", *(["p1*"] * 3))),)).resource
        await made.reaches(10, resource=with_room)


async def test_withdrawing_leaves_plenty_of_what_pods_without_a_node_request() -> None:
    """Otherwise they would wait for good: a request is part of a pod."""
    objects = (node(held={A: "5"}), node("m"), network(), pool("p1", "n"), pod("a"))
    async with cluster(*objects, pod("w", None), pod("lie", None, resource=f"{A}-lie"), withdrawing=True) as made:
        await made.reaches(PLENTY)
        await made.reaches(PLENTY, "m")
        assert made.advertises() == {A: PLENTY}
        made.server.put(pod("w", "m"))
        await made.reaches(0)
        await made.reaches(0, "m")


async def test_a_pod_with_very_many_invented_names_does_not_hide_what_it_requests() -> None:
    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        requests = {f"addresses.spidernet.io/x{number}": "1" for number in range(40)} | {A: "50"}
        body = {
            "metadata": {"name": "a", "namespace": "default", "uid": "a"},
            "spec": {"nodeName": "n", "containers": [{"resources": {"requests": requests}}]},
            "status": {"podIPs": [{"ip": "10.9.0.1"}]},
        }
        made.server.put(msgspec.convert(body, RequestingPod))
        await eventually(lambda: made.advertises()[A] >= 60)


async def test_a_pod_with_the_nodes_network_that_requests_addresses_by_hand() -> None:
    """The scheduler subtracts its request, too."""
    by_hand = msgspec.to_builtins(pod("a"))
    by_hand["spec"]["hostNetwork"] = True
    async with cluster(node(), network(), pool("p1", "n"), msgspec.convert(by_hand, RequestingPod)) as made:
        await made.reaches(11)


async def test_what_waiting_pods_need_beside_what_is_advertised_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertising, "MOST_OTHERS", 3)
    lists = [json.dumps({"ipv4": ["p1", *(["p1*"] * number)]}) for number in range(5)]
    pods = [pod(f"a{at}", resource=None, annotations={POOL: text}) for at, text in enumerate(lists)]
    async with cluster(node(), network(), pool("p1", "n"), pod("b", resource=None), *pods) as made:
        await made.reaches(10 - 1 - 3)


async def test_waiting_pods_of_others_pools_take_nothing() -> None:
    elsewhere = pod("a", resource=None, annotations={POOL: '{"ipv4": ["p2"]}'})
    async with cluster(node(), network(), pool("p1", "n"), pool("p2", "m", default=False), elsewhere) as made:
        await made.reaches(10)


async def test_a_network_that_changes_decides_anew_about_waiting_pods() -> None:
    async with cluster(node(), network(), pool("p1", "n"), pod("a", resource=None)) as made:
        await made.reaches(9)
        made.server.put(Namespace(metadata=ObjectMeta(name="default", annotations={NAMESPACE_POOLS[4]: '["p7"]'})))
        await made.reaches(10)


@pytest.mark.parametrize(("number", "touches"), [(0, False), (1, False), (2, True), (3, True)])
async def test_only_what_concerns_an_advertised_resource_looks_at_nodes(number: int, touches: bool) -> None:
    other = NetworkAttachmentDefinition(metadata=ObjectMeta(name="b", namespace="team"), spec=NADSpec(config="{}"))
    changed: Any = [other, pool("p3", default=False), network("p1"), pool("p3")][number]
    async with cluster(node(), network(), pool("p1", "n")) as made:
        await made.reaches(10)
        await asyncio.sleep(WHILE)
        made.server.put(changed)
        listers = made.advertiser._listers
        lister: Informer[Any] = listers.pools if isinstance(changed, SpiderIPPool) else listers.networks
        await eventually(lambda: (found := lister.get(changed.key)) and found.spec == changed.spec, interval=0.001)
        assert (made.advertiser._queue.pending > 0) is touches
