"""The pools of a new subnet that take the place of those of an old one. Values alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.renumbering.marks import DISABLED_BEFORE, MoveKind, is_moving_by, notes_of
from spiderpool.core.addresses import AddressSet, parse_subnet, to_int
from spiderpool.core.admission.ippool import default_ippool
from spiderpool.core.ipam.subnet_addresses import available_addresses, lowest, pool_addresses, subnet_addresses
from spiderpool.core.labels import NAME_LENGTH
from spiderpool.errors import BadRequest, Refused

RENUMBERED_FROM = "ipam.spidernet.io/renumbered-from"
"""Annotation of a pool that takes the place of another one: the name of that."""


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """A subnet with the addresses of it that pools may have."""

    name: str
    """Of the SpiderSubnet, else of the CIDR, as a word for names of pools."""
    subnet: str
    """CIDR."""
    addresses: AddressSet
    gateway: str | None
    source: SpiderSubnet | None = None
    """None where no SpiderSubnet has this CIDR."""


@dataclass(frozen=True, slots=True)
class PoolCounterpart:
    """A pool, and that which takes its place."""

    old: SpiderIPPool
    new: SpiderIPPool
    exists: bool = False


def address_space(
    word: str, subnets: Iterable[SpiderSubnet], ips: Collection[str] = (), gateway: str | None = None
) -> AddressSpace:
    """The subnet that a word names: a SpiderSubnet or a CIDR. Raises BadRequest for what is neither.

    ``ips`` are the addresses of it that pools may have, ``gateway`` theirs; by default those of the SpiderSubnet.
    """
    source = next((each for each in subnets if word in (each.name, each.spec.subnet)), None)
    text = source.spec.subnet if source else word
    try:
        network = parse_subnet(text)
        given = AddressSet.parse(ips, network.version)
    except ValueError as error:
        raise BadRequest(f"{word} is neither a SpiderSubnet nor a subnet with such addresses: {error}") from error
    if outside := (given - AddressSet.of_network(network)).ranges():
        raise BadRequest(f"{', '.join(outside)} lies outside of {network}")
    known = subnet_addresses(source, network.version) if source else given
    hop = gateway or (source.spec.gateway if source else None)
    usable = (known & given if given else known) - AddressSet.unassignable(network)
    if hop is not None:
        try:
            usable -= AddressSet.of_addresses([to_int(hop, network.version)], network.version)
        except ValueError as error:
            raise BadRequest(f"gateway {hop} is no IPv{network.version} address") from error
    name = source.name if source else text.translate(str.maketrans(".:/", "---"))
    return AddressSpace(name, text, usable, hop, source)


def counterpart_name(pool: str, old: str, new: str) -> str:
    """The name of a pool's counterpart: the new subnet's name instead of the old one's, or behind."""
    name = pool.replace(old, new) if old in pool else f"{pool}-{new}"
    return name[:NAME_LENGTH].rstrip("-.")


def counterparts(
    pools: Iterable[SpiderIPPool],
    spaces: tuple[AddressSpace, AddressSpace],
    known: Collection[SpiderIPPool],
    reserved: AddressSet,
) -> list[PoolCounterpart]:
    """A pool of the new space for each of the old ``pools``: that which was made before, or one with as many addresses.

    ``known`` are all pools. Raises Refused where the new space has no address left for one, or a name is taken.
    """
    old, new = spaces
    made = {
        (each.metadata.annotations or {}).get(RENUMBERED_FROM): each for each in known if each.spec.subnet == new.subnet
    }
    others = [pool_addresses(each, new.addresses.version) for each in known if each.spec.subnet == new.subnet]
    free, names, found = available_addresses(new.addresses, others, reserved), {each.name for each in known}, []
    for pool in sorted(pools, key=lambda each: each.name):
        if (there := made.get(pool.name)) is not None:
            found.append(PoolCounterpart(pool, there, exists=True))
            continue
        name = counterpart_name(pool.name, old.name, new.name)
        if name in names:
            raise Refused(
                f"pool {name} exists, and was not made in the place of {pool.name}: rename or remove it first"
            )
        addresses = lowest(free, pool_addresses(pool, new.addresses.version).size)
        if not addresses:
            raise Refused(f"{new.name} has no address left for a pool in the place of {pool.name}: add some to it")
        free, names = free - addresses, names | {name}
        found.append(PoolCounterpart(pool, counterpart(pool, name, addresses, new)))
    return found


def _was_disabled(pool: SpiderIPPool) -> bool:
    """Whether a pool is disabled, and not because it is drained."""
    is_drained = is_moving_by(pool, MoveKind.DRAIN)
    return notes_of(pool).get(DISABLED_BEFORE) == "true" if is_drained else bool(pool.spec.disable)


def counterpart(pool: SpiderIPPool, name: str, addresses: AddressSet, new: AddressSpace) -> SpiderIPPool:
    """A pool for the same pods as another one, with addresses of the new space. Routes are those of the new subnet."""
    spec: IPPoolSpec = replace(
        pool.spec,
        subnet=new.subnet,
        ips=addresses.ranges(),
        excludeIPs=None,
        gateway=new.gateway,
        routes=None,
        disable=_was_disabled(pool) or None,
    )
    metadata = ObjectMeta(name=name, annotations={RENUMBERED_FROM: pool.name})
    return default_ippool(SpiderIPPool(metadata=metadata, spec=spec), [new.source] if new.source else [])
