"""A cloud server and its ENIs as the metadata service describes them: which descriptions are good, and how they merge.

A description that contradicts itself or the machine it is read on is not used. An address or an ENI counts as removed
when two good readings in a row lack it, so that one stale answer removes nothing. An answer without any IPv6 address
removes none: a service that has lost them answers no differently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_network
from itertools import chain
from typing import TypeAlias

from msgspec.structs import replace

from spiderpool.api.core_v1 import Node
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.core.addresses import Network, from_int, parse_subnet, to_int
from spiderpool.core.network.plumbing.values import Link

ProviderIDParser: TypeAlias = Callable[[str], tuple[str, str] | None]
"""Returns region and instance of a Node's ``spec.providerID``; None for a text of another form. Each cloud has one."""

STACKED = frozenset({"bridge", "ipvlan", "ipvtap", "macvlan", "macvtap", "vlan"})
"""Kinds of links that may have the MAC address of the ENI below them."""

MOST_ENIS, MOST_ADDRESSES = 256, 8192
"""ENIs of a server, and addresses of all of them, beyond which a description is none of a server."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,63}")
_DEVICE = re.compile(r"(?!\.{1,2}$)[^/:\s]{1,15}")  # as the kernel names links
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def described(nodes: Iterable[Node], servers: Iterable[SpiderServer]) -> Iterator[Instance | None]:
    """Yields for each node its server; None where there is no description of it that can be right."""
    by_name = {server.name: server for server in servers}
    for node in nodes:
        found = by_name.get(node.name)
        yield found.spec if found and found.is_of(node) and defect(found.spec) is None else None


def devices_of(instance: Instance | None) -> frozenset[str] | None:
    """Returns the Linux names of a server's ENIs; None where the server is not described."""
    return frozenset(eni.device for eni in instance.enis if eni.device) if instance else None


def reported_devices(nodes: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Returns the Linux names of the ENIs of all nodes, from those of each; None unless all of them report theirs."""
    found: set[str] = set()
    for devices in nodes:
        if devices is None:
            return None
        found |= devices
    return frozenset(found) or None


def defect(instance: Instance, known: Instance | None = None) -> str | None:
    """Returns why a description cannot be right; None when it can. ``known`` is the last good one of this machine."""
    found = _size_defects(instance), _identity_defects(instance, known), _set_defects(instance)
    return next(chain(*found, _eni_defects(instance.enis)), None)


def _size_defects(instance: Instance) -> Iterator[str]:
    if len(instance.enis) > MOST_ENIS or sum(len(eni.all_addresses) for eni in instance.enis) > MOST_ADDRESSES:
        yield f"it has more than {MOST_ENIS} ENIs or {MOST_ADDRESSES} addresses"


def _identity_defects(instance: Instance, known: Instance | None) -> Iterator[str]:
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


def _set_defects(instance: Instance) -> Iterator[str]:
    primaries = [eni.identity for eni in instance.enis if eni.primary]
    if len(primaries) != 1:
        yield f"{len(primaries)} of {len(instance.enis)} ENIs are the primary one"
    yield from _duplicates("ENI", (eni.identity for eni in instance.enis))
    yield from _duplicates("MAC address", (eni.mac for eni in instance.enis))
    yield from _duplicates("address", (address for eni in instance.enis for address in eni.all_addresses))


def _duplicates(noun: str, values: Iterable[str]) -> Iterator[str]:
    listed: set[str] = set()
    for value in values:
        if value in listed:
            yield f"{noun} {value} is listed twice"
        listed.add(value)


def _eni_defects(enis: Iterable[ENI]) -> Iterator[str]:
    for eni in enis:
        if not _WORD.fullmatch(eni.identity):
            yield f"an ENI calls itself {eni.identity!r}"
        if not _MAC.fullmatch(eni.mac):
            yield f"ENI {eni.identity} has MAC address {eni.mac!r}"
        if eni.device is not None and not _DEVICE.fullmatch(eni.device):
            yield f"ENI {eni.identity} has the Linux name {eni.device!r}"
        yield from _block_defects(eni, eni.subnet, eni.gateway, (eni.primary_address, *eni.addresses))
        if eni.subnet6 is not None:
            yield from _block_defects(eni, eni.subnet6, eni.gateway6, eni.ipv6_addresses)
        elif eni.ipv6_addresses:
            yield f"ENI {eni.identity} has IPv6 addresses and no IPv6 block"


def _block_defects(eni: ENI, block: str, gateway: str | None, addresses: Iterable[str]) -> Iterator[str]:
    try:
        subnet = parse_subnet(block)
    except ValueError as error:
        yield f"the block {block!r} of ENI {eni.identity} is {error}"
    else:
        yield from _address_defects(eni, subnet, gateway, tuple(addresses))


def _address_defects(eni: ENI, block: Network, gateway: str | None, addresses: tuple[str, ...]) -> Iterator[str]:
    first, last = int(block.network_address), int(block.broadcast_address)
    for address in (*addresses, *([gateway] if gateway else [])):
        if not first <= _number(address, block.version) <= last:
            yield f"address {address!r} of ENI {eni.identity} lies outside its block {block}"
        elif address == gateway and address in addresses:
            yield f"ENI {eni.identity} has the address {address} of its gateway"


def _number(text: str, version: int) -> int:
    """Returns an address in canonical form as a number; -1 for anything else."""
    try:
        number = to_int(text, version)
    except ValueError:
        return -1
    return number if from_int(number, version) == text else -1


def completed(last: Instance | None, now: Instance) -> Instance:
    """Returns a good reading with the IPv6 addresses that an ENI had in the last one, where it has none at all."""
    taken = frozenset(address for eni in now.enis for address in eni.all_addresses)
    formers = ((eni, last.eni(eni.identity) if last else None) for eni in now.enis)
    return replace(now, enis=tuple(_with_ipv6_of(former, eni, taken) for eni, former in formers))


def _with_ipv6_of(former: ENI | None, eni: ENI, taken: frozenset[str]) -> ENI:
    if former is None or eni.ipv6_addresses:
        return eni
    return replace(
        eni,
        ipv6_addresses=tuple(each for each in former.ipv6_addresses if each not in taken),
        subnet6=eni.subnet6 or former.subnet6,
        gateway6=eni.gateway6 or former.gateway6,
    )


def merged(last: Instance | None, now: Instance) -> Instance:
    """Returns what two good readings in a row have together; where they disagree, the later one is right."""
    if last is None:
        return replace(now, enis=_in_order(now.enis))
    taken = frozenset(address for eni in now.enis for address in eni.all_addresses)
    enis = [_merge_eni(eni, last.eni(eni.identity), taken) for eni in now.enis]
    macs = {eni.mac for eni in now.enis}
    former = [eni for eni in last.enis if now.eni(eni.identity) is None and eni.mac not in macs]
    enis += [_without(replace(eni, primary=False), taken) for eni in former]
    return replace(now, enis=_in_order(enis))


def _in_order(enis: Iterable[ENI]) -> tuple[ENI, ...]:
    """Returns ENIs in a fixed order, the primary first: the order in the answer is arbitrary and not a change."""
    return tuple(sorted(enis, key=lambda eni: (not eni.primary, eni.identity)))


def _merge_eni(eni: ENI, former: ENI | None, taken: frozenset[str]) -> ENI:
    if former is None:
        return eni
    return replace(
        eni,
        addresses=_merge_addresses(eni, former, 4, taken),
        ipv6_addresses=_merge_addresses(eni, former, 6, taken),
        subnet6=eni.subnet6 or former.subnet6,
        gateway6=eni.gateway6 or former.gateway6,
    )


def _merge_addresses(eni: ENI, former: ENI, version: int, taken: frozenset[str]) -> tuple[str, ...]:
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
    """Returns addresses of one family in numerical order. Raises ValueError for a text that is no address."""
    return tuple(map(str, sorted(map(ip_address, addresses), key=int)))


def with_devices(instance: Instance, links: Iterable[Link], own: Iterable[str]) -> Instance:
    """Returns the ENIs with their Linux names, found by MAC address, and without ``own``, the node's own addresses.

    Linux names depend on the image and the order of attachment, so only the MAC address identifies an ENI.
    """
    listed, excluded = tuple(links), frozenset(own)
    return replace(
        instance,
        enis=tuple(_without(replace(eni, device=device_of(eni.mac, listed)), excluded) for eni in instance.enis),
    )


def device_of(mac: str, links: Iterable[Link]) -> str | None:
    """Returns the link with an ENI's MAC address; None without one. Links on top of it have its MAC address, too."""
    found = [link for link in links if link.mac.lower() == mac and link.kind not in STACKED]
    return min(found, key=lambda link: (link.kind != "", link.index)).name if found else None


def is_this_machine(instance: Instance, links: Iterable[Link]) -> bool:
    """Whether the description is about this machine: one of its links is the primary ENI."""
    primary = instance.primary
    return primary is not None and device_of(primary.mac, links) is not None
