"""The pods, nodes and Services of a cluster by the addresses that packets go to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from ipaddress import ip_address

from spiderpool.api.coordinator import EXTERNAL_IP, LOAD_BALANCER
from spiderpool.api.core_v1 import Pod, Service, ServicePort
from spiderpool.api.ip import SpiderIP
from spiderpool.cli.plan.pods import ENDED
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.cli.trace.node_sites import TracedNode, node_site
from spiderpool.cli.trace.pod_sites import TracedPod, pod_site, with_pods
from spiderpool.core.addresses import Address, AddressSet, object_name
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.ipam.gc import pod_uids
from spiderpool.core.network.plumbing.lookup import RoutingState
from spiderpool.core.network.service_addresses import has_family, listed_addresses
from spiderpool.core.network.service_proxy import ServiceAddressKind, ServiceFrontend

KINDS = {LOAD_BALANCER: ServiceAddressKind.BALANCER, EXTERNAL_IP: ServiceAddressKind.EXTERNAL_IP}
"""How a client names a Service, by the kind that an address is listed as."""


class SiteMap:
    """Who has which address in a cluster; each pod and node is worked out when it is needed, once."""

    def __init__(self, objects: ClusterObjects) -> None:
        self.objects = objects
        self._pods: dict[str, TracedPod] = {}
        self._nodes: dict[str, TracedNode] = {}

    def node(self, name: str) -> TracedNode:
        """A node of the cluster."""
        if name not in self._nodes:
            self._nodes[name] = node_site(name, self.objects)
        return self._nodes[name]

    def pod(self, key: str) -> TracedPod:
        """A pod of the cluster."""
        if key not in self._pods:
            pod = self.objects.pods[key]
            name = pod.spec.nodeName or ""
            node = self.node(name) if name in self.objects.nodes else None
            self._pods[key] = pod_site(pod, node, self.objects, self._records_of(pod))
        return self._pods[key]

    def pod_with(self, address: Address) -> TracedPod | None:
        """The pod that has an address: by its SpiderIP, else by its status; never one in its node's network."""
        record = self._records.get(object_name(str(address)))
        key = f"{record.spec.namespace}/{record.spec.pod}" if record and not record.spec.releasedAt else ""
        key = key if key in self.objects.pods else self._by_status.get(address, "")
        return self.pod(key) if key else None

    def node_with(self, address: Address) -> str | None:
        """The node that itself has an address."""
        return self._by_node.get(address)

    def pool_of_gateway(self, address: Address) -> str | None:
        """A pool whose gateway an address is."""
        pools = self.objects.pools.values()
        return next((pool.name for pool in pools if pool.spec.gateway == str(address)), None)

    def pool_with(self, address: Address) -> str | None:
        """A pool that gives an address to pods."""
        of_family = ((name, given) for name, given in self._given if given.version == address.version)
        return next((name for name, given in of_family if int(address) in given), None)

    def routing(self, node: str, *addresses: Address | None) -> RoutingState:
        """How a node routes, with its routes to those of its pods that have some addresses."""
        found = [self.pod_with(address) for address in addresses if address is not None]
        pods = {site.place: site for site in found if site is not None and site.node == node}
        return with_pods(self.node(node).routing, pods.values())

    # --- Services

    def frontend(self, address: Address, port: int, protocol: str) -> ServiceFrontend | Service | None:
        """The Service that has an address, by its port; the Service alone where it has no such port."""
        found: Service | None = None
        for service, kind in self._services_by_address.get(address, ()):
            found = service
            if listed := _port(service, port, protocol):
                return ServiceFrontend(service, listed, kind, address.version)
        return found

    def node_port(self, port: int, protocol: str, version: int) -> ServiceFrontend | None:
        """The Service that has a port of all nodes."""
        for service in self.services:
            for listed in service.spec.ports or ():
                if (listed.nodePort, listed.protocol) == (port, protocol) and has_family(service, version):
                    return ServiceFrontend(service, listed, ServiceAddressKind.NODE_PORT, version)
        return None

    def serves(self, node: TracedNode, address: Address, kind: ServiceAddressKind) -> bool:
        """Whether the kube-proxy of a node serves what clients name so; NodePorts on some of its addresses only."""
        settings = self.objects.proxy
        return kind is not ServiceAddressKind.NODE_PORT or settings.serves_node_ports(address, node.primary)

    @property
    def services(self) -> Iterator[Service]:
        """Those of the cluster."""
        return iter(self.objects.services.values())

    # --- indexes

    def _records_of(self, pod: Pod) -> list[SpiderIP]:
        uids = pod_uids(pod)
        return [each for each in self.objects.records if each.spec.podUID in uids and not each.spec.releasedAt]

    @cached_property
    def _records(self) -> dict[str, SpiderIP]:
        return {each.name: each for each in self.objects.records}

    @cached_property
    def _by_status(self) -> dict[Address, str]:
        found: dict[Address, str] = {}
        for pod in self.objects.pods.values():
            if not pod.spec.hostNetwork and pod.status.phase not in ENDED:
                found |= {ip_address(each.ip): pod.key for each in pod.status.podIPs or () if each.ip}
        return found

    @cached_property
    def _services_by_address(self) -> dict[Address, list[tuple[Service, ServiceAddressKind]]]:
        found: dict[Address, list[tuple[Service, ServiceAddressKind]]] = {}
        for service in self.services:
            for kind, text in addresses_of_service(service):
                found.setdefault(ip_address(text), []).append((service, kind))
        return found

    @cached_property
    def _given(self) -> list[tuple[str, AddressSet]]:
        return [(pool.name, usable(pool)) for pool in self.objects.pools.values()]

    @cached_property
    def _by_node(self) -> dict[Address, str]:
        return {held.address: name for name in self.objects.nodes for held in self.node(name).addresses}


def addresses_of_service(service: Service) -> Iterator[tuple[ServiceAddressKind, str]]:
    """The addresses by which clients name a Service; its balancer's also where kube-proxy leaves that to the cloud."""
    for text in service.cluster_ips:
        yield ServiceAddressKind.CLUSTER_IP, text
    for kind, text in listed_addresses(service, left_to_balancer=True):
        yield KINDS[kind], text


def kind_of(service: Service, address: Address) -> ServiceAddressKind | None:
    """Which address of a Service one is; None: it is none."""
    return next((kind for kind, text in addresses_of_service(service) if ip_address(text) == address), None)


def is_proxied(service: Service, address: Address) -> bool:
    """Whether kube-proxy serves an address of a balancer: not with ``ipMode`` Proxy."""
    ingresses = service.status.loadBalancer.ingress or ()
    return not any(each.ip == str(address) and each.ipMode == "Proxy" for each in ingresses)


def _port(service: Service, port: int, protocol: str) -> ServicePort | None:
    return next((each for each in service.spec.ports or () if (each.port, each.protocol) == (port, protocol)), None)
