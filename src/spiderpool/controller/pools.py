"""SpiderIPPools: writes their status, computed from the SpiderIPs, and lets terminating pools go once they are empty.

It never decides who gets an address: the status is for people and a hint for agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, INT64_MAX, Condition, Object
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.addresses import AddressSet
from spiderpool.core.admission.faults import shown
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.allocation import address_of, address_text, pools_of, usable
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.labels import label_value
from spiderpool.core.network.pod_networks import qualified
from spiderpool.kube import conditions, finalizers
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.conditions import StatusTimings, not_ready
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Index, Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

MAX_VIEW = 2_000
"""Addresses in ``allocatedIPs`` at most (some 180 kB of text), which people and older tools read: every change of the
pool sends all of them to every agent."""
PUBLISHED = "AllocationsPublished"
"""Condition of a pool whose status leaves something out."""
SENT_PER_SECOND = 20_000
"""Characters of status that one pool sends to each of its agents in a second: a large one is written seldom."""
LARGE = 2_000
"""SpiderIPs of a pool from which on its status is computed in another thread: it takes too long for the event loop."""
WORKERS = 4
"""Pools that are reconciled at a time."""

log = logger("pools")


def status_of(
    pool: SpiderIPPool, holders: Collection[SpiderIP], now: datetime, missing: str | None = None
) -> IPPoolStatus:
    """The status of a pool whose SpiderIPs are ``holders``; ``now`` becomes the time of a condition that is new.

    ``missing`` says that what the pool is for does not exist.
    """
    by_address = {address_of(holder): holder for holder in holders}
    taken = AddressSet.of_addresses(by_address, version_of(pool))
    ranges, compressed = hints.write(taken)
    viewed = len(by_address) <= MAX_VIEW
    left_out = [
        *([] if viewed else [f"allocatedIPs, as more than {MAX_VIEW} addresses are in use"]),
        *([] if compressed is None else [f"allocatedRanges, as {len(taken.intervals)} ranges are in use"]),
    ]
    return IPPoolStatus(
        allocatedIPs=_view(by_address.values()) if by_address and viewed else None,
        totalIPCount=min(_size(pool), INT64_MAX),
        allocatedIPCount=len(by_address),
        allocatedRanges=ranges,
        compressedRanges=compressed,
        conditions=_conditions(pool, holders, left_out, missing, now),
    )


def _conditions(
    pool: SpiderIPPool, holders: Collection[SpiderIP], left_out: Sequence[str], missing: str | None, now: datetime
) -> list[Condition]:
    found = [*_readiness(pool, holders, missing), *_publication(pool, left_out)]
    return conditions.dated(found, pool, pool.status.conditions if pool.status else None, now)


def _readiness(pool: SpiderIPPool, holders: Collection[SpiderIP], missing: str | None) -> Iterable[Condition]:
    """Whether the pool gives addresses; while it is being deleted, who still has one. A full pool is ready."""
    if pool.terminating:
        return conditions.terminating(users_text(holders)) if holders else [not_ready("Terminating", "it is empty")]
    try:
        size = usable(pool).size
    except ValueError as error:  # written past the admission webhook and malformed: no agent takes an address from it
        return [not_ready("Malformed", str(error))]
    if not size:
        return [not_ready("NoAddresses", "it has no address that a pod could get: add some to spec.ips")]
    if pool.spec.disable:
        return [not_ready("Disabled", "spec.disable is true: pods that have an address keep it")]
    return [not_ready("NotFound", missing) if missing else conditions.ready(f"pods may get its {size} addresses")]


def users_text(holders: Collection[SpiderIP]) -> str:
    """How many addresses are in use, and the pods that have them."""
    users = sorted({f"{holder.spec.namespace}/{holder.spec.pod}" for holder in holders if not holder.spec.releasedAt})
    cooling = sum(1 for holder in holders if holder.spec.releasedAt)
    in_use = len(holders) - cooling
    parts = [
        *([f"{in_use} {'address' if in_use == 1 else 'addresses'} in use by {shown(users)}"] if users else []),
        *([f"{cooling} in their cooldown"] if cooling else []),
    ]
    return ", ".join(parts)


def _publication(pool: SpiderIPPool, left_out: Sequence[str]) -> Iterator[Condition]:
    """The condition that says what the status leaves out, and where to find it instead."""
    if left_out:
        where = f"list SpiderIPs with label {IP_POOL_LABEL}={label_value(pool.name)}"
        message = f"left out: {'; '.join(left_out)}. To see the addresses, {where}"
        yield Condition(PUBLISHED, "False", "TooLarge", message)


def _size(pool: SpiderIPPool) -> int:
    try:
        return usable(pool).size
    except ValueError:  # written past the admission webhook and malformed: no agent takes an address from it either
        return 0


def _view(holders: Iterable[SpiderIP]) -> str:
    """``allocatedIPs``: the JSON text ``{address: {pod, podUid}}``, keys in byte order."""
    entries = {
        address_text(holder): {
            "pod": f"{holder.spec.namespace}/{holder.spec.pod}",
            "podUid": holder.spec.podUID,
        }
        for holder in holders
    }
    return msgspec.json.encode(dict(sorted(entries.items()))).decode()


def _length(status: IPPoolStatus) -> int:
    """About how many characters a status has."""
    ranges = 20 * len(status.allocatedRanges or ())
    return len(status.allocatedIPs or "") + len(status.compressedRanges or "") + ranges


@dataclass(frozen=True, slots=True)
class PoolListers:
    """The caches that decide about the status of pools."""

    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    nodes: Informer[Node]
    networks: Informer[NetworkAttachmentDefinition]


class PoolReconciler:
    """Writes the status of every pool, at most once per pool in the seconds of its timings; a large one more seldom."""

    def __init__(
        self,
        client: Client,
        listers: PoolListers,
        recorder: Recorder,
        *,
        namespace: str,
        timings: StatusTimings,
    ) -> None:
        """``namespace`` is that of networks which a pool names without one."""
        self._client = client
        self._pools = listers.pools
        self._nodes = listers.nodes
        self._networks = listers.networks
        self._recorder = recorder
        self._namespace = namespace
        self._timings = timings
        self._queue = WorkQueue(self._reconcile, "pools")
        self._not_before: dict[str, float] = {}  # pool → loop time until which its large status rests
        self._ips_by_pool = listers.ips.index(pools_of)
        self._pools_by_node = listers.pools.index(lambda pool: pool.spec.nodeName or [])
        self._pools_by_network = listers.pools.index(self._networks_of)
        self._ips = listers.ips
        listers.pools.subscribe(self._on_pool)
        listers.nodes.subscribe(self._on_node)
        listers.networks.subscribe(self._on_network)

    async def run(self) -> None:
        """Reconcile until cancelled: first all pools, then those that change or whose SpiderIPs do."""
        self._ips.subscribe(self._on_ip, replay=False)
        await self._queue.run(WORKERS)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for ip in (old, new):
            if ip is not None:
                pool = self._pools.get(ip.spec.pool)
                self._touch(ip.spec.pool, soon=pool is not None and pool.terminating)  # it goes with its last address

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if new is None:
            self._not_before.pop(old.name if old else "", None)
        elif old is None or (old.spec, old.terminating) != (new.spec, new.terminating):
            self._touch(new.name, soon=True)  # somebody waits for what the status will say
        else:
            self._touch(new.name)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        self._on_existence(self._pools_by_node, old, new)

    def _on_network(self, old: NetworkAttachmentDefinition | None, new: NetworkAttachmentDefinition | None) -> None:
        self._on_existence(self._pools_by_network, old, new)

    def _on_existence(
        self, pools: Index[SpiderIPPool, str, SpiderIPPool], old: Object | None, new: Object | None
    ) -> None:
        """Reconcile the pools of an object that has appeared or gone; its other changes do not concern them."""
        changed = new or old
        if changed is not None and (old is None or new is None):
            for pool in pools.get(changed.key):
                self._touch(pool.name)

    def _networks_of(self, pool: SpiderIPPool) -> list[str]:
        return [qualified(name, self._namespace) for name in pool.spec.multusName or ()]

    def _missing(self, pool: SpiderIPPool) -> str | None:
        """That nothing of what a pool is for exists; None where something does, or where the pool is for all."""
        for what, names, cache in (
            ("Node", pool.spec.nodeName or [], self._nodes),
            ("NetworkAttachmentDefinition", self._networks_of(pool), self._networks),
        ):
            if names and not any(cache.get(name) for name in names):
                return f"it is for {what} {shown(names)}, which does not exist"
        return None

    def _touch(self, pool: str, *, soon: bool = False) -> None:
        """Reconcile a pool as many seconds as its timings say after the first change, however many follow.

        Not before the time of the last, large status is over, unless it has to be ``soon``.
        """
        rest = 0.0 if soon else self._not_before.get(pool, 0.0) - asyncio.get_running_loop().time()
        self._queue.add(pool, after=max(self._timings.debounce, rest))

    async def _reconcile(self, name: str) -> None:
        """Write the status of a pool; let it go when it is terminating and empty, and never before."""
        pool = self._pools.get(name)
        if pool is None:
            return
        holders = self._ips_by_pool.get(name)
        with suppress(NotFound):  # the pool is gone: nothing to write
            if not pool.terminating:  # a removal of Spiderpool takes the finalizer, or it was written past the webhook
                pool = await finalizers.add(self._client, pool, FINALIZER)
                self._pools.note(pool)
            facts = pool, holders, self._timings.now(), self._missing(pool)
            status = await asyncio.to_thread(status_of, *facts) if len(holders) > LARGE else status_of(*facts)
            pool = await self._write(pool, status)
            if pool.terminating and not holders:
                await self._finish(pool)

    async def _write(self, pool: SpiderIPPool, status: IPPoolStatus) -> SpiderIPPool:
        """Write the status if it differs; returns the pool as stored."""
        if status == pool.status:
            return pool
        self._not_before[pool.name] = asyncio.get_running_loop().time() + _length(status) / SENT_PER_SECOND
        body = {field: msgspec.to_builtins(getattr(status, field)) for field in status.__struct_fields__}
        written = await self._client.patch(SpiderIPPool, pool.name, {"status": body}, sub="status")
        self._pools.note(written)
        former = pool.status.conditions if pool.status else None
        if (waits := conditions.waiting(status.conditions)) and not conditions.waiting(former):
            self._recorder.event(pool, event_reasons.TERMINATING, waits.message)
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
