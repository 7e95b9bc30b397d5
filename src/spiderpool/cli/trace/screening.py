"""What nobody can read in the objects of a cluster is left out of a trace, each with a note.

The API server admits what the schema admits, and of other kinds what their makers write: an InternalIP that is a
name, a subnet with host bits. One such object must not end the traces of all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

from msgspec.structs import replace

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Node, Pod, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.spiderserver import ENI, SpiderServer
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.core.ipam.allocation import usable

O = TypeVar("O", bound=Object)  # noqa: E741
Parse = Callable[[str], Any]
ADDRESS_TYPES = ("IPv4", "IPv6")
"""Kinds of EndpointSlices whose endpoints are addresses; others have names."""


def screened(objects: ClusterObjects) -> ClusterObjects:
    """The objects without what cannot be understood, and with a note of each such text."""
    screen = _Screen()
    found = dataclasses.replace(
        objects,
        pods=_each(objects.pods, screen.pod),
        nodes=_each(objects.nodes, screen.node),
        records=tuple(kept for each in objects.records if (kept := screen.record(each)) is not None),
        pools=_each(objects.pools, screen.pool),
        servers=_each(objects.servers, screen.server),
        services=_each(objects.services, screen.service),
        slices=tuple(map(screen.slice, objects.slices)),
        coordinator=screen.coordinator(objects.coordinator) if objects.coordinator else None,
    )
    return dataclasses.replace(found, notes=(*objects.notes, *dict.fromkeys(screen.notes)))


def _each(objects: Mapping[str, O], screen: Callable[[O], O | None]) -> dict[str, O]:
    return {key: kept for key, each in objects.items() if (kept := screen(each)) is not None}


def loose_network(text: str) -> Any:
    """A subnet as Kubernetes reads it, with host bits or without. Raises ValueError."""
    return ip_network(text.strip(), strict=False)


class _Screen:
    """Leaves out texts, and notes them."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def _reads(self, text: str, parse: Parse, where: str) -> bool:
        try:
            parse(text)
        except ValueError as error:
            self.notes.append(f"{where} cannot be understood, and is left out: {error}")
            return False
        return True

    def _kept(self, texts: Iterable[str] | None, parse: Parse, where: str) -> list[str] | None:
        return None if texts is None else [text for text in texts if self._reads(text, parse, where)]

    def _one(self, text: str | None, parse: Parse, where: str) -> str | None:
        return text if text and self._reads(text, parse, where) else None

    def pod(self, pod: Pod) -> Pod:
        where = f"an address in the status of pod {pod.key}"
        ips = [each for each in pod.status.podIPs or () if not each.ip or self._reads(each.ip, ip_address, where)]
        return pod if len(ips) == len(pod.status.podIPs or ()) else replace(pod, status=replace(pod.status, podIPs=ips))

    def node(self, node: Node) -> Node:
        listed = node.status.addresses or []
        where = f"an InternalIP of node {node.name}"
        held = [each for each in listed if each.type != "InternalIP" or self._reads(each.address, ip_address, where)]
        return node if len(held) == len(listed) else replace(node, status=replace(node.status, addresses=held))

    def record(self, record: SpiderIP) -> SpiderIP | None:
        where = f"the address of SpiderIP {record.name}"
        return record if self._reads(record.spec.address, ip_interface, where) else None

    def pool(self, pool: SpiderIPPool) -> SpiderIPPool | None:
        where, spec = f"pool {pool.name}", pool.spec
        if not self._reads(spec.subnet, ip_network, where):
            return None
        gateway = self._one(spec.gateway, ip_address, f"the gateway of {where}")
        of_routes = f"a route of {where}"
        routes = [
            each
            for each in spec.routes or ()
            if self._reads(each.dst, loose_network, of_routes) and self._reads(each.gw, ip_address, of_routes)
        ]
        kept = replace(pool, spec=replace(spec, gateway=gateway, routes=routes if spec.routes is not None else None))
        if self._reads(spec.subnet, lambda _: usable(kept), f"ips and excludeIPs of {where}"):
            return kept
        return replace(kept, spec=replace(kept.spec, ips=[], excludeIPs=[]))

    def server(self, server: SpiderServer) -> SpiderServer:
        found = [self._eni(eni, f"ENI {eni.identity} of server {server.name}") for eni in server.spec.enis]
        return replace(server, spec=replace(server.spec, enis=tuple(eni for eni in found if eni is not None)))

    def _eni(self, eni: ENI, where: str) -> ENI | None:
        if not self._reads(eni.primary_address, ip_address, f"the primary address of {where}"):
            return None
        readable = self._reads(eni.subnet, ip_network, f"the subnet of {where}")
        return replace(
            eni,
            subnet=eni.subnet if readable else "",
            subnet6=self._one(eni.subnet6, ip_network, f"the IPv6 subnet of {where}"),
            gateway=self._one(eni.gateway, ip_address, f"the gateway of {where}"),
            gateway6=self._one(eni.gateway6, ip_address, f"the IPv6 gateway of {where}"),
            addresses=tuple(self._kept(eni.addresses, ip_address, f"an address of {where}") or ()),
            ipv6_addresses=tuple(self._kept(eni.ipv6_addresses, ip_address, f"an address of {where}") or ()),
        )

    def service(self, service: Service) -> Service:
        where, spec = f"an address of Service {service.key}", service.spec
        ranges = f"an entry of spec.loadBalancerSourceRanges of Service {service.key}"
        ingress = service.status.loadBalancer.ingress
        published = [each for each in ingress or () if not each.ip or self._reads(each.ip, ip_address, where)]
        kept = replace(
            spec,
            clusterIP=spec.clusterIP if spec.clusterIP == "None" else self._one(spec.clusterIP, ip_address, where),
            clusterIPs=self._kept(spec.clusterIPs, _cluster_ip, where),
            externalIPs=self._kept(spec.externalIPs, ip_address, where),
            loadBalancerSourceRanges=self._kept(spec.loadBalancerSourceRanges, loose_network, ranges),
        )
        balancer = replace(service.status.loadBalancer, ingress=published if ingress is not None else None)
        return replace(service, spec=kept, status=replace(service.status, loadBalancer=balancer))

    def slice(self, slice_: EndpointSlice) -> EndpointSlice:
        if slice_.addressType not in ADDRESS_TYPES:
            return slice_
        where = f"an endpoint of EndpointSlice {slice_.key}"
        found = [
            replace(each, addresses=self._kept(each.addresses, ip_address, where) or [])
            for each in slice_.endpoints or ()
        ]
        return replace(slice_, endpoints=found)

    def coordinator(self, coordinator: SpiderCoordinator) -> SpiderCoordinator:
        status = coordinator.status
        if status is None:
            return coordinator
        where = "a network in the status of the SpiderCoordinator"
        kept = replace(
            status,
            overlayPodCIDR=self._kept(status.overlayPodCIDR, ip_network, where),
            serviceCIDR=self._kept(status.serviceCIDR, ip_network, where),
            serviceAddresses=self._kept(status.serviceAddresses, ip_address, where),
        )
        return replace(coordinator, status=kept)


def _cluster_ip(text: str) -> Any:
    return text if text == "None" else ip_address(text)
