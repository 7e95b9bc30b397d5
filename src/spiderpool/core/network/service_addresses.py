"""Which addresses of Services, beside ClusterIPs, pods reach through their node, where kube-proxy serves them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network

from spiderpool.api.coordinator import EXTERNAL_IP, LOAD_BALANCER
from spiderpool.api.core_v1 import Service
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.network.plumbing.foreign import owner_of
from spiderpool.core.network.plumbing.values import Address, ClusterRanges, is_global

LIMIT = 5_000
"""Addresses at most, in all: each is a route in each pod, and a line that every agent is sent at every change."""

CLOUD_SERVICES = IPv4Network("100.100.0.0/16")
"""Where Alibaba Cloud has name servers, mirrors and more; elsewhere a range that a site may use."""

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
"""Label of Services that kube-proxy leaves to another proxy."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """An address of a Service. A load balancer's comes from its controller; an externalIP from the Service's author."""

    address: Address
    kind: str


def addresses_of(service: Service, kinds: Collection[str]) -> Iterator[ServiceAddress]:
    """The addresses that kube-proxy serves for a Service beside its ClusterIP, of the given kinds.

    A balancer of ``ipMode`` Proxy is left out: kube-proxy leaves its address to the balancer.
    """
    spec = service.spec
    if service.terminating or spec.clusterIP in (None, "", "None") or PROXY_NAME in (service.metadata.labels or {}):
        return
    for kind, text in listed_addresses(service):
        address = _parsed(text)
        if kind in kinds and address is not None and has_family(service, address.version):
            yield ServiceAddress(address, kind)


def listed_addresses(service: Service, *, left_to_balancer: bool = False) -> Iterator[tuple[str, str]]:
    """Kind and text of each address of a Service beside its ClusterIPs, as they are written, balancers' first.

    ``left_to_balancer``: also those of ``ipMode`` Proxy.
    """
    if service.spec.type == "LoadBalancer":
        for ingress in service.status.loadBalancer.ingress or ():
            if ingress.ip and (left_to_balancer or ingress.ipMode != "Proxy"):
                yield LOAD_BALANCER, ingress.ip
    for text in service.spec.externalIPs or ():
        yield EXTERNAL_IP, text


def has_family(service: Service, version: int) -> bool:
    """Whether a Service has addresses of a family; one that names no families may have both."""
    return f"IPv{version}" in (service.spec.ipFamilies or ("IPv4", "IPv6"))


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if is_global(address) else None


@dataclass(frozen=True, slots=True)
class PoolAddresses:
    """What of a pool counts here: the addresses that it gives to pods, its subnet and its gateway."""

    name: str
    subnet: str
    gateway: str | None
    addresses: AddressSet

    @classmethod
    def of(cls, pool: SpiderIPPool) -> PoolAddresses:
        """A pool that was written past the admission webhook and is malformed gives no address to a pod."""
        try:
            addresses = usable(pool)
        except ValueError:
            addresses = AddressSet(4)
        return cls(pool.name, pool.spec.subnet, pool.spec.gateway, addresses)


def objection(found: ServiceAddress, pools: Iterable[PoolAddresses]) -> str | None:
    """Why pods must not be led to their node for an address, by the pools whose subnet has it; None: they may be.

    Nobody's Service takes what pods send to a metadata service.

    A balancer may have an address of a pods' subnet, as private ones do. An externalIP may not: whoever may write a
    Service would take what pods send to a machine beside them, or to a cloud's name servers.
    """
    if owner := owner_of(found.address, ClusterRanges()):
        return f"it is {owner}"
    if found.kind == EXTERNAL_IP and found.address in CLOUD_SERVICES:
        return f"an externalIP in {CLOUD_SERVICES} may be of a cloud's own services"
    text, number = str(found.address), int(found.address)
    for pool in pools:
        if pool.gateway == text:
            return f"it is the gateway of pool {pool.name}"
        if number in pool.addresses:
            return f"pool {pool.name} gives it to pods"
        if found.kind == EXTERNAL_IP:
            return f"an externalIP in {pool.subnet}, the subnet of pool {pool.name}, may be another machine's"
    return None


def has_address(subnet: str, address: Address) -> bool:
    """Whether an address lies in a pool's subnet; not in a malformed one."""
    try:
        return address in ip_network(subnet, strict=False)
    except ValueError:
        return False


def bounded(found: Iterable[ServiceAddress]) -> tuple[list[str], int]:
    """The addresses to publish, each once and in order, and how many are left out; balancers' go first."""
    balancers, external = (
        {each.address for each in found if each.kind == kind} for kind in (LOAD_BALANCER, EXTERNAL_IP)
    )
    ordered = [*_sorted(balancers), *_sorted(external - balancers)]
    return [str(address) for address in _sorted(ordered[:LIMIT])], len(ordered[LIMIT:])


def _sorted(addresses: Iterable[Address]) -> list[Address]:
    return sorted(addresses, key=lambda address: (address.version, int(address)))
