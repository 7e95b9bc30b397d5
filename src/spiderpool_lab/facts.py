"""What runs in a lab, as the API server shows it: pods with their interfaces, Services with their endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.topology import ENI

Registered = Mapping[str, frozenset[str]]
"""What the cloud knows on each ENI, by MAC."""


@dataclass(frozen=True, slots=True)
class PodInterface:
    """An interface of a pod: its addresses, IPv4 first, and the ENI on which all of them are registered."""

    name: str
    addresses: tuple[str, ...]
    eni: ENI | None


@dataclass(frozen=True, slots=True)
class PodFact:
    """A running pod with a network of its own. ``ports`` are ``TCP/80`` and the like, of its containers."""

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
    """A Service. ``ports`` and ``node_ports`` are by protocol; ``local`` is externalTrafficPolicy Local."""

    name: str
    app: str
    addresses: tuple[str, ...]
    ports: dict[str, int]
    node_ports: dict[str, int]
    local: bool


def pods(cluster: LabCluster, *arguments: str) -> list[PodFact]:
    """The pods that have addresses of their own; ``arguments`` are for ``kubectl get pods``."""
    held, registered = _held(cluster), cluster.cloud.console.registered()
    found = [pod for pod in cluster.objects("pods", *arguments) if pod["metadata"]["uid"] in held]
    return [_pod(cluster, pod, held[pod["metadata"]["uid"]], registered) for pod in found]


def services(cluster: LabCluster) -> dict[str, ServiceFact]:
    """The Services with a selector, by name."""
    found = [_service(service) for service in cluster.objects("services") if service["spec"].get("selector")]
    return {service.name: service for service in found}


def of_version(version: int, addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of one family, in order."""
    return tuple(address for address in addresses if ip_address(address).version == version)


def _held(cluster: LabCluster) -> dict[str, dict[str, list[str]]]:
    """Addresses by pod UID and interface, as the SpiderIPs tell."""
    held: dict[str, dict[str, list[str]]] = {}
    for spec in (record["spec"] for record in cluster.objects("spiderips")):
        interfaces = held.setdefault(spec["podUID"], {})
        interfaces.setdefault(spec["interface"], []).append(spec["address"].partition("/")[0])
    return held


def _pod(cluster: LabCluster, pod: dict[str, Any], held: dict[str, list[str]], registered: Registered) -> PodFact:
    metadata, spec = pod["metadata"], pod["spec"]
    enis = cluster.fabric.topology.node(spec["nodeName"]).enis
    ports = [port for container in spec["containers"] for port in container.get("ports", [])]
    wanted = metadata.get("annotations", {}).get("ipam.spidernet.io/default-route-nic")
    return PodFact(
        key=f"{metadata['namespace']}/{metadata['name']}",
        app=metadata.get("labels", {}).get("app", ""),
        node=spec["nodeName"],
        interfaces=tuple(_interface(name, held[name], enis, registered) for name in sorted(held)),
        ports=frozenset(f"{port['protocol']}/{port['containerPort']}" for port in ports) or frozenset({"TCP/80"}),
        default_interface=wanted or min(held),
    )


def _interface(name: str, addresses: list[str], enis: Iterable[ENI], registered: Registered) -> PodInterface:
    """The cloud is asked what it knows; the server's own addresses are no pod's."""
    usable = ((eni, registered.get(eni.mac, frozenset()) - {*eni.own}) for eni in enis)
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
