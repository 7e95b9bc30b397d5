"""The plan of a lab as values: vSwitches, nodes, the ENIs of each node and their addresses. Nothing here does IO."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, ip_network

import msgspec

SERVICE_CIDR, SERVICE_CIDR6 = "10.233.0.0/18", "fd00:10:233::/112"
CLUSTER_DNS = ("10.233.0.10", "fd00:10:233::a")
"""Addresses of the Service ``kube-dns``."""
CLUSTER_DOMAIN = "cluster.local"
POD_CIDR, POD_CIDR6 = "10.233.64.0/18", "fd00:10:233:64::/64"
"""Networks of Services and pods as the cluster is configured; the cloud routes neither of them."""


class NodeKind(enum.Enum):
    """``REAL``: nodes run containerd and a kubelet. ``FAST``: a stand-in for both, which runs no containers."""

    REAL = "real"
    FAST = "fast"


class VSwitch(msgspec.Struct, frozen=True):
    """A subnet of the cloud's network; ``gateway`` and ``gateway6`` are the cloud's router in it.

    ``nat`` is the public address of its NAT gateway; without one, its servers and pods do not reach IPv4 internet.
    ``zone`` is the zone of the region that it is in; empty: the first one.
    """

    name: str
    subnet: str
    gateway: str
    subnet6: str | None = None
    gateway6: str | None = None
    nat: str | None = None
    zone: str = ""

    @property
    def gateways(self) -> tuple[str, ...]:
        """The router's address in each family, as ``address/prefix length``."""
        found = ((self.gateway, self.subnet), (self.gateway6, self.subnet6))
        return tuple(f"{gateway}/{ip_network(subnet).prefixlen}" for gateway, subnet in found if gateway and subnet)


class AddressConfig(msgspec.Struct, frozen=True):
    """How an ENI is configured in one IP family: the server's own address, its subnet and gateway."""

    address: str
    subnet: str
    gateway: str

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_network(self.subnet).version

    @property
    def interface(self) -> str:
        """``address/prefix length``."""
        return f"{self.address}/{ip_network(self.subnet).prefixlen}"


class ENI(msgspec.Struct, frozen=True):
    """An ENI and the addresses that are registered on it: the cloud drops frames with another source MAC or IP.

    ``elastic`` is its public address, which the cloud translates to and from ``address``. ``mtu`` is that of the
    server's link and of the cloud's port.
    """

    name: str
    mac: str
    vswitch: VSwitch
    address: str
    secondaries: tuple[str, ...] = ()
    address6: str | None = None
    secondaries6: tuple[str, ...] = ()
    elastic: str | None = None
    mtu: int = 1500

    @property
    def address_configs(self) -> tuple[AddressConfig, ...]:
        """One for each family that the ENI has, IPv4 first."""
        vswitch = self.vswitch
        ipv4 = AddressConfig(self.address, vswitch.subnet, vswitch.gateway)
        if not (self.address6 and vswitch.subnet6 and vswitch.gateway6):
            return (ipv4,)
        return (ipv4, AddressConfig(self.address6, vswitch.subnet6, vswitch.gateway6))

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """The addresses of the server itself, IPv4 first."""
        return tuple(config.address for config in self.address_configs)

    @property
    def registered(self) -> tuple[str, ...]:
        """Every address from which this ENI may send."""
        return (*self.own_addresses, *self.secondaries, *self.secondaries6)


class LabNode(msgspec.Struct, frozen=True):
    """A server. ``management`` is its address in the management network, which is not part of the cloud."""

    name: str
    enis: tuple[ENI, ...]
    management: str

    @property
    def management_mac(self) -> str:
        """MAC of the management interface, the same at every boot: a locally administered prefix and the address."""
        return "02:00:" + IPv4Address(self.management).packed.hex(":")

    def port(self, link: str) -> str:
        """Name of the cloud's end of an ENI (or of ``mgmt``), at most 15 characters long."""
        return f"{self.name}-{link}"


class Internet(msgspec.Struct, frozen=True):
    """The network outside the cloud: a server and a client. Every pair is IPv4 and IPv6.

    On the link between both, ``cloud`` is the address of the cloud's router and ``router`` that of the internet's.
    ``elastic`` are the networks that the internet routes to the cloud.
    """

    server: tuple[str, str] = ("203.0.113.10", "2001:db8:cb00::10")
    client: tuple[str, str] = ("203.0.113.77", "2001:db8:cb00::77")
    router: tuple[str, str] = ("100.64.0.1/30", "2001:db8:c640::1/64")
    cloud: tuple[str, str] = ("100.64.0.2/30", "2001:db8:c640::2/64")
    elastic: tuple[str, str] = ("198.51.100.0/24", "2001:db8:0:100::/56")


class Topology(msgspec.Struct, frozen=True):
    """A whole lab. ``host`` is this machine's address in the management network ``management``.

    ``control_plane`` is the server from which the API server reaches nodes and pods; without one it reaches none.
    """

    vswitches: tuple[VSwitch, ...]
    nodes: tuple[LabNode, ...]
    management: str
    host: str
    internet: Internet = Internet()
    control_plane: LabNode | None = None

    @property
    def servers(self) -> tuple[LabNode, ...]:
        """The nodes, and the control plane's server."""
        return (*self.nodes, self.control_plane) if self.control_plane else self.nodes

    @property
    def management_prefix_length(self) -> int:
        """Length of the management network's prefix in bits."""
        return ip_network(self.management).prefixlen

    def node(self, name: str) -> LabNode:
        """The node of that name; KeyError if there is none."""
        return {node.name: node for node in self.nodes}[name]

    def owner(self, eni: ENI) -> LabNode:
        """The server of an ENI; KeyError if there is none."""
        return {candidate.mac: node for node in self.servers for candidate in node.enis}[eni.mac]


def _vswitch(name: str, subnet: str, subnet6: str, nat: str) -> VSwitch:
    """A vSwitch whose router has the third last address of each subnet, as on Alibaba Cloud."""
    return VSwitch(name, subnet, str(ip_network(subnet)[-3]), subnet6, str(ip_network(subnet6)[-3]), nat)


_VSW0 = _vswitch("vsw0", "172.31.192.0/20", "2001:db8:0:100::/64", "198.51.100.10")
_VSW1 = _vswitch("vsw1", "192.168.0.0/24", "2001:db8:0:101::/64", "198.51.100.11")
_VSW2 = _vswitch("vsw2", "192.168.1.0/24", "2001:db8:0:102::/64", "198.51.100.12")


def _eni(name: str, mac: str, vswitch: VSwitch, address: str, secondaries: range) -> ENI:
    """An ENI whose IPv6 and elastic addresses have the same last part as its IPv4 address; so do the secondaries."""
    network, _, host = address.rpartition(".")
    network6 = (vswitch.subnet6 or "").removesuffix("/64")
    return ENI(
        name,
        mac,
        vswitch,
        address,
        tuple(f"{network}.{number}" for number in secondaries),
        f"{network6}{host}",
        tuple(f"{network6}{number}" for number in secondaries),
        f"198.51.100.{host}",
    )


WALKTHROUGH = Topology(
    vswitches=(_VSW0, _VSW1),
    nodes=(
        LabNode(
            "master",
            (
                _eni("eth0", "00:16:3e:01:01:83", _VSW0, "172.31.199.183", range(185, 190)),
                _eni("eth1", "00:16:3e:01:02:54", _VSW1, "192.168.0.154", range(156, 161)),
            ),
            "198.18.0.11",
        ),
        LabNode(
            "worker",
            (
                _eni("eth0", "00:16:3e:02:01:84", _VSW0, "172.31.199.184", range(190, 195)),
                _eni("eth1", "00:16:3e:02:02:55", _VSW1, "192.168.0.155", range(161, 166)),
            ),
            "198.18.0.12",
        ),
    ),
    management="198.18.0.0/24",  # in a namespace of each lab, so labs can all have the same
    host="198.18.0.1",
    control_plane=LabNode(
        "plane",
        (ENI("eth0", "00:16:3e:00:01:82", _VSW0, "172.31.199.182", address6="2001:db8:0:100::182"),),
        "198.18.0.1",
    ),
)
"""Two servers with two ENIs, each with five secondary addresses per family, as in docs/usage/alibaba-cloud.md."""


def enlarged(secondaries: int) -> Topology:
    """The walkthrough's servers with that many secondary addresses of each family on eth0, at most 250."""
    nodes = WALKTHROUGH.nodes
    return msgspec.structs.replace(
        WALKTHROUGH, nodes=tuple(_enlarged_node(node, 196 + index, secondaries) for index, node in enumerate(nodes))
    )


def _enlarged_node(node: LabNode, part: int, secondaries: int) -> LabNode:
    """The node with other addresses on eth0: their third part is ``part``, which no server has."""
    numbers, first = range(1, secondaries + 1), node.enis[0]
    more = msgspec.structs.replace(
        first,
        secondaries=tuple(f"172.31.{part}.{number}" for number in numbers),
        secondaries6=tuple(f"2001:db8:0:100::{part}:{number}" for number in numbers),
    )
    return msgspec.structs.replace(node, enis=(more, *node.enis[1:]))


def with_large_mtus(topology: Topology) -> Topology:
    """The walkthrough's servers with a third ENI, and MTUs of 1500, 8500 (the cloud's jumbo frames) and 9000."""
    thirds = (
        _eni("eth2", "00:16:3e:01:03:74", _VSW2, "192.168.1.174", range(176, 181)),
        _eni("eth2", "00:16:3e:02:03:75", _VSW2, "192.168.1.175", range(181, 186)),
    )
    nodes = (
        msgspec.structs.replace(node, enis=tuple(map(_with_mtu, (*node.enis, third), (1500, 8500, 9000))))
        for node, third in zip(topology.nodes, thirds, strict=True)
    )
    return msgspec.structs.replace(topology, vswitches=(*topology.vswitches, _VSW2), nodes=tuple(nodes))


def _with_mtu(eni: ENI, mtu: int) -> ENI:
    return msgspec.structs.replace(eni, mtu=mtu)
