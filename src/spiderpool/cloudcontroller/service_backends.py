"""Collects what the servers of a Service's balancer are made from: nodes, EndpointSlices and the ENIs of pods."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from spiderpool.api.core_v1 import Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.cloud.loadbalancers import ENIFinder
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.core.cloud.loadbalancer import backends
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import uses_pods
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration


class ServiceBackends:
    """The servers of Services, of which the cloud is asked for the ENIs that no node reports.

    ``again`` has a Service reconciled after so many seconds.
    """

    def __init__(
        self,
        listers: ServiceListers,
        finder: ENIFinder,
        configuration: BalancerConfiguration,
        timings: ServiceTimings,
        again: Callable[[str, float], None],
    ) -> None:
        self._nodes = listers.nodes
        self._servers = listers.servers
        self._finder = finder
        self._configuration = configuration
        self._timings = timings
        self._again = again
        self._slices = listers.slices.index(lambda item: [key] if (key := service_of(item)) else [])  # Service key
        self._enis: dict[str, tuple[str, float]] = {}  # pod address → ENI by the cloud, and until when it is valid
        self._ready_since: dict[str, dict[str, float]] = {}  # Service key → address of a ready pod → first seen so
        listers.services.subscribe(self._on_service)

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        if old is not None and new is None:
            self._ready_since.pop(old.key, None)

    async def snapshot(self, service: Service, options: BalancerOptions) -> BackendSnapshot:
        """Returns the nodes, the Service's endpoints and, where pods are the servers, the ENIs of their addresses."""
        slices = self._slices.get(service.key)
        enis: Mapping[str, str] = {}
        if uses_pods(options, self._configuration):
            enis = await self._enis_of(backends.pod_addresses(service.spec.ports or (), slices, options))
        return BackendSnapshot(self._nodes.items(), slices, enis, self._settling(service, slices, options))

    def _settling(
        self, service: Service, slices: Collection[EndpointSlice], options: BalancerOptions
    ) -> frozenset[str]:
        """Returns the addresses of ready pods that the balancer may not have found well yet.

        Has the Service reconciled again when it has, if a pod that is ending waits for that.
        """
        known, now = self._ready_since.get(service.key), self._timings.clock()
        # Pods of a Service that was never looked at may have been servers for long.
        first = -math.inf if known is None else now
        since = {address: (known or {}).get(address, first) for address in backends.ready_addresses(slices)}
        self._ready_since[service.key] = since
        duration = backends.settling_time(options)
        settling = {address: moment + duration - now for address, moment in since.items() if moment + duration > now}
        if settling and backends.has_ending(slices):
            self._again(service.key, min(settling.values()))
        return frozenset(settling)

    async def _enis_of(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Returns the ENIs of addresses as nodes report them, the others as the cloud answers, which is cached."""
        reported = backends.reported_enis(map(self._servers.of, self._nodes.items()))
        now = self._timings.clock()
        cached = {address: eni for address, (eni, until) in self._enis.items() if until > now}
        unknown = [address for address in addresses if address not in reported and address not in cached]
        answered = await self._finder.holders(unknown) if unknown else {}
        until = now + self._timings.period
        self._enis = {key: self._enis[key] for key in cached} | {key: (answered[key], until) for key in answered}
        return {**cached, **answered, **reported}


def service_of(item: EndpointSlice) -> str | None:
    """Returns the key of the Service that an EndpointSlice belongs to; None when it belongs to none."""
    name = (item.metadata.labels or {}).get(SERVICE_LABEL)
    return f"{item.metadata.namespace}/{name}" if name else None
