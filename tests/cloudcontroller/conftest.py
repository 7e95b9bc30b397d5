"""A real API server, a simulated account, and the parts of ours that make pools of what nodes report."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from spiderpool.api.core_v1 import Event, Node, NodeSpec, Taint
from spiderpool.api.ip import IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.controller.eni_pools import ENIPoolListers, ENIPoolReconciler, ENIPoolRules
from spiderpool.core.addresses import AddressSet, from_int, object_name
from spiderpool.core.cloud.instances import ENI, INSTANCE_ANNOTATION, Instance, text_of
from spiderpool.core.ipam.allocation import usable
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.cloud.alibaba.conftest import Far, account, far, no_proxy  # noqa: F401 - fixtures

REGION = "cn-hangzhou"
BLOCK, BLOCK6 = "172.31.192.0/20", "2408:4005:1::/64"

TAGS = itertools.count()
"""Node objects get names of their own: the cluster remembers how it last heard of a name, and calls it silent."""


@dataclass
class Clock:
    """A clock that goes on when it is told to."""

    now: float = 10_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@dataclass
class World:
    """A cluster in an account."""

    client: Client
    far: Far
    recorder: Recorder
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.tag = next(TAGS)
        self.nodes = Informer(self.client, Node)
        self.pools = Informer(self.client, SpiderIPPool)
        self.ips = Informer(self.client, SpiderIP)
        self.networks = Informer(self.client, SpiderMultusConfig)

    def node_name(self, name: str) -> str:
        """Name of the Node object of a server."""
        return f"{name}-{self.tag}"

    async def node(self, name: str) -> Node:
        """The Node object of a server, read now."""
        return await self.client.get(Node, self.node_name(name))

    def is_there(self, name: str) -> bool:
        """Whether a server has a Node object."""
        return self.nodes.get(self.node_name(name)) is not None

    def add_server(self, name: str, enis: int = 1, kind: str = "ecs.g7.large") -> str:
        """A server with ENIs; its identity."""
        server = self.far.account.add_instance(name, instance_type=kind, identity=f"i-{name}").identity
        for number in range(enis):
            self.far.account.add_eni("vsw-1", instance=server, identity=f"eni-{name}-{number}")
        return server

    def instance(self, name: str) -> Instance:
        """What the server's metadata says now."""
        server = self.far.account.tables.instances.get(f"i-{name}")
        assert server is not None
        enis = tuple(
            ENI(
                eni.identity,
                eni.mac,
                eni.primary,
                eni.address,
                eni.secondaries,
                eni.ipv6_addresses,
                eni.vswitch,
                BLOCK,
                BLOCK6,
                None,
                None,
                f"eth{number}",
            )
            for number, eni in enumerate(self.far.account.enis_of(server.identity))
        )
        return Instance("alibaba", REGION, server.zone, server.identity, server.instance_type, enis)

    async def add_node(
        self, name: str, *, ready: str = "True", provider_id: str | None = None, taints: list[Taint] | None = None
    ) -> None:
        """The Node of a server, whose agent has reported."""
        metadata = ObjectMeta(
            name=self.node_name(name), annotations={INSTANCE_ANNOTATION: text_of(self.instance(name))}
        )
        await self.client.create(Node(metadata=metadata, spec=NodeSpec(providerID=provider_id, taints=taints)))
        await self.set_ready(name, ready)

    async def set_ready(self, name: str, ready: str) -> None:
        """Say of a Node whether it is ready."""
        body = {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
        await self.client.patch(Node, self.node_name(name), body, sub="status")
        await self.until(lambda: self._shows(name, ready))

    def _shows(self, name: str, ready: str) -> bool:
        node = self.nodes.get(self.node_name(name))
        return node is not None and any(each.status == ready for each in node.status.conditions or [])

    async def report(self, name: str) -> None:
        """The node's agent reads its metadata and reports; the pools follow."""
        instance = self.instance(name)
        body = {"metadata": {"annotations": {INSTANCE_ANNOTATION: text_of(instance)}}}
        await self.client.patch(Node, self.node_name(name), body)
        wanted = {each for eni in instance.enis for each in eni.addresses}
        enis = {eni.identity for eni in instance.enis}
        await self.until(lambda: wanted == self._in_pools(enis))

    def _in_pools(self, enis: set[str]) -> set[str]:
        return {
            each
            for eni in enis
            for pool in self.pools.items()
            if (pool.metadata.labels or {}).get("cloud.spidernet.io/card") == eni and ":" not in pool.spec.subnet
            for each in _texts(pool.spec.ips or [])
        }

    async def hold(self, address: str, pool: str = "some") -> None:
        """A pod holds an address."""
        spec = IPSpec(f"{address}/20", pool, "n", "default", f"pod-{address}", f"uid-{address}", "eth0")
        metadata = ObjectMeta(name=object_name(address), labels={IP_POOL_LABEL: pool})
        await self.client.create(SpiderIP(metadata=metadata, spec=spec))
        await self.until(lambda: self.ips.get(object_name(address)) is not None)

    async def let_go(self, address: str) -> None:
        """The pod no longer holds it."""
        await self.client.delete(SpiderIP, object_name(address))
        await self.until(lambda: self.ips.get(object_name(address)) is None)

    def registered(self, eni: str) -> set[str]:
        """Secondary IPv4 addresses that the cloud has on an ENI."""
        found = self.far.account.tables.enis.get(eni)
        assert found is not None
        return set(found.secondaries)

    def gives(self, address: str) -> bool:
        """Whether a pod can get an address from a pool."""
        pools = [pool for pool in self.pools.items() if ":" not in pool.spec.subnet]
        return any(address in _texts(usable(pool).ranges()) for pool in pools)

    async def events(self, reason: str) -> list[str]:
        """Messages of the events of a reason."""
        return [event.message for event in await self.client.list(Event) if event.reason == reason]

    async def until(self, condition: Callable[[], bool], timeout: float = 15.0) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.02)

    async def eventually(self, condition: Callable[[], Awaitable[bool]], timeout: float = 15.0) -> None:
        """Wait until a condition that must ask holds."""
        async with asyncio.timeout(timeout):
            while not await condition():
                await asyncio.sleep(0.05)


def _texts(ranges: list[str]) -> set[str]:
    intervals = AddressSet.parse(ranges, 4).intervals
    return {from_int(value, 4) for first, last in intervals for value in range(first, last + 1)}


@pytest.fixture
async def world(control_plane: ControlPlane, far: Far) -> AsyncIterator[World]:  # noqa: F811
    """The cluster, empty; emptied again at the end."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        world = World(client, far, Recorder(client, "spiderpool-cloud"))
        informers: list[Informer[Any]] = [world.nodes, world.pools, world.ips, world.networks]
        rules = ENIPoolRules(frozenset({4}), "kube-system", True, 60.0)
        discovery = ENIPoolReconciler(client, ENIPoolListers(*informers), world.recorder, rules)
        running = [*(informer.run() for informer in informers), world.recorder.run(), discovery.run()]
        tasks = [asyncio.create_task(each) for each in running]
        for informer in informers:
            await informer.synced(10)
        try:
            yield world
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            # Not waited for: pools of other tests may have a finalizer, and nobody here to remove it.
            everything = ("nodes,spiderips,spiderippools", "--all", "--wait=false")
            control_plane.kubectl("delete", *everything, timeout=60)
            namespaced = ("spidermultusconfigs,events", "--all", "--all-namespaces", "--wait=false")
            control_plane.kubectl("delete", *namespaced, timeout=60)
