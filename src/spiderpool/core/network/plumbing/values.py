"""The input of a plan: the requested attachment, and the observed state of node and pod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import TypeAlias

from spiderpool.core.network.plumbing.naming import MAIN_TABLE
from spiderpool.core.network.plumbing.steps import AddAddress, AddNeighbour, AddRoute, AddRule

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network

EXISTING = "existing"
"""Kind of an interface that another plugin of the chain made: it stays as it is, and we only coordinate it."""

MODES = {
    "ipvlan": ("l2", "l3", "l3s"),
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "vlan": ("",),
    "host-device": ("",),
    EXISTING: ("",),
}
"""Kind of interface → its modes, the first is the default. ``host-device`` moves a NIC or VF into the pod."""

DISABLED = ("disabled", "disable")
"""The spellings of the coordinator mode that leaves a pod without path to its node."""


@dataclass(frozen=True, slots=True)
class Coordination:
    """Resolved settings of the coordinator for one interface.

    ``service_addresses`` are those outside ``service_cidrs``: of load balancers, and externalIPs. ``ipam_cidrs`` are
    the subnets in which other IPAM plugins than Spiderpool's give addresses.
    ``mode`` is auto, underlay, overlay or disabled (or disable). ``pod_rp_filter`` None leaves the sysctl alone,
    ``tx_queue_len`` 0 the queue. ``veth_link_address`` gives veth0 an address of its own, for sidecars that look for
    one. An empty ``default_route_nic`` means the first interface that has a gateway. ``policy_routes`` are
    (destination, gateway). ``first_nic`` is the name of a pod's first interface.
    """

    mode: str
    service_cidrs: tuple[Network, ...] = ()
    overlay_cidrs: tuple[Network, ...] = ()
    hijack_cidrs: tuple[Network, ...] = ()
    host_rule_table: int = 500
    pod_rp_filter: int | None = 0
    tx_queue_len: int = 0
    veth_mtu: int = 1500
    veth_link_address: IPv4Address | None = None
    tune_pod_routes: bool = True
    default_route_nic: str = ""
    policy_routes: tuple[tuple[Network, Address], ...] = ()
    pod_mac_prefix: str = ""
    first_nic: str = "eth0"
    service_addresses: tuple[Address, ...] = ()
    ipam_cidrs: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterRanges:
    """What the cluster uses: for Services, and for pods of its own network, none where the interface is of that."""

    service_cidrs: tuple[Network, ...] = ()
    service_addresses: tuple[Address, ...] = ()
    pod_cidrs: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the addresses of an interface are that another plugin made.

    ``granted`` are those that Spiderpool gave to it, ``reported`` those that the other plugin says it gave. ``taken``
    are addresses of the node's other pods → the pod, ``cluster`` what the cluster uses itself.
    """

    granted: frozenset[Address] = frozenset()
    reported: frozenset[Address] = frozenset()
    taken: Mapping[Address, str] = field(default_factory=dict, hash=False)
    cluster: ClusterRanges = ClusterRanges()

    @property
    def foreign(self) -> frozenset[Address]:
        """Those that another IPAM plugin than Spiderpool's gave."""
        return self.reported - self.granted


@dataclass(frozen=True, slots=True)
class Loan:
    """A device of the node that a pod's interface borrows, by its name there and what nobody in the pod can change.

    A pod can only make links that have a kind, which those of hardware have not.
    """

    device: str
    kind: str = ""
    permanent_mac: str = ""

    def find(self, links: Iterable[Link], name: str) -> Link | None:
        """The device among the links of a namespace: that of the ``name`` or, by its permanent MAC, of another name.

        None: not here, or one of several, as on servers whose virtual functions have the MAC of another device.
        """
        same = [link for link in links if (link.kind, link.permanent_mac) == (self.kind, self.permanent_mac)]
        named = next((link for link in same if link.name == name), None)
        return same[0] if named is None and self.permanent_mac and len(same) == 1 else named


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface requested for a pod.

    ``netns`` is the path of its namespace, ``master`` the NIC on the node (for ``host-device``: the NIC itself).
    An empty ``mode`` is the kind's default, an ``mtu`` of 0 the master's, an empty ``mac`` the kernel's choice.
    ``gateways`` become the default routes, one for each family; ``routes`` are (destination, gateway).
    ``loan`` is that of the device, for ``host-device``.
    Without ``coordination`` the pod gets the interface alone. Of kind `EXISTING` it has ``coordination`` and
    ``ownership`` only: the rest is what the pod's interface has.
    """

    container_id: str
    netns: str
    ifname: str
    kind: str
    master: str
    mode: str = ""
    mtu: int = 0
    addresses: tuple[Interface, ...] = ()
    routes: tuple[tuple[Network, Address], ...] = ()
    coordination: Coordination | None = None
    gateways: tuple[Address, ...] = ()
    mac: str = ""
    vlan_id: int = 0
    loan: Loan | None = None
    ownership: Ownership = Ownership()

    def of(self, version: int) -> tuple[Address, ...]:
        """The addresses of one family."""
        return tuple(address.ip for address in self.addresses if address.version == version)

    def versions(self) -> tuple[int, ...]:
        """The families of the addresses, in ascending order."""
        return tuple(sorted({address.version for address in self.addresses}))


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as the kernel describes it.

    ``parent`` is the index of its lower link or of its peer, ``master`` that of its bond or bridge; 0 for none.
    ``parent_netns`` is the kernel's number of the namespace in which that is; None: of its own. Nobody can write the
    ``permanent_mac``, that of the hardware; empty for links without.
    """

    name: str
    index: int
    kind: str = ""
    mode: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    tx_queue_len: int = 1000
    parent: int = 0
    master: int = 0
    vlan_id: int = 0
    parent_netns: int | None = None
    permanent_mac: str = ""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """An address of the node and the link that holds it."""

    link: str
    address: Address


@dataclass(frozen=True, slots=True)
class PodState:
    """The state of a pod's namespace: unicast addresses, routes, rules and permanent neighbours; none link-local.

    A route with several next hops is several routes.
    """

    links: tuple[Link, ...] = ()
    addresses: tuple[AddAddress, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    rules: tuple[AddRule, ...] = ()
    neighbours: tuple[AddNeighbour, ...] = ()

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def held_by(self, link: str) -> tuple[Address, ...]:
        """The addresses of a link."""
        return tuple(held.address.ip for held in self.addresses if held.link == link)


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of node and pod on which a plan depends.

    ``links`` names the node's links, only when the master is missing, for the message. ``taken`` means that the node
    has a link of the interface's name. ``sources`` are the source addresses that the node uses towards the pod's.
    ``host_end`` is the node's end of the pod's path: of the veth pair, or of an eth0 that is a veth.
    ``not_forwarding`` are the families that the node does not forward. ``advertised`` are links with accept_ra 1, which
    follow router advertisements only while the node does not forward. ``gateways`` are those of the node's routes, for
    an interface with addresses of another IPAM plugin.
    """

    master: Link | None
    links: tuple[str, ...] = ()
    taken: bool = True
    addresses: tuple[NodeAddress, ...] = ()
    sources: tuple[Address, ...] = ()
    not_forwarding: tuple[int, ...] = ()
    advertised: tuple[str, ...] = ()
    host_end: Link | None = None
    pod: PodState = PodState()
    gateways: tuple[Address, ...] = ()


def default_destination(version: int) -> Network:
    """The destination of a default route."""
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")


def is_global(address: Address) -> bool:
    """Whether an address is one that other machines can use."""
    return not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified)


def is_default(route: AddRoute) -> bool:
    """Whether a route is a default route of table main."""
    return route.table == MAIN_TABLE and route.destination.prefixlen == 0
