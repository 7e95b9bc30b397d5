"""The shape of a lab as plain data: vSwitches, nodes, the ENIs of each node and their addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network

import msgspec

SERVICE_CIDR, SERVICE_CIDR6 = "10.233.0.0/18", "fd00:10:233::/112"
POD_CIDR, POD_CIDR6 = "10.233.64.0/18", "fd00:10:233:64::/64"
"""What the cluster believes to be the networks of its Services and pods; the cloud knows none of them."""
DUAL_STACK = "IPv6DualStack=true"
"""The feature gate without which Kubernetes 1.20 has one family only."""


class VSwitch(msgspec.Struct, frozen=True):
    """A subnet of the cloud network; ``gateway`` is the cloud's router in it, ``gateway6`` the same in IPv6.

    ``nat`` is the address as which its servers and pods are seen on the internet; without, they do not get there.
    """

    name: str
    subnet: str
    gateway: str
    subnet6: str | None = None
    gateway6: str | None = None
    nat: str | None = None

    @property
    def gateways(self) -> tuple[str, ...]:
        """The cloud's router in each family, with the length of the subnet's prefix."""
        found = ((self.gateway, self.subnet), (self.gateway6, self.subnet6))
        return tuple(f"{gateway}/{ip_network(subnet).prefixlen}" for gateway, subnet in found if gateway and subnet)


class AddressConfig(msgspec.Struct, frozen=True):
    """Where an ENI stands in one family: an address of the server, its subnet and the cloud's router there."""

    address: str
    subnet: str
    gateway: str

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_network(self.subnet).version

    @property
    def interface(self) -> str:
        """The address with the length of its prefix."""
        return f"{self.address}/{ip_network(self.subnet).prefixlen}"


class ENI(msgspec.Struct, frozen=True):
    """An ENI as the cloud has registered it: frames with another MAC or IP are dropped.

    ``elastic`` is an address of the internet that the cloud translates to and from ``address``.
    """

    name: str
    mac: str
    vswitch: VSwitch
    address: str
    secondaries: tuple[str, ...] = ()
    address6: str | None = None
    secondaries6: tuple[str, ...] = ()
    elastic: str | None = None

    @property
    def legs(self) -> tuple[AddressConfig, ...]:
        """One for each family that the ENI has, IPv4 first."""
        vswitch = self.vswitch
        leg = AddressConfig(self.address, vswitch.subnet, vswitch.gateway)
        if not (self.address6 and vswitch.subnet6 and vswitch.gateway6):
            return (leg,)
        return (leg, AddressConfig(self.address6, vswitch.subnet6, vswitch.gateway6))

    @property
    def own(self) -> tuple[str, ...]:
        """The addresses of the server itself, IPv4 first."""
        return tuple(leg.address for leg in self.legs)

    @property
    def registered(self) -> tuple[str, ...]:
        """Every address that may send through this ENI."""
        return (*self.own, *self.secondaries, *self.secondaries6)


class LabNode(msgspec.Struct, frozen=True):
    """A server. ``management`` is its address in the lab's own network, unknown to the cloud."""

    name: str
    enis: tuple[ENI, ...]
    management: str

    @property
    def management_mac(self) -> str:
        """MAC of the management ENI, the same at every boot: a locally administered prefix and the address."""
        return "02:00:" + IPv4Address(self.management).packed.hex(":")

    def port(self, link: str) -> str:
        """Name of the link at the cloud's end of an ENI (or of ``mgmt``)."""
        return f"{self.name}-{link}"


class Internet(msgspec.Struct, frozen=True):
    """What is outside the cloud: a server that answers and a client that asks, each with IPv4 and IPv6.

    The cloud's router is ``cloud`` on the link between, the internet's is ``router``; ``elastic`` is what leads to the
    cloud.
    """

    server: tuple[str, str] = ("203.0.113.10", "2001:db8:cb00::10")
    client: tuple[str, str] = ("203.0.113.77", "2001:db8:cb00::77")
    router: tuple[str, str] = ("100.64.0.1/30", "2001:db8:c640::1/64")
    cloud: tuple[str, str] = ("100.64.0.2/30", "2001:db8:c640::2/64")
    elastic: tuple[str, str] = ("198.51.100.0/24", "2001:db8:0:100::/56")


class Topology(msgspec.Struct, frozen=True):
    """A whole lab. ``host`` is our own address in the management network ``management``."""

    vswitches: tuple[VSwitch, ...]
    nodes: tuple[LabNode, ...]
    management: str
    host: str
    internet: Internet = Internet()

    @property
    def management_prefix_length(self) -> int:
        """Length of the management network's prefix in bits."""
        return ip_network(self.management).prefixlen

    def node(self, name: str) -> LabNode:
        """The node of that name; KeyError if there is none."""
        return {node.name: node for node in self.nodes}[name]

    def owner(self, eni: ENI) -> LabNode:
        """The node of an ENI; KeyError if there is none."""
        return {each.mac: node for node in self.nodes for each in node.enis}[eni.mac]


def _vswitch(name: str, subnet: str, subnet6: str, nat: str) -> VSwitch:
    """The cloud's router has the third last address of a block."""
    return VSwitch(name, subnet, str(ip_network(subnet)[-3]), subnet6, str(ip_network(subnet6)[-3]), nat)


_VSW0 = _vswitch("vsw0", "172.31.192.0/20", "2001:db8:0:100::/64", "198.51.100.10")
_VSW1 = _vswitch("vsw1", "192.168.0.0/24", "2001:db8:0:101::/64", "198.51.100.11")


def _eni(name: str, mac: str, vswitch: VSwitch, network: str, host: int, secondaries: range) -> ENI:
    """Both families count alike: the last part of an IPv6 address reads as that of the IPv4 address."""
    network6 = (vswitch.subnet6 or "").removesuffix("/64")
    return ENI(
        name,
        mac,
        vswitch,
        f"{network}.{host}",
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
                _eni("eth0", "00:16:3e:01:01:83", _VSW0, "172.31.199", 183, range(185, 190)),
                _eni("eth1", "00:16:3e:01:02:54", _VSW1, "192.168.0", 154, range(156, 161)),
            ),
            "198.18.0.11",
        ),
        LabNode(
            "worker",
            (
                _eni("eth0", "00:16:3e:02:01:84", _VSW0, "172.31.199", 184, range(190, 195)),
                _eni("eth1", "00:16:3e:02:02:55", _VSW1, "192.168.0", 155, range(161, 166)),
            ),
            "198.18.0.12",
        ),
    ),
    management="198.18.0.0/24",
    host="198.18.0.1",
)
"""Two servers with two ENIs each, five secondary addresses of each family per ENI: the cluster of the tutorial."""
