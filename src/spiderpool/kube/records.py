"""The SpiderIPs of one node: its own by watch, anybody's by asking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress

from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, SpiderIP
from spiderpool.core.addresses import AddressSet
from spiderpool.core.allocation import address_of, label_value
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.informer import Informer

Identity = tuple[str, str]


class NodeRecords:
    """What a node knows of the records, and how it makes and removes them.

    What it writes itself it knows at once, before the watch tells.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self.informer = Informer(client, SpiderIP, labels=f"{IP_NODE_LABEL}={label_value(node)}")
        self._by_identity: dict[Identity, dict[str, SpiderIP]] = defaultdict(dict)
        self._by_pool: dict[str, dict[str, int]] = defaultdict(dict)
        self.informer.subscribe(self._index)

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Records of one pod's interface, by name."""
        held = self._by_identity.get((pod_uid, interface), {})
        return [held[name] for name in sorted(held)]

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Records of all interfaces of a pod."""
        return [record for record in self.informer.items() if record.spec.podUID == pod_uid]

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that this node holds."""
        return self._by_pool.get(pool, {}).values()

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Claim the address. Raises AlreadyExists when somebody else holds it."""
        made = await self._client.create(record, timeout=timeout)
        self.informer.note(made)
        return made

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Release this very claim: a later one of the same address stays. Being gone already is success."""
        with suppress(NotFound, Conflict):
            await self._client.delete(SpiderIP, record.name, uid=record.metadata.uid, timeout=timeout)
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
        """Know no longer a record that a fresh read missed."""
        self.informer.forget(record)

    async def in_use(self, pool: str, version: int, *, timeout: float) -> AddressSet:
        """The addresses of a pool that anybody holds, read from the API server now."""
        records = await self._client.list(SpiderIP, labels=f"{IP_POOL_LABEL}={label_value(pool)}", timeout=timeout)
        return AddressSet.of_addresses((address_of(each) for each in records if each.spec.pool == pool), version)

    def _index(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None:
            self._by_identity[_identity(old)].pop(old.name, None)
            if not self._by_identity[_identity(old)]:
                del self._by_identity[_identity(old)]
            self._by_pool[old.spec.pool].pop(old.name, None)
        if new is not None:
            self._by_identity[_identity(new)][new.name] = new
            self._by_pool[new.spec.pool][new.name] = address_of(new)


def _identity(record: SpiderIP) -> Identity:
    return record.spec.podUID, record.spec.interface
