"""Tasks that keep the node's network correct while pods run.

They update the pods' routes when addresses of the node or of Services change, keep the rules that masquerade what pods
send to Services, tune the node's NICs, and report faults as Events.
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
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.core.network.plumbing.nics import nics_with_gateways
from spiderpool.core.network.plumbing.values import Address, Network
from spiderpool.errors import is_bug
from spiderpool.kernel import masquerade
from spiderpool.kernel.events import address_changes
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kube.events import Recorder
from spiderpool.telemetry import logger

EVENT_FAULT = "NodeNetworkFault"
BATCH = 0.5
"""Seconds between two passes over all pods: addresses that change together are told together."""
LOOK = 60.0
"""Seconds between two looks whether the rules for pods' connections to Services are complete."""
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
        self._recorder = recorder
        self._tuning = tuning
        self._stale = asyncio.Event()  # set when addresses of the node or of Services have changed: update the pods
        self._services: list[str] | None = None  # the addresses of Services that were seen last
        self._changed = asyncio.Event()  # set when addresses or gateways have changed: check the NICs
        self._reported: tuple[str, ...] = ()  # the faults of the last diagnosis: each is reported once

    async def run(self) -> None:
        """Work until cancelled. The pool cache must be synced before, or tuning would remove the NICs' gateways."""
        self._cluster.coordinators.subscribe(self._coordinator_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_addresses())
            group.create_task(self._update_pods())
            group.create_task(self._keep_masquerade())
            group.create_task(self._follow_pools())
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

    def _coordinator_changed(self, _: SpiderCoordinator | None, __: SpiderCoordinator | None) -> None:
        coordinator = self._cluster.coordinator()
        services = coordinator.status.serviceAddresses if coordinator and coordinator.status else None
        if services != self._services:
            self._services = services
            self._stale.set()

    async def _update_pods(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            pause = BATCH
            try:
                await self._attacher.refresh()
                await self._coordinator.refresh()
            except Exception as error:
                log.warning("routes of pods not updated", error=str(error), pause=PAUSE, exc_info=is_bug(error))
                self._stale.set()
                pause = PAUSE
            await asyncio.sleep(pause)

    async def _keep_masquerade(self) -> None:
        """Load the rules, and again what another program has removed."""
        while True:
            try:
                await run_inside(None, masquerade.load)
            except Exception as error:
                facts = {"error": str(error), "pause": LOOK}
                log.warning("pods do not reach all endpoints of Services", **facts, exc_info=is_bug(error))
            await asyncio.sleep(LOOK)

    async def _follow_pools(self) -> None:
        """Check the NICs when a gateway has changed; most changes of pools concern other fields."""
        while self._tuning.enabled:
            change, known = self._cluster.pool_change(), self._gateways()
            await change.wait()
            if self._gateways() != known:
                self._changed.set()

    async def _tune_nics(self) -> None:
        """Tune and diagnose at the start, after every change, and again after a failure; repeating is safe."""
        pause = PAUSE
        while True:
            self._changed.clear()
            try:
                await self._apply_tuning()
                await self._diagnose()
                await self._changed.wait()
                pause = PAUSE
            except Exception as error:
                log.warning("cards of the node not tuned", error=str(error), pause=pause, exc_info=is_bug(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _apply_tuning(self) -> None:
        """Tune the NICs if enabled; otherwise undo an earlier tuning."""
        marker = self._tuning.marker
        if self._tuning.enabled:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch(mode=0o600)
            await interfaces.tune_node(nics_with_gateways(await interfaces.node_state(), self._gateways()))
        elif marker.exists():
            steps = await interfaces.untune_node()
            marker.unlink(missing_ok=True)
            log.info("tuning of the node's cards undone", steps=len(steps))

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

    async def _diagnose(self) -> None:
        faults = await interfaces.diagnose_node()
        node = self._cluster.nodes.get(self._cluster.node_name)
        for fault in faults:
            if fault not in self._reported:
                log.warning("fault of the node's network", fault=fault)
                if node is not None:
                    self._recorder.event(node, "Warning", EVENT_FAULT, fault)
        self._reported = faults
