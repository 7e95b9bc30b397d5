"""What goes into a plan: what should be (a `LoadBalancerModel`) and what is (`ObservedLoadBalancer`), in the cloud's own parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spiderpool.settings import CloudSettings

Kind: TypeAlias = Literal["clb", "nlb"]
"""Classic load balancer (layers 4 and 7) or network load balancer (layer 4)."""

Settings: TypeAlias = Mapping[str, str]
"""Parameters of the cloud's API and their values, as texts: what can be compared and printed."""

ServerType: TypeAlias = Literal["ecs", "eni", "ip"]


@dataclass(frozen=True, slots=True)
class BalancerConfiguration:
    """What one installation sets for all its Services."""

    cluster: str = "clusterid"
    """Marks what is ours. Two clusters of one account must differ in it."""
    vpc: str = ""
    vswitch: str = ""
    """For private classic balancers that name none."""
    resource_group: str = ""
    pod_backends: bool = False
    """Whether Services that do not say get pod addresses as backends."""
    public_allowed: bool = True
    ipv6_backends: bool = False
    """Whether the account's server groups take IPv6 servers."""

    @classmethod
    def of(cls, settings: CloudSettings) -> BalancerConfiguration:
        """From the settings of spiderpool-cloud."""
        given = settings.balancing
        return cls(
            settings.cluster_id,
            given.vpc,
            given.vswitch,
            given.resource_group,
            given.pod_backends,
            given.public,
            given.ipv6_backends,
        )


@dataclass(frozen=True, slots=True)
class BalancerOwner:
    """Whose a listener or server group is: a Service, by UID for its balancer, by name for the parts of one."""

    namespace: str
    service: str
    uid: str
    cluster: str


@dataclass(frozen=True, slots=True)
class BackendServer:
    """A backend of a server group: a node, or a pod by the ENI that carries its address."""

    identity: str
    type: ServerType
    port: int
    weight: int = 100
    address: str = ""
    """The pod's; empty for a node, which the cloud knows by its identity alone."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it another server, rather than the same with another weight."""
        return (self.identity, self.address, self.port)

    def __str__(self) -> str:
        place = f"{self.identity}/{self.address}" if self.address else self.identity
        return f"{place}:{self.port} weight {self.weight}"


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A server group. Groups that are not ours have neither settings nor servers."""

    name: str
    settings: Settings = field(default_factory=dict)
    servers: frozenset[BackendServer] = frozenset()
    identity: str = ""
    keep: frozenset[tuple[str, int]] = frozenset()
    """Addresses and ports of servers that stay if they are there, though nobody knows now what ENI they are on."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener. ``group`` is the name of the server group that it forwards to; a redirect has none."""

    port: int
    protocol: str
    description: str
    group: str = ""
    settings: Settings = field(default_factory=dict)
    running: bool = True
    identity: str = ""

    @property
    def transport(self) -> str:
        """``udp`` or ``tcp``: two listeners may share a port if they differ in it."""
        return "udp" if self.protocol == "udp" else "tcp"

    @property
    def key(self) -> tuple[int, str]:
        """What there can be one of."""
        return (self.port, self.transport)

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class LoadBalancerModel:
    """The balancer that a Service should have."""

    kind: Kind
    owner: BalancerOwner
    reuse: str
    """Identity of the balancer that a user lends us; empty: one of our own."""
    name: str
    vpc: str
    creation: Settings
    """Parameters of its creation that say nothing about it afterwards."""
    fixed: Settings
    """Parameters that cannot be changed once it exists."""
    settings: Settings
    tags: Settings
    listeners: tuple[Listener, ...]
    groups: tuple[ServerGroup, ...]
    manages_listeners: bool = True
    """False: the listeners of a lent balancer are the user's business."""
    keeps_weights: bool = False
    """Whether the weights of servers that are there are left alone."""
    hostname: str = ""
    """Published instead of the address."""
    unresolved: tuple[str, ...] = ()
    """Addresses of pods of which nobody knows what ENI they are on: to be looked up again."""
    notes: tuple[str, ...] = ()
    """Nodes that are no backends, and why."""


@dataclass(frozen=True, slots=True)
class ObservedLoadBalancer:
    """A balancer as the cloud describes it."""

    identity: str
    name: str
    address: str
    settings: Settings = field(default_factory=dict)
    tags: Settings = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    groups: tuple[ServerGroup, ...] = ()

    def group(self, name: str) -> ServerGroup | None:
        """A server group by its name."""
        return next((group for group in self.groups if group.name == name), None)

    def listener(self, port: int, transport: str) -> Listener | None:
        """A listener by port and transport."""
        return next((each for each in self.listeners if each.key == (port, transport)), None)
