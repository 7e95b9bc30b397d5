"""Ports of the node that lead to a pod: what a container's ``hostPort`` asks for, and the connections that it concerns.

The container runtime passes the ports of a pod as ``portMappings`` (CNI conventions, "Dynamic Plugin specific Fields").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from spiderpool.api.cni import PortMapping


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that leads to a port of a pod, in one IP family."""

    protocol: str
    """tcp, udp or sctp."""
    port: int
    target: str
    """The pod's address."""
    target_port: int
    address: str = ""
    """The only address of the node that it concerns; empty: all of the target's family."""

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.target else 4


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that the node's kernel tracks: the addresses of its first direction, and those of the answers."""

    source: str
    destination: str
    port: int
    """Destination port of the first direction."""
    answer_source: str
    answer_destination: str
    answer_port: int
    """Source port of the answers: other than ``port`` where the destination is translated."""


def host_ports(mappings: Iterable[PortMapping], addresses: Sequence[str]) -> tuple[HostPort, ...]:
    """The ports of the node for a pod with these addresses: those of a mapping in each family that both have."""
    return tuple(port for mapping in mappings for port in _of_mapping(mapping, addresses))


def _of_mapping(mapping: PortMapping, addresses: Sequence[str]) -> Iterator[HostPort]:
    host = ip_address(mapping.hostIP) if mapping.hostIP else None
    for address in addresses:
        if host is None or host.version == ip_address(address).version:
            only = "" if host is None or host.is_unspecified else str(host)
            yield HostPort(mapping.protocol, mapping.hostPort, address, mapping.containerPort, only)


def unserved(mappings: Iterable[PortMapping], addresses: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each mapping that no address of the pod can serve."""
    return tuple(
        f"hostPort {mapping.hostPort}/{mapping.protocol} on {mapping.hostIP or 'the node'} leads nowhere: the pod has "
        "no address of that family; remove hostIP, or give the pod such an address"
        for mapping in mappings
        if not any(_of_mapping(mapping, addresses))
    )


def in_order(ports: Iterable[HostPort]) -> tuple[HostPort, ...]:
    """The ports in the order in which packets are compared with them: those of a single address of the node first."""
    return tuple(sorted(ports, key=lambda port: not port.address))


def bypasses(connection: Connection, port: HostPort) -> bool:
    """Whether a connection to a new host port began before it led anywhere: nothing of it is translated.

    The kernel translates only the first packet of a connection anew, so such a one would go on past the pod.
    """
    return (
        connection.port == port.port
        and connection.destination == connection.answer_source
        and connection.source == connection.answer_destination
    )


def leads_to(connection: Connection, port: HostPort) -> bool:
    """Whether a connection goes through a host port that is gone."""
    return (connection.port, connection.answer_source, connection.answer_port) == (
        port.port,
        port.target,
        port.target_port,
    )
