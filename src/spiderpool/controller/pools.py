"""SpiderIPPools: writes their status, computed from the SpiderIPs, and lets terminating pools go once they are empty.

It never decides who gets an address: the status is for people and a hint for agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, INT64_MAX, Condition
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, usable
from spiderpool.core.labels import label_value
from spiderpool.kube import finalizers
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

MAX_RANGES = 512
"""Ranges in ``allocatedRanges`` at most: with more, the hint costs every watcher more than it saves."""
MAX_VIEW = 2_000
"""Addresses in ``allocatedIPs`` at most (some 180 kB of text), which people and older tools read: every change of the
pool sends all of them to every agent."""
PUBLISHED = "AllocationsPublished"
"""Condition of a pool whose status leaves something out."""
WORKERS = 4
"""Pools that are reconciled at a time."""

log = logger("pools")


def status_of(pool: SpiderIPPool, holders: Iterable[SpiderIP], now: datetime) -> IPPoolStatus:
    """The status of a pool whose SpiderIPs are ``holders``; ``now`` becomes the time of a condition that is new."""
    by_address = {address_of(holder): holder for holder in holders}
    taken = AddressSet.of_addresses(by_address, pool.spec.ipVersion or (6 if ":" in pool.spec.subnet else 4))
    shown, hinted = len(by_address) <= MAX_VIEW, len(taken.intervals) <= MAX_RANGES
    return IPPoolStatus(
        allocatedIPs=_view(by_address.values()) if by_address and shown else None,
        totalIPCount=min(_size(pool), INT64_MAX),
        allocatedIPCount=len(by_address),
        allocatedRanges=taken.ranges() if hinted else None,
        conditions=_conditions(pool, shown=shown, hinted=hinted, now=now),
    )


def _conditions(pool: SpiderIPPool, *, shown: bool, hinted: bool, now: datetime) -> list[Condition] | None:
    """The condition that says what the status leaves out, and where to find it instead; None when it is complete."""
    left_out = [
        *([] if shown else [f"allocatedIPs, as more than {MAX_VIEW} addresses are in use"]),
        *([] if hinted else [f"allocatedRanges, as the addresses in use form more than {MAX_RANGES} ranges"]),
    ]
    if not left_out:
        return None
    where = f"list SpiderIPs with label {IP_POOL_LABEL}={label_value(pool.name)}"
    message = f"left out: {'; '.join(left_out)}. To see the addresses, {where}"
    conditions = (pool.status and pool.status.conditions) or ()
    former = next((condition for condition in conditions if condition.type == PUBLISHED), None)
    since = former.lastTransitionTime if former else now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return [Condition(PUBLISHED, "False", "TooLarge", message, since)]


def _size(pool: SpiderIPPool) -> int:
    try:
        return usable(pool).size
    except ValueError:  # written past the admission webhook and malformed: no agent takes an address from it either
        return 0


def _view(holders: Iterable[SpiderIP]) -> str:
    """``allocatedIPs``: the JSON text ``{address: {pod, podUid}}``, keys in byte order."""
    entries = {
        holder.spec.address.partition("/")[0]: {
            "pod": f"{holder.spec.namespace}/{holder.spec.pod}",
            "podUid": holder.spec.podUID,
        }
        for holder in holders
    }
    return msgspec.json.encode(dict(sorted(entries.items()))).decode()


class PoolReconciler:
    """Writes the status of every pool, at most once per pool in ``debounce`` seconds."""

    def __init__(self, client: Client, pools: Informer[SpiderIPPool], ips: Informer[SpiderIP], debounce: float) -> None:
        self._client = client
        self._pools = pools
        self._debounce = debounce
        self._queue = WorkQueue(self._reconcile, "pools")
        self._waiting: set[str] = set()  # names of pools whose debounce timer runs
        self._ips_by_pool = ips.index(lambda ip: [ip.spec.pool])
        ips.subscribe(self._on_ip)
        pools.subscribe(self._on_pool)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for ip in (old, new):
            if ip is not None:
                self._touch(ip.spec.pool)

    def _on_pool(self, _: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if new is not None:
            self._touch(new.name)

    def _touch(self, pool: str) -> None:
        """Reconcile a pool ``debounce`` seconds after the first change, however many follow."""
        if pool not in self._waiting:
            self._waiting.add(pool)
            asyncio.get_running_loop().call_later(self._debounce, self._release, pool)

    def _release(self, pool: str) -> None:
        self._waiting.discard(pool)
        self._queue.add(pool)

    async def _reconcile(self, name: str) -> None:
        """Write the status of a pool; let it go when it is terminating and empty."""
        pool = self._pools.get(name)
        if pool is None:
            return
        holders = self._ips_by_pool.get(name)
        with suppress(NotFound):  # the pool is gone: nothing to write
            pool = await self._write(pool, status_of(pool, holders, datetime.now(UTC)))
            if pool.terminating and not holders:
                await self._finish(pool)

    async def _write(self, pool: SpiderIPPool, status: IPPoolStatus) -> SpiderIPPool:
        """Write the status if it differs; returns the pool as stored."""
        if status == pool.status:
            return pool
        body = {field: msgspec.to_builtins(getattr(status, field)) for field in status.__struct_fields__}
        written = await self._client.patch(SpiderIPPool, pool.name, {"status": body}, sub="status")
        self._pools.note(written)
        return written

    async def _finish(self, pool: SpiderIPPool) -> None:
        """Remove the finalizer of a terminating pool when the API server, too, has no SpiderIP of it."""
        ours = {FINALIZER, FORMER_FINALIZER}.intersection(pool.metadata.finalizers or ())
        if not ours or await self._in_use(pool.name):
            return
        await finalizers.remove(self._client, pool, *ours)
        log.info("pool deleted", pool=pool.name)

    async def _in_use(self, name: str) -> bool:
        """Whether a pool has SpiderIPs, by a fresh read."""
        holders = await self._client.list(SpiderIP, labels=f"{IP_POOL_LABEL}={label_value(name)}")
        return any(holder.spec.pool == name for holder in holders)
