"""Nodes: writes how many addresses each has left as extended resources, so that the scheduler counts them.

It never decides who gets an address. A figure that is too high costs a pod another try on its node.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from spiderpool.api.address_resources import OTHERS, AdvertisingNode
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.controller.node_resources import changes, is_zeroed, part_of_node
from spiderpool.controller.requested_resources import PodListers, RequestedResources, requested
from spiderpool.controller.shared_pools import SHARED_DEBOUNCE, SharedPools, sole_node
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.ipam.allocation import pools_of
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION, is_finished
from spiderpool.core.ipam.node_capacity import (
    FreeAddresses,
    ServingPools,
    Supply,
    advertised,
    concerns,
    free_addresses,
    plenty,
    supply,
)
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.ipam.selection import AllocationRequest, version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.network.address_requests import AddressRequirement, RequirementRules, requests_of
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.turns import in_turns
from spiderpool.kube.workqueue import WorkQueue

DEBOUNCE = 0.2
"""Seconds from a change on a node until what it has left is counted."""
PAUSE = 0.01
"""Seconds after a write, so that a change which concerns all nodes makes at most a hundred writes a second."""
MOST_OTHERS = 64
"""Resources that are not advertised, by which pods of a node may get addresses of its pools, at most."""


@dataclass(frozen=True, slots=True)
class AdvertisingListers:
    """Informers to read from; their owner runs them. Those of nodes and pods have to hold the kinds with resources."""

    nodes: Informer[Node]
    pods: Informer[Pod]
    namespaces: Informer[Namespace]
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    reserved: Informer[SpiderReservedIP]
    networks: Informer[NetworkAttachmentDefinition]
    servers: NodeServers


@dataclass(slots=True)
class NodeNeeds:
    """What pods of a node need of it."""

    advertised: dict[str, AddressRequirement]
    """Resources that nodes advertise."""
    others: dict[str, tuple[AllocationRequest, ...]] = field(default_factory=dict)
    """Further ones: what they need of the node's own pools; empty where that is nothing."""


class AddressAdvertiser:
    """Keeps our resources of every Node as what it has left; ``withdrawing``, it takes them all away."""

    def __init__(
        self,
        client: Client,
        listers: AdvertisingListers,
        policies: tuple[AttachmentPolicy, AddressPolicy],
        recorder: Recorder,
        *,
        withdrawing: bool = False,
    ) -> None:
        self._client = client
        self._listers = listers
        self._withdrawing = withdrawing
        self._rules = RequirementRules(*policies, listers.networks.get)
        self._queue = WorkQueue(self._reconcile, "advertising")  # of nodes' names
        self._shared_queue = WorkQueue(self._look_at_shared, "shared-pools")
        pods = PodListers(listers.pods, listers.namespaces)
        self._resources = RequestedResources(pods, self._rules, self._on_resources, recorder)
        self._shared = SharedPools(listers.nodes, listers.ips, self._count)
        self._requests: dict[str, tuple[AllocationRequest, ...]] = {}  # advertised resource → its requests
        self._shared_of: dict[str, list[SpiderIPPool]] = {}  # the same → the shared pools that it may come from
        self._default_pools: dict[int, dict[str, SpiderIPPool]] = defaultdict(dict)  # family → its default pools
        self._reserved: dict[int, Any] = {}  # family → reserved addresses; emptied when they change
        self._own_pools = listers.pools.index(_sole_nodes)
        self._pods_of_node = listers.pods.index(_node_of_pod)
        self._records_of_pool = listers.ips.index(pools_of)
        self._records_of_node = listers.ips.index(_node_of_record)
        self._subscribe(listers)

    def _subscribe(self, listers: AdvertisingListers) -> None:
        listers.nodes.subscribe(self._on_node)
        listers.networks.subscribe(self._on_network)  # before pods: those of our own Namespace come first
        listers.pods.subscribe(self._on_pod)
        listers.pools.subscribe(self._on_pool)
        listers.reserved.subscribe(self._on_reserved)
        listers.servers.subscribe(self._touch)
        listers.namespaces.subscribe(self._on_namespace)

    async def run(self) -> None:
        """Reconcile until cancelled: first all nodes, then those on which something changes."""
        self._listers.ips.subscribe(self._on_ip, replay=False)
        for pool in list(self._shared.pools):  # before the first figures of nodes, which depend on it
            await self._shared.look(pool)
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._shared_queue.run())
            group.create_task(self._resources.run())

    # --- what changes

    def _touch(self, node: str | None) -> None:
        if node is not None:
            self._queue.add(node, after=DEBOUNCE)

    def _touch_all(self) -> None:
        for node in self._listers.nodes.items():
            self._touch(node.name)

    def _touch_pods(self, pods: Iterable[str]) -> None:
        for key in pods:
            if (pod := self._listers.pods.get(key)) is not None:
                self._touch(pod.spec.nodeName)

    def _on_resources(self) -> None:
        """Another resource is advertised, or one less."""
        for resource in self._requests.keys() - self._resources.requirements.keys():
            del self._requests[resource]
            self._shared_of.pop(resource, None)
        self._touch_all()

    def _forget_requests(self) -> None:
        self._requests.clear()
        self._shared_of.clear()
        self._touch_all()

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and part_of_node(old) == part_of_node(new)):
            return
        if old is not None and is_zeroed(old, new):  # it refuses its pods while it believes that
            self._queue.add(new.name)
        self._touch(new.name)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _part_of_pod(old) == _part_of_pod(new):
            return
        if self._resources.follow(old, new) and self._withdrawing:
            self._touch_all()
        for pod in (old, new):
            self._touch(pod.spec.nodeName if pod else None)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for record in (old, new):
            if record is None:
                continue
            self._touch(record.spec.node)
            pool = self._listers.pools.get(record.spec.pool)
            self._touch(sole_node(pool) if pool else None)
            if record.spec.pool in self._shared.pools:
                self._shared_queue.add(record.spec.pool, after=SHARED_DEBOUNCE)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        is_news = self._shared.follow(old, new)
        if self._follow_default(old, new):
            self._forget_requests()
        elif is_news:
            self._forget_shared([pool for pool in (old, new) if pool is not None])
        if new is not None and new.name in self._shared.pools:
            self._shared_queue.add(new.name)
        if old is None or new is None or (old.spec, old.terminating) != (new.spec, new.terminating):
            for pool in (old, new):
                self._touch(sole_node(pool) if pool else None)

    def _forget_shared(self, changed: Sequence[SpiderIPPool]) -> None:
        """Find the shared pools again of the resources that a change concerns: most pools of others concern none."""
        concerned = [
            resource
            for resource, requirement in self._resources.requirements.items()
            if any(concerns(self._requests_of(requirement), pool) for pool in changed)
        ]
        for resource in concerned:
            self._shared_of.pop(resource, None)
        if concerned:
            self._touch_all()

    def _follow_default(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> bool:
        """Take note of default pools; whether there are some of a family for the first time, or no more."""
        before = self._default_families()
        if old is not None:
            self._default_pools[version_of(old)].pop(old.name, None)
        if new is not None and new.spec.default:
            self._default_pools[version_of(new)][new.name] = new
        return before != self._default_families()

    def _default_families(self) -> list[int]:
        return [version for version in FAMILIES if self._default_pools[version]]

    def _on_network(self, old: NetworkAttachmentDefinition | None, new: NetworkAttachmentDefinition | None) -> None:
        changed = new or old
        if changed is None or (old is not None and new is not None and old.spec == new.spec):
            return
        for resource, requirement in self._resources.requirements.items():
            if requirement.network == changed.key and not requirement.pools:
                self._requests.pop(resource, None)
                self._shared_of.pop(resource, None)
                self._touch_all()
        self._touch_pods(self._resources.on_network(changed.key, exists=new is not None))

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and (old is None or old.metadata.annotations != new.metadata.annotations):
            self._touch_pods(self._resources.on_namespace(new.name))

    def _on_reserved(self, _: SpiderReservedIP | None, __: SpiderReservedIP | None) -> None:
        self._reserved.clear()
        self._touch_all()
        for pool in self._shared.pools:
            self._shared_queue.add(pool, after=SHARED_DEBOUNCE)

    # --- what follows from it

    async def _look_at_shared(self, name: str) -> None:
        is_news, again = await self._shared.look(name)
        pool = self._shared.pools.get(name)
        needed = self._resources.requirements.values()
        if is_news and pool and any(concerns(self._requests_of(each), pool) for each in needed):
            self._touch_all()
        if again is not None:
            self._shared_queue.add(name, after=again)

    async def _reconcile(self, name: str) -> None:
        """Write what a node advertises, where that differs from what it should."""
        node = self._listers.nodes.get(name)
        if not isinstance(node, AdvertisingNode):
            return
        body = changes(node, await (self._kept(node) if self._withdrawing else self._desired(node)))
        if body is None:
            return
        with suppress(NotFound):
            self._listers.nodes.note(await self._client.patch(AdvertisingNode, name, body, sub="status"))
        await asyncio.sleep(PAUSE)

    async def _kept(self, node: Node) -> dict[str, int]:
        """What is not withdrawn yet: pods that wait for a node request it, and nothing takes that from them."""
        taken: Counter[str] = Counter()
        async for pod in in_turns(self._pods_of_node.get(node.name)):
            if not is_finished(pod):
                taken.update(requested(pod))
        return {resource: plenty(taken[resource] + taken[OTHERS]) for resource in self._resources.unplaced}

    async def _desired(self, node: Node) -> dict[str, int]:
        held = {record.spec.podUID for record in self._records_of_node.get(node.name) if not record.spec.releasedAt}
        taken: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        needs = NodeNeeds(dict(self._resources.requirements))
        async for pod in in_turns(self._pods_of_node.get(node.name)):
            if is_finished(pod):
                continue
            taken.update(requested(pod))
            if held.isdisjoint(_uids(pod)):
                waiting.update(self._awaited(pod, node, needs))
        supplies = await self._supplies(node, needs)
        beyond = taken[OTHERS]
        found = advertised(supplies, {resource: taken[resource] + beyond for resource in supplies}, waiting)
        return {resource: count for resource, count in found.items() if resource in self._resources.requirements}

    def _awaited(self, pod: Pod, node: Node, needs: NodeNeeds) -> Mapping[str, int]:
        """What a pod without an address has yet to get.

        One that is going gets nothing more, but the scheduler counts its request until it is gone: so the address that
        it has given back already is not offered twice.
        """
        if pod.terminating:
            return {resource: count for resource, count in requested(pod).items() if resource in needs.advertised}
        if pod.status.podIPs:  # it has a network that is not ours
            return {}
        found: Counter[str] = Counter()
        for requirement in self._resources.of_pods.of(pod):
            if requirement.resource in needs.advertised or self._is_of_own_pools(requirement, node, needs):
                found[requirement.resource] += 1
        return found

    def _is_of_own_pools(self, requirement: AddressRequirement, node: Node, needs: NodeNeeds) -> bool:
        """Whether a resource that is not advertised may be one of the node's own pools: so many are looked at."""
        resource = requirement.resource
        if resource not in needs.others and len(needs.others) < MOST_OTHERS:
            requests = self._made_requests(requirement)
            is_met = any(concerns(requests, pool) for pool in self._own_pools.get(node.name))
            needs.others[resource] = requests if is_met else ()
        return bool(needs.others.get(resource))

    async def _supplies(self, node: Node, needs: NodeNeeds) -> dict[str, Supply]:
        own = self._own_pools.get(node.name)
        counts = {pool.name: self._count(pool) for pool in own}
        ends = [found.more_at for found in counts.values() if found.more_at is not None]
        if ends:
            self._queue.add(node.name, after=max(min(ends) - time.time(), DEBOUNCE))

        def free(pool: SpiderIPPool) -> int:
            return counts[pool.name].count if pool.name in counts else int(self._shared.has_free(pool))

        server = self._listers.servers.of(node)
        enis = frozenset(eni.identity for eni in server.enis) if server else frozenset()
        made = partial(ServingPools, node.name, node.metadata.labels or {}, enis, free=free)
        found = {resource: supply(requests, made(pools=own)) for resource, requests in needs.others.items() if requests}
        async for resource, requirement in in_turns(needs.advertised.items()):
            pools = [*own, *self._shared_for(requirement)]
            found[resource] = supply(self._requests_of(requirement), made(pools=pools))
        return found

    def _made_requests(self, requirement: AddressRequirement) -> tuple[AllocationRequest, ...]:
        one_of_each = [next(iter(pools.values())) for pools in self._default_pools.values() if pools]
        return requests_of(requirement, self._rules, one_of_each)

    def _requests_of(self, requirement: AddressRequirement) -> tuple[AllocationRequest, ...]:
        found = self._requests.get(requirement.resource)
        if found is None:
            found = self._made_requests(requirement)
            if requirement.resource in self._resources.requirements:
                self._requests[requirement.resource] = found
        return found

    def _shared_for(self, requirement: AddressRequirement) -> list[SpiderIPPool]:
        found = self._shared_of.get(requirement.resource)
        if found is None:
            requests = self._requests_of(requirement)
            found = [each for each in self._shared.pools.values() if concerns(requests, each)]
            if requirement.resource in self._resources.requirements:
                self._shared_of[requirement.resource] = found
        return found

    def _count(self, pool: SpiderIPPool) -> FreeAddresses:
        """Also records of the pool's node count: one of a former pool may have an address of this one."""
        version = version_of(pool)
        if version not in self._reserved:
            self._reserved[version] = reserved_addresses(self._listers.reserved.items(), version)
        node = sole_node(pool)
        records = [*self._records_of_pool.get(pool.name), *(self._records_of_node.get(node) if node else ())]
        return free_addresses(pool, records, self._reserved[version], time.time())


def _uids(pod: Pod) -> Iterable[str]:
    """The UIDs by which records may name a pod: that of a static pod's manifest outlives its mirrors."""
    manifest = (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION)
    return [each for each in (pod.metadata.uid, manifest) if each]


def _sole_nodes(pool: SpiderIPPool) -> list[str]:
    return [node] if (node := sole_node(pool)) else []


def _node_of_pod(pod: Pod) -> list[str]:
    """The node for which a pod counts: one with the node's network needs no address, but may request some by hand."""
    return [pod.spec.nodeName] if pod.spec.nodeName and (not pod.spec.hostNetwork or requested(pod)) else []


def _node_of_record(record: SpiderIP) -> tuple[str]:
    return (record.spec.node,)


def _part_of_pod(pod: Pod) -> object:
    """The parts of a pod that decide what it needs of its node, and what it is counted for."""
    status = pod.status
    return pod.metadata.uid, pod.spec.nodeName, pod.terminating, is_finished(pod), bool(status.podIPs), requested(pod)
