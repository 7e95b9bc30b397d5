"""How full a pool is, by its status and the addresses that it may give now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.addresses import FAMILIES, AddressSet
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses, reserved_addresses

Reserved = Mapping[int, AddressSet]
"""Reserved addresses by family."""


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """How many addresses of one pool are used; None stands for what the API does not say."""

    name: str
    version: int
    used: int | None
    free: int | None
    total: int
    percent: int | None

    @property
    def is_full(self) -> bool:
        """Whether no pod gets an address of it, although it has some."""
        return self.total > 0 and self.free == 0


def reserved_by_family(reserved: Iterable[SpiderReservedIP]) -> Reserved:
    """All reserved addresses."""
    known = list(reserved)
    return {version: reserved_addresses(known, version) for version in FAMILIES}


def pool_usage(pool: SpiderIPPool, reserved: Reserved) -> PoolUsage:
    """The usage of a pool. What is used is counted by the controller; nobody gets what is reserved."""
    version, status = version_of(pool), pool.status or IPPoolStatus()
    addresses, used = pool_addresses(pool, version), status.allocatedIPCount
    total = addresses.size
    return PoolUsage(pool.name, version, used, _free(pool, addresses - reserved[version]), total, percent(used, total))


def _free(pool: SpiderIPPool, usable: AddressSet) -> int | None:
    """Exact while the status lists the used addresses; where these are too many, their number is subtracted."""
    status = pool.status or IPPoolStatus()
    if status.allocatedRanges is not None:
        return (usable - hints.read(pool, usable.version)).size
    return None if status.allocatedIPCount is None else max(usable.size - status.allocatedIPCount, 0)


def percent(used: int | None, total: int | None) -> int | None:
    """The used part, rounded down, so that only a full one has 100; None where there is nothing to use."""
    return used * 100 // total if used is not None and total else None


def fullest(pools: Iterable[PoolUsage]) -> list[PoolUsage]:
    """The pools in order of their use, the fullest first."""
    return sorted(pools, key=lambda each: (-(each.percent or 0), each.name))
