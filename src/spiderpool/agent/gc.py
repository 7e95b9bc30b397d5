"""GC, as a runtime asks for it: take away what belongs to none of the sandboxes that it still has.

What failed is told at the end, and hinders nothing else. An address is only released when neither the local copy nor
a fresh read knows a pod that holds it.
"""

from __future__ import annotations

from collections.abc import Collection

from spiderpool.agent import interfaces
from spiderpool.agent.addresses import Addresses
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.api.cni import parse_args
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam.node_gc import addresses_in_use, is_holder, orphans
from spiderpool.core.network.coordinator import rule_table
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.telemetry import logger

Attachments = Collection[tuple[str, str]]
"""Container and interface of each."""

log = logger("garbage")


class NodeGC:
    """Collects what pods have left on this node."""

    def __init__(
        self, cluster: ClusterCache, addresses: Addresses, attacher: Attacher, coordinator: CoordinatorPlugin
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._attacher = attacher
        self._coordinator = coordinator

    async def collect(self, valid: Attachments) -> None:
        """All networks of pods: sandboxes, paths, addresses. Raises the first failure, the others in its details."""
        containers = {container for container, _ in valid}
        failures = await self._attacher.collect(containers)
        failures += await self._sweep(containers)
        failures += await self._release()
        _raise_any(failures)

    async def collect_coordinated(self, network: str, valid: Attachments) -> None:
        """The paths of one network's interfaces, where only the coordinator is ours. Raises as `collect`."""
        _raise_any(await self._coordinator.collect(network, valid))

    async def collect_addresses(self) -> None:
        """Addresses, where only those are ours. Raises as `collect`."""
        _raise_any(await self._release())

    async def _sweep(self, containers: set[str]) -> list[SpiderpoolError]:
        kept = {*containers, *self._coordinator.containers()}
        kept |= {sandbox.container_id for sandbox in self._attacher.sandboxes()}
        living = set(addresses_in_use(self._records(), self._cluster.pods.items(), self._attached()))
        try:
            steps = await interfaces.sweep(kept, living, [rule_table(self._cluster.coordinator())])
        except SpiderpoolError as error:
            return [error]
        if steps:
            log.info("swept", steps=[str(step) for step in steps])
        return []

    async def _release(self) -> list[SpiderpoolError]:
        """Give back what no pod holds; nothing once the API server does not answer, as then nothing is known."""
        for held in orphans(self._records(), self._cluster.pods.items(), self._attached()):
            try:
                pod = await self._cluster.holder(held)
            except ApiUnavailable as error:
                return [error]
            if not is_holder(pod, held):
                log.info("collected", address=held.spec.address, pod=held.spec.pod, uid=held.spec.podUID)
                await self._addresses.collect(held)
        return []

    def _records(self) -> list[SpiderIP]:
        return self._cluster.records.informer.items()

    def _attached(self) -> set[str]:
        """UIDs of pods that have a sandbox on file."""
        return {parse_args(each.cni_args).uid for each in self._attacher.sandboxes() if each.cni_args}


def _raise_any(failures: list[SpiderpoolError]) -> None:
    if failures:
        first, *others = failures
        first.details = "; ".join(filter(None, (first.details, *(each.message for each in others))))
        raise first
