"""The shape of a lab as plain data: vSwitches, nodes, the cards of each node and their addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface

import msgspec

SERVICE_CIDR = "10.233.0.0/18"
POD_CIDR = "10.233.64.0/18"
"""What the cluster believes to be the networks of its Services and pods; the cloud knows neither."""


class VSwitch(msgspec.Struct, frozen=True):
    """A subnet of the cloud network; ``gateway`` is the address of the cloud's router in it."""

    name: str
    subnet: str
    gateway: str

    @property
    def prefix_length(self) -> int:
        """Length of the subnet's prefix in bits."""
        return ip_interface(self.subnet).network.prefixlen


class Card(msgspec.Struct, frozen=True):
    """A network card as the cloud has registered it: frames with another MAC or IP are dropped."""

    name: str
    mac: str
    vswitch: VSwitch
    address: str
    secondaries: tuple[str, ...] = ()

    @property
    def registered(self) -> tuple[str, ...]:
        """Every address that may send through this card."""
        return (self.address, *self.secondaries)


class Node(msgspec.Struct, frozen=True):
    """A server. ``management`` is its address in the lab's own network, unknown to the cloud."""

    name: str
    cards: tuple[Card, ...]
    management: str

    @property
    def management_mac(self) -> str:
        """MAC of the management card, the same at every boot: a locally administered prefix and the address."""
        return "02:00:" + IPv4Address(self.management).packed.hex(":")

    def port(self, link: str) -> str:
        """Name of the link at the cloud's end of a card (or of ``mgmt``)."""
        return f"{self.name}-{link}"


class Topology(msgspec.Struct, frozen=True):
    """A whole lab. ``host`` is our own address in the management network ``management``."""

    vswitches: tuple[VSwitch, ...]
    nodes: tuple[Node, ...]
    management: str
    host: str

    @property
    def management_prefix_length(self) -> int:
        """Length of the management network's prefix in bits."""
        return ip_interface(self.management).network.prefixlen

    def node(self, name: str) -> Node:
        """The node of that name; KeyError if there is none."""
        return {node.name: node for node in self.nodes}[name]


_VSW0 = VSwitch("vsw0", "172.31.192.0/20", "172.31.207.253")
_VSW1 = VSwitch("vsw1", "192.168.0.0/24", "192.168.0.253")


def _card(name: str, mac: str, vswitch: VSwitch, network: str, host: int, secondaries: range) -> Card:
    return Card(name, mac, vswitch, f"{network}.{host}", tuple(f"{network}.{number}" for number in secondaries))


WALKTHROUGH = Topology(
    vswitches=(_VSW0, _VSW1),
    nodes=(
        Node(
            "master",
            (
                _card("eth0", "00:16:3e:01:01:83", _VSW0, "172.31.199", 183, range(185, 190)),
                _card("eth1", "00:16:3e:01:02:54", _VSW1, "192.168.0", 154, range(156, 161)),
            ),
            "198.18.0.11",
        ),
        Node(
            "worker",
            (
                _card("eth0", "00:16:3e:02:01:84", _VSW0, "172.31.199", 184, range(190, 195)),
                _card("eth1", "00:16:3e:02:02:55", _VSW1, "192.168.0", 155, range(161, 166)),
            ),
            "198.18.0.12",
        ),
    ),
    management="198.18.0.0/24",
    host="198.18.0.1",
)
"""Two servers with two cards each, five secondary addresses per card: the cluster of the tutorial."""
