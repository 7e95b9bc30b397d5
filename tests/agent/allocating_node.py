"""An allocator of one node against a plain model of the API server, in which writes can get lost or be late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed

from spiderpool.agent.allocator import Allocator
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.record_store import ClusterReads
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import IP_OWNER_LABEL, IP_POOL_LABEL, FormerPod, IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound


class Store:
    """The far end: one name, one object; UIDs never come back, and a change is for the version that was seen."""

    def __init__(self) -> None:
        self.objects: dict[str, SpiderIP] = {}
        self.writes = self.reads = self.revision = 0
        self.minutes = 0
        """Of the clock by which objects are dated when they are made."""
        self.faults: list[str] = []
        self.late: list[Callable[[], object]] = []
        """Writes that the server has not carried out although their caller has given up."""

    def land(self) -> None:
        """Late writes are carried out, unless they are refused by now."""
        while self.late:
            with suppress(AlreadyExists, Conflict, NotFound):
                self.late.pop(0)()

    def create(self, wanted: SpiderIP) -> SpiderIP:
        fault = self._arrives(lambda: self.create(wanted))
        if wanted.name in self.objects:
            raise AlreadyExists(wanted.name)
        at = f"2026-12-01T10:{self.minutes:02d}:00Z"
        dated = changed(wanted.metadata, uid=f"uid-{self.writes}", creationTimestamp=at)
        made = self._put(changed(wanted, metadata=dated))
        return self._answered(fault, made)

    def replace(self, wanted: SpiderIP) -> SpiderIP:
        fault = self._arrives(lambda: self.replace(wanted))
        self._check(wanted)
        return self._answered(fault, self._put(wanted))

    def delete(self, held: SpiderIP) -> None:
        fault = self._arrives(lambda: self.delete(held))
        self._check(held)
        del self.objects[held.name]
        self._answered(fault, held)

    def _arrives(self, again: Callable[[], object]) -> str:
        self.writes += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "late request":
            self.late.append(again)
            raise ApiUnavailable("timed out")
        if fault == "lost request":
            raise ApiUnavailable("connection refused")
        return fault

    def _check(self, seen: SpiderIP) -> None:
        known = self.objects.get(seen.name)
        if known is None:
            raise NotFound(seen.name)
        if (known.metadata.uid, known.metadata.resourceVersion) != (seen.metadata.uid, seen.metadata.resourceVersion):
            raise Conflict(seen.name)

    def _put(self, wanted: SpiderIP) -> SpiderIP:
        self.revision += 1
        made = changed(wanted, metadata=changed(wanted.metadata, resourceVersion=str(self.revision)))
        self.objects[made.name] = made
        return made

    def _answered(self, fault: str, made: SpiderIP) -> SpiderIP:
        if fault == "lost answer":
            raise ApiUnavailable("connection reset")
        return made


class NodeView:
    """What one node knows of the store: its own writes at once, anything else when events arrive."""

    def __init__(self, store: Store, node: str) -> None:
        self.store = store
        self.node = node
        self.known: dict[str, SpiderIP] = {}
        self.deliver()

    def deliver(self) -> None:
        self.known = {name: each for name, each in self.store.objects.items() if each.spec.node == self.node}

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        return [each for each in self.of_pod(pod_uid) if each.spec.interface == interface]

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        held = (each for each in self.known.values() if each.spec.podUID == pod_uid and not each.spec.releasedAt)
        return sorted(held, key=lambda each: int(each.metadata.resourceVersion or 0))

    def released(self) -> list[SpiderIP]:
        return [each for each in self.known.values() if each.spec.releasedAt]

    def addresses(self, pool: str) -> Collection[int]:
        return [address_of(each) for each in self.known.values() if each.spec.pool == pool]

    async def create(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        await asyncio.sleep(0)
        assert wanted.spec.node == self.node, "the API server refuses it"
        made = self.store.create(wanted)
        await asyncio.sleep(0)
        self.known[made.name] = made
        return made

    async def replace(self, wanted: SpiderIP, *, timeout: float) -> SpiderIP:
        await asyncio.sleep(0)
        old = self.store.objects.get(wanted.name)
        if old is not None and old.metadata.resourceVersion == wanted.metadata.resourceVersion:  # else it is a conflict
            assert self._may_replace(old, wanted), "the API server refuses it"
        made = self.store.replace(wanted)
        self.known[made.name] = made
        return made

    async def delete(self, held: SpiderIP, *, timeout: float) -> None:
        await asyncio.sleep(0)
        assert held.spec.node == self.node, "the API server refuses it"
        with suppress(NotFound):
            self.store.delete(held)
        self.known.pop(held.name, None)

    def _may_replace(self, old: SpiderIP, new: SpiderIP) -> bool:
        """Whether the policy for agents lets this node's write this (templates/agent-policy.yaml)."""
        if old.spec.node == new.spec.node == self.node:
            return True
        if new.spec.node == self.node:
            return old.spec.owner is not None or old.spec.releasedAt is not None
        return new.spec == changed(old.spec, owner=None)

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        self.store.reads += 1
        return self.store.objects.get(name)

    def adopt(self, held: SpiderIP) -> None:
        self.known[held.name] = held

    def forget(self, held: SpiderIP) -> None:
        self.known.pop(held.name, None)

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        self.store.reads += 1
        found = self.store.objects.values()
        return [each for each in found if (each.metadata.labels or {}).get(IP_OWNER_LABEL) == label]

    async def labelled(self, label: str | None, *, timeout: float) -> list[SpiderIP]:
        await asyncio.sleep(0)
        self.store.reads += 1
        return [
            each for each in self.store.objects.values() if (each.metadata.labels or {}).get(IP_POOL_LABEL) == label
        ]


def pool(name: str = "shared", ips: str = "10.0.0.1-10.0.0.6", **spec: object) -> SpiderIPPool:
    version = 6 if ":" in ips else 4
    subnet = "fd00::/64" if version == 6 else "10.0.0.0/16"
    fields: dict[str, object] = {"subnet": subnet, "ipVersion": version, "default": True, "ips": [ips]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))  # type: ignore[arg-type]


def ask(pod: str, node: str = "n1", **fields: object) -> AllocationRequest:
    request = AllocationRequest("default", pod, f"uid-of-{pod}", "eth0", node, "kube-system/ipvlan-eth0")
    return replace(request, **fields)  # type: ignore[arg-type]


def keyed(requests: Iterable[AllocationRequest]) -> dict[RequestKey, AllocationRequest]:
    return {(request.interface, request.version): request for request in requests}


class Surroundings:
    """What an allocator sees beside the records; its clock stands still until it is moved."""

    def __init__(self, *pools: SpiderIPPool) -> None:
        self.pools = list(pools)
        self.now = 1_000_000.0
        self.reserved = {4: AddressSet(4), 6: AddressSet(6)}
        self.gone: set[str] = set()
        """Pods that their owner no longer wants."""
        self.running: set[str] = set()
        """UIDs of pods that go on though another pod asks for their address."""
        self.in_use: set[str] = set()
        """UIDs of pods whose sandboxes may still run."""
        self.occupied: set[int] = set()
        """Addresses that sandboxes use without a record."""
        self.late: list[SpiderIPPool] | None = None
        """What caches show instead of the pools; None: the pools."""
        self.hidden: set[str] = set()
        """Names of pools that exist, but that no allocator sees."""
        self.nodes: dict[str, Node] = {}
        """The Nodes as they are now; requests have the labels that the caches show."""
        self.reads = ClusterReads(
            self.is_needed,
            self.is_held,
            self.until_given_up,
            self.why_not_given_up,
            self.why_not_moved,
            self.still_moving,
            self.read_pool,
            self.read_node,
        )

    async def is_needed(self, held: SpiderIP) -> bool:
        return held.spec.pod not in self.gone

    def seen(self) -> list[SpiderIPPool]:
        pools = self.pools if self.late is None else self.late
        return [each for each in pools if each.name not in self.hidden]

    async def is_held(self, held: SpiderIP) -> bool:
        return held.spec.podUID in self.running

    async def until_given_up(self, held: SpiderIP, request: AllocationRequest) -> None:
        moved = {each.podUID for each in held.spec.movedFrom or ()} - {request.pod_uid}
        if self.in_use & {held.spec.podUID, *moved}:
            raise Refused(f"{request} waits for {held.spec.address}")

    async def why_not_given_up(self, held: SpiderIP) -> str | None:
        return "a sandbox has it" if held.spec.podUID in self.in_use else None

    async def why_not_moved(self, held: SpiderIP) -> str | None:
        return "a sandbox has it" if await self.still_moving(held) else None

    async def still_moving(self, held: SpiderIP) -> tuple[FormerPod, ...]:
        return tuple(each for each in held.spec.movedFrom or () if each.podUID in self.in_use)

    async def read_pool(self, name: str) -> SpiderIPPool | None:
        return next((each for each in self.pools if each.name == name), None)

    async def read_node(self, name: str) -> Node | None:
        return self.nodes.get(name)

    def allocator(self, records: Any) -> Allocator:
        return Allocator(
            records,
            NodePools(records.node, self.seen, self.reserved.__getitem__, lambda _: self.occupied),
            reads=self.reads,
            clock=lambda: self.now,
        )


class One:
    """One node with a store of its own."""

    def __init__(self, *pools: SpiderIPPool, store: Store | None = None) -> None:
        self.store = store or Store()
        self.surroundings = Surroundings(*pools)
        self.view = NodeView(self.store, "n1")
        self.allocator = self.surroundings.allocator(self.view)

    async def give(self, *asks: AllocationRequest) -> str:
        """Allocate; the addresses of the first ask's interface, without prefix lengths."""
        await self.allocator.allocate(keyed(asks))
        held = sorted(self.allocator.held(asks[0].pod_uid).items())
        return " ".join(
            record.spec.address.partition("/")[0] for (name, _), record in held if name == asks[0].interface
        )


WEB = IPOwner("StatefulSet", "default", "web")


def ordinal(uid: str, node: str = "n1", **fields: object) -> AllocationRequest:
    return ask("web-0", node, pod_uid=uid, owner=WEB, **fields)


@asynccontextmanager
async def working(allocator: Allocator) -> AsyncIterator[None]:
    """The allocator carries out what it has put off."""
    worker = asyncio.create_task(allocator.run())
    yield
    worker.cancel()


def cold(ips: str = "10.0.0.1-10.0.0.2", **spec: object) -> SpiderIPPool:
    return pool("cold", ips, cooldownSeconds=60, nodeName=["n1"], **spec)
