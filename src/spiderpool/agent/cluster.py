"""The informers of one node: only for objects that concern it, so that nodes do not multiply the API server's work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from spiderpool.api.cni import PodArgs
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.ipquota import EXHAUSTED_LABEL, SpiderIPQuota
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.core.addresses import FAMILIES, AddressSet
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION, is_alive
from spiderpool.core.ipam.node_gc import is_holder
from spiderpool.core.labels import label_value
from spiderpool.core.network.coordinator import in_force, service_addresses
from spiderpool.core.network.plumbing.values import Address
from spiderpool.errors import NotReady
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.kube.owners import OwnerReader
from spiderpool.kube.records import NodeRecords
from spiderpool.telemetry import logger

READ_TIMEOUT = 5.0
"""Seconds for one read of an object that the caches do not hold."""
NAMESPACE_AGE = 5.0
"""Seconds for which a read of a Namespace is good for the pods of that Namespace."""

log = logger("cluster")


class ClusterCache:
    """Cached objects: pods of this node, pools that it may use, reserved addresses, networks, coordinator settings.

    The first lists of our records and of reserved addresses come from etcd: one that lacks a record would give its pod
    a second address, or a pod one that is kept from all. The others may come from an API server's cache, since nothing
    is decided for good by what they lack: a list of one node's pods makes the server read those of all nodes from etcd.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.node_name = node
        label = label_value(node)
        self.records = NodeRecords(client, node)
        self.owners = OwnerReader(client)
        self.pods = Informer(client, Pod, fields=f"spec.nodeName={node}", from_cache=True)
        self._own_pools = Informer(client, SpiderIPPool, labels=f"{POOL_NODE_LABEL}={label}", from_cache=True)
        self._shared_pools = Informer(client, SpiderIPPool, labels=f"!{POOL_NODE_LABEL}", from_cache=True)
        self._pool_change = asyncio.Event()  # set at the next change of a pool, and then replaced by a new one
        self._reserved_ips = Informer(client, SpiderReservedIP)
        self._reserved = {version: AddressSet(version) for version in FAMILIES}  # family → reserved addresses
        # Those of which nothing is left: their labels change seldom, while each address changes the status of one.
        self._quotas = Informer(client, SpiderIPQuota, labels=f"{EXHAUSTED_LABEL}=true", from_cache=True, optional=True)
        self._exhausted = self._quotas.index(_namespaces, lambda quota: quota.name)
        self.networks = Informer(client, NetworkAttachmentDefinition, from_cache=True)
        self.coordinators = Informer(client, SpiderCoordinator, from_cache=True)
        self.namespaces = Informer(client, Namespace, from_cache=True)
        self._namespace_reads: dict[str, float] = {}  # name → loop time of the last read; of cached ones alone
        self.nodes = Informer(client, Node, fields=f"metadata.name={node}", from_cache=True)
        self.servers = Informer(client, SpiderServer, fields=f"metadata.name={node}", optional=True, from_cache=True)
        for pools in (self._own_pools, self._shared_pools):
            pools.subscribe(self._pool_changed)
        self._reserved_ips.subscribe(self._reserved_changed)
        self.namespaces.subscribe(self._namespace_changed)

    @property
    def ready(self) -> bool:
        """Whether the first list of every kind has arrived that pods need."""
        return all(informer.ready for informer in self._needed())

    async def run(self) -> None:
        """Keep all caches up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in (*self._needed(), self._quotas):
                group.create_task(informer.run())

    async def synced(self, timeout: float) -> None:
        """Wait for the first list of every kind that pods need, up to ``timeout`` seconds each. Raises NotReady."""
        for informer in self._needed():
            await informer.synced(timeout)

    async def listed(self, patience: float) -> None:
        """As `synced`, but as long as pages of the lists arrive: NotReady after ``patience`` seconds without one."""
        for informer in self._needed():
            await informer.listed(patience)

    async def synced_within(self, timeout: float) -> bool:
        """Whether the first list of every kind has arrived, after waiting for that for ``timeout`` seconds in all."""
        try:
            async with asyncio.timeout(timeout):
                await self.synced(timeout)
        except (TimeoutError, NotReady):
            return False
        return True

    def pools(self) -> list[SpiderIPPool]:
        """The pools of this node and the shared ones; selection decides which of them a pod may use."""
        return self._own_pools.items() + self._shared_pools.items()

    def pool(self, name: str) -> SpiderIPPool | None:
        """A pool of `pools` by name."""
        return self._own_pools.get(name) or self._shared_pools.get(name)

    def subscribe_to_pools(self, reader: Callable[[SpiderIPPool | None, SpiderIPPool | None], None]) -> None:
        """Call ``reader`` with the old and the new state of each of `pools` that changes."""
        for pools in (self._own_pools, self._shared_pools):
            pools.subscribe(reader)

    def pool_change(self) -> asyncio.Event:
        """An event that is set at the next change of a pool."""
        return self._pool_change

    def server(self) -> Instance | None:
        """The cloud server of this node; None while it is not described."""
        node, found = self.nodes.get(self.node_name), self.servers.get(self.node_name)
        return found.spec if node and found and found.is_of(node) else None

    def reserved(self, version: int) -> AddressSet:
        """The reserved addresses of a family; the same object until they change."""
        return self._reserved[version]

    def exhausted_quota(self, namespace: str) -> str | None:
        """The name of a quota of which the pods of a Namespace have nothing left; None when there is none."""
        return min(self._exhausted.get(namespace), default=None)

    def coordinator(self) -> SpiderCoordinator | None:
        """The SpiderCoordinator in force."""
        return in_force(self.coordinators.items())

    def service_addresses(self) -> tuple[Address, ...] | None:
        """Addresses of Services that pods reach through the node, beside the Service CIDRs; None: not known yet.

        Raises BadConfig.
        """
        return service_addresses(self.coordinator())

    async def pod(self, args: PodArgs) -> Pod:
        """A pod of this node, cached or else read. Raises NotReady when it is gone or has been replaced."""
        pod = await self.find_pod(args)
        if pod is None:
            raise NotReady(f"pod {args.namespace}/{args.name} does not exist; it has been deleted meanwhile")
        if not has_runtime_uid(pod, args.uid):
            raise NotReady(
                f"pod {pod.key} has UID {pod.metadata.uid}, the runtime attaches {args.uid}: it has been replaced"
            )
        return pod

    async def living_pod(self, args: PodArgs) -> Pod:
        """As `pod`, for an ADD. Raises NotReady also when the pod has ended or is about to: it is not started again.

        Not so a static pod: it may live on while the object that mirrors it is being deleted and made anew.
        """
        pod = await self.pod(args)
        _require_living(pod)
        return pod

    async def confirm_living(self, pod: Pod) -> None:
        """Read a pod afresh. Raises NotReady when it is gone, or as `living_pod`; ApiUnavailable."""
        found = await self._client.find(Pod, pod.name, pod.metadata.namespace, timeout=READ_TIMEOUT)
        if found is None or found.metadata.uid != pod.metadata.uid:
            raise NotReady(f"pod {pod.key} does not exist; it has been deleted meanwhile")
        _require_living(found)

    async def find_pod(self, args: PodArgs) -> Pod | None:
        """The pod of a name; None when there is none.

        Read where the cache has none or one with another UID, and where the runtime passes no UID: the cached one may
        be a former pod of that name.
        """
        pod = self.pods.get(f"{args.namespace}/{args.name}")
        if pod is None or not args.uid or not has_runtime_uid(pod, args.uid):
            return await self._client.find(Pod, args.name, args.namespace)
        return pod

    async def namespace(self, name: str) -> Namespace | None:
        """A Namespace as it was a moment ago; None when it does not exist. Raises ApiUnavailable.

        A cached copy may be older than the pod that asks, which would get its addresses from other pools for good.
        """
        now = asyncio.get_running_loop().time()
        cached = self.namespaces.get(name)
        if cached is not None and now < self._namespace_reads.get(name, -NAMESPACE_AGE) + NAMESPACE_AGE:
            return cached
        found = await self._client.find(Namespace, name, timeout=READ_TIMEOUT)
        if found is not None:
            self.namespaces.note(found)
            self._namespace_reads[name] = now
        return found

    async def holder(self, record: SpiderIP) -> Pod | None:
        """The pod that a record names, read from the API server; None if it does not exist. Raises ApiUnavailable."""
        return await self._client.find(Pod, record.spec.pod, record.spec.namespace, timeout=READ_TIMEOUT)

    async def is_held(self, record: SpiderIP) -> bool:
        """Whether the pod that a record names holds it, by a fresh read. Raises ApiUnavailable."""
        return is_holder(await self.holder(record), record)

    async def read_pool(self, name: str) -> SpiderIPPool | None:
        """Any pool, read from the API server; None if it does not exist. Raises ApiUnavailable."""
        return await self._client.find(SpiderIPPool, name, timeout=READ_TIMEOUT)

    async def read_node(self, name: str) -> Node | None:
        """Any Node, read from the API server; None if it does not exist. Raises ApiUnavailable."""
        return await self._client.find(Node, name, timeout=READ_TIMEOUT)

    def _pool_changed(self, _: SpiderIPPool | None, __: SpiderIPPool | None) -> None:
        changed, self._pool_change = self._pool_change, asyncio.Event()
        changed.set()

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if old is not None and new is None:
            self._namespace_reads.pop(old.name, None)

    def _reserved_changed(self, _: SpiderReservedIP | None, __: SpiderReservedIP | None) -> None:
        reserved = [each for each in self._reserved_ips.items() if not each.terminating]
        self._reserved = {version: _union(reserved, version) for version in FAMILIES}

    def _needed(self) -> list[Informer]:  # type: ignore[type-arg]
        """The caches that must be filled before a pod is attached; not the quotas, which only limit."""
        return [
            self.records.informer,
            self.pods,
            self._own_pools,
            self._shared_pools,
            self._reserved_ips,
            self.networks,
            self.coordinators,
            self.namespaces,
            self.nodes,
            self.servers,
        ]


def _namespaces(quota: SpiderIPQuota) -> list[str]:
    return [quota.metadata.namespace or ""]


def _require_living(pod: Pod) -> None:
    """Raises NotReady when an ADD of a pod comes too late."""
    if not is_alive(pod) and STATIC_POD_ANNOTATION not in (pod.metadata.annotations or {}):
        state = "is being deleted" if pod.terminating else f"has ended ({pod.status.phase})"
        raise NotReady(f"pod {pod.key} {state}; it gets no addresses any more")


def has_runtime_uid(pod: Pod, uid: str) -> bool:
    """Whether a pod is the one with the UID that the runtime passes; true for every pod if the runtime passes none.

    Of a static pod the runtime knows the hash of its manifest, not the UID of its object.
    """
    return uid in ("", pod.metadata.uid, (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION))


def _union(reserved: Iterable[SpiderReservedIP], version: int) -> AddressSet:
    """All reserved addresses of a family; an object that cannot be parsed (written past the webhook) is logged."""
    union = AddressSet(version)
    for each in reserved:
        try:
            union |= AddressSet.parse(_of_family(each, version), version)
        except ValueError as error:
            log.warning("reserved addresses cannot be read", reservedip=each.name, error=str(error))
    return union


def _of_family(reserved: SpiderReservedIP, version: int) -> list[str]:
    ips = reserved.spec.ips or []
    own = reserved.spec.ipVersion or (6 if ips and ":" in ips[0] else 4)
    return ips if own == version else []
