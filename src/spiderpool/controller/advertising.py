"""Nodes: writes how many addresses each has left as extended resources, so that the scheduler counts them.

It never decides who gets an address. A figure that is too high costs a pod another try on its node.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from spiderpool.api.address_resources import AdvertisingNode, RequestingPod, whole
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.ipam.allocation import pools_of
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION, is_finished
from spiderpool.core.ipam.node_capacity import (
    FreeAddresses,
    NodePools,
    Supply,
    advertised,
    concerns,
    free_addresses,
    supply,
)
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.ipam.selection import AllocationRequest, version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.network.address_requests import AddressRequirement, RequirementRules, requests_of, requirements
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, Forbidden, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.workqueue import WorkQueue, resync
from spiderpool.telemetry import logger

DEBOUNCE = 0.2
"""Seconds from a change on a node until what it has left is counted."""
PAUSE = 0.01
"""Seconds after a write, so that a change which concerns all nodes makes at most a hundred writes a second."""
WRITES_PER_SECOND = 100
"""The same, to tell how long a shared pool that is full, or full no more, has to stay so before it is said again."""
LINGER = 600.0
"""Seconds for which a resource is advertised that no pod requests any more: the next job may be about to come."""
SHARED_DEBOUNCE = 1.0
"""Seconds from a change in a pool of several nodes until it is looked at."""
MOST_OF_NAMESPACE = 32
"""Resources that are advertised since pods of one Namespace request them: whoever makes pods can name any pools."""
LARGE = 2_000
"""Records of a pool from which on they are counted in another thread."""

log = logger("advertising")


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


class RequestedResources:
    """The resources that pods request, and what each stands for. ``changed`` is called when there is another one."""

    def __init__(self, listers: AdvertisingListers, rules: RequirementRules, changed: Callable[[], None]) -> None:
        self._namespaces = listers.namespaces
        self._rules = rules
        self._changed = changed
        self._pods: Counter[str] = Counter()  # resource → how many pods request it
        self._idle_since: dict[str, float] = {}  # resource that no pod requests → since when
        self._unexplained: dict[str, Pod] = {}  # resource of which is not known what it stands for → a pod with it
        self._namespace_of: dict[str, str] = {}  # resource → the Namespace of the first pod with it
        self._of_namespace: Counter[str] = Counter()  # Namespace → how many resources it was the first with
        default = rules.networks.cluster_network
        self._default = [AddressRequirement(default)] if default else []
        self.requirements = {each.resource: each for each in self._default}

    def requirements_of(self, pod: Pod) -> Iterable[AddressRequirement]:
        """What a pod needs of its node."""
        return requirements(pod, self._namespaces.get(pod.metadata.namespace or ""), self._rules).values()

    def follow(self, old: Pod | None, new: Pod | None) -> None:
        """Take note of what a pod that has come, gone or changed requests."""
        before, after = _requests(old).keys(), _requests(new).keys()
        for resource in before - after:
            self._pods[resource] -= 1
        for resource in after - before:
            self._pods[resource] += 1
            self._idle_since.pop(resource, None)
        if new is not None and (unknown := (after - before) - self.requirements.keys()):
            self._unexplained |= dict.fromkeys(filter(partial(self._is_admitted, new), sorted(unknown)), new)
            self._learn(new)

    def forget_idle(self, now: float) -> None:
        """Drop the resources that no pod has requested for a while."""
        kept = {each.resource for each in self._default}
        for resource in [each for each, pods in self._pods.items() if pods <= 0 and each not in kept]:
            if now - self._idle_since.setdefault(resource, now) >= LINGER:
                del self._idle_since[resource], self._pods[resource]
                self._unexplained.pop(resource, None)
                if (namespace := self._namespace_of.pop(resource, None)) is not None:
                    self._of_namespace[namespace] -= 1
                if self.requirements.pop(resource, None) is not None:
                    self._changed()

    def explain(self) -> None:
        """Look again at pods that came before what decides about them."""
        for pod in list(self._unexplained.values()):
            self._learn(pod)

    def _is_admitted(self, pod: Pod, resource: str) -> bool:
        """Whether a resource that is not known yet is within what the pod's Namespace may bring."""
        namespace = pod.metadata.namespace or ""
        if resource in self._namespace_of:
            return True
        if self._of_namespace[namespace] >= MOST_OF_NAMESPACE:
            log.warning("not advertised: too many lists of pools", namespace=namespace, pod=pod.name, resource=resource)
            return False
        self._namespace_of[resource] = namespace
        self._of_namespace[namespace] += 1
        return True

    def _learn(self, pod: Pod) -> None:
        """Only a pod tells what the resource of a list of pools stands for."""
        for requirement in self.requirements_of(pod):
            if self._unexplained.pop(requirement.resource, None) is not None:
                self.requirements[requirement.resource] = requirement
                self._changed()


class SharedPools:
    """The pools that are not of one node alone, and whether each has a free address, as far as it has been told."""

    def __init__(self, listers: AdvertisingListers, count: Callable[[SpiderIPPool], FreeAddresses]) -> None:
        self._nodes = listers.nodes
        self._pools = listers.pools
        self._records = listers.ips.index(pools_of)
        self._count = count
        self._not_before: dict[str, float] = {}  # pool → loop time until which what was told of it rests
        self._has_free: dict[str, bool] = {}
        self.pools: dict[str, SpiderIPPool] = {}

    def has_free(self, pool: SpiderIPPool) -> bool:
        """Whether a shared pool had a free address when it was looked at last; one that is new may have."""
        return self._has_free.get(pool.name, True)

    def follow(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> bool:
        """Take note of a change of a pool; whether it concerns nodes that share the pool."""
        for pool in (old, new):
            if pool is not None:
                self.pools.pop(pool.name, None)
        if new is not None and _sole_node(new) is None:
            self.pools[new.name] = new
        elif old is not None:
            self._has_free.pop(old.name, None)
            self._not_before.pop(old.name, None)
        is_news = old is None or new is None or (old.spec, old.terminating) != (new.spec, new.terminating)
        return is_news and any(pool is not None and _sole_node(pool) is None for pool in (old, new))

    async def look(self, name: str) -> tuple[bool, float | None]:
        """Whether something else is to be told of a shared pool now, and in how many seconds to look again."""
        pool = self.pools.get(name)
        if pool is None:
            return False, None
        is_large = len(self._records.get(name)) > LARGE
        found = await asyncio.to_thread(self._count, pool) if is_large else self._count(pool)
        again = max(found.more_at - time.time(), SHARED_DEBOUNCE) if found.more_at and not found.count else None
        if (found.count > 0) == self.has_free(pool):
            return False, again
        now = asyncio.get_running_loop().time()
        if (rest := self._not_before.get(name, 0.0) - now) > 0:
            return False, rest
        self._has_free[name] = found.count > 0
        self._not_before[name] = now + len(self._nodes.items()) / WRITES_PER_SECOND
        return True, again


class AddressAdvertiser:
    """Keeps our resources of every Node as what it has left; ``withdrawing``, it takes them all away."""

    def __init__(
        self,
        client: Client,
        listers: AdvertisingListers,
        policies: tuple[AttachmentPolicy, AddressPolicy],
        *,
        withdrawing: bool = False,
    ) -> None:
        self._client = client
        self._listers = listers
        self._withdrawing = withdrawing
        self._rules = RequirementRules(*policies, listers.networks.get)
        self._queue = WorkQueue(self._reconcile, "advertising")  # of nodes' names
        self._shared_queue = WorkQueue(self._look_at_shared, "shared-pools")
        self._resources = RequestedResources(listers, self._rules, self._touch_all)
        self._shared = SharedPools(listers, self._count)
        self._requests: dict[
            str, tuple[AllocationRequest, ...]
        ] = {}  # resource → its requests; emptied when they change
        self._shared_of: dict[str, list[SpiderIPPool]] = {}  # resource → the shared pools that it may come from
        self._default_pools: dict[int, dict[str, SpiderIPPool]] = defaultdict(dict)  # family → its default pools
        self._reserved: dict[int, Any] = {}  # family → reserved addresses; emptied when they change
        self._own_pools = listers.pools.index(_sole_nodes)
        self._pods_of_node = listers.pods.index(_node_of_pod)
        self._records_of_pool = listers.ips.index(pools_of)
        self._records_of_node = listers.ips.index(_node_of_record)
        self._subscribe(listers)

    def _subscribe(self, listers: AdvertisingListers) -> None:
        listers.nodes.subscribe(self._on_node)
        listers.pods.subscribe(self._on_pod)
        listers.pools.subscribe(self._on_pool)
        listers.networks.subscribe(self._on_network)
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
            group.create_task(resync(LINGER / 10, lambda: self._resources.forget_idle(time.monotonic())))

    # --- what changes

    def _touch(self, node: str | None) -> None:
        if node is not None:
            self._queue.add(node, after=DEBOUNCE)

    def _touch_all(self) -> None:
        for node in self._listers.nodes.items():
            self._touch(node.name)

    def _forget_requests(self) -> None:
        self._requests.clear()
        self._shared_of.clear()
        self._touch_all()

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and _part_of_node(old) == _part_of_node(new)):
            return
        if old is not None and _is_zeroed(old, new):  # it refuses its pods while it believes that
            self._queue.add(new.name)
        self._touch(new.name)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _part_of_pod(old) == _part_of_pod(new):
            return
        self._resources.follow(old, new)
        for pod in (old, new):
            self._touch(pod.spec.nodeName if pod else None)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for record in (old, new):
            if record is None:
                continue
            self._touch(record.spec.node)
            pool = self._listers.pools.get(record.spec.pool)
            self._touch(_sole_node(pool) if pool else None)
            if record.spec.pool in self._shared.pools:
                self._shared_queue.add(record.spec.pool, after=SHARED_DEBOUNCE)

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        concerns_all = self._shared.follow(old, new)
        if self._follow_default(old, new) or concerns_all:
            self._forget_requests()
        if new is not None and new.name in self._shared.pools:
            self._shared_queue.add(new.name)
        if old is None or new is None or (old.spec, old.terminating) != (new.spec, new.terminating):
            for pool in (old, new):
                self._touch(_sole_node(pool) if pool else None)

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
        if old is None or new is None or old.spec != new.spec:
            self._forget_requests()
            self._resources.explain()

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and (old is None or old.metadata.annotations != new.metadata.annotations):
            self._resources.explain()

    def _on_reserved(self, _: SpiderReservedIP | None, __: SpiderReservedIP | None) -> None:
        self._reserved.clear()
        self._touch_all()
        for pool in self._shared.pools:
            self._shared_queue.add(pool, after=SHARED_DEBOUNCE)

    # --- what follows from it

    async def _look_at_shared(self, name: str) -> None:
        is_news, again = await self._shared.look(name)
        if is_news:
            self._touch_all()
        if again is not None:
            self._shared_queue.add(name, after=again)

    async def _reconcile(self, name: str) -> None:
        """Write what a node advertises, where that differs from what it should."""
        node = self._listers.nodes.get(name)
        if not isinstance(node, AdvertisingNode):
            return
        body = changes(node, {} if self._withdrawing else self._desired(node))
        if body is None:
            return
        with suppress(NotFound):
            self._listers.nodes.note(await self._client.patch(AdvertisingNode, name, body, sub="status"))
        await asyncio.sleep(PAUSE)

    def _desired(self, node: Node) -> dict[str, int]:
        held = {record.spec.podUID for record in self._records_of_node.get(node.name) if not record.spec.releasedAt}
        requested: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        needed = dict(self._resources.requirements)
        for pod in self._pods_of_node.get(node.name):
            if is_finished(pod):
                continue
            requested.update(_requests(pod))
            if held.isdisjoint(_uids(pod)):
                waiting.update(self._awaited(pod, needed))
        supplies = self._supplies(node, needed)
        found = advertised(supplies, requested, waiting)
        return {resource: count for resource, count in found.items() if resource in self._resources.requirements}

    def _awaited(self, pod: Pod, needed: dict[str, AddressRequirement]) -> Mapping[str, int]:
        """What a pod without an address has yet to get.

        One that is going gets nothing more, but the scheduler counts its request until it is gone: so the address that
        it has given back already is not offered twice.
        """
        if pod.terminating:
            return _requests(pod)
        if pod.status.podIPs:  # it has a network that is not ours
            return {}
        found: Counter[str] = Counter()
        for requirement in self._resources.requirements_of(pod):
            needed.setdefault(requirement.resource, requirement)
            found[requirement.resource] += 1
        return found

    def _supplies(self, node: Node, needed: Mapping[str, AddressRequirement]) -> dict[str, Supply]:
        own = self._own_pools.get(node.name)
        counts = {pool.name: self._count(pool) for pool in own}
        ends = [found.more_at for found in counts.values() if found.more_at is not None]
        if ends:
            self._queue.add(node.name, after=max(min(ends) - time.time(), DEBOUNCE))

        def free(pool: SpiderIPPool) -> int:
            return counts[pool.name].count if pool.name in counts else int(self._shared.has_free(pool))

        server = self._listers.servers.of(node)
        enis = frozenset(eni.identity for eni in server.enis) if server else frozenset()
        made = partial(NodePools, node.name, node.metadata.labels or {}, enis, free=free)
        return {
            resource: supply(self._requests_of(requirement), made(pools=[*own, *self._shared_for(requirement)]))
            for resource, requirement in needed.items()
        }

    def _requests_of(self, requirement: AddressRequirement) -> tuple[AllocationRequest, ...]:
        if requirement.resource not in self._requests:
            one_of_each = [next(iter(pools.values())) for pools in self._default_pools.values() if pools]
            self._requests[requirement.resource] = requests_of(requirement, self._rules, one_of_each)
        return self._requests[requirement.resource]

    def _shared_for(self, requirement: AddressRequirement) -> list[SpiderIPPool]:
        if requirement.resource not in self._shared_of:
            requests = self._requests_of(requirement)
            self._shared_of[requirement.resource] = [
                each for each in self._shared.pools.values() if concerns(requests, each)
            ]
        return self._shared_of[requirement.resource]

    def _count(self, pool: SpiderIPPool) -> FreeAddresses:
        """Also records of the pool's node count: one of a former pool may have an address of this one."""
        version = version_of(pool)
        if version not in self._reserved:
            self._reserved[version] = reserved_addresses(self._listers.reserved.items(), version)
        node = _sole_node(pool)
        records = [*self._records_of_pool.get(pool.name), *(self._records_of_node.get(node) if node else ())]
        return free_addresses(pool, records, self._reserved[version], time.time())


def changes(node: AdvertisingNode, desired: Mapping[str, int]) -> dict[str, Any] | None:
    """The merge patch of a Node's status; None where there is nothing to do.

    A kubelet copies capacities to what is allocatable, but only at its next report.
    """
    body: dict[str, dict[str, str | None]] = {}
    for field in ("capacity", "allocatable"):
        present: dict[str, str] = getattr(node.status, field) or {}
        wanted = {name: str(count) for name, count in desired.items() if whole(present.get(name, "-")) != count}
        gone = dict.fromkeys(present.keys() - desired.keys())
        if wanted or gone:
            body[field] = {**wanted, **gone}
    return {"status": body} if body else None


async def withdraw(client: Client) -> None:
    """Take our resources from all Nodes, as far as we may."""
    try:
        await on_all(await client.list(AdvertisingNode), partial(_withdraw_from, client), give_up=False)
    except Forbidden:  # nodes have never advertised any, or somebody else has to take them away
        log.info("what nodes advertise is left as it is: no right to change it")


async def _withdraw_from(client: Client, node: AdvertisingNode) -> None:
    if body := changes(node, {}):
        with suppress(NotFound):
            await client.patch(AdvertisingNode, node.name, body, sub="status")


def _requests(pod: Pod | None) -> Mapping[str, int]:
    return pod.address_requests if isinstance(pod, RequestingPod) else {}


def _uids(pod: Pod) -> Iterable[str]:
    """The UIDs by which records may name a pod: that of a static pod's manifest outlives its mirrors."""
    manifest = (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION)
    return [each for each in (pod.metadata.uid, manifest) if each]


def _sole_node(pool: SpiderIPPool) -> str | None:
    names = pool.spec.nodeName or ()
    return names[0] if len(names) == 1 else None


def _sole_nodes(pool: SpiderIPPool) -> list[str]:
    return [node] if (node := _sole_node(pool)) else []


def _node_of_pod(pod: Pod) -> list[str]:
    return [pod.spec.nodeName] if pod.spec.nodeName and not pod.spec.hostNetwork else []


def _node_of_record(record: SpiderIP) -> tuple[str]:
    return (record.spec.node,)


def _part_of_pod(pod: Pod) -> object:
    """The parts of a pod that decide what it needs of its node, and what it is counted for."""
    status = pod.status
    return pod.metadata.uid, pod.spec.nodeName, pod.terminating, is_finished(pod), bool(status.podIPs), _requests(pod)


def _is_zeroed(old: Node, new: Node) -> bool:
    """Whether a kubelet that has started put to zero what its node had."""
    if not (isinstance(old, AdvertisingNode) and isinstance(new, AdvertisingNode)):
        return False
    before, after = old.status.allocatable or {}, new.status.allocatable or {}
    return any(after.get(name) == "0" != text for name, text in before.items())


def _part_of_node(node: Node) -> object:
    resources = (node.status.capacity, node.status.allocatable) if isinstance(node, AdvertisingNode) else ()
    return node.metadata.uid, node.metadata.labels, resources
