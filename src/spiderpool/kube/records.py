"""The SpiderIPs of one node: its own from a watched cache, those of others by fresh reads."""

from __future__ import annotations

from collections.abc import Callable, Collection

from spiderpool.api.ip import IP_NODE_LABEL, IP_OWNER_LABEL, IP_POOL_LABEL, SpiderIP
from spiderpool.api.meta import revision
from spiderpool.core.ipam.allocation import address_of
from spiderpool.core.labels import label_value
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import logger

log = logger("records")


class NodeRecords:
    """Cached records of one node, and the writes to records.

    A write is visible in the cache as soon as it returns, before its watch event arrives. After ApiUnavailable it is
    unknown whether the write was done: the cache is unchanged, and the watch event or a fresh read shows the outcome.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.node = node
        self.informer = Informer(client, SpiderIP, labels=f"{IP_NODE_LABEL}={label_value(node)}")
        self._by_pod = self.informer.index(_holding_pods)
        self._addresses_by_pool = self.informer.index(lambda record: [record.spec.pool], address_of)
        self._deleting: set[str] = set()  # UIDs of records that are being deleted by us
        self._by_release = self.informer.index(lambda record: [bool(record.spec.releasedAt)])

    def on_lost(self, callback: Callable[[SpiderIP], None]) -> None:
        """Call ``callback`` with each held record that disappears from the cache without being deleted by us."""

        def changed(old: SpiderIP | None, new: SpiderIP | None) -> None:
            if old and new is None and not old.spec.releasedAt and old.metadata.uid not in self._deleting:
                callback(old)

        self.informer.subscribe(changed)

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Records that one interface of a pod holds, in the order in which they were written."""
        return [record for record in self.of_pod(pod_uid) if record.spec.interface == interface]

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Records that all interfaces of a pod hold, in the order in which they were written."""
        return sorted(self._by_pod.get(pod_uid), key=_revision)

    def released(self) -> list[SpiderIP]:
        """Records of this node that were released and are in their pool's cooldown."""
        return self._by_release.get(True)

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that have a record of this node, in use or in their cooldown."""
        return set(self._addresses_by_pool.get(pool))

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Claim the address; returns the record as stored. Raises AlreadyExists when the address has a record."""
        made = await self._client.create(record, timeout=timeout)
        self.adopt(made)
        return made

    async def replace(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Write ``record`` over the version that its resourceVersion names. Raises Conflict or NotFound."""
        made = await self._client.replace(record, timeout=timeout)
        self.adopt(made)
        return made

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Delete exactly this version of a record; one that does not exist is success. Raises Conflict."""
        meta = record.metadata
        self._deleting.add(meta.uid or "")
        try:
            await self._client.delete(
                SpiderIP, record.name, uid=meta.uid, resourceVersion=meta.resourceVersion, timeout=timeout
            )
            self.informer.forget(record)
        except NotFound:
            log.debug("record to delete does not exist", record=record.name)
            self.informer.forget(record)
        finally:
            self._deleting.discard(meta.uid or "")

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        """A record as the API server has it now; None when it does not exist."""
        return await self._client.find(SpiderIP, name, timeout=timeout)

    def adopt(self, record: SpiderIP) -> None:
        """Cache a record that a write or a fresh read returned; drop it where it is another node's.

        Our watch tells nothing of records of other nodes, so they would stay in the cache for ever.
        """
        if record.spec.node == self.node:
            self.informer.note(record)
        else:
            self.informer.forget(record)

    def forget(self, record: SpiderIP) -> None:
        """Drop the cached record, which a fresh read did not find, or found with another node."""
        self.informer.forget(record)

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        """Records that stay with an owner, of any node, read from the API server now."""
        return await self._client.list(SpiderIP, labels=f"{IP_OWNER_LABEL}={label}", timeout=timeout)

    async def labelled(self, label: str | None, *, timeout: float) -> list[SpiderIP]:
        """Records with a value of the pool's label, or without it (None), of any node, read from the API server now.

        Users may edit labels: a record may be of another pool.
        """
        selector = f"!{IP_POOL_LABEL}" if label is None else f"{IP_POOL_LABEL}={label}"
        return await self._client.list(SpiderIP, labels=selector, timeout=timeout)


def _holding_pods(record: SpiderIP) -> list[str]:
    """UID of the pod that holds the address; none while the record is in its cooldown."""
    return [] if record.spec.releasedAt else [record.spec.podUID]


def _revision(record: SpiderIP) -> tuple[int, str]:
    """Sort key: etcd's revision of the last write, then the name."""
    return revision(record.metadata.resourceVersion), record.name
