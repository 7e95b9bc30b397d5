"""Load balancers as values: CLB and NLB balancers, listeners, server groups, and the jobs of the NLB.

Settings that the simulation only keeps are mappings under the names that the OpenAPI gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spiderpool_lab.alibaba.resources import Tags

Settings = Mapping[str, str]

ClbProtocol = Literal["tcp", "udp", "http", "https"]
NlbProtocol = Literal["TCP", "UDP", "TCPSSL"]


@dataclass(frozen=True, slots=True)
class CLBListener:
    """A listener of a CLB, known by protocol and port. It is stopped until it is started."""

    protocol: ClbProtocol
    port: int
    settings: Settings
    running: bool = False
    tags: Tags = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The vServer group that it forwards to; empty if it has none."""
        return self.settings.get("VServerGroupId", "")


@dataclass(frozen=True, slots=True)
class CLB:
    """A classic load balancer. ``settings`` holds what it was created with, in the OpenAPI's names."""

    identity: str
    name: str
    address: str
    settings: Settings
    vswitch: str = ""
    listeners: tuple[CLBListener, ...] = ()
    active: bool = True
    tags: Tags = field(default_factory=dict)
    created: float = 0.0

    @property
    def public(self) -> bool:
        """Whether its address is one of the Internet."""
        return self.settings.get("AddressType", "internet") == "internet"


@dataclass(frozen=True, slots=True)
class BalancerBackend:
    """A server of a group; its type is ecs, eni, eci or ip. ``address`` is where its traffic goes."""

    server: str
    server_type: str
    port: int
    weight: int = 100
    address: str = ""
    description: str = ""
    status: str = "Available"

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes two entries of a group the same server."""
        return (self.server, self.address if self.server_type != "ecs" else "", self.port)


@dataclass(frozen=True, slots=True)
class CLBGroup:
    """A vServer group of one CLB."""

    identity: str
    name: str
    balancer: str
    backends: tuple[BalancerBackend, ...] = ()
    tags: Tags = field(default_factory=dict)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class ZoneMapping:
    """One zone of an NLB with its vSwitch and addresses."""

    zone: str
    vswitch: str
    private_address: str
    public_address: str = ""
    ipv6_address: str = ""
    allocation: str = ""


@dataclass(frozen=True, slots=True)
class NLB:
    """A network load balancer."""

    identity: str
    name: str
    domain: str
    zones: tuple[ZoneMapping, ...]
    settings: Settings
    status: Literal["Provisioning", "Active", "Configuring", "Deleting"] = "Active"
    security_groups: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)
    created: float = 0.0

    @property
    def public(self) -> bool:
        """Whether it has addresses of the Internet."""
        return self.settings.get("AddressType") == "Internet"


@dataclass(frozen=True, slots=True)
class NLBListener:
    """A listener of an NLB."""

    identity: str
    balancer: str
    protocol: NlbProtocol
    port: int
    settings: Settings
    status: Literal["Provisioning", "Running", "Configuring", "Stopped", "Starting", "Stopping", "Deleting"] = "Running"
    tags: Tags = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The server group that it forwards to."""
        return self.settings.get("ServerGroupId", "")


@dataclass(frozen=True, slots=True)
class NLBGroup:
    """A server group, which any number of NLB listeners may use. ``health`` is its HealthCheckConfig."""

    identity: str
    name: str
    settings: Settings
    health: Settings
    backends: tuple[BalancerBackend, ...] = ()
    status: Literal["Creating", "Available", "Configuring", "Deleting"] = "Available"
    tags: Tags = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``Instance`` or ``Ip``."""
        return self.settings.get("ServerGroupType", "Instance")


@dataclass(frozen=True, slots=True)
class AsyncJob:
    """A change that the NLB carries out after it has answered."""

    identity: str
    status: Literal["Processing", "Succeeded", "Failed"] = "Processing"
