"""What comes out of a plan: steps that one executor carries out in order."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, TypeAlias

from spiderpool.core.network.plumbing.naming import MAIN_TABLE

Where: TypeAlias = Literal["node", "pod"]

WHOLE_MARK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class CreateLink:
    """Create a child of the node's ``master`` directly where it belongs; moving a link later costs milliseconds.

    The kernel refuses a name that is taken on the *node*, and ``eth0`` mostly is: then it is born under a
    ``temporary`` name and renamed in the pod, which costs another grace period.
    """

    where: Where
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
        return f"{self.where}: create {self.kind} {self.name} on {self.master}{mode}{vlan} mtu {self.mtu}{mac}"


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Create a veth pair with both ends in place: ``name`` on the node, ``peer`` in the pod.

    The MACs are given, so that udev on the node leaves them alone.
    """

    where: Where
    name: str
    mac: str
    peer: str
    peer_mac: str
    mtu: int

    def __str__(self) -> str:
        return f"{self.where}: create veth {self.name} {self.mac}, peer {self.peer} {self.peer_mac} mtu {self.mtu}"


@dataclass(frozen=True, slots=True)
class CreateBond:
    """Create a bond with a numeric mode and (option, value) pairs."""

    where: Where
    name: str
    mode: int
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = "".join(f" {key} {value}" for key, value in self.options)
        return f"{self.where}: create bond {self.name} mode {self.mode}{options}"


@dataclass(frozen=True, slots=True)
class Enslave:
    """Make a link, taken down for it, part of a bond, and bring it up."""

    where: Where
    name: str
    bond: str

    def __str__(self) -> str:
        return f"{self.where}: enslave {self.name} to {self.bond}"


@dataclass(frozen=True, slots=True)
class MoveLink:
    """Bring a link from the other side under a new name. ``alias`` remembers where it belongs, or is emptied."""

    where: Where
    name: str
    new_name: str
    alias: str

    def __str__(self) -> str:
        origin = "pod" if self.where == "node" else "node"
        return f"{self.where}: take {self.name} from the {origin} as {self.new_name}"


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a link; its addresses, routes, neighbours and peer go with it. Nothing happens if it is gone."""

    where: Where
    name: str

    def __str__(self) -> str:
        return f"{self.where}: delete {self.name}"


@dataclass(frozen=True, slots=True)
class SetLink:
    """Bring a link up. ``tx_queue_len`` 0 and ``mtu`` 0 and an empty ``mac`` leave those alone."""

    where: Where
    name: str
    tx_queue_len: int = 0
    mtu: int = 0
    mac: str = ""

    def __str__(self) -> str:
        queue = f" txqueuelen {self.tx_queue_len}" if self.tx_queue_len else ""
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        mac = f" mac {self.mac}" if self.mac else ""
        return f"{self.where}: set {self.name} up{queue}{mtu}{mac}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give a link an address; an IPv6 address without duplicate address detection."""

    where: Where
    link: str
    address: IPv4Interface | IPv6Interface

    def __str__(self) -> str:
        return f"{self.where}: address {self.address} on {self.link}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """A route; it replaces one to the same destination in the same table. Without ``gateway`` its scope is link."""

    where: Where
    destination: IPv4Network | IPv6Network
    link: str
    gateway: IPv4Address | IPv6Address | None = None
    source: IPv4Address | IPv6Address | None = None
    table: int = MAIN_TABLE

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        source = f" src {self.source}" if self.source else ""
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        return f"{self.where}: route {self.destination}{via} dev {self.link}{source}{table}"


@dataclass(frozen=True, slots=True)
class AddRule:
    """A policy rule of one family (4 or 6); the same rule is never added twice."""

    where: Where
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
        return f"{self.where}: ipv{self.version} rule {self.priority}{source}{mark} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class AddNeighbour:
    """A permanent neighbour: veth0 has no address, so ARP on it fails as soon as arp_ignore is not 0."""

    where: Where
    link: str
    address: IPv4Address | IPv6Address
    mac: str

    def __str__(self) -> str:
        return f"{self.where}: neighbour {self.address} lladdr {self.mac} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Take back what a step made; nothing happens if it is gone."""

    what: AddRoute | AddRule | AddNeighbour

    @property
    def where(self) -> Where:
        """Where it was made."""
        return self.what.where

    def __str__(self) -> str:
        where, _, what = str(self.what).partition(": ")
        return f"{where}: remove {what}"


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write a sysctl, named by its path below /proc/sys since link names may hold dots.

    Unless ``required``, a kernel that lacks it is as good.
    """

    where: Where
    path: str
    value: str
    required: bool = True

    def __str__(self) -> str:
        return f"{self.where}: sysctl {self.path} = {self.value}"


@dataclass(frozen=True, slots=True)
class LoadMarks:
    """Mark connections of some families that begin on ``link``, and their answers.

    ``afresh`` says that rules of an earlier attempt may be there already.
    """

    where: Where
    link: str
    mark: int
    versions: tuple[int, ...] = (4,)
    afresh: bool = False

    def __str__(self) -> str:
        return f"{self.where}: mark {self.mark:#x} on connections from {self.link}"


@dataclass(frozen=True, slots=True)
class LoadNICMarks:
    """Mark connections that begin on a NIC, and what pods answer to them: ``NICs`` holds (link, mark).

    Only the bits of ``mask`` are written. What an earlier call loaded is replaced.
    """

    where: Where
    nics: tuple[tuple[str, int], ...]
    mask: int
    versions: tuple[int, ...] = (4,)

    def __str__(self) -> str:
        marks = ", ".join(f"{link} {mark:#x}" for link, mark in self.nics)
        return f"{self.where}: mark connections by NIC: {marks} (mask {self.mask:#x})"


@dataclass(frozen=True, slots=True)
class DropNICMarks:
    """Undo `LoadCardMarks`; nothing happens if it was never done."""

    where: Where

    def __str__(self) -> str:
        return f"{self.where}: no marks by NIC"


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the link who has the address: a gratuitous ARP request (RFC 5227) or an unsolicited neighbour advertisement.

    The latter is RFC 4861 section 7.2.6.
    """

    where: Where
    link: str
    address: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return f"{self.where}: announce {self.address} from {self.link}"


NetlinkStep: TypeAlias = (
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
)
InsideStep: TypeAlias = SetSysctl | LoadMarks | LoadNICMarks | DropNICMarks | Announce
Step: TypeAlias = NetlinkStep | InsideStep
