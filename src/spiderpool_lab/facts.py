"""The pods and Services of a running lab as values: read once from the API server and the cloud, then compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.topology import ENI

RegisteredAddresses = Mapping[str, frozenset[str]]
"""MAC of an ENI → the addresses that the cloud has registered on it."""


@dataclass(frozen=True, slots=True)
class PodInterface:
    """An interface of a pod: its addresses, IPv4 first, and the ENI on which all of them are registered, if one is."""

    name: str
    addresses: tuple[str, ...]
    eni: ENI | None


@dataclass(frozen=True, slots=True)
class PodFact:
    """A pod with addresses of its own. ``key`` is ``namespace/name``, ``ports`` are ``TCP/80`` and the like."""

    key: str
    app: str
    node: str
    interfaces: tuple[PodInterface, ...]
    ports: frozenset[str]
    default_interface: str

    @property
    def address(self) -> str:
        """The first address of the first interface."""
        return self.interfaces[0].addresses[0]

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of all interfaces."""
        return frozenset(address for interface in self.interfaces for address in interface.addresses)

    def interface(self, name: str) -> PodInterface:
        """The interface of that name; KeyError if there is none."""
        return {interface.name: interface for interface in self.interfaces}[name]

    def __str__(self) -> str:
        return f"{self.key.partition('/')[2]} ({self.node})"


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A Service. ``ports`` and ``node_ports`` are by protocol; ``local`` means externalTrafficPolicy Local."""

    name: str
    app: str
    addresses: tuple[str, ...]
    ports: dict[str, int]
    node_ports: dict[str, int]
    local: bool


def pods(cluster: LabCluster, *arguments: str) -> list[PodFact]:
    """The pods that have addresses of their own; ``arguments`` are for ``kubectl get pods``."""
    allocated, registered = _allocated_addresses(cluster), cluster.cloud.admin.registered_addresses()
    found = [pod for pod in cluster.objects("pods", *arguments) if pod["metadata"]["uid"] in allocated]
    return [_pod(cluster, pod, allocated[pod["metadata"]["uid"]], registered) for pod in found]


def running_pods(cluster: LabCluster, *arguments: str) -> list[PodFact]:
    """Those of the pods that are Running."""
    return pods(cluster, "--field-selector=status.phase=Running", *arguments)


def services(cluster: LabCluster) -> dict[str, ServiceFact]:
    """The Services that have a selector, by name."""
    found = [_service(service) for service in cluster.objects("services") if service["spec"].get("selector")]
    return {service.name: service for service in found}


def of_version(version: int, addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses of one IP version, 4 or 6, in order."""
    return tuple(address for address in addresses if ip_address(address).version == version)


def _allocated_addresses(cluster: LabCluster) -> dict[str, dict[str, list[str]]]:
    """Pod UID → interface → addresses, from the SpiderIPs."""
    allocated: dict[str, dict[str, list[str]]] = {}
    for spec in (record["spec"] for record in cluster.objects("spiderips")):
        interfaces = allocated.setdefault(spec["podUID"], {})
        interfaces.setdefault(spec["interface"], []).append(spec["address"].partition("/")[0])
    return allocated


def _pod(
    cluster: LabCluster, pod: dict[str, Any], allocated: dict[str, list[str]], registered: RegisteredAddresses
) -> PodFact:
    metadata, spec = pod["metadata"], pod["spec"]
    enis = cluster.fabric.topology.node(spec["nodeName"]).enis
    ports = [port for container in spec["containers"] for port in container.get("ports", [])]
    annotated = metadata.get("annotations", {}).get("ipam.spidernet.io/default-route-nic")
    return PodFact(
        key=f"{metadata['namespace']}/{metadata['name']}",
        app=metadata.get("labels", {}).get("app", ""),
        node=spec["nodeName"],
        interfaces=tuple(_interface(name, allocated[name], enis, registered) for name in sorted(allocated)),
        ports=frozenset(f"{port['protocol']}/{port['containerPort']}" for port in ports) or frozenset({"TCP/80"}),
        default_interface=annotated or min(allocated),
    )


def _interface(name: str, addresses: list[str], enis: Iterable[ENI], registered: RegisteredAddresses) -> PodInterface:
    """The interface with its ENI: one on which the cloud has registered the addresses, not as the server's own."""
    usable = ((eni, registered.get(eni.mac, frozenset()) - {*eni.own_addresses}) for eni in enis)
    eni = next((eni for eni, known in usable if known.issuperset(addresses)), None)
    return PodInterface(name, (*of_version(4, addresses), *of_version(6, addresses)), eni)


def _service(service: dict[str, Any]) -> ServiceFact:
    spec = service["spec"]
    return ServiceFact(
        name=service["metadata"]["name"],
        app=spec["selector"]["app"],
        addresses=tuple(spec.get("clusterIPs") or [spec["clusterIP"]]),
        ports={port["protocol"]: port["port"] for port in spec["ports"]},
        node_ports={port["protocol"]: port["nodePort"] for port in spec["ports"] if "nodePort" in port},
        local=spec.get("externalTrafficPolicy") == "Local",
    )
