"""What a cloud server says of itself and its cards: what of it can be believed, and when something has vanished.

A reading that contradicts itself, or the machine that it came to, changes nothing. An address or a card has vanished
when two good readings in a row lack it: one stale answer takes nothing away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import chain

import msgspec

from spiderpool.core.addresses import Address, Network, parse_subnet
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import Undecodable

INSTANCE_ANNOTATION = "cloud.spidernet.io/instance"
"""On a Node: its server and cards as JSON, written by the node's agent."""

GATEWAY_FROM_END = 3
"""The gateway of a block is its third last address (Alibaba Cloud, VPC: reserved addresses of a vSwitch)."""

STACKED = frozenset({"bridge", "ipvlan", "ipvtap", "macvlan", "macvtap", "vlan"})
"""Kinds of links that may carry the MAC address of the card below them."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class ENI:
    """One network card (ENI) of a server, with the addresses that pods may use on it."""

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
    """Linux name of the card; None while no link carries its MAC address."""

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


@dataclass(frozen=True, slots=True)
class Instance:
    """One cloud server."""

    provider: str
    region: str
    zone: str
    identity: str
    instance_type: str
    cards: tuple[ENI, ...]

    @property
    def provider_id(self) -> str:
        """``region.instance``, as ``spec.providerID`` of a Node has it."""
        return f"{self.region}.{self.identity}"

    def card(self, identity: str) -> ENI | None:
        """A card by its identity."""
        return next((card for card in self.cards if card.identity == identity), None)

    @property
    def primary(self) -> ENI | None:
        """The card with which the server was made."""
        return next((card for card in self.cards if card.primary), None)


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
    return next(chain(_identity_doubts(instance, known), _set_doubts(instance), _card_doubts(instance.cards)), None)


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
        yield f"the primary card is {after.identity}, it was {before.identity}"


def _set_doubts(instance: Instance) -> Iterator[str]:
    primaries = [card.identity for card in instance.cards if card.primary]
    if len(primaries) != 1:
        yield f"{len(primaries)} of {len(instance.cards)} cards are the primary one"
    yield from _twice("card", (card.identity for card in instance.cards))
    yield from _twice("MAC address", (card.mac for card in instance.cards))
    yield from _twice("address", chain.from_iterable(map(_all_addresses, instance.cards)))


def _twice(noun: str, values: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield f"{noun} {value} is listed twice"
        seen.add(value)


def _all_addresses(card: ENI) -> tuple[str, ...]:
    return (card.primary_address, *card.addresses, *card.ipv6_addresses)


def _card_doubts(cards: Iterable[ENI]) -> Iterator[str]:
    for card in cards:
        if not _WORD.fullmatch(card.identity):
            yield f"a card calls itself {card.identity!r}"
        if not _MAC.fullmatch(card.mac):
            yield f"card {card.identity} has MAC address {card.mac!r}"
        yield from _block_doubts(card, card.subnet, card.gateway, (card.primary_address, *card.addresses))
        if card.subnet6 is not None:
            yield from _block_doubts(card, card.subnet6, card.gateway6, card.ipv6_addresses)
        elif card.ipv6_addresses:
            yield f"card {card.identity} has IPv6 addresses and no IPv6 block"


def _block_doubts(card: ENI, block: str, gateway: str | None, addresses: Iterable[str]) -> Iterator[str]:
    try:
        subnet = parse_subnet(block)
    except ValueError as error:
        yield f"the block {block!r} of card {card.identity} is {error}"
    else:
        yield from _address_doubts(card, subnet, gateway, tuple(addresses))


def _address_doubts(card: ENI, block: Network, gateway: str | None, addresses: tuple[str, ...]) -> Iterator[str]:
    for address in (*addresses, *([gateway] if gateway else [])):
        if (parsed := _parse(address)) is None or parsed not in block:
            yield f"address {address!r} of card {card.identity} lies outside its block {block}"
        elif address == gateway and address in addresses:
            yield f"card {card.identity} has the address {address} of its gateway"


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if str(address) == text else None


def joined(last: Instance | None, now: Instance) -> Instance:
    """What two good readings in a row tell together: all that either has, where they disagree the later one."""
    if last is None:
        return replace(now, cards=_in_order(now.cards))
    taken = frozenset(chain.from_iterable(map(_all_addresses, now.cards)))
    cards = [_with_former(card, last.card(card.identity), taken) for card in now.cards]
    macs = {card.mac for card in now.cards}
    former = [card for card in last.cards if now.card(card.identity) is None and card.mac not in macs]
    cards += [_without(replace(card, primary=False), taken) for card in former]
    return replace(now, cards=_in_order(cards))


def _in_order(cards: Iterable[ENI]) -> tuple[ENI, ...]:
    """The primary card first: the order in which a service lists them must not look like a change."""
    return tuple(sorted(cards, key=lambda card: (not card.primary, card.identity)))


def _with_former(card: ENI, former: ENI | None, taken: frozenset[str]) -> ENI:
    if former is None:
        return card
    return replace(
        card,
        addresses=_join(card, former, 4, taken),
        ipv6_addresses=_join(card, former, 6, taken),
        subnet6=card.subnet6 or former.subnet6,
        gateway6=card.gateway6 or former.gateway6,
    )


def _join(card: ENI, former: ENI, version: int, taken: frozenset[str]) -> tuple[str, ...]:
    block = card.subnet_of(version) or former.subnet_of(version)
    gone = set(former.addresses_of(version)) - taken
    return ordered((*card.addresses_of(version), *(each for each in gone if block and _is_in(each, block))))


def _is_in(address: str, block: str) -> bool:
    return ip_address(address) in ip_network(block)


def _without(card: ENI, taken: frozenset[str]) -> ENI:
    return replace(
        card,
        addresses=tuple(each for each in card.addresses if each not in taken),
        ipv6_addresses=tuple(each for each in card.ipv6_addresses if each not in taken),
    )


def ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    """Addresses of one family by number. Raises ValueError for what is none."""
    return tuple(map(str, sorted(map(ip_address, addresses), key=int)))


def placed(instance: Instance, links: Iterable[Link], own: Iterable[str]) -> Instance:
    """The cards with their Linux names, found by MAC address, and without addresses that the node itself holds.

    Names follow the order of attachment and the image, so they tell nothing. ``own`` are the node's own addresses.
    """
    listed, held = tuple(links), frozenset(own)
    return replace(
        instance, cards=tuple(_without(replace(card, device=device(card.mac, listed)), held) for card in instance.cards)
    )


def device(mac: str, links: Iterable[Link]) -> str | None:
    """The link that is the card of a MAC address; None when there is none. Links on top of it carry its MAC too."""
    found = [link for link in links if link.mac.lower() == mac and link.kind not in STACKED]
    return min(found, key=lambda link: (link.kind != "", link.index)).name if found else None


def is_ours(instance: Instance, links: Iterable[Link]) -> bool:
    """Whether the primary card is one of this machine: a description of another machine is not about us."""
    primary = instance.primary
    return primary is not None and device(primary.mac, links) is not None
