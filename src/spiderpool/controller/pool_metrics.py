"""How many addresses the pools and subnets have and how many are left, computed from the leader's caches when read.

How fast a pool fills is computed by Prometheus, which has the history (docs/decisions/0029-exhaustion-is-computed-by-
prometheus.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import (
    POOL_ADDRESSES,
    POOL_FREE,
    POOLS,
    SUBNET_ADDRESSES,
    SUBNET_FREE,
    SUBNETS,
    ComputedGauge,
    Values,
)


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """Reads the statuses that the leader writes."""

    pools: Informer[SpiderIPPool]
    reserved: Informer[SpiderReservedIP]
    subnets: Informer[SpiderSubnet]

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
        }
        with ExitStack() as stack:
            for gauge, source in sources.items():
                stack.enter_context(gauge.computed_by(source))
            yield

    def _giving(self) -> list[SpiderIPPool]:
        """Pools that give addresses: that another one has none left is no news."""
        return [each for each in self.pools.items() if each.status and not (each.terminating or each.spec.disable)]

    def _addresses(self) -> Values:
        return {(pool.name,): pool.status.totalIPCount or 0 for pool in self._giving() if pool.status}

    def _free(self) -> Values:
        reserved = {version: reserved_addresses(self.reserved.items(), version) for version in (4, 6)}
        return {(pool.name,): _free(pool, reserved[version_of(pool)]) for pool in self._giving()}

    def _subnet_addresses(self) -> Values:
        return {(each.name,): each.status.totalIPCount or 0 for each in self.subnets.items() if each.status}

    def _subnet_free(self) -> Values:
        return {
            (each.name,): (each.status.totalIPCount or 0) - (each.status.allocatedIPCount or 0)
            for each in self.subnets.items()
            if each.status
        }


def _free(pool: SpiderIPPool, reserved: AddressSet) -> int:
    """Addresses that the pool still has to give; too few where some of the reserved ones are in use."""
    if pool.status is None:
        return 0
    unused = (pool.status.totalIPCount or 0) - (pool.status.allocatedIPCount or 0)
    if not reserved:
        return max(0, unused)
    try:
        return max(0, unused - (usable(pool) & reserved).size)
    except ValueError:  # written past the admission webhook and malformed: no agent takes an address from it
        return 0
