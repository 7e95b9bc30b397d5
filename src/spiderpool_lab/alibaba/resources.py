"""Resources of a VPC as immutable values: instances, ENIs, vSwitches, security groups, EIPs, reservations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from typing import Literal

Tags = Mapping[str, str]

ENIStatus = Literal["Available", "Attaching", "InUse", "Detaching", "Deleting"]
InstanceStatus = Literal["Running", "Stopped"]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type and its quotas. ``addresses`` are IPv4 addresses per ENI, including the primary one."""

    identity: str
    enis: int
    addresses: int
    ipv6_addresses: int
    cpus: int = 2
    memory: float = 8.0


@dataclass(frozen=True, slots=True)
class VPC:
    """The VPC of the account."""

    identity: str
    block: str
    ipv6_block: str | None = None
    route_table: str = "vtb-bp100000000000001"


@dataclass(frozen=True, slots=True)
class VSwitchResource:
    """A vSwitch (subnet) in one zone. A ``full`` one allocates no address, to simulate exhaustion."""

    identity: str
    zone: str
    block: str
    ipv6_block: str | None = None
    name: str = ""
    full: bool = False
    tags: Tags = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        """The address of the router: the third from the end of the block."""
        network = IPv4Network(self.block)
        return str(network[-3])

    @property
    def ipv6_gateway(self) -> str | None:
        """The address of the router in the IPv6 block: the third from its end."""
        return None if self.ipv6_block is None else str(ip_network(self.ipv6_block)[-3])


@dataclass(frozen=True, slots=True)
class Instance:
    """A server. ``role`` is the RAM role whose credentials its metadata service hands out."""

    identity: str
    name: str
    instance_type: str
    zone: str
    status: InstanceStatus = "Running"
    role: str | None = None
    tags: Tags = field(default_factory=dict)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """An elastic network interface. ``address`` is its primary address, ``prefixes`` are /28 blocks."""

    identity: str
    mac: str
    vswitch: str
    address: str
    secondaries: tuple[str, ...] = ()
    ipv6_addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    instance: str | None = None
    primary: bool = False
    status: ENIStatus = "Available"
    security_groups: tuple[str, ...] = ()
    source_check: bool = True
    delete_on_release: bool = True
    name: str = ""
    description: str = ""
    tags: Tags = field(default_factory=dict)
    created: float = 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        """All IPv4 addresses outside prefixes, the primary one first."""
        return (self.address, *self.secondaries)


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """An inbound rule of a security group. ``ports`` are ``first/last``, or -1/-1 for all."""

    identity: str
    policy: str
    protocol: str
    ports: str
    source: str
    priority: int
    description: str = ""

    @property
    def accepts(self) -> bool:
        """Whether clients of the source are admitted, rather than dropped."""
        return self.policy == "accept"


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group; its rules hold for network load balancers, not for ENIs."""

    identity: str
    name: str = ""
    capacity: int = 2000
    kind: str = "normal"
    description: str = ""
    rules: tuple[SecurityRule, ...] = ()
    tags: Tags = field(default_factory=dict)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class EIP:
    """An elastic IP address. If bound, ``instance`` is the ID of the instance, ENI or load balancer that has it."""

    identity: str
    address: str
    instance: str = ""
    instance_type: str = ""
    private_address: str = ""
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A block of a vSwitch that is reserved for prefixes of ENIs."""

    identity: str
    vswitch: str
    block: str
    name: str = ""
    tags: Tags = field(default_factory=dict)


INSTANCE_TYPES = (
    InstanceType("ecs.g6.large", enis=2, addresses=6, ipv6_addresses=1),
    InstanceType("ecs.g7.large", enis=3, addresses=6, ipv6_addresses=6),
    InstanceType("ecs.g7.xlarge", enis=4, addresses=15, ipv6_addresses=15, cpus=4, memory=16.0),
    InstanceType("ecs.g7.8xlarge", enis=8, addresses=30, ipv6_addresses=30, cpus=32, memory=128.0),
)
