"""Tasks that keep the node's network correct while pods run.

They update the pods' routes when addresses of the node or of Services change, make again what another program removes
of the node's rules and routes, keep the rules that masquerade what pods send to Services, tune the node's NICs, and
report faults as Events.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from spiderpool.agent import interfaces
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.node_faults import NodeFaults
from spiderpool.api import event_reasons
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.network.coordinator import rule_table
from spiderpool.core.network.node_addresses import known_subnets, misplaced
from spiderpool.core.network.plumbing.lasting_faults import FaultHistory
from spiderpool.core.network.plumbing.nics import NIC_TABLES, diagnose, nics_with_gateways
from spiderpool.core.network.plumbing.values import Address, Network
from spiderpool.errors import SpiderpoolError, is_bug
from spiderpool.kernel import masquerade, sources
from spiderpool.kernel.events import address_changes, routing_losses
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.rules import RuleSet
from spiderpool.kube.events import Recorder
from spiderpool.telemetry import logger

BATCH = 0.5
"""Seconds between two passes over all pods: addresses that change together are told together."""
LOOK = 60.0
"""Seconds between two looks at the node's NICs, and whether the rules for connections to Services are complete."""
PASS = 300.0
"""Seconds between two passes over all pods where nothing is known to have changed."""
SETTLING = 30.0
"""Seconds that a fault lasts before it is reported on a node that we tune: pools with gateways may be on their way."""
PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds before a retry; the tuning of NICs doubles its pause after each failure, up to the longest."""

log = logger("upkeep")


@dataclass(frozen=True, slots=True)
class Tuning:
    """Whether to tune the node's NICs, and the file that records that we did.

    Rules and tables with our numbers may belong to the administrator, so we undo them only if the file exists.
    """

    enabled: bool
    marker: Path


class NodeNetwork:
    """Follows the node's addresses and, if tuning is enabled, the gateways of its NICs."""

    def __init__(
        self,
        cluster: ClusterCache,
        attacher: Attacher,
        coordinator: CoordinatorPlugin,
        recorder: Recorder,
        tuning: Tuning,
    ) -> None:
        self._cluster = cluster
        self._attacher = attacher
        self._coordinator = coordinator
        self._tuning = tuning
        self._stale = asyncio.Event()  # set when addresses of the node or of Services have changed: update the pods
        self._services: object = None  # the addresses and CIDRs of Services that were seen last
        self._tables: set[int] = set()  # the node's tables with routes to pods
        self._changed = asyncio.Event()  # set when addresses or gateways have changed: check the NICs
        self._history = FaultHistory()  # of the faults of the last diagnosis
        self._faults = NodeFaults(lambda: cluster.nodes.get(cluster.node_name), recorder)
        self._restored = 0  # rules and routes that were made again and of which no Event tells yet

    async def run(self) -> None:
        """Work until cancelled. The pool cache must be synced before, or tuning would remove the NICs' gateways."""
        self._cluster.coordinators.subscribe(self._coordinator_changed)
        self._cluster.subscribe_to_pools(self._pool_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_addresses())
            group.create_task(self._follow_losses())
            group.create_task(self._update_pods())
            group.create_task(_keep(masquerade.RULES, "pods do not reach all endpoints of Services"))
            group.create_task(_keep(sources.RULES, "pods can send under false source addresses"))
            group.create_task(self._tune_nics())

    async def _follow_addresses(self) -> None:
        """Update all pods after every change, and at the start: addresses may have changed while no agent ran."""
        while True:
            try:
                async for _ in address_changes(at_once=True):
                    self._stale.set()
                    self._changed.set()
            except Exception as error:
                facts = {"error": str(error), "pause": PAUSE}
                log.warning("addresses of the node not followed", **facts, exc_info=is_bug(error))
            await asyncio.sleep(PAUSE)

    async def _follow_losses(self) -> None:
        """Look at all pods and NICs after another program has removed rules or routes, but not all the time."""
        while True:
            try:
                async for _ in routing_losses(self._is_our_table):
                    self._stale.set()
                    self._changed.set()
                    await asyncio.sleep(PAUSE)
            except Exception as error:
                log.warning("routes of the node not followed", error=str(error), pause=PAUSE, exc_info=is_bug(error))
            await asyncio.sleep(PAUSE)

    def _is_our_table(self, table: int) -> bool:
        return table in NIC_TABLES or table in self._tables

    def _coordinator_changed(self, _: SpiderCoordinator | None, __: SpiderCoordinator | None) -> None:
        coordinator = self._cluster.coordinator()
        status = coordinator.status if coordinator else None
        services = (status.serviceAddresses, status.serviceCIDR) if status else None
        if services != self._services:
            self._services = services
            self._stale.set()

    def _pool_changed(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """Check the NICs when a gateway has changed; most changes of pools concern other fields."""
        before, after = ((pool.spec.subnet, pool.spec.gateway) if pool else None for pool in (old, new))
        if self._tuning.enabled and before != after:
            self._changed.set()

    async def _update_pods(self) -> None:
        """Update all pods when something has changed, and now and then: not all that goes is told."""
        while True:
            await _set_or_timeout(self._stale, PASS)
            self._stale.clear()
            pause = BATCH
            try:
                self._tables = self._rule_tables()
                self._report_restored(await self._attacher.refresh() + await self._coordinator.refresh())
            except Exception as error:
                log.warning("routes of pods not updated", error=str(error), pause=PAUSE, exc_info=is_bug(error))
                self._stale.set()
                pause = PAUSE
            await asyncio.sleep(pause)

    def _rule_tables(self) -> set[int]:
        tables = {each.host_rule_table for sandbox in self._attacher.sandboxes() for each in sandbox.interfaces}
        return {rule_table(self._cluster.coordinator()), *tables} - {0}

    def _report_restored(self, count: int) -> None:
        if count:
            log.warning("restored", count=count)
        self._restored += count
        message = (
            f"{self._restored} rules and routes of this node to its pods were missing and have been made again: let"
            " systemd-networkd, or whichever program removed them, leave those of others alone"
        )
        if self._restored and self._faults.report(event_reasons.NODE_ROUTES_RESTORED, message):
            self._restored = 0

    async def _tune_nics(self) -> None:
        """Tune and diagnose at the start, after every change, every minute, and again after a failure."""
        pause = PAUSE
        while True:
            self._changed.clear()
            try:
                await self._tune_and_diagnose()
                pause = PAUSE
                await _set_or_timeout(self._changed, LOOK)
            except Exception as error:
                log.warning("NICs of the node not tuned", error=str(error), pause=pause, exc_info=is_bug(error))
                await _set_or_timeout(self._changed, pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _tune_and_diagnose(self) -> None:
        """Diagnose whether or not the node can be tuned; that it cannot is a fault itself. Raises that error."""
        try:
            await self._apply_tuning()
        except Exception as error:
            await self._diagnose(error.message if isinstance(error, SpiderpoolError) else repr(error))
            raise
        await self._diagnose()

    async def _apply_tuning(self) -> None:
        """Tune the NICs if enabled; otherwise undo an earlier tuning."""
        marker = self._tuning.marker
        if self._tuning.enabled:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch(mode=0o600)
            nics = nics_with_gateways(await interfaces.node_state(), self._gateways())
            self._history = self._history.tuned(nics, asyncio.get_running_loop().time())
            await interfaces.tune_node(nics)
        elif marker.exists():
            steps = await interfaces.untune_node()
            marker.unlink(missing_ok=True)
            log.info("tuning of the node's NICs undone", steps=len(steps))

    def _gateways(self) -> dict[Network, Address]:
        """Subnet → gateway, by the pools."""
        gateways: dict[Network, Address] = {}
        for pool in sorted(self._cluster.pools(), key=lambda pool: pool.name):
            if pool.spec.gateway:
                try:
                    gateways[ip_network(pool.spec.subnet, strict=False)] = ip_address(pool.spec.gateway)
                except ValueError as error:  # written past the admission webhook, so it may be malformed
                    log.debug("gateway of malformed pool ignored", pool=pool.name, error=str(error))
        return gateways

    async def _diagnose(self, failed: str = "") -> None:
        """Report faults of the node's network, and addresses of pods that the node has; ``failed``: why not tuned."""
        state, now = await interfaces.node_state(), asyncio.get_running_loop().time()
        subnets = known_subnets(self._cluster.pools(), self._cluster.server())
        faults = diagnose(state, subnets, tuning=self._tuning.enabled, failed=failed)
        self._history = self._history.next(faults, now)
        lasting = self._history.lasting(SETTLING if self._tuning.enabled else 0.0, now)
        self._faults.look(event_reasons.NODE_NETWORK_FAULT, {fault: fault for fault in lasting}, now)
        cluster = self._cluster
        records = cluster.records.informer.items()
        found = misplaced(state.addresses, cluster.pools(), records, cluster.reserved)
        self._faults.look(event_reasons.POD_ADDRESS_ON_NODE, found, now)


async def _keep(rules: RuleSet, consequence: str) -> None:
    """Load the rules, and again what another program has removed; soon after kube-proxy had them locked."""
    retry = PAUSE
    while True:
        try:
            await run_inside(None, rules.load)
            pause, retry = LOOK, PAUSE
        except Exception as error:
            pause, retry = retry, min(2 * retry, LOOK)
            log.warning(consequence, error=str(error), pause=pause, exc_info=is_bug(error))
        await asyncio.sleep(pause)


async def _set_or_timeout(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for so long at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
