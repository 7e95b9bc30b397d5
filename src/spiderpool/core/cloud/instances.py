"""What a cloud server says of itself and its ENIs: what of it can be believed, and when something has vanished.

A reading that contradicts itself, or the machine that it came to, changes nothing. An address or an ENI has vanished
when two good readings in a row lack it: one stale answer takes nothing away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from itertools import chain

import msgspec
from msgspec.structs import replace

from spiderpool.core.addresses import Address, Network, parse_subnet
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import Undecodable

INSTANCE_ANNOTATION = "cloud.spidernet.io/instance"
"""On a Node: its server and ENIs as JSON, written by the node's agent."""

GATEWAY_FROM_END = 3
"""The gateway of a block is its third last address (Alibaba Cloud, VPC: reserved addresses of a vSwitch)."""

STACKED = frozenset({"bridge", "ipvlan", "ipvtap", "macvlan", "macvtap", "vlan"})
"""Kinds of links that may carry the MAC address of the ENI below them."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


class ENI(msgspec.Struct, frozen=True):
    """One elastic network interface (ENI) of a server, with the addresses that pods may use on it."""

    identity: str
    mac: str
    primary: bool
    primary_address: str
    """The server's own IPv4 address; never a pod's."""
    addresses: tuple[str, ...]
    """Secondary IPv4 addresses."""
    ipv6_addresses: tuple[str, ...]
    vswitch: str
    subnet: str
    subnet6: str | None
    gateway: str | None
    gateway6: str | None
    device: str | None = None
    """Linux name of the ENI; None while no link carries its MAC address."""

    def addresses_of(self, version: int) -> tuple[str, ...]:
        """Addresses of a family that pods may use."""
        return self.addresses if version == 4 else self.ipv6_addresses

    def subnet_of(self, version: int) -> str | None:
        """The block of the vSwitch, as CIDR."""
        return self.subnet if version == 4 else self.subnet6

    def gateway_of(self, version: int) -> str | None:
        """The gateway as told, else the third last address of the block; None without a block."""
        told, block = (self.gateway, self.subnet) if version == 4 else (self.gateway6, self.subnet6)
        return told or (str(ip_network(block)[-GATEWAY_FROM_END]) if block else None)


class Instance(msgspec.Struct, frozen=True):
    """One cloud server."""

    provider: str
    region: str
    zone: str
    identity: str
    instance_type: str
    enis: tuple[ENI, ...] = msgspec.field(name="cards")
    """The annotation calls them cards: its text is older than the name."""

    @property
    def provider_id(self) -> str:
        """``region.instance``, as ``spec.providerID`` of a Node has it."""
        return f"{self.region}.{self.identity}"

    def eni(self, identity: str) -> ENI | None:
        """An ENI by its identity."""
        return next((eni for eni in self.enis if eni.identity == identity), None)

    @property
    def primary(self) -> ENI | None:
        """The ENI with which the server was made."""
        return next((eni for eni in self.enis if eni.primary), None)


def text_of(instance: Instance) -> str:
    """JSON text, the same for the same value."""
    return msgspec.json.encode(instance).decode()


def read_instance(text: str | bytes) -> Instance:
    """The inverse of :func:`text_of`. Raises Undecodable, also for a value that contradicts itself."""
    try:
        instance = msgspec.json.decode(text, type=Instance)
    except msgspec.DecodeError as error:
        raise Undecodable(f"not the description of a server: {error}") from error
    if reason := doubt(instance):
        raise Undecodable(f"the description of the server contradicts itself: {reason}")
    return instance


def doubt(instance: Instance, known: Instance | None = None) -> str | None:
    """Why a reading cannot be believed; None when it can. ``known`` is what was believed of this machine before."""
    return next(chain(_identity_doubts(instance, known), _set_doubts(instance), _eni_doubts(instance.enis)), None)


def _identity_doubts(instance: Instance, known: Instance | None) -> Iterator[str]:
    for name in ("region", "zone", "identity", "instance_type"):
        value = getattr(instance, name).replace(".", "") if name == "instance_type" else getattr(instance, name)
        if not _WORD.fullmatch(value):
            yield f"{name} is {getattr(instance, name)!r}"
    if known is None:
        return
    if known.provider_id != instance.provider_id:
        yield f"it speaks of {instance.provider_id}, this machine is {known.provider_id}"
    before, after = known.primary, instance.primary
    if before and after and before.identity != after.identity:
        yield f"the primary ENI is {after.identity}, it was {before.identity}"


def _set_doubts(instance: Instance) -> Iterator[str]:
    primaries = [eni.identity for eni in instance.enis if eni.primary]
    if len(primaries) != 1:
        yield f"{len(primaries)} of {len(instance.enis)} ENIs are the primary one"
    yield from _twice("ENI", (eni.identity for eni in instance.enis))
    yield from _twice("MAC address", (eni.mac for eni in instance.enis))
    yield from _twice("address", chain.from_iterable(map(_all_addresses, instance.enis)))


def _twice(noun: str, values: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield f"{noun} {value} is listed twice"
        seen.add(value)


def _all_addresses(eni: ENI) -> tuple[str, ...]:
    return (eni.primary_address, *eni.addresses, *eni.ipv6_addresses)


def _eni_doubts(enis: Iterable[ENI]) -> Iterator[str]:
    for eni in enis:
        if not _WORD.fullmatch(eni.identity):
            yield f"an ENI calls itself {eni.identity!r}"
        if not _MAC.fullmatch(eni.mac):
            yield f"ENI {eni.identity} has MAC address {eni.mac!r}"
        yield from _block_doubts(eni, eni.subnet, eni.gateway, (eni.primary_address, *eni.addresses))
        if eni.subnet6 is not None:
            yield from _block_doubts(eni, eni.subnet6, eni.gateway6, eni.ipv6_addresses)
        elif eni.ipv6_addresses:
            yield f"ENI {eni.identity} has IPv6 addresses and no IPv6 block"


def _block_doubts(eni: ENI, block: str, gateway: str | None, addresses: Iterable[str]) -> Iterator[str]:
    try:
        subnet = parse_subnet(block)
    except ValueError as error:
        yield f"the block {block!r} of ENI {eni.identity} is {error}"
    else:
        yield from _address_doubts(eni, subnet, gateway, tuple(addresses))


def _address_doubts(eni: ENI, block: Network, gateway: str | None, addresses: tuple[str, ...]) -> Iterator[str]:
    for address in (*addresses, *([gateway] if gateway else [])):
        if (parsed := _parse(address)) is None or parsed not in block:
            yield f"address {address!r} of ENI {eni.identity} lies outside its block {block}"
        elif address == gateway and address in addresses:
            yield f"ENI {eni.identity} has the address {address} of its gateway"


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if str(address) == text else None


def joined(last: Instance | None, now: Instance) -> Instance:
    """What two good readings in a row tell together: all that either has, where they disagree the later one."""
    if last is None:
        return replace(now, enis=_in_order(now.enis))
    taken = frozenset(chain.from_iterable(map(_all_addresses, now.enis)))
    enis = [_with_former(eni, last.eni(eni.identity), taken) for eni in now.enis]
    macs = {eni.mac for eni in now.enis}
    former = [eni for eni in last.enis if now.eni(eni.identity) is None and eni.mac not in macs]
    enis += [_without(replace(eni, primary=False), taken) for eni in former]
    return replace(now, enis=_in_order(enis))


def _in_order(enis: Iterable[ENI]) -> tuple[ENI, ...]:
    """The primary ENI first: the order in which a service lists them must not look like a change."""
    return tuple(sorted(enis, key=lambda eni: (not eni.primary, eni.identity)))


def _with_former(eni: ENI, former: ENI | None, taken: frozenset[str]) -> ENI:
    if former is None:
        return eni
    return replace(
        eni,
        addresses=_join(eni, former, 4, taken),
        ipv6_addresses=_join(eni, former, 6, taken),
        subnet6=eni.subnet6 or former.subnet6,
        gateway6=eni.gateway6 or former.gateway6,
    )


def _join(eni: ENI, former: ENI, version: int, taken: frozenset[str]) -> tuple[str, ...]:
    block = eni.subnet_of(version) or former.subnet_of(version)
    gone = set(former.addresses_of(version)) - taken
    return ordered((*eni.addresses_of(version), *(each for each in gone if block and _is_in(each, block))))


def _is_in(address: str, block: str) -> bool:
    return ip_address(address) in ip_network(block)


def _without(eni: ENI, taken: frozenset[str]) -> ENI:
    return replace(
        eni,
        addresses=tuple(each for each in eni.addresses if each not in taken),
        ipv6_addresses=tuple(each for each in eni.ipv6_addresses if each not in taken),
    )


def ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    """Addresses of one family by number. Raises ValueError for what is none."""
    return tuple(map(str, sorted(map(ip_address, addresses), key=int)))


def placed(instance: Instance, links: Iterable[Link], own: Iterable[str]) -> Instance:
    """The ENIs with their Linux names, found by MAC address, and without addresses that the node itself holds.

    Names follow the order of attachment and the image, so they tell nothing. ``own`` are the node's own addresses.
    """
    listed, held = tuple(links), frozenset(own)
    return replace(
        instance, enis=tuple(_without(replace(eni, device=device(eni.mac, listed)), held) for eni in instance.enis)
    )


def device(mac: str, links: Iterable[Link]) -> str | None:
    """The link that is the ENI of a MAC address; None when there is none. Links on top of it carry its MAC too."""
    found = [link for link in links if link.mac.lower() == mac and link.kind not in STACKED]
    return min(found, key=lambda link: (link.kind != "", link.index)).name if found else None


def is_ours(instance: Instance, links: Iterable[Link]) -> bool:
    """Whether the primary ENI is one of this machine: a description of another machine is not about us."""
    primary = instance.primary
    return primary is not None and device(primary.mac, links) is not None
