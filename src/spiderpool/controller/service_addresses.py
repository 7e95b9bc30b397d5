"""Writes into the status of SpiderCoordinators which addresses of Services pods reach through their node.

Agents watch SpiderCoordinators anyway; thousands of them need not watch all Services and Nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from spiderpool.api import event_reasons
from spiderpool.api.coordinator import EXTERNAL_IP, LOAD_BALANCER, SpiderCoordinator
from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.core.network.service_addresses import (
    PoolAddresses,
    ServiceAddress,
    addresses_of,
    bounded,
    has_address,
    objection,
)
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

KINDS = (LOAD_BALANCER, EXTERNAL_IP)
DEBOUNCE, DEBOUNCE_PER_ADDRESS = 0.5, 0.002
"""Seconds from the first change to the write, and more for each address that every agent is then sent."""

QUOTED = 5
"""Refused addresses of a Service that its Event names."""

log = logger("service-addresses")


@dataclass(frozen=True, slots=True)
class ServiceAddressListers:
    """The caches from which the addresses are computed."""

    coordinators: Informer[SpiderCoordinator]
    services: Informer[Service]
    nodes: Informer[Node]
    servers: Informer[SpiderServer]
    pools: Informer[SpiderIPPool]


class ServiceAddressReconciler:
    """Writes ``status.serviceAddresses`` of every SpiderCoordinator that has a status."""

    def __init__(self, client: Client, listers: ServiceAddressListers, recorder: Recorder) -> None:
        self._client = client
        self._coordinators = listers.coordinators
        self._services = listers.services
        self._recorder = recorder
        self._queue = WorkQueue(self._reconcile, "service-addresses")
        self._reported: dict[str, dict[str, str]] = {}  # SpiderCoordinator → Service → what its last Event reported
        self._written = 0  # addresses of the last write
        self._node_addresses = listers.nodes.index(_addresses_of_node, lambda node: node.name)
        self._server_addresses = listers.servers.index(_addresses_of_server, lambda server: server.name)
        self._pools_by_subnet = listers.pools.index(lambda pool: [pool.spec.subnet], PoolAddresses.of)
        listers.coordinators.subscribe(self._on_coordinator)
        self._follow(listers.services, _served)
        self._follow(listers.nodes, _addresses_of_node)
        self._follow(listers.servers, _addresses_of_server)
        self._follow(
            listers.pools, lambda pool: (pool.spec.subnet, pool.spec.ips, pool.spec.excludeIPs, pool.spec.gateway)
        )

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    def _follow(self, informer: Informer[Any], part: Any) -> None:
        """Reconcile when the part of an object that counts has changed."""

        def changed(old: Any, new: Any) -> None:
            if (part(old) if old is not None else None) != (part(new) if new is not None else None):
                self._touch_all()

        informer.subscribe(changed)

    def _on_coordinator(self, _: SpiderCoordinator | None, new: SpiderCoordinator | None) -> None:
        if new is not None:
            self._queue.add(new.name, DEBOUNCE)

    def _touch_all(self) -> None:
        for coordinator in self._coordinators.items():
            self._queue.add(coordinator.name, DEBOUNCE + DEBOUNCE_PER_ADDRESS * self._written)

    async def _reconcile(self, name: str) -> None:
        """Write the addresses of a SpiderCoordinator if they differ. Its phase is written first, which is required."""
        coordinator = self._coordinators.get(name)
        if coordinator is None or coordinator.status is None:
            return
        kinds = coordinator.spec.serviceAddresses if coordinator.spec else None
        addresses, left_out = bounded(list(self._routed(name, KINDS if kinds is None else kinds)))
        self._written = len(addresses)
        if addresses == coordinator.status.serviceAddresses:
            return
        body = {"status": {"serviceAddresses": addresses}}
        with suppress(NotFound):
            await self._client.patch(SpiderCoordinator, name, body, sub="status")
        if left_out:
            text = f"{left_out} addresses of Services are not reached from pods, as there are too many"
            self._recorder.event(coordinator, event_reasons.ADDRESS_NOT_ROUTED, text)
        log.info("addresses of Services", coordinator=name, addresses=len(addresses), left_out=left_out)

    def _routed(self, coordinator: str, kinds: Collection[str]) -> Iterator[ServiceAddress]:
        """The addresses that pods may reach through their node; an Event tells of the others, but of nodes' own."""
        reported, before = dict[str, str](), self._reported.get(coordinator, {})
        for service in self._services.items():
            refused = []
            for found in addresses_of(service, kinds):
                if str(found.address) in self._node_addresses or str(found.address) in self._server_addresses:
                    continue  # pods reach it on that node, whose kube-proxy serves it as well
                reason = objection(found, self._pools_with(found))
                if reason is None:
                    yield found
                else:
                    refused.append(f"{found.address} through their node: {reason}")
            if refused:
                reported[service.key] = _sentence(refused)
                if reported[service.key] != before.get(service.key):
                    self._recorder.event(service, event_reasons.ADDRESS_NOT_ROUTED, reported[service.key])
        self._reported[coordinator] = reported

    def _pools_with(self, found: ServiceAddress) -> Iterator[PoolAddresses]:
        for subnet in self._pools_by_subnet:
            if has_address(subnet, found.address):
                yield from self._pools_by_subnet.get(subnet)


def _sentence(refused: Sequence[str]) -> str:
    more = len(refused) - QUOTED
    return f"pods do not reach {'; '.join(refused[:QUOTED])}" + (f"; and {more} more" if more > 0 else "")


def _served(service: Service) -> tuple[ServiceAddress, ...]:
    return tuple(addresses_of(service, KINDS))


def _addresses_of_node(node: Node) -> tuple[str, ...]:
    return tuple(each.address for each in node.status.addresses or ())


def _addresses_of_server(server: SpiderServer) -> tuple[str, ...]:
    """The addresses of its ENIs that are its own, and no pod's."""
    return tuple(eni.primary_address for eni in server.spec.enis)
