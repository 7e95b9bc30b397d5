"""The output of every plan: steps that ``kernel.applying`` carries out in order. Each prints as one line."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, TypeAlias

from spiderpool.core.network.plumbing.naming import MAIN_TABLE

Side: TypeAlias = Literal["node", "pod"]
"""The network namespace in which a step acts."""

WHOLE_MARK = 0xFFFFFFFF
"""The mask of a rule that compares all bits of the mark."""


@dataclass(frozen=True, slots=True)
class CreateLink:
    """Create an ipvlan, macvlan or VLAN on the node's ``master``, in its final namespace: moving it later is slow.

    The kernel refuses a name that is taken on the *node*, as ``eth0`` mostly is. Then the link is created under a
    ``temporary`` name and renamed in the pod, which costs another RCU grace period.
    """

    side: Side
    name: str
    kind: str
    mode: str
    master: str
    mtu: int
    temporary: str = ""
    mac: str = ""
    vlan_id: int = 0

    def __str__(self) -> str:
        mode = f" mode {self.mode}" if self.mode else ""
        vlan = f" id {self.vlan_id}" if self.kind == "vlan" else ""
        mac = f" mac {self.mac}" if self.mac else ""
        return f"{self.side}: create {self.kind} {self.name} on {self.master}{mode}{vlan} mtu {self.mtu}{mac}"


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Create a veth pair with both ends in their final namespaces: ``name`` on the node, ``peer`` in the pod.

    Names the MACs, so that udev on the node does not replace them.
    """

    side: Side
    name: str
    mac: str
    peer: str
    peer_mac: str
    mtu: int

    def __str__(self) -> str:
        return f"{self.side}: create veth {self.name} {self.mac}, peer {self.peer} {self.peer_mac} mtu {self.mtu}"


@dataclass(frozen=True, slots=True)
class CreateBond:
    """Create a bond with a numeric mode and (option, value) pairs."""

    side: Side
    name: str
    mode: int
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = "".join(f" {key} {value}" for key, value in self.options)
        return f"{self.side}: create bond {self.name} mode {self.mode}{options}"


@dataclass(frozen=True, slots=True)
class Enslave:
    """Take a link down, add it to a bond and bring it up."""

    side: Side
    name: str
    bond: str

    def __str__(self) -> str:
        return f"{self.side}: enslave {self.name} to {self.bond}"


@dataclass(frozen=True, slots=True)
class MoveLink:
    """Move a link from the other side to this one and rename it."""

    side: Side
    name: str
    new_name: str

    def __str__(self) -> str:
        origin = "pod" if self.side == "node" else "node"
        return f"{self.side}: take {self.name} from the {origin} as {self.new_name}"


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a link with its addresses, routes, neighbours and veth peer; success if it does not exist."""

    side: Side
    name: str

    def __str__(self) -> str:
        return f"{self.side}: delete {self.name}"


@dataclass(frozen=True, slots=True)
class SetLink:
    """Bring a link up. A ``tx_queue_len`` or ``mtu`` of 0 and an empty ``mac`` leave the link's own."""

    side: Side
    name: str
    tx_queue_len: int = 0
    mtu: int = 0
    mac: str = ""

    def __str__(self) -> str:
        queue = f" txqueuelen {self.tx_queue_len}" if self.tx_queue_len else ""
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        mac = f" mac {self.mac}" if self.mac else ""
        return f"{self.side}: set {self.name} up{queue}{mtu}{mac}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address to a link, without duplicate address detection for IPv6."""

    side: Side
    link: str
    address: IPv4Interface | IPv6Interface

    def __str__(self) -> str:
        return f"{self.side}: address {self.address} on {self.link}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route, or replace the one to the same destination in the same table. No ``gateway``: scope link."""

    side: Side
    destination: IPv4Network | IPv6Network
    link: str
    gateway: IPv4Address | IPv6Address | None = None
    source: IPv4Address | IPv6Address | None = None
    table: int = MAIN_TABLE

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        source = f" src {self.source}" if self.source else ""
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        return f"{self.side}: route {self.destination}{via} dev {self.link}{source}{table}"


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a policy rule of one family (4 or 6), unless it exists."""

    side: Side
    version: int
    priority: int
    table: int
    mark: int | None = None
    source: IPv4Network | IPv6Network | None = None
    mask: int = WHOLE_MARK

    def __str__(self) -> str:
        source = f" from {self.source}" if self.source else ""
        mask = "" if self.mask == WHOLE_MARK else f"/{self.mask:#x}"
        mark = f" fwmark {self.mark:#x}{mask}" if self.mark else ""
        return f"{self.side}: ipv{self.version} rule {self.priority}{source}{mark} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class AddNeighbour:
    """Add a permanent neighbour: veth0 has no address, so ARP on it fails unless arp_ignore is 0."""

    side: Side
    link: str
    address: IPv4Address | IPv6Address
    mac: str

    def __str__(self) -> str:
        return f"{self.side}: neighbour {self.address} lladdr {self.mac} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the object that a step added; success if it does not exist."""

    what: AddRoute | AddRule | AddNeighbour

    @property
    def side(self) -> Side:
        """The namespace that holds the object."""
        return self.what.side

    def __str__(self) -> str:
        side, _, what = str(self.what).partition(": ")
        return f"{side}: remove {what}"


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write a sysctl, named by its path below /proc/sys since link names may contain dots.

    Unless ``required``, a sysctl that does not exist is success.
    """

    side: Side
    path: str
    value: str
    required: bool = True

    def __str__(self) -> str:
        return f"{self.side}: sysctl {self.path} = {self.value}"


@dataclass(frozen=True, slots=True)
class LoadMarks:
    """Mark connections of some families that begin on ``link``, and the answers to them.

    ``flush`` removes rules of an interrupted ADD first.
    """

    side: Side
    link: str
    mark: int
    versions: tuple[int, ...] = (4,)
    flush: bool = False

    def __str__(self) -> str:
        return f"{self.side}: mark {self.mark:#x} on connections from {self.link}"


@dataclass(frozen=True, slots=True)
class LoadNICMarks:
    """Mark connections that begin on a NIC, and the answers of pods to them. ``nics`` holds (link, mark).

    Writes only the bits of ``mask``. Replaces the rules of an earlier LoadNICMarks.
    """

    side: Side
    nics: tuple[tuple[str, int], ...]
    mask: int
    versions: tuple[int, ...] = (4,)

    def __str__(self) -> str:
        marks = ", ".join(f"{link} {mark:#x}" for link, mark in self.nics)
        return f"{self.side}: mark connections by NIC: {marks} (mask {self.mask:#x})"


@dataclass(frozen=True, slots=True)
class DropNICMarks:
    """Remove the rules of `LoadNICMarks`; success if there are none."""

    side: Side

    def __str__(self) -> str:
        return f"{self.side}: no marks by NIC"


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce which MAC has an address, so that neighbours update their caches.

    Sends a gratuitous ARP request (RFC 5227) or an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
    """

    side: Side
    link: str
    address: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return f"{self.side}: announce {self.address} from {self.link}"


Step: TypeAlias = (
    CreateLink
    | CreateVeth
    | CreateBond
    | Enslave
    | MoveLink
    | DeleteLink
    | SetLink
    | AddAddress
    | AddRoute
    | AddRule
    | AddNeighbour
    | Remove
    | SetSysctl
    | LoadMarks
    | LoadNICMarks
    | DropNICMarks
    | Announce
)
