"""How many addresses a Namespace holds, and how many more it may."""

from __future__ import annotations

from collections.abc import Iterable

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.applications import pool_application
from spiderpool.core.ipam.selection import AllocationRequest, ApplicationPool, version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses


def application_namespace(pool: SpiderIPPool) -> str | None:
    """The Namespace of the application that a pool was made for; None for other pools."""
    application = pool_application(pool)
    return application.namespace if application else None


def counts(request: AllocationRequest) -> bool:
    """Whether an address for a request counts: one from an application's pool does not, the whole pool does already."""
    return not isinstance(request.candidates, ApplicationPool)


def is_exhausted(limit: int, used: int) -> bool:
    """Whether nothing is left of a quota."""
    return used >= limit


def remaining_addresses(limits: Iterable[int], used: int) -> int | None:
    """Addresses that a Namespace may hold beside those that it holds: the smallest limit counts. None without one."""
    smallest = min(limits, default=None)
    return None if smallest is None else max(smallest - used, 0)


def used_addresses(pools_of_records: Iterable[str], application_pools: Iterable[SpiderIPPool]) -> int:
    """Addresses that a Namespace holds: all of its applications' pools, and one for each record from another pool.

    Records count until they are deleted, also during a cooldown: nobody else gets their addresses before.
    """
    own = {pool.name: pool for pool in application_pools}
    taken = sum(pool not in own for pool in pools_of_records)
    return taken + sum(pool_addresses(pool, version_of(pool)).size for pool in own.values())
