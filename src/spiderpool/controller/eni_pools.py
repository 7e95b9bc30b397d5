"""From what the servers say of their ENIs: pools that hold what the cloud knows, and the networks of the ENIs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import POOL_CARD_LABEL, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.core.cloud.eni_pools import (
    UNREGISTERED_ANNOTATION,
    ENIAbsence,
    ENIClaim,
    absence,
    choose_claim,
    network_fault,
    network_name,
    new_network,
    new_pool,
    patch_of,
    plan_update,
    pool_name,
    unregistered_text,
    version_of,
)
from spiderpool.core.cloud.instances import INSTANCE_ANNOTATION, Instance, read_instance
from spiderpool.core.ipam.gc import is_ready
from spiderpool.core.labels import label_value
from spiderpool.errors import BadConfig, Undecodable
from spiderpool.kube.client import AlreadyExists, Client, Invalid, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import UNREGISTERED, logger

RESYNC = 60.0
"""Seconds between two looks at all ENIs."""
WORKERS = 2

UNREGISTERED_REASON = "AddressNotRegistered"
REGISTERED_REASON = "AddressRegistered"

log = logger("discovery")


@dataclass(frozen=True, slots=True)
class ENIPoolListers:
    """What is watched."""

    nodes: Informer[Node]
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    networks: Informer[SpiderMultusConfig]


@dataclass(frozen=True, slots=True)
class ENIPoolRules:
    """What is made of an ENI."""

    families: frozenset[int]
    namespace: str
    """Of the networks."""
    primary_eni: bool
    """Whether the primary ENI gets pools."""
    node_grace: float
    """Seconds that a Node object must have been gone before its pools go: it may come back under its name."""


class ENIPoolReconciler:
    """Keeps one pool per ENI and family, and one network per name of an ENI."""

    def __init__(self, client: Client, copies: ENIPoolListers, recorder: Recorder, rules: ENIPoolRules) -> None:
        self._client = client
        self._copies = copies
        self._recorder = recorder
        self._rules = rules
        self._queue = WorkQueue(self._reconcile, "discovery")
        self._servers: dict[str, Instance | None] = {}
        """What the server of each Node says; None: nothing that can be read."""
        self._claims: dict[str, set[str]] = defaultdict(set)
        """Nodes by the ENIs that their servers have."""
        self._pools: dict[str, set[str]] = defaultdict(set)
        """Names of pools by ENI."""
        self._holders: dict[str, dict[str, SpiderIP]] = defaultdict(dict)
        self._reported: dict[str, dict[str, SpiderIP]] = {}
        """Per pool: records by UID that were reported as unregistered."""
        self._gone_since: dict[str, float] = {}
        self._complaints: dict[str, str] = {}
        copies.pools.subscribe(self._on_pool)
        copies.ips.subscribe(self._on_ip)
        copies.nodes.subscribe(self._on_node)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._resync())

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC)
            self._touch(*self._claims, *self._pools)

    # --- what changes

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _told(old) == _told(new) and is_ready(old) == is_ready(new):
            return
        name = new.name if new is not None else old.name if old is not None else ""
        before = self._servers.pop(name, None)
        after = self._read(new) if new is not None else None
        if new is not None:
            self._servers[name] = after
        for server, change in ((before, set.discard), (after, set.add)):
            for eni in server.enis if server else ():
                change(self._claims[eni.identity], name)
                self._touch(eni.identity)
        self._touch(*(eni for eni, names in self._pools.items() if any(self._is_of(each, name) for each in names)))

    def _read(self, node: Node) -> Instance | None:
        text = _told(node)
        try:
            return read_instance(text) if text else None
        except Undecodable as error:
            message = f"annotation {INSTANCE_ANNOTATION} is not used, pools stay as they are: {error.message}"
            self._complain(f"node/{node.name}", node, "CardsNotReadable", message)
            return None

    def _is_of(self, pool_name: str, node: str) -> bool:
        pool = self._copies.pools.get(pool_name)
        return pool is not None and node in (pool.spec.nodeName or ())

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        for pool, change in ((old, set.discard), (new, set.add)):
            eni = _eni_of(pool) if pool is not None else None
            if pool is not None and eni is not None:
                change(self._pools[eni], pool.name)
                if old is None or new is None or _kept(old) != _kept(new):
                    self._touch(eni)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for ip in (old, new):
            if ip is not None:
                self._holders[ip.spec.pool].pop(ip.name, None)
        if new is not None:
            self._holders[new.spec.pool][new.name] = new
        for name in {ip.spec.pool for ip in (old, new) if ip is not None}:
            self._touch_fenced(name)

    def _touch_fenced(self, name: str) -> None:
        """An address that comes or goes matters where some are fenced, or where a pool waits for its end."""
        pool = self._copies.pools.get(name)
        eni = _eni_of(pool) if pool is not None else None
        if pool is not None and eni is not None:
            told = UNREGISTERED_ANNOTATION in (pool.metadata.annotations or {})
            if told or pool.spec.excludeIPs or not self._claims.get(eni):
                self._touch(eni)

    def _touch(self, *enis: str) -> None:
        for eni in enis:
            self._queue.add(eni)

    # --- what is done

    async def _reconcile(self, eni: str) -> None:
        claims = [claim for name in self._claims.get(eni, ()) if (claim := self._claim(name, eni))]
        for version in sorted(self._rules.families):
            pool = self._pool_of(eni, version)
            claim = choose_claim(claims, pool)
            if pool is not None:
                await self._attend(eni, pool, claim)
            elif claim is not None and (self._rules.primary_eni or not claim.eni.primary):
                await self._make(claim, version)

    def _claim(self, node: str, identity: str) -> ENIClaim | None:
        server, seen = self._servers.get(node), self._copies.nodes.get(node)
        eni = server.eni(identity) if server else None
        return ENIClaim(node, server, eni, seen is not None and is_ready(seen)) if server and eni else None

    def _pool_of(self, eni: str, version: int) -> SpiderIPPool | None:
        pools = (self._copies.pools.get(name) for name in sorted(self._pools.get(eni, ())))
        return next((pool for pool in pools if pool is not None and version_of(pool) == version), None)

    async def _attend(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None) -> None:
        """Keep a pool, or let it go when nothing is left of its ENI."""
        if pool.terminating:
            return
        why = None if claim else absence(pool, self._servers)
        if why is not ENIAbsence.NODE:
            self._gone_since.pop(pool.name, None)
        with suppress(NotFound):
            match why:
                case ENIAbsence.UNKNOWN:
                    return
                case ENIAbsence.NODE:
                    await self._retire_later(eni, pool)
                case ENIAbsence.ENI:
                    await self._keep(eni, pool, None)
                    await self._retire(pool)
                case None:
                    await self._keep(eni, pool, claim)

    async def _keep(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None) -> None:
        if claim and (block := claim.eni.subnet_of(version_of(pool))) not in (None, pool.spec.subnet):
            message = f"ENI {eni} is in {block}, the pool in {pool.spec.subnet}; delete the pool, another will be made"
            self._complain(f"pool/{pool.name}", pool, "OtherSubnet", message)
            return
        holders = self._holders.get(pool.name, {}).values()
        wanted = plan_update(pool, claim, holders, self._others(pool.name), self._rules.namespace)
        if body := patch_of(pool, wanted):
            self._copies.pools.note(await self._change(pool, body))
            log.info("pool kept", pool=pool.name, card=eni, ips=wanted.ips, exclude=wanted.exclude)
        self._complaints.pop(f"pool/{pool.name}", None)
        self._report(eni, pool, claim, wanted.unregistered)
        if claim and claim.eni.device:
            await self._make_network(claim.eni.device)

    async def _change(self, pool: SpiderIPPool, body: dict[str, object]) -> SpiderIPPool:
        try:
            return await self._client.patch(SpiderIPPool, pool.name, body)
        except Invalid as error:
            self._complain(f"pool/{pool.name}", pool, "CannotFollowCard", error.message)
            raise

    def _others(self, name: str) -> Iterator[SpiderIPPool]:
        return (pool for pool in self._copies.pools.items() if pool.name != name)

    async def _make(self, claim: ENIClaim, version: int) -> None:
        key, node = f"ENI/{claim.eni.identity}/{version}", self._copies.nodes.get(claim.node)
        if node is None or claim.eni.device is None or not claim.eni.addresses_of(version):
            return
        try:
            name = pool_name(claim, version, self._copies.pools.get)
            pool = new_pool(name, claim, version, self._others(name), self._rules.namespace)
            if pool is not None and self._copies.pools.get(name) is None:
                await self._make_network(claim.eni.device)
                self._copies.pools.note(await self._client.create(pool))
                log.info("pool made", pool=name, card=claim.eni.identity, ips=pool.spec.ips)
            self._complaints.pop(key, None)
        except AlreadyExists:  # our copy is late, and will touch the ENI when it is not
            return
        except (BadConfig, Invalid) as error:
            self._complain(key, node, "NoPoolForCard", error.message)

    async def _make_network(self, device: str) -> None:
        """The network of the ENIs of a name, unless there is one; nobody's network is ever changed."""
        name, namespace = network_name(device), self._rules.namespace
        present = self._copies.networks.get(f"{namespace}/{name}")
        if present is None:
            with suppress(AlreadyExists):
                self._copies.networks.note(await self._client.create(new_network(device, namespace)))
                log.info("network made", network=f"{namespace}/{name}", device=device)
        elif fault := network_fault(present, device):
            self._complain(f"network/{device}", present, "OtherCard", fault)

    async def _retire_later(self, eni: str, pool: SpiderIPPool) -> None:
        now = asyncio.get_running_loop().time()
        rest = self._gone_since.setdefault(pool.name, now) + self._rules.node_grace - now
        if rest > 0:
            self._queue.add(eni, rest)
        elif await self._retire(pool):
            self._gone_since.pop(pool.name, None)

    async def _retire(self, pool: SpiderIPPool) -> bool:
        """Delete a pool of which, as the API server knows too, nobody holds anything; whether it was."""
        if self._holders.get(pool.name):
            return False
        listed = await self._client.list(SpiderIP, labels=f"{IP_POOL_LABEL}={label_value(pool.name)}")
        if any(record.spec.pool == pool.name for record in listed):
            return False
        await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)
        self._report(_eni_of(pool) or "", pool, None, ())
        log.info("pool of a vanished card deleted", pool=pool.name)
        return True

    # --- what is told

    def _report(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None, unregistered: tuple[SpiderIP, ...]) -> None:
        """Tell of addresses that are unregistered since the last time, and of those that are registered again."""
        before = self._reported.pop(pool.name, {})
        now = {record.metadata.uid or record.name: record for record in unregistered}
        for uid in now.keys() - before.keys():
            self._tell(pool, now[uid], "Warning", UNREGISTERED_REASON, unregistered_text(now[uid], claim, eni))
        held = {record.metadata.uid for record in self._holders.get(pool.name, {}).values()}
        for uid in (before.keys() - now.keys()) & held:
            message = f"{before[uid].spec.address.partition('/')[0]} is registered on ENI {eni} again"
            self._tell(pool, before[uid], "Normal", REGISTERED_REASON, message)
        if now:
            self._reported[pool.name] = now
        if now or before:
            UNREGISTERED.labels(pool.name).set(len(now))

    def _tell(self, pool: SpiderIPPool, record: SpiderIP, type: str, reason: str, message: str) -> None:
        meta = ObjectMeta(name=record.spec.pod, namespace=record.spec.namespace, uid=record.spec.podUID)
        for obj in (pool, Pod(metadata=meta)):
            self._recorder.event(obj, type, reason, message)
        log.warning("address", pool=pool.name, reason=reason, message=message)

    def _complain(self, key: str, obj: Object, reason: str, message: str) -> None:
        """An Event and a log line, once for the same message."""
        if self._complaints.get(key) != message:
            self._complaints[key] = message
            self._recorder.event(obj, "Warning", reason, message)
            log.warning("card without its pool or network", key=key, reason=reason, message=message)


def _told(node: Node) -> str | None:
    return (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION)


def _eni_of(pool: SpiderIPPool) -> str | None:
    return (pool.metadata.labels or {}).get(POOL_CARD_LABEL)


def _kept(pool: SpiderIPPool) -> tuple[object, ...]:
    """What of a pool we look at."""
    metadata = pool.metadata
    return pool.spec, metadata.labels, metadata.annotations, metadata.deletionTimestamp
