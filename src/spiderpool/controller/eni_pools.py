"""Pools and networks of ENIs: one SpiderIPPool per ENI and address family, one SpiderMultusConfig per interface name.

The source is the SpiderServer in which each node's agent reports its server's ENIs. Nothing here calls the cloud. A
pool whose ENI is gone is deleted only when no SpiderIP of it is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TypeVar

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.event_reasons import EventReason
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.core.addresses import AddressSet
from spiderpool.core.cloud.address_reports import AddressReports, claims_text, dispute_text
from spiderpool.core.cloud.eni_pools import (
    NODE_LABEL,
    UNREGISTERED_ANNOTATION,
    ENIAbsence,
    ENIClaim,
    absence,
    by_precedence,
    choose_claim,
    network_fault,
    network_name,
    new_network,
    new_pool,
    patch_of,
    plan_dissolution,
    plan_update,
    pool_name,
    registered,
    releasing_words,
    subnet_version,
    unregistered_text,
)
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION, STALE_REPORT, assigned_of
from spiderpool.core.ipam.allocation import pools_of
from spiderpool.core.ipam.pool_blocks import blocks_of, pools_near
from spiderpool.core.labels import label_value
from spiderpool.errors import BadConfig
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import AlreadyExists, Client, Invalid, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.workqueue import WorkQueue, resync
from spiderpool.telemetry import UNREGISTERED, logger

RESYNC = 60.0
"""Seconds between two reconciliations of all ENIs."""
SURPLUS_GRACE = 120.0
"""Seconds for which a surplus pool must have been empty before it is deleted: an agent may use it that hears late."""
WORKERS = 2
"""ENIs that are reconciled at a time."""

T = TypeVar("T", bound=Object)

log = logger("discovery")


@dataclass(frozen=True, slots=True)
class ENIPoolListers:
    """The caches that pools of ENIs are computed from."""

    nodes: Informer[Node]
    servers: NodeServers
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]
    networks: Informer[SpiderMultusConfig]


@dataclass(frozen=True, slots=True)
class ENIPoolRules:
    """Which pools and networks an ENI gets."""

    families: frozenset[int]
    namespace: str
    """Namespace of the networks."""
    primary_eni: bool
    """Whether the primary ENI gets pools."""
    node_grace: float
    """Seconds from the deletion of a Node to that of its pools: the Node may be registered again under its name."""


class ENIPoolReconciler:
    """Keeps one pool per ENI and family, and one network per name of an ENI."""

    def __init__(self, client: Client, listers: ENIPoolListers, recorder: Recorder, rules: ENIPoolRules) -> None:
        self._client = client
        self._listers = listers
        self._recorder = recorder
        self._rules = rules
        self._queue = WorkQueue(self._reconcile, "discovery")
        self._servers: dict[str, Instance | None] = {}  # Node name → its server; None: not described, or not right
        self._assigned: dict[str, dict[str, frozenset[str]]] = {}  # Node name → ENI → addresses by spiderpool-cloud
        self._reports = AddressReports()
        self._reported: dict[str, dict[str, SpiderIP]] = {}  # pool name → records by UID reported as unregistered
        self._gone_since: dict[str, float] = {}  # pool name → loop time when its Node or ENI was first missing
        self._complaints: dict[str, str] = {}  # subject of a warning → its last message, so as not to repeat it
        self._nodes_by_eni = listers.servers.informer.index(_enis_of, lambda server: server.name)
        self._pools_by_eni = listers.pools.index(lambda pool: [eni] if (eni := pool.eni) else [])
        self._enis_by_node = listers.pools.index(_nodes_of_eni_pool, lambda pool: pool.eni or "")
        self._pools_by_block = listers.pools.index(blocks_of)
        self._networks_by_node = listers.networks.index(_reporter_of)
        self._ips_by_pool = listers.ips.index(pools_of)
        listers.pools.subscribe(self._on_pool)
        listers.nodes.subscribe(self._on_node)
        listers.servers.subscribe(self._on_server)

    async def run(self) -> None:
        """Reconcile until cancelled: first all ENIs, then those that change or whose SpiderIPs do."""
        self._listers.ips.subscribe(self._on_ip, replay=False)
        with UNREGISTERED.computed_by(self._unregistered):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.run(WORKERS))
                group.create_task(resync(RESYNC, self._touch_all))

    def _unregistered(self) -> dict[tuple[str, ...], float]:
        return {(pool,): float(len(records)) for pool, records in self._reported.items()}

    def _touch_all(self) -> None:
        self._touch(*self._nodes_by_eni, *self._pools_by_eni)

    # --- Which events cause a reconciliation -----------------------------------------------------------------------

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _part(old) == _part(new):
            return
        if (node := new or old) is not None:
            self._look(node.name, new)

    def _on_server(self, name: str) -> None:
        self._look(name, self._listers.nodes.get(name))

    def _look(self, name: str, node: Node | None) -> None:
        """Reconcile the ENIs that a Node's server had and has; None: there is no Node of this name."""
        before = self._servers.pop(name, None)
        after = self._listers.servers.of(node) if node is not None else None
        self._reports.note(name, before, after)
        self._assigned.pop(name, None)
        if node is None:
            self._complaints.pop(f"node/{name}", None)
        else:
            self._servers[name] = after
            if assigned := assigned_of(node):
                self._assigned[name] = {eni: frozenset(addresses) for eni, addresses in assigned.items()}
            if defect := self._listers.servers.defect(name):
                message = f"its SpiderServer contradicts itself and is not used, pools stay as they are: {defect}"
                self._warn(f"node/{name}", [node], event_reasons.CARDS_NOT_READABLE, message)
        self._touch(*(eni.identity for server in (before, after) if server for eni in server.enis))
        self._touch(*self._enis_by_node.get(name))
        for server in (before, after):
            for eni in server.enis if server else ():
                self._touch_rivals(name, eni)

    def _touch_rivals(self, node: str, eni: ENI) -> None:
        """Reconcile the ENIs on which other nodes report addresses of an ENI."""
        self._touch(*{rival for _, _, rival in self._reports.rivals(node, eni.identity, eni.pod_addresses)})

    def _assigned_to(self, node: str) -> Mapping[str, frozenset[str]]:
        return self._assigned.get(node, {})

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is not None and new is not None and _relevant(old) == _relevant(new):
            return
        if old is not None and new is None:
            self._forget_pool(old.name)
        self._touch(*(eni for pool in (old, new) if pool is not None and (eni := pool.eni)))

    def _forget_pool(self, name: str) -> None:
        self._complaints.pop(f"pool/{name}", None)
        self._gone_since.pop(name, None)
        self._reported.pop(name, None)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        for name in {ip.spec.pool for ip in (old, new) if ip is not None}:
            self._touch_if_dependent(name)

    def _touch_if_dependent(self, name: str) -> None:
        """Reconcile the ENI of a pool whose SpiderIPs have changed, where the pool depends on them."""
        pool = self._listers.pools.get(name)
        eni = pool.eni if pool is not None else None
        if pool is not None and eni is not None:
            reported = UNREGISTERED_ANNOTATION in (pool.metadata.annotations or {})
            if reported or pool.spec.excludeIPs or eni not in self._nodes_by_eni:
                self._touch(eni)

    def _touch(self, *enis: str) -> None:
        for eni in enis:
            self._queue.add(eni)

    # --- What is done for an ENI -----------------------------------------------------------------------------------

    async def _reconcile(self, eni: str) -> None:
        """Create, update or delete the pools of an ENI, one per enabled family."""
        claims = [claim for name in self._nodes_by_eni.get(eni) if (claim := self._claim(name, eni))]
        if not claims:
            families = [f"{subject}/{eni}/{version}" for subject in ("claims", "eni") for version in (4, 6)]
            for key in (f"dispute/{eni}", f"network of {eni}", *families):
                self._complaints.pop(key, None)
        await on_all(sorted(self._rules.families), partial(self._reconcile_family, eni, claims))

    async def _reconcile_family(self, eni: str, claims: Sequence[ENIClaim], version: int) -> None:
        pools = self._pools_of(eni, version)
        claim = choose_claim(claims, pools[0] if pools else None)
        if claim is not None:
            self._complaints.pop(f"claims/{eni}/{version}", None)
            claim = self._with_dispute(claim)
        if pools:  # surplus ones first: the pool of the ENI takes over what they give up
            await on_all(reversed(pools), lambda pool: self._keep_or_retire(eni, pool, claim, pool is not pools[0]))
        elif claim is None:
            self._complain_of_claims(eni, claims, version)
        elif self._rules.primary_eni or not claim.eni.primary:
            await self._make(claim, version)

    def _complain_of_claims(self, eni: str, claims: Sequence[ENIClaim], version: int) -> None:
        """Say to each of several nodes that report an ENI that it gets no pool."""
        nodes = [node for claim in claims if (node := self._listers.nodes.get(claim.node))]
        if nodes:
            self._warn(f"claims/{eni}/{version}", nodes, event_reasons.ENI_REPORTED_TWICE, claims_text(eni, claims))

    def _with_dispute(self, claim: ENIClaim) -> ENIClaim:
        """Add which addresses of the ENI another node reports, too, and say so to its node."""
        claim = replace(claim, dispute=self._reports.dispute(claim, self._assigned_to))
        key = f"dispute/{claim.eni.identity}"
        if (text := dispute_text(claim)) is None:
            self._complaints.pop(key, None)
        elif node := self._listers.nodes.get(claim.node):
            self._warn(key, [node], event_reasons.ADDRESS_REPORTED_TWICE, text)
        return claim

    def _claim(self, name: str, identity: str) -> ENIClaim | None:
        """What a Node reports about an ENI; None when its server does not have it."""
        server, node = self._servers.get(name), self._listers.nodes.get(name)
        eni = server.eni(identity) if server else None
        if server is None or eni is None:
            return None
        confirmed = identity in self._assigned_to(name)
        return ENIClaim(name, server, eni, node is not None and node.ready, confirmed)

    def _pools_of(self, eni: str, version: int) -> list[SpiderIPPool]:
        """The pools of an ENI and family: its pool, and after it surplus ones."""
        return by_precedence(pool for pool in self._pools_by_eni.get(eni) if subnet_version(pool) == version)

    async def _keep_or_retire(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None, surplus: bool) -> None:
        """Bring a pool up to date, or delete it when its ENI or its Node is gone."""
        if pool.terminating:
            return
        cause = None if claim else absence(pool, self._servers)
        if cause is ENIAbsence.UNKNOWN or (cause is None and not surplus):
            self._gone_since.pop(pool.name, None)
        with suppress(NotFound):  # another client has deleted the pool: its event reconciles the ENI again
            match cause:
                case ENIAbsence.UNKNOWN:
                    return
                case ENIAbsence.NODE:
                    await self._retire_later(eni, pool, self._rules.node_grace)
                case ENIAbsence.ENI:
                    await self._update(eni, pool, None)
                    await self._retire_later(eni, pool, 0.0)
                case None if surplus:
                    await self._dissolve(eni, pool, claim)
                case None:
                    await self._update(eni, pool, claim)

    async def _dissolve(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None) -> None:
        """Take from a surplus pool what nobody needs there, and delete it once it has been empty for a while."""
        await self._update(eni, pool, claim, surplus=True)
        now = self._listers.pools.get(pool.name) or pool
        if now.spec.ips:
            self._gone_since.pop(pool.name, None)
        else:
            await self._retire_later(eni, now, SURPLUS_GRACE)

    async def _update(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None, *, surplus: bool = False) -> None:
        """Make the pool hold what the ENI has, report unregistered addresses, and make the ENI's network."""
        if claim and (block := claim.eni.subnet_of(subnet_version(pool))) not in (None, pool.spec.subnet):
            message = f"ENI {eni} is in {block}, the pool in {pool.spec.subnet}; delete the pool, another will be made"
            self._warn(f"pool/{pool.name}", [pool], event_reasons.OTHER_SUBNET, message)
            return
        holders = self._ips_by_pool.get(pool.name)
        version, eni_of_claim = subnet_version(pool), claim.eni if claim else None
        if surplus:
            desired = plan_dissolution(pool, claim, holders, self._rules.namespace)
        else:
            near = self._others(pool.name, registered(eni_of_claim, version))
            others = chain(near, (each for each in self._pools_of(eni, version) if each.name != pool.name))
            desired = plan_update(pool, claim, holders, others, self._rules.namespace)
        if body := patch_of(pool, desired):
            self._listers.pools.note(await self._patch(pool, body))
            if claim:
                self._touch_rivals(claim.node, claim.eni)
            log.info("pool kept", pool=pool.name, eni=eni, ips=desired.ips, exclude=desired.exclude)
        self._complaints.pop(f"pool/{pool.name}", None)
        self._report(eni, pool, claim, desired.unregistered)
        if claim and claim.eni.device:
            try:
                await self._make_network(claim.eni.device, claim.node)
                self._complaints.pop(f"network of {eni}", None)
            except BadConfig as error:
                self._warn(f"network of {eni}", [pool], event_reasons.NO_NETWORK_FOR_CARD, error.message)

    async def _patch(self, pool: SpiderIPPool, body: dict[str, object]) -> SpiderIPPool:
        try:
            return await self._client.patch(SpiderIPPool, pool.name, body)
        except Invalid as error:
            self._warn(f"pool/{pool.name}", [pool], event_reasons.CANNOT_FOLLOW_CARD, error.message)
            raise

    def _others(self, name: str, addresses: AddressSet) -> Iterator[SpiderIPPool]:
        """The pools but for one that may have some of the addresses."""
        return (pool for pool in pools_near(self._pools_by_block.get, addresses) if pool.name != name)

    async def _make(self, claim: ENIClaim, version: int) -> None:
        """Create the pool of an ENI and family, unless the ENI has no interface or no address of the family."""
        key, node = f"eni/{claim.eni.identity}/{version}", self._listers.nodes.get(claim.node)
        if node is None or claim.eni.device is None or not claim.eni.addresses_of(version):
            return
        try:
            name = pool_name(claim, version, self._listers.pools.get)
            others = self._others(name, registered(claim.eni, version))
            pool = new_pool(name, claim, version, others, self._rules.namespace)
            if pool is not None and self._listers.pools.get(name) is None:
                await self._make_network(claim.eni.device, claim.node)
                self._listers.pools.note(await self._client.create(pool))
                log.info("pool made", pool=name, eni=claim.eni.identity, ips=pool.spec.ips)
            self._complaints.pop(key, None)
        except AlreadyExists:  # our cache is late; the pool's event reconciles the ENI again
            return
        except (BadConfig, Invalid) as error:
            self._warn(key, [node], event_reasons.NO_POOL_FOR_CARD, error.message)

    async def _make_network(self, device: str, node: str) -> None:
        """Create the network of an interface name unless there is one; an existing network is never changed.

        Raises BadConfig where the node has reported too many names.
        """
        name, namespace = network_name(device), self._rules.namespace
        present = self._listers.networks.get(f"{namespace}/{name}")
        if present is None:
            network = new_network(device, namespace, node, self._networks_by_node.get(label_value(node)))
            with suppress(AlreadyExists):
                self._listers.networks.note(await self._client.create(network))
                log.info("network made", network=f"{namespace}/{name}", device=device)
        elif fault := network_fault(present, device):
            self._warn(f"network/{device}", [present], event_reasons.OTHER_CARD, fault)
            return
        self._complaints.pop(f"network/{device}", None)

    async def _retire_later(self, eni: str, pool: SpiderIPPool, grace: float) -> None:
        """Delete the pool once its Node or ENI has been gone for the grace period.

        A pool keeps what is fenced for as long as a report may show it once more: one made anew would give it to pods.
        """
        now = asyncio.get_running_loop().time()
        grace = max(grace, STALE_REPORT) if any(releasing_words(pool)) else grace
        wait = self._gone_since.setdefault(pool.name, now) + grace - now
        if wait > 0:
            self._queue.add(eni, wait)
        elif await self._retire(pool):
            self._gone_since.pop(pool.name, None)

    async def _retire(self, pool: SpiderIPPool) -> bool:
        """Delete a pool unless it has SpiderIPs, in the cache or by a fresh list; returns whether it was deleted."""
        if pool.name in self._ips_by_pool:
            return False
        listed = await self._client.list(SpiderIP, labels=f"{IP_POOL_LABEL}={label_value(pool.name)}")
        if any(record.spec.pool == pool.name for record in listed):
            return False
        await self._client.delete(SpiderIPPool, pool.name, uid=pool.metadata.uid)
        self._report(pool.eni or "", pool, None, ())
        log.info("pool that no ENI needs deleted", pool=pool.name)
        return True

    # --- What is reported ------------------------------------------------------------------------------------------

    def _report(self, eni: str, pool: SpiderIPPool, claim: ENIClaim | None, unregistered: tuple[SpiderIP, ...]) -> None:
        """Record events on addresses that have become unregistered since the last report, or are registered again."""
        before = self._reported.pop(pool.name, {})
        now = {record.metadata.uid or record.name: record for record in unregistered}
        for uid in now.keys() - before.keys():
            text = unregistered_text(now[uid], claim, eni)
            self._record_event(pool, now[uid], event_reasons.ADDRESS_NOT_REGISTERED, text)
        held = {record.metadata.uid for record in self._ips_by_pool.get(pool.name)}
        for uid in (before.keys() - now.keys()) & held:
            message = f"{before[uid].spec.address.partition('/')[0]} is registered on ENI {eni} again"
            self._record_event(pool, before[uid], event_reasons.ADDRESS_REGISTERED, message)
        if now:
            self._reported[pool.name] = now

    def _record_event(
        self, pool: SpiderIPPool, record: SpiderIP, reason: EventReason[SpiderIPPool | Pod], message: str
    ) -> None:
        """Record an event on the pool and on the pod of a record."""
        meta = ObjectMeta(name=record.spec.pod, namespace=record.spec.namespace, uid=record.spec.podUID)
        for obj in (pool, Pod(metadata=meta)):
            self._recorder.event(obj, reason, message)
        log.warning("address", pool=pool.name, reason=reason.name, message=message)

    def _warn(self, key: str, objects: Sequence[T], reason: EventReason[T], message: str) -> None:
        """Record a warning event on objects and log it, unless ``key`` had the same message last."""
        if self._complaints.get(key) != message:
            self._complaints[key] = message
            for obj in objects:
                self._recorder.event(obj, reason, message)
            log.warning("ENI without its pool or network", key=key, reason=reason.name, message=message)


def _part(node: Node) -> tuple[object, ...]:
    """The parts of a Node that decide about its ENIs; most events are heartbeats."""
    return node.metadata.uid, node.ready, (node.metadata.annotations or {}).get(ASSIGNED_ANNOTATION)


def _enis_of(server: SpiderServer) -> set[str]:
    """IDs of the ENIs that a node reports."""
    return {eni.identity for eni in server.spec.enis}


def _reporter_of(network: SpiderMultusConfig) -> list[str]:
    """The label of the node of whose report a network was made; empty for other networks."""
    node = (network.metadata.labels or {}).get(NODE_LABEL)
    return [node] if node else []


def _nodes_of_eni_pool(pool: SpiderIPPool) -> list[str]:
    """The nodes of a pool that was made for an ENI."""
    return (pool.spec.nodeName or []) if pool.eni else []


def _relevant(pool: SpiderIPPool) -> tuple[object, ...]:
    """The parts of a pool that its reconciliation depends on."""
    metadata = pool.metadata
    return pool.spec, metadata.labels, metadata.annotations, metadata.deletionTimestamp
