"""The parts of load balancers, desired and observed, with settings in the cloud's own parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Settings: TypeAlias = Mapping[str, str]
"""Parameters of the cloud's API and their values, as text: comparable and printable."""

PART = "@"
"""In a key of settings, between a parameter and the part of the balancer that it is for, such as a zone."""


def parameter_of(key: str) -> str:
    """Returns the parameter of a key of settings, without the part of the balancer that it is for."""
    return key.partition(PART)[0]


ServerType: TypeAlias = Literal["instance", "eni", "address"]
"""How the cloud knows a server: as a whole machine, as an address of an ENI, or as an address alone."""

GrantField: TypeAlias = Literal[
    "loadBalancers",
    "overrideListeners",
    "certificates",
    "accessLists",
    "serverGroups",
    "securityGroups",
    "vSwitches",
    "elasticIPs",
    "resourceGroups",
    "bandwidthPackages",
    "specs",
    "maxBandwidth",
    "preserve",
]
"""A field of a SpiderLoadBalancerGrant's spec that allows something."""


@dataclass(frozen=True, slots=True)
class BalancerConfiguration:
    """What one installation sets for all its Services."""

    cluster: str = "clusterid"
    """The cluster's ID, which names and tags what is ours. Two clusters of one account must have different ones."""
    vpc: str = ""
    vswitch: str = ""
    """For private balancers whose Service names none."""
    zones: str = ""
    """Zones and vSwitches of new balancers whose Service names none, as an annotation would have them."""
    resource_group: str = ""
    pod_backends: bool = False
    """Whether pods are the backends of Services without the annotation of the backend type."""
    public_allowed: bool = True
    ipv6_backends: bool = False
    """Whether the account's server groups take IPv6 servers."""
    max_per_namespace: int = 10
    """Balancers of ours for the Services of a Namespace, unless a grant says otherwise."""
    max_per_cluster: int = 60


@dataclass(frozen=True, slots=True)
class BalancerOwner:
    """The Service that a balancer or a part of one belongs to: balancers name its UID, parts its namespace and name."""

    namespace: str
    service: str
    uid: str
    cluster: str


@dataclass(frozen=True, slots=True)
class GrantNeed:
    """What a Service names, or has paid, that an administrator must have granted to its Namespace."""

    annotation: str
    """Its full name."""
    field: GrantField
    value: str


@dataclass(frozen=True, slots=True)
class MadeBalancer:
    """A balancer that was made for a Service of this cluster, by its tags."""

    identity: str
    kind: str
    name: str = ""
    """That by which its Service is known; empty for one that has outlived its Service by an administrator's consent."""
    namespace: str = ""
    """Of the Service; empty when the tags do not say it."""


@dataclass(frozen=True, slots=True)
class BackendServer:
    """A backend of a server group: a node, or a pod by its address or the ENI that has this address."""

    identity: str
    type: ServerType
    port: int
    weight: int = 100
    address: str = ""
    """The pod's; empty for a node, which the cloud knows by its identity alone."""
    description: str = field(default="", compare=False)
    """Says in a group of somebody else's whose server it is; in our own groups the name of the group does."""

    @property
    def key(self) -> ServerKey:
        """What identifies the server in its group: with another weight it is still the same server."""
        return (self.identity, self.address, self.port)

    def __str__(self) -> str:
        place = f"{self.identity}/{self.address}" if self.address else self.identity
        return f"{place}:{self.port} weight {self.weight}"


ServerKey: TypeAlias = tuple[str, str, int]
"""What identifies a server in its group: the cloud's identity of it, its address, and its port."""

ServerPlace: TypeAlias = tuple[str, ServerKey]
"""The name of a group, and a server in it."""


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A server group. Groups that are neither ours nor lent have neither settings nor servers."""

    name: str
    settings: Settings = field(default_factory=dict)
    servers: frozenset[BackendServer] = frozenset()
    identity: str = ""
    ending: frozenset[BackendServer] = frozenset()
    """Servers whose pods are terminating and still answer: they remain as long as no other is known to be well."""
    other_names: tuple[str, ...] = ()
    """Of a desired group: names under which it may be there already, given by others or by former versions."""
    keep: frozenset[tuple[str, int]] = frozenset()
    """Addresses and ports of pods whose ENI is not known now: their servers are neither added nor removed."""
    is_lent: bool = False
    """Whether it is somebody else's, by whose identity it is named, and ``servers`` are only those of the Service."""
    others: frozenset[ServerKey] = frozenset()
    """Its servers that are not the Service's: these are neither added nor removed."""
    is_full: bool = False
    """Of a desired group: whether it has all servers that answer, since a quota keeps others out of it."""


@dataclass(frozen=True, slots=True)
class SourceList:
    """A list of the clients that a Service admits, made for it beside its balancer."""

    name: str
    entries: frozenset[str]
    """As a kind of balancer spells them; those of others in the same list are left out."""
    identity: str = ""
    others: frozenset[str] = frozenset()
    """Entries of others, as ours would be: the cloud takes none twice. They are neither added nor removed."""


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
    last_port: int = 0
    """End of the range of ports that begins with ``port``; 0: it listens on that one alone."""

    @property
    def transport(self) -> str:
        """``udp`` or ``tcp``: two listeners may share a port if they differ in it."""
        return "udp" if self.protocol == "udp" else "tcp"

    @property
    def key(self) -> tuple[int, str]:
        """Port and transport: a balancer has at most one listener for each pair."""
        return (self.port, self.transport)

    @property
    def ports(self) -> range:
        """All ports on which it listens."""
        return range(self.port, max(self.port, self.last_port) + 1)

    def overlaps(self, other: Listener) -> bool:
        """Whether both listen on some port, so that a balancer cannot have them at a time."""
        is_apart = self.ports.stop <= other.ports.start or other.ports.stop <= self.ports.start
        return self.transport == other.transport and not is_apart

    def covers(self, other: Listener) -> bool:
        """Whether it listens on all ports on which the other one does."""
        is_within = self.ports.start <= other.ports.start and other.ports.stop <= self.ports.stop
        return self.transport == other.transport and is_within

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


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
    source_lists: tuple[SourceList, ...] = ()
    """Those that were made for the Service. Settings have their names, not their identities."""

    def group(self, name: str) -> ServerGroup | None:
        """Returns a server group by its name; None when there is none."""
        return next((group for group in self.groups if group.name == name), None)

    def listener(self, port: int, transport: str) -> Listener | None:
        """Returns a listener by port and transport; None when there is none."""
        return next((listener for listener in self.listeners if listener.key == (port, transport)), None)
