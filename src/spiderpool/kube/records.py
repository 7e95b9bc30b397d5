"""The SpiderIPs of one node: its own by watch, anybody's by asking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress

from spiderpool.api.ip import IP_NODE_LABEL, IP_OWNER_LABEL, IP_POOL_LABEL, SpiderIP
from spiderpool.core.ipam.allocation import address_of
from spiderpool.core.labels import label_value
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer

Identity = tuple[str, str]


class NodeRecords:
    """What a node knows of the records, and how it makes, changes and removes them.

    What it writes itself it knows at once, before the watch tells.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.informer = Informer(client, SpiderIP, labels=f"{IP_NODE_LABEL}={label_value(node)}")
        self._by_pod: dict[str, dict[str, SpiderIP]] = defaultdict(dict)
        self._by_pool: dict[str, dict[int, str]] = defaultdict(dict)
        self._released: dict[str, SpiderIP] = {}
        self.informer.subscribe(self._index)

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Records that one pod's interface holds, by name."""
        held = self._by_pod.get(pod_uid, {})
        return [held[name] for name in sorted(held) if held[name].spec.interface == interface]

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Records that all interfaces of a pod hold, in the order in which they were written."""
        return sorted(self._by_pod.get(pod_uid, {}).values(), key=_revision)

    def released(self) -> list[SpiderIP]:
        """Records of this node that nobody holds and that wait for the end of a cooldown."""
        return list(self._released.values())

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that have a record of this node."""
        return self._by_pool.get(pool, {}).keys()

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Claim the address. Raises AlreadyExists when it has a record."""
        made = await self._client.create(record, timeout=timeout)
        self.informer.note(made)
        return made

    async def replace(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Change the very version of a record that was seen. Raises Conflict or NotFound."""
        made = await self._client.replace(record, timeout=timeout)
        self.informer.note(made)
        return made

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Release the very version of a record that was seen. Raises Conflict; being gone already is success."""
        meta = record.metadata
        with suppress(NotFound):
            await self._client.delete(
                SpiderIP, record.name, uid=meta.uid, resourceVersion=meta.resourceVersion, timeout=timeout
            )
        self.informer.forget(record)

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        """A record as the API server holds it now."""
        try:
            return await self._client.get(SpiderIP, name, timeout=timeout)
        except NotFound:
            return None

    def adopt(self, record: SpiderIP) -> None:
        """Know a record of ours that a fresh read found."""
        self.informer.note(record)

    def forget(self, record: SpiderIP) -> None:
        """Know no longer a record that a fresh read missed, or found with another node."""
        self.informer.forget(record)

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        """The records that stay with an owner, wherever they are, read from the API server now."""
        return await self._client.list(SpiderIP, labels=f"{IP_OWNER_LABEL}={label}", timeout=timeout)

    async def of_pool(self, pool: str, *, timeout: float) -> list[SpiderIP]:
        """The records of a pool, read from the API server now."""
        records = await self._client.list(SpiderIP, labels=f"{IP_POOL_LABEL}={label_value(pool)}", timeout=timeout)
        return [record for record in records if record.spec.pool == pool]

    def _index(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._by_pod[old.spec.podUID].pop(old.name, None)
            if not self._by_pod[old.spec.podUID]:
                del self._by_pod[old.spec.podUID]
            self._by_pool[old.spec.pool].pop(address_of(old), None)
            self._released.pop(old.name, None)
        if new is not None:
            self._by_pool[new.spec.pool][address_of(new)] = new.name
            if new.spec.releasedAt:
                self._released[new.name] = new
            else:
                self._by_pod[new.spec.podUID][new.name] = new


def _revision(record: SpiderIP) -> tuple[int, str]:
    version = record.metadata.resourceVersion or ""
    return (int(version) if version.isdigit() else 0, record.name)
