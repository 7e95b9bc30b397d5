"""What is kept right on the node while pods live: what they know of its addresses, and how its NICs answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

from spiderpool.agent import interfaces
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.core.network.plumbing.nics import nics_of
from spiderpool.core.network.plumbing.values import Address, Network
from spiderpool.errors import SpiderpoolError
from spiderpool.kernel.events import address_changes
from spiderpool.kube.events import Recorder
from spiderpool.telemetry import logger

EVENT_FAULT = "NodeNetworkFault"
PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds before what failed is taken up again; the tuning of NICs waits twice as long after each failure."""

log = logger("upkeep")


class NodeNetwork:
    """Follows the node's addresses and, where ``tune`` says so, the gateways of its NICs."""

    def __init__(
        self,
        cluster: ClusterCache,
        attacher: Attacher,
        coordinator: CoordinatorPlugin,
        recorder: Recorder,
        *,
        tune: bool,
        mark: Path,
    ) -> None:
        self._cluster = cluster
        self._attacher = attacher
        self._coordinator = coordinator
        self._recorder = recorder
        self._tune = tune
        self._mark = mark
        """File that says that we tuned the node: rules and tables of the same numbers may be somebody else's."""
        self._changed = asyncio.Event()
        self._told: tuple[str, ...] = ()

    async def run(self) -> None:
        """Work until cancelled. The pools must be known by then: without them the NICs would lose their gateways."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_addresses())
            group.create_task(self._follow_pools())
            group.create_task(self._keep_nics())

    async def _follow_addresses(self) -> None:
        """At the start, since addresses may have changed while no agent was there, and whenever they change."""
        while True:
            try:
                async for _ in address_changes(at_once=True):
                    await self._attacher.refresh()
                    await self._coordinator.refresh()
                    self._changed.set()
            except SpiderpoolError as error:
                log.warning("addresses of the node not followed", error=str(error), pause=PAUSE)
            await asyncio.sleep(PAUSE)

    async def _follow_pools(self) -> None:
        """Pools tell the gateways of the NICs' subnets; most of their changes tell of other things."""
        while self._tune:
            change, known = self._cluster.pool_change(), self._gateways()
            await change.wait()
            if self._gateways() != known:
                self._changed.set()

    async def _keep_nics(self) -> None:
        """At the start, whenever something has changed, and again after a failure."""
        pause = PAUSE
        while True:
            self._changed.clear()
            try:
                await self._tuned()
                await self._diagnose()
                await self._changed.wait()
                pause = PAUSE
            except (SpiderpoolError, OSError) as error:
                log.warning("cards of the node not tuned", error=str(error), pause=pause)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _tuned(self) -> None:
        """What the setting wants: switched off, nothing of it is left."""
        if self._tune:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch(mode=0o600)
            await interfaces.tune_node(nics_of(await interfaces.node_state(), self._gateways()))
        elif self._mark.exists():
            steps = await interfaces.untune_node()
            self._mark.unlink(missing_ok=True)
            log.info("tuning of the node's cards undone", steps=len(steps))

    def _gateways(self) -> dict[Network, Address]:
        found: dict[Network, Address] = {}
        for pool in sorted(self._cluster.pools(), key=lambda pool: pool.name):
            if pool.spec.gateway:
                with suppress(ValueError):  # nobody has checked it who would have refused it
                    found[ip_network(pool.spec.subnet, strict=False)] = ip_address(pool.spec.gateway)
        return found

    async def _diagnose(self) -> None:
        faults = await interfaces.diagnose_node()
        node = self._cluster.nodes.get(self._cluster.node_name)
        for fault in faults:
            if fault not in self._told:
                log.warning("fault of the node's network", fault=fault)
                if node is not None:
                    self._recorder.event(node, "Warning", EVENT_FAULT, fault)
        self._told = faults
