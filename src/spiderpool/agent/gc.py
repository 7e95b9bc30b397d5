"""Removes everything of ours that belongs to no sandbox: by the CNI command GC, and by itself every minute.

Few runtimes call GC, and none repeats a DEL that follows a failed ADD. So the agent removes by itself what it knows to
be garbage: sandboxes whose network namespace is gone. Of sandboxes that have one, only the runtime can say that they
are garbage, and only of those of the network list that it names.

Every removal is tried, then all failures are raised together. An address is released only when neither the cached pods
nor a fresh read show a pod that holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from spiderpool.agent import interfaces
from spiderpool.agent.addresses import PodAddresses
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.failures import noted
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.agent.sandboxes import on_file
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam import node_gc
from spiderpool.core.network.coordinator import rule_table
from spiderpool.core.network.plumbing.sweeping import plan_sweep
from spiderpool.errors import ApiUnavailable, SpiderpoolError, is_bug, raise_all
from spiderpool.telemetry import logger

Attachments = Collection[tuple[str, str]]
"""(container ID, interface) of each valid attachment."""

PERIOD = 60.0
"""Seconds between two searches for sandboxes whose network namespace is gone."""

log = logger("garbage")


class NodeGC:
    """Removes what deleted pods have left on this node."""

    def __init__(
        self,
        cluster: ClusterCache,
        addresses: PodAddresses,
        attacher: Attacher,
        coordinator: CoordinatorPlugin,
        ipam: IPAMPlugin,
    ) -> None:
        self._cluster = cluster
        self._ipam = ipam
        self._addresses = addresses
        self._attacher = attacher
        self._coordinator = coordinator

    async def run(self) -> None:
        """Remove what is left of sandboxes whose network namespace is gone, now and every minute, until cancelled."""
        while True:
            try:
                await self._forget_gone()
            except Exception as error:
                facts = {"error": str(error), "details": getattr(error, "details", "")}
                log.warning("sandboxes that are gone not collected", **facts, exc_info=is_bug(error))
            await asyncio.sleep(PERIOD)

    async def collect(self, network: str, valid: Attachments | None) -> None:
        """GC of ``spiderpool-attach``: sandboxes of a list, veth pairs and routes, addresses. Raises all failures.

        ``valid`` are the list's attachments to keep; None: the runtime names none, so all that have a namespace stay.
        """
        failures = await self._collect_gone()
        containers = {container for container, _ in valid or ()}
        with noted(failures):
            if valid is not None:
                failures += await self._attacher.collect(network, containers)
        failures += await self._sweep(containers)
        with noted(failures):
            failures += await self._release_orphans()
        raise_all(failures)

    async def collect_coordinated(self, network: str, valid: Attachments | None) -> None:
        """GC of ``coordinator``: the veth pairs of one network's pods, as `collect`. Raises all failures."""
        failures: list[SpiderpoolError] = []
        with noted(failures):
            failures += await self._coordinator.collect_gone()
        with noted(failures):
            if valid is not None:
                failures += await self._coordinator.collect(network, valid)
        raise_all(failures)

    async def collect_addresses(self) -> None:
        """GC of ``spiderpool``: addresses. Raises all failures."""
        raise_all(await self._release_orphans())

    async def _forget_gone(self) -> None:
        """Remove what is left of sandboxes that are gone, and forget containers. Raises all failures."""
        failures: list[SpiderpoolError] = []
        with noted(failures):
            failures += self._ipam.forget_gone()
        failures += await self._collect_gone()
        raise_all(failures)

    async def _collect_gone(self) -> list[SpiderpoolError]:
        failures: list[SpiderpoolError] = []
        for collect_gone in (self._attacher.collect_gone, self._coordinator.collect_gone):
            with noted(failures):
                failures += await collect_gone()
        return failures

    async def _sweep(self, containers: set[str]) -> list[SpiderpoolError]:
        """Remove veth pairs and routes of pods that are gone; the failures.

        The kernel is read first, then the files: a sandbox has its file before its interfaces, so none is missed.
        """
        failures: list[SpiderpoolError] = []
        with noted(failures):
            observed = await interfaces.pod_paths([rule_table(self._cluster.coordinator())])
            existing = {*containers, *self._coordinator.containers()}
            existing |= {sandbox.container_id for sandbox in self._attacher.sandboxes()}
            living = set(node_gc.addresses_in_use(self._records(), self._cluster.pods.items(), self._attached()))
            steps = plan_sweep(observed, existing, living)
            await interfaces.remove_paths(steps)
            if steps:
                log.info("swept", steps=[str(step) for step in steps])
        return failures

    async def _release_orphans(self) -> list[SpiderpoolError]:
        """Release addresses without a pod. Stops if the API server does not answer: then no pod is known to be gone."""
        failures: list[SpiderpoolError] = []
        for record in node_gc.orphans(self._records(), self._cluster.pods.items(), self._attached()):
            with noted(failures):
                await self._release_unless_held(record)
            if any(isinstance(each, ApiUnavailable) for each in failures):
                break
        return failures

    async def _release_unless_held(self, record: SpiderIP) -> None:
        if not await self._cluster.is_held(record):
            log.info("collected", address=record.spec.address, pod=record.spec.pod, uid=record.spec.podUID)
            await self._addresses.release_orphan(record)

    def _records(self) -> list[SpiderIP]:
        return self._cluster.records.informer.items()

    def _attached(self) -> set[str]:
        """UIDs of the pods of all sandboxes that have a file and a network namespace."""
        attached = {on_file(each).pod.uid for each in self._attacher.living()}
        return attached | self._ipam.pods_with_sandbox()
