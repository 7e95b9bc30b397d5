"""Load balancers as immutable values: CLBs and NLBs, their listeners and server groups, and NLB jobs.

Settings are mappings from the API's parameter names to their values; most of them are stored without an effect.
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
class DomainExtension:
    """A certificate that an https listener of a CLB has for one more domain."""

    identity: str
    domain: str
    certificate: str


@dataclass(frozen=True, slots=True)
class AccessList:
    """An access control list of CLBs: ranges of one IP version, each with its comment."""

    identity: str
    name: str
    version: int
    entries: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = field(default_factory=dict)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class CLBListener:
    """A listener of a CLB, identified by protocol and port. It is created stopped."""

    protocol: ClbProtocol
    port: int
    settings: Settings
    running: bool = False
    tags: Tags = field(default_factory=dict)
    domains: tuple[DomainExtension, ...] = ()

    @property
    def group(self) -> str:
        """ID of the vServer group that the listener forwards to, or an empty text."""
        return self.settings.get("VServerGroupId", "")

    @property
    def access_lists(self) -> list[str]:
        """IDs of the access lists by which the listener admits or refuses clients."""
        is_on = self.settings.get("AclStatus") == "on"
        return [each for each in self.settings.get("AclId", "").split(",") if each and is_on]


@dataclass(frozen=True, slots=True)
class CLB:
    """A classic load balancer."""

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
        """Whether the address is a public one."""
        return self.settings.get("AddressType", "internet") == "internet"


@dataclass(frozen=True, slots=True)
class BalancerBackend:
    """A server of a group; ``server_type`` is ecs, eni or ip. Traffic goes to ``address``."""

    server: str
    server_type: str
    port: int
    weight: int = 100
    address: str = ""
    description: str = ""
    status: str = "Available"

    @property
    def key(self) -> tuple[str, str, int]:
        """Entries of a group with the same key are the same server."""
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
        """Whether the load balancer has public addresses."""
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
    def ports(self) -> range:
        """The ports on which it listens: its own one, or a range if that is 0."""
        if self.port:
            return range(self.port, self.port + 1)
        return range(int(self.settings["StartPort"]), int(self.settings["EndPort"]) + 1)

    @property
    def group(self) -> str:
        """ID of the server group that the listener forwards to."""
        return self.settings.get("ServerGroupId", "")


@dataclass(frozen=True, slots=True)
class NLBGroup:
    """A server group that any number of NLB listeners may share. ``health`` is its HealthCheckConfig."""

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
    """An NLB change that is executed after the call is answered."""

    identity: str
    status: Literal["Processing", "Succeeded", "Failed"] = "Processing"
