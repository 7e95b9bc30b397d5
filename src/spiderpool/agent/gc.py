"""The CNI command GC: removes everything of ours that belongs to no sandbox of the runtime.

Every removal is tried, then all failures are raised together. An address is released only when neither the cached pods
nor a fresh read show a pod that holds it.
"""

from __future__ import annotations

from collections.abc import Collection

from spiderpool.agent import interfaces
from spiderpool.agent.addresses import PodAddresses
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam import node_gc
from spiderpool.core.network.coordinator import rule_table
from spiderpool.errors import ApiUnavailable, SpiderpoolError, raise_all
from spiderpool.telemetry import logger

Attachments = Collection[tuple[str, str]]
"""(container ID, interface) of each valid attachment."""

log = logger("garbage")


class NodeGC:
    """Removes what deleted pods have left on this node."""

    def __init__(
        self, cluster: ClusterCache, addresses: PodAddresses, attacher: Attacher, coordinator: CoordinatorPlugin
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._attacher = attacher
        self._coordinator = coordinator

    async def collect(self, valid: Attachments) -> None:
        """GC of ``spiderpool-attach``: sandboxes, veth pairs and routes, addresses. Raises all failures."""
        containers = {container for container, _ in valid}
        failures = await self._attacher.collect(containers)
        failures += await self._sweep(containers)
        failures += await self._release_orphans()
        raise_all(failures)

    async def collect_coordinated(self, network: str, valid: Attachments) -> None:
        """GC of ``coordinator``: the veth pairs of one network's pods. Raises all failures."""
        raise_all(await self._coordinator.collect(network, valid))

    async def collect_addresses(self) -> None:
        """GC of ``spiderpool``: addresses. Raises all failures."""
        raise_all(await self._release_orphans())

    async def _sweep(self, containers: set[str]) -> list[SpiderpoolError]:
        """Remove veth pairs and routes of pods that are gone; the failures."""
        kept = {*containers, *self._coordinator.containers()}
        kept |= {sandbox.container_id for sandbox in self._attacher.sandboxes()}
        living = set(node_gc.addresses_in_use(self._records(), self._cluster.pods.items(), self._attached()))
        try:
            steps = await interfaces.sweep(kept, living, [rule_table(self._cluster.coordinator())])
        except SpiderpoolError as error:
            return [error]
        if steps:
            log.info("swept", steps=[str(step) for step in steps])
        return []

    async def _release_orphans(self) -> list[SpiderpoolError]:
        """Release addresses without a pod. Stops if the API server does not answer: then no pod is known to be gone."""
        for record in node_gc.orphans(self._records(), self._cluster.pods.items(), self._attached()):
            try:
                pod = await self._cluster.holder(record)
            except ApiUnavailable as error:
                return [error]
            if not node_gc.is_holder(pod, record):
                log.info("collected", address=record.spec.address, pod=record.spec.pod, uid=record.spec.podUID)
                await self._addresses.release_orphan(record)
        return []

    def _records(self) -> list[SpiderIP]:
        return self._cluster.records.informer.items()

    def _attached(self) -> set[str]:
        """UIDs of the pods of all sandboxes that have a file."""
        return {sandbox.pod.uid for sandbox in self._attacher.sandboxes() if sandbox.pod}
