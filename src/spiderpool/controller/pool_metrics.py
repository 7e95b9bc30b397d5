"""How many addresses the pools and subnets have and how many are left, computed from the leader's caches when read.

Whoever reaches the port may read it: so of pools of applications, whose names are those of tenants, only their subnet
tells how many are full.
How fast a pool fills is computed by Prometheus, which has the history (docs/decisions/0029-exhaustion-is-computed-by-
prometheus.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.addresses import FAMILIES, AddressSet
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.ipam.owners import is_automatic
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.ipam.subnets import owned_by_subnet
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import (
    POOL_ADDRESSES,
    POOL_FREE,
    POOLS,
    SUBNET_ADDRESSES,
    SUBNET_FREE,
    SUBNET_FULL_POOLS,
    SUBNETS,
    ComputedGauge,
    Values,
)


@dataclass(slots=True)
class ReservedCounts:
    """How many addresses of each pool are reserved, counted anew only where the one or the other has changed."""

    _reserved: dict[int, AddressSet] = field(default_factory=dict)  # family → what is reserved
    _known: dict[str, tuple[IPPoolSpec, int | None]] = field(default_factory=dict)  # pool → counted, number

    def of(self, pools: Iterable[SpiderIPPool], reserved: dict[int, AddressSet]) -> dict[str, int | None]:
        """The number of each pool, by its name; None where its addresses cannot be read."""
        if reserved != self._reserved:
            self._reserved, self._known = reserved, {}
        self._known = {pool.name: (pool.spec, self._count(pool)) for pool in pools}
        return {name: count for name, (_, count) in self._known.items()}

    def _count(self, pool: SpiderIPPool) -> int | None:
        spec, count = self._known.get(pool.name, (None, None))
        return count if spec == pool.spec else _count_reserved(pool, self._reserved[version_of(pool)])


def _count_reserved(pool: SpiderIPPool, reserved: AddressSet) -> int | None:
    if not reserved:
        return 0
    try:
        return (usable(pool) & reserved).size
    except ValueError:  # written past the admission webhook and malformed
        return None


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """Reads the statuses that the leader writes."""

    pools: Informer[SpiderIPPool]
    reserved: Informer[SpiderReservedIP]
    subnets: Informer[SpiderSubnet]
    reserved_counts: ReservedCounts = field(default_factory=ReservedCounts)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Export them while the context lasts: while this replica leads."""
        sources: dict[ComputedGauge, Callable[[], Values]] = {
            POOLS: lambda: {(): float(len(self.pools.items()))},
            POOL_ADDRESSES: self._addresses,
            POOL_FREE: self._free,
            SUBNETS: lambda: {(): float(len(self.subnets.items()))},
            SUBNET_ADDRESSES: self._subnet_addresses,
            SUBNET_FREE: self._subnet_free,
            SUBNET_FULL_POOLS: self._subnet_full_pools,
        }
        with ExitStack() as stack:
            for gauge, source in sources.items():
                stack.enter_context(gauge.computed_by(source))
            yield

    def _giving(self) -> list[SpiderIPPool]:
        """Pools that give addresses to whoever comes: that another one has none left is no news."""
        return [
            each
            for each in self.pools.items()
            if each.status and not (each.terminating or each.spec.disable or is_automatic(each))
        ]

    def _addresses(self) -> Values:
        return {(pool.name,): pool.status.totalIPCount or 0 for pool in self._giving() if pool.status}

    def _free(self) -> Values:
        giving = self._giving()
        reserved = {version: reserved_addresses(self.reserved.items(), version) for version in FAMILIES}
        counts = self.reserved_counts.of(giving, reserved)
        return {(pool.name,): _free(pool, counts[pool.name]) for pool in giving}

    def _subnet_addresses(self) -> Values:
        return {(each.name,): each.status.totalIPCount or 0 for each in self.subnets.items() if each.status}

    def _subnet_free(self) -> Values:
        return {
            (each.name,): (each.status.totalIPCount or 0) - (each.status.allocatedIPCount or 0)
            for each in self.subnets.items()
            if each.status
        }

    def _subnet_full_pools(self) -> Values:
        full = owned_by_subnet(self.subnets.items(), filter(_is_full_of_application, self.pools.items()))
        return {(name,): len(pools) for name, pools in full.items()}


def _is_full_of_application(pool: SpiderIPPool) -> bool:
    """Whether all addresses of a pool that was made for one application, and is to give some, are in use."""
    if pool.status is None or pool.terminating or pool.spec.disable or not is_automatic(pool):
        return False
    return 0 < (pool.status.totalIPCount or 0) <= (pool.status.allocatedIPCount or 0)


def _free(pool: SpiderIPPool, reserved: int | None) -> int:
    """Addresses that the pool still has to give; too few where some of the reserved ones are in use."""
    if pool.status is None or reserved is None:  # no agent takes an address from it
        return 0
    return max(0, (pool.status.totalIPCount or 0) - (pool.status.allocatedIPCount or 0) - reserved)
