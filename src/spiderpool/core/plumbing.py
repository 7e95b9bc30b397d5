"""Which kernel steps give a pod an interface: values in, a printable list of steps out.

A pod on an ipvlan or macvlan child cannot reach its own node, because the kernel keeps a parent and its children
apart. The coordinator's second path, a veth pair, carries what must pass the node: the node's own addresses,
Services (the node's kube-proxy translates them), and the replies to connections that arrived by that path.

    pod    main       node addresses, Services, hijacked ranges: by veth0;  everything else: by the card
           table 100  everything by veth0, for packets that carry the mark 0x1
    node   table 500  pod addresses: by the host end of the veth pair

The steps name links, never interface indexes, so that a plan can be printed, compared and explained.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Literal, TypeAlias, assert_never

from spiderpool.errors import BadConfig, KernelFailure, NotReady

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network
Where: TypeAlias = Literal["node", "pod"]

MODES = {
    "ipvlan": ("l2", "l3", "l3s"),
    "macvlan": ("bridge", "private", "vepa", "passthru"),
}
"""Kinds of interface and their modes; the first is the default."""

VETH = "veth0"
"""The pod's end of the veth pair."""

MARK = 0x1
"""Mark of packets and connections that came in by veth0; the answers leave by it."""

MAIN_TABLE = 254
MARK_TABLE = 100

RULE_PRIORITY = 1000
"""Priority of our rules on both sides.

On the node it must come before the rules that choose a card by source address (``from <card's address>``), because
an answer to a pod carries such a source: then it would leave by the card. It must come after ``local`` (0).
"""

_NOT_CARDS = re.compile(
    r"docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|flannel|kube-ipvs|cni|vx-submariner|cilium",
)


@dataclass(frozen=True, slots=True)
class Coordination:
    """Resolved settings of the coordinator for one interface.

    ``mode`` is ``underlay`` or ``disabled``. ``pod_rp_filter`` None leaves the sysctl alone, ``tx_queue_len`` 0 the
    queue. ``veth_link_address`` gives veth0 an address of its own, for sidecars that look for one.
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


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface that a pod shall have.

    ``netns`` is the path of its namespace, ``master`` the card on the node. An empty ``mode`` is the kind's default,
    an ``mtu`` of 0 the master's. ``gateway`` becomes the default route; ``routes`` are (destination, gateway).
    Without ``coordination`` the pod gets the interface alone.
    """

    container_id: str
    netns: str
    ifname: str
    kind: str
    master: str
    mode: str = ""
    mtu: int = 0
    addresses: tuple[Interface, ...] = ()
    gateway: Address | None = None
    routes: tuple[tuple[Network, Address], ...] = ()
    coordination: Coordination | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as the kernel describes it. ``parent`` is the index of its lower link, 0 for none."""

    name: str
    index: int
    kind: str = ""
    mode: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    tx_queue_len: int = 1000
    parent: int = 0


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """An address of the node and the link that holds it."""

    link: str
    address: Address


@dataclass(frozen=True, slots=True)
class Observation:
    """What a plan depends on.

    ``links`` names the node's links and is filled in only when the master is missing, for the message. ``sources`` are
    the addresses from which the node would speak to the pod's addresses. ``marked`` says that the pod already
    holds the rule for marked packets, as after an ADD that was cut short.
    """

    master: Link | None
    links: tuple[str, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    sources: tuple[Address, ...] = ()
    forwarding: bool = True
    host_interface: bool = False
    pod_links: tuple[Link, ...] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class CreateLink:
    """Create a child of ``master`` directly in the pod; moving a link later costs milliseconds.

    The kernel refuses a name that is taken on the *node*, and ``eth0`` mostly is: so it is born under a
    ``temporary`` name and renamed in the pod.
    """

    where: Where
    name: str
    kind: str
    mode: str
    master: str
    mtu: int
    temporary: str

    def __str__(self) -> str:
        return f"{self.where}: create {self.kind} {self.name} on {self.master} mode {self.mode} mtu {self.mtu}"


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
class DeleteLink:
    """Delete a link; its addresses, routes, neighbours and peer go with it. Nothing happens if it is gone."""

    where: Where
    name: str

    def __str__(self) -> str:
        return f"{self.where}: delete {self.name}"


@dataclass(frozen=True, slots=True)
class SetLink:
    """Bring a link up; ``tx_queue_len`` 0 leaves the queue alone."""

    where: Where
    name: str
    tx_queue_len: int = 0

    def __str__(self) -> str:
        queue = f" txqueuelen {self.tx_queue_len}" if self.tx_queue_len else ""
        return f"{self.where}: set {self.name} up{queue}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give a link an address."""

    where: Where
    link: str
    address: Interface

    def __str__(self) -> str:
        return f"{self.where}: address {self.address} on {self.link}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """A route; it replaces one to the same destination in the same table. Without ``gateway`` its scope is link."""

    where: Where
    destination: Network
    link: str
    gateway: Address | None = None
    source: Address | None = None
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

    def __str__(self) -> str:
        mark = f" fwmark {self.mark:#x}" if self.mark else ""
        return f"{self.where}: ipv{self.version} rule {self.priority}{mark} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class AddNeighbour:
    """A permanent neighbour: veth0 has no address, so ARP on it fails as soon as arp_ignore is not 0."""

    where: Where
    link: str
    address: Address
    mac: str

    def __str__(self) -> str:
        return f"{self.where}: neighbour {self.address} lladdr {self.mac} dev {self.link}"


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write a sysctl, named by its path below /proc/sys since link names may hold dots."""

    where: Where
    path: str
    value: str

    def __str__(self) -> str:
        return f"{self.where}: sysctl {self.path} = {self.value}"


@dataclass(frozen=True, slots=True)
class LoadMarks:
    """Mark connections that begin on ``link``, and their answers.

    ``afresh`` says that rules of an earlier attempt may be there already.
    """

    where: Where
    link: str
    mark: int
    afresh: bool = False

    def __str__(self) -> str:
        return f"{self.where}: mark {self.mark:#x} on connections from {self.link}"


@dataclass(frozen=True, slots=True)
class Announce:
    """Send a gratuitous ARP request (sender = target = address, RFC 5227 section 3)."""

    where: Where
    link: str
    address: IPv4Address

    def __str__(self) -> str:
        return f"{self.where}: announce {self.address} from {self.link}"


Step: TypeAlias = (
    CreateLink
    | CreateVeth
    | DeleteLink
    | SetLink
    | AddAddress
    | AddRoute
    | AddRule
    | AddNeighbour
    | SetSysctl
    | LoadMarks
    | Announce
)


def plan(attachment: Attachment, seen: Observation) -> tuple[Step, ...]:
    """The steps that give the pod its interface, in order; leftovers of an ADD that was cut short are removed first.

    Raises:
        BadConfig: the attachment cannot work on this node.
        KernelFailure: the card does not exist, or the name in the pod is taken by a link that is not ours.
        NotReady: the node has no address yet through which its pods could reach it.
    """
    master = _master(attachment, seen)
    coordination = attachment.coordination
    steps: list[Step] = [*_clear(attachment, seen), *_interface(attachment, master)]
    if coordination is not None and coordination.mode == "underlay":
        steps += _coordinate(attachment, coordination, seen)
    steps += _announcements(attachment)
    return tuple(_first_wins(steps, (address.network for address in attachment.addresses)))


def removal(container_id: str, ifname: str) -> tuple[DeleteLink, ...]:
    """The steps that take an interface away, also a half-made one.

    The pod's link comes first and by name: the deletion of a namespace is put off while a socket in it is open, and
    until then an ipvlan address stays taken.
    """
    return (
        DeleteLink("pod", ifname),
        DeleteLink("pod", temporary_name(container_id, ifname)),
        DeleteLink("node", host_interface(container_id)),
    )


def host_interface(container_id: str) -> str:
    """The node's end of a pod's veth pair: at most 15 characters, the kernel's limit."""
    return f"veth{container_id[:11]}"


def temporary_name(container_id: str, ifname: str) -> str:
    """A name for a link under construction that no other link has."""
    return f"sp{_digest(container_id, ifname).hex()[:12]}"


def veth_mac(container_id: str, end: str) -> str:
    """A locally administered unicast MAC that depends on the container and the end of the pair only."""
    octets = bytearray(_digest(container_id, end)[:6])
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")


def node_addresses(seen: Observation, version: int) -> tuple[Address, ...]:
    """The node's addresses of one family, first the one from which it speaks to the pod.

    All of them matter: the host end of the veth pair has no address, so the kernel may choose any as source.
    """
    held = [one.address for one in seen.addresses if not _NOT_CARDS.match(one.link)]
    chosen = [source for source in seen.sources if source in held]
    return tuple(dict.fromkeys(one for one in (*chosen, *held) if one.version == version and _is_global(one)))


def _master(attachment: Attachment, seen: Observation) -> Link:
    _known(attachment)
    if seen.master is None:
        cards = ", ".join(name for name in seen.links if not _NOT_CARDS.match(name)) or "none"
        raise KernelFailure(
            f"card {attachment.master} does not exist on this node; its cards are {cards}:"
            f" correct spec.{attachment.kind}.master of the network"
        )
    if attachment.mtu > seen.master.mtu:
        raise BadConfig(
            f"mtu {attachment.mtu} is more than the {seen.master.mtu} of {attachment.master}: lower it, or leave it out"
        )
    _free(attachment, seen)
    return seen.master


def _known(attachment: Attachment) -> None:
    modes = MODES.get(attachment.kind)
    if modes is None:
        raise BadConfig(f"kind {attachment.kind!r} is none of {', '.join(MODES)}")
    if attachment.mode and attachment.mode not in modes:
        raise BadConfig(f"mode {attachment.mode!r} of {attachment.kind} is none of {', '.join(modes)}")
    if attachment.mtu < 0:
        raise BadConfig(f"mtu {attachment.mtu} is negative; 0 means that of {attachment.master}")
    if attachment.coordination and attachment.coordination.mode not in ("underlay", "disabled"):
        raise BadConfig(f"coordinator mode {attachment.coordination.mode!r} is neither underlay nor disabled")


def _free(attachment: Attachment, seen: Observation) -> None:
    """Refuse addresses that the node holds itself: it would answer instead of the pod."""
    wanted = {address.ip for address in attachment.addresses}
    for held in seen.addresses:
        if held.address in wanted:
            raise BadConfig(
                f"{held.address} is configured on {held.link} of this node, so it cannot serve a pod:"
                f" remove it there, or exclude it from the pool"
            )


def _clear(attachment: Attachment, seen: Observation) -> Iterator[Step]:
    temporary = temporary_name(attachment.container_id, attachment.ifname)
    for link in seen.pod_links:
        if link.name == attachment.ifname and link.kind not in MODES:
            raise KernelFailure(
                f"the pod already has {link.name}, a {link.kind or 'device'} that was not made here:"
                f" two networks ask for the same interface name"
            )
        if link.name in (attachment.ifname, temporary):
            yield DeleteLink("pod", link.name)
    if seen.host_interface:
        yield DeleteLink("node", host_interface(attachment.container_id))
    elif any(link.name == VETH for link in seen.pod_links):
        yield DeleteLink("pod", VETH)


def _interface(attachment: Attachment, master: Link) -> Iterator[Step]:
    name = attachment.ifname
    mode = attachment.mode or MODES[attachment.kind][0]
    mtu = attachment.mtu or master.mtu
    if any(address.version == 6 for address in attachment.addresses):
        yield SetSysctl("pod", "net/ipv6/conf/all/disable_ipv6", "0")
    temporary = temporary_name(attachment.container_id, name)
    yield CreateLink("pod", name, attachment.kind, mode, attachment.master, mtu, temporary)
    yield SetLink("pod", name, attachment.coordination.tx_queue_len if attachment.coordination else 0)
    for address in attachment.addresses:
        yield AddAddress("pod", name, address)
    if attachment.gateway is not None:
        yield AddRoute("pod", _everything(attachment.gateway.version), name, attachment.gateway)
    for destination, gateway in attachment.routes:
        yield AddRoute("pod", destination, name, gateway)


def _coordinate(attachment: Attachment, coordination: Coordination, seen: Observation) -> Iterator[Step]:
    container = attachment.container_id
    yield CreateVeth(
        "node",
        host_interface(container),
        veth_mac(container, "node"),
        VETH,
        veth_mac(container, "pod"),
        coordination.veth_mtu,
    )
    yield SetLink("node", host_interface(container))
    yield SetLink("pod", VETH)
    if coordination.veth_link_address is not None:
        yield AddAddress("pod", VETH, IPv4Interface(coordination.veth_link_address))
    for version in sorted({address.version for address in attachment.addresses}):
        addresses = tuple(address.ip for address in attachment.addresses if address.version == version)
        yield from _pod_side(container, addresses, node_addresses(seen, version), coordination)
        yield from _node_side(container, addresses, coordination.host_rule_table)
    if not seen.forwarding:
        yield SetSysctl("node", "net/ipv4/ip_forward", "1")
    if coordination.pod_rp_filter is not None:
        for link in ("all", VETH):
            yield SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", str(coordination.pod_rp_filter))
    yield LoadMarks("pod", VETH, MARK, afresh=seen.marked)


def _pod_side(
    container: str, addresses: tuple[Address, ...], node: tuple[Address, ...], coordination: Coordination
) -> Iterator[Step]:
    version = addresses[0].version
    if not node:
        raise NotReady(f"the node has no global IPv{version} address yet, so its pods could not reach it")
    source = addresses[0] if version == 4 else None
    for address in node:
        yield AddNeighbour("pod", VETH, address, veth_mac(container, "node"))
        yield AddRoute("pod", ip_network(address), VETH, source=source)
    for cidr in (*coordination.overlay_cidrs, *coordination.service_cidrs, *coordination.hijack_cidrs):
        if cidr.version == version:
            yield AddRoute("pod", cidr, VETH, node[0], source)
    yield AddRule("pod", version, RULE_PRIORITY, MARK_TABLE, MARK)
    yield AddRoute("pod", _everything(version), VETH, node[0], source, MARK_TABLE)


def _node_side(container: str, addresses: tuple[Address, ...], table: int) -> Iterator[Step]:
    for address in addresses:
        yield AddNeighbour("node", host_interface(container), address, veth_mac(container, "pod"))
        yield AddRoute("node", ip_network(address), host_interface(container), table=table)
    yield AddRule("node", addresses[0].version, RULE_PRIORITY, table)


def _announcements(attachment: Attachment) -> Iterator[Step]:
    """In modes l3 and l3s an ipvlan child has no ARP of its own."""
    if attachment.mode in ("l3", "l3s"):
        return
    for address in attachment.addresses:
        if isinstance(address, IPv4Interface):
            yield Announce("pod", attachment.ifname, address.ip)


def _first_wins(steps: Iterable[Step], connected: Iterable[Network]) -> Iterator[Step]:
    """Drop routes to a destination that has one already: subnets first, then the network's, then the coordinator's."""
    taken: set[tuple[str, int, Network]] = {("pod", MAIN_TABLE, network) for network in connected}
    for step in steps:
        if isinstance(step, AddRoute):
            key = (step.where, step.table, step.destination)
            if key in taken:
                continue
            taken.add(key)
        yield step


@dataclass(frozen=True, slots=True)
class Present:
    """What is there, for a comparison with a plan.

    ``links`` holds (where, link); ``steps`` every address, route, rule, neighbour and sysctl as the step
    that would make it; ``marks`` tells whether the mark rules are loaded.
    """

    links: tuple[tuple[Where, Link], ...] = ()
    steps: frozenset[Step] = frozenset()
    marks: bool = False

    def link(self, where: Where, name: str) -> Link | None:
        """The link of that name on that side."""
        return next((link for side, link in self.links if side == where and link.name == name), None)


def drift(steps: Iterable[Step], present: Present, master: Link) -> tuple[str, ...]:
    """What a plan wants that is not so, one sentence fragment each; empty when all is well."""
    return tuple(fault for step in steps for fault in _faults(step, present, master))


def _faults(step: Step, present: Present, master: Link) -> Iterator[str]:
    match step:
        case CreateLink():
            yield from _link_faults(step, present.link("pod", step.name), master)
        case CreateVeth():
            yield from _veth_faults(step.name, step.mac, present.link("node", step.name))
            yield from _veth_faults(step.peer, step.peer_mac, present.link("pod", step.peer))
        case SetLink():
            link = present.link(step.where, step.name)
            if link is not None and not link.up:
                yield f"{step.name} ({step.where}) is down"
        case AddAddress() | AddRoute() | AddRule() | AddNeighbour() | SetSysctl():
            if step not in present.steps:
                yield f"missing or changed: {step}"
        case LoadMarks():
            if not present.marks:
                yield f"missing: {step}"
        case DeleteLink() | Announce():
            pass
        case _:
            assert_never(step)


def _link_faults(wanted: CreateLink, link: Link | None, master: Link) -> Iterator[str]:
    if link is None:
        yield f"{wanted.name} is missing in the pod"
        return
    if (link.kind, link.mode) != (wanted.kind, wanted.mode):
        yield f"{wanted.name} is {link.kind} {link.mode}, not {wanted.kind} {wanted.mode}"
    if link.parent != master.index:
        yield f"{wanted.name} does not lie on {wanted.master}"
    if link.mtu != wanted.mtu:
        yield f"mtu of {wanted.name} is {link.mtu}, not {wanted.mtu}"


def _veth_faults(name: str, mac: str, link: Link | None) -> Iterator[str]:
    if link is None:
        yield f"{name} is missing"
    elif link.mac != mac:
        yield f"MAC of {name} is {link.mac}, not {mac}"


def _everything(version: int) -> Network:
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")


def _is_global(address: Address) -> bool:
    return not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified)


def _digest(*words: str) -> bytes:
    return hashlib.sha256("/".join(words).encode()).digest()
