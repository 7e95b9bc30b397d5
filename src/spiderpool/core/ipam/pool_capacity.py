"""How many addresses each pool can give, counted once for all pools of a cluster."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import FAMILIES, AddressSet
from spiderpool.core.ipam.allocation import address_of, cooldown_is_over, family
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    """The addresses that a pool can give."""

    free: int
    cooling: int = 0
    """Of these a pod gets one only when nothing else is free."""
    shared: int = 0
    """Addresses of both kinds that another pool holds as well."""

    @property
    def most(self) -> int:
        """All that it can give."""
        return self.free + self.cooling

    @property
    def least(self) -> int:
        """What no other pool can take from it."""
        return self.most - self.shared


def pool_capacities(
    pools: Iterable[SpiderIPPool], records: Iterable[SpiderIP], reserved: Mapping[int, AddressSet], now: float
) -> dict[str, PoolCapacity]:
    """What each pool can give at ``now`` (seconds since 1970), by its name; ``reserved`` are addresses by family."""
    held: dict[int, list[int]] = {version: [] for version in FAMILIES}
    released: dict[str, list[SpiderIP]] = defaultdict(list)
    for record in records:
        held[family(record)].append(address_of(record))
        if record.spec.releasedAt:
            released[record.spec.pool].append(record)
    for addresses in held.values():
        addresses.sort()
    found: dict[str, PoolCapacity] = {}
    sets: dict[str, AddressSet] = {}
    for pool in pools:
        version = version_of(pool)
        sets[pool.name] = usable = pool_addresses(pool, version) - reserved[version]
        over, cooling = _returning(released[pool.name], pool, usable, now)
        found[pool.name] = PoolCapacity(usable.size - _held_in(usable, held[version]) + over, cooling)
    for name, shared in _overlaps(sets).items():
        found[name] = replace(found[name], shared=min(shared, found[name].most))
    return found


def _held_in(usable: AddressSet, held: Sequence[int]) -> int:
    """How many of some sorted addresses are in a set."""
    return sum(bisect_right(held, last) - bisect_left(held, first) for first, last in usable.intervals)


def _returning(released: Iterable[SpiderIP], pool: SpiderIPPool, usable: AddressSet, now: float) -> tuple[int, int]:
    """The released addresses that a pool gives again: those whose cooldown is over, and the others."""
    again = [
        cooldown_is_over(each, pool, now)
        for each in released
        if family(each) == usable.version and address_of(each) in usable
    ]
    return sum(again), len(again) - sum(again)


def _overlaps(sets: Mapping[str, AddressSet]) -> dict[str, int]:
    """How many addresses of a pool other pools hold as well; pools without such addresses are absent."""
    intervals = sorted(
        (each.version, first, last, name) for name, each in sets.items() for first, last in each.intervals
    )
    involved: set[str] = set()
    version, end, holder = 0, -1, ""
    for family_of, first, last, name in intervals:
        if family_of == version and first <= end:
            involved |= {name, holder}
        if family_of != version or last > end:
            version, end, holder = family_of, last, name
    return {name: (sets[name] & _of_others(name, involved, sets)).size for name in involved}


def _of_others(name: str, involved: Iterable[str], sets: Mapping[str, AddressSet]) -> AddressSet:
    version = sets[name].version
    others = (sets[each] for each in involved if each != name and sets[each].version == version)
    return AddressSet.of(version, (interval for each in others for interval in each.intervals))
