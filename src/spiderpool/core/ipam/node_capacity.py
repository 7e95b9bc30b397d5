"""How many pods that need addresses a node can still take: what it advertises of each resource.

The scheduler subtracts what the node's pods request from what the node advertises. So a resource is advertised with the
free addresses of the node's own pools, plus what its pods request of it: when a pod comes, gets its address, or goes,
the figure stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from spiderpool.api.address_resources import LARGEST
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import APPLICATION_NAME_LABEL
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import selection
from spiderpool.core.ipam.allocation import address_of, cooldown_end, is_exclusive, usable
from spiderpool.core.ipam.selection import AllocationRequest, DefaultPools, NamedPools
from spiderpool.core.labels import Labels

PLENTY = 100_000
"""Stands for free addresses that cannot be counted for one node alone; more pods than any node runs."""


@dataclass(frozen=True, slots=True)
class FreeAddresses:
    """What a pool has left at one moment."""

    count: int
    more_at: float | None = None
    """When the next cooldown ends, in seconds since 1970; None when no address of the pool cools down."""


NONE_FREE = FreeAddresses(0)


def free_addresses(pool: SpiderIPPool, records: Iterable[SpiderIP], reserved: AddressSet, now: float) -> FreeAddresses:
    """The addresses of a pool that a new pod may get at ``now`` (seconds since 1970).

    ``records`` are those of the pool, and further ones that may have its addresses. An address that cools down is not
    free, though an agent would give it away where nothing else is left: until then another node may have one.
    """
    try:
        addresses = usable(pool) - reserved
    except ValueError:  # written past the admission webhook: agents take nothing from it either
        return NONE_FREE
    taken: set[int] = set()
    ends: list[float] = []
    for record in records:
        end = cooldown_end(record, pool) if record.spec.releasedAt else None
        if record.spec.releasedAt and (end is None or end <= now):
            continue
        taken.add(address_of(record))
        ends += [end] if end is not None else []
    count = addresses.size - sum(address in addresses for address in taken)
    return FreeAddresses(count, min(ends, default=None))


def is_exact(pool: SpiderIPPool, node: str) -> bool:
    """Whether every pod of a node, and no pod of another one, may get the pool's addresses."""
    return is_exclusive(pool, node) and not _is_for_some(pool)


@dataclass(frozen=True, slots=True)
class ServingPools:
    """A node, the pools that may serve its pods, and what these have left."""

    name: str
    labels: Labels
    enis: frozenset[str]
    pools: Sequence[SpiderIPPool]
    free: Callable[[SpiderIPPool], int]


@dataclass(frozen=True, slots=True)
class Supply:
    """What a node has for the pods that request a resource."""

    free: int
    """How many of them get all their addresses; PLENTY where another node or other pods may take them first."""
    pools: frozenset[str]
    """The pools of this node alone from which they get them."""


def supply(requests: Iterable[AllocationRequest], node: ServingPools) -> Supply:
    """What a node has for pods that need one address by each request, all from other families."""
    found = [
        _supply_of_family(replace(each, node=node.name, node_labels=node.labels, node_enis=node.enis), node)
        for each in requests
    ]
    return Supply(min((each.free for each in found), default=0), frozenset().union(*(each.pools for each in found)))


def advertised(
    supplies: Mapping[str, Supply], requested: Mapping[str, int], waiting: Mapping[str, int]
) -> dict[str, int]:
    """What a node advertises of each resource; what it has nothing of is left out.

    ``requested`` is what its pods request that have not ended, ``waiting`` what is needed by those that have no address
    yet, whether they request it or not: several resources may stand for addresses of the same pools.
    """
    found = {
        name: _capacity(each, requested.get(name, 0), _taken(name, each, supplies, waiting))
        for name, each in supplies.items()
    }
    return {name: count for name, count in found.items() if count}


def plenty(requested: int) -> int:
    """Plenty beside what a node's pods request, whose makers can write any number; steps, so that it seldom changes."""
    return min(PLENTY * (1 + requested // (PLENTY // 2)), LARGEST)


def concerns(requests: Iterable[AllocationRequest], pool: SpiderIPPool) -> bool:
    """Whether a pool is named by one of some requests, or is a default pool where they name none.

    A pool that was made for an application is not meant by patterns: there may be very many, which come and go.
    """
    return any(_concerns(each, pool) for each in requests)


def _concerns(request: AllocationRequest, pool: SpiderIPPool) -> bool:
    match request.candidates:
        case DefaultPools():
            return pool.spec.default is True
        case NamedPools(names) if APPLICATION_NAME_LABEL in (pool.metadata.labels or {}):
            return pool.name in names
        case _:
            return selection.may_be_candidate(request, pool.name)


def _supply_of_family(request: AllocationRequest, node: ServingPools) -> Supply:
    """Pools for some pods alone are looked at as if they were for all: which pods will come is not known."""
    exact: dict[str, int] = {}
    is_plenty = False
    by_name = {pool.name: pool for pool in node.pools}
    for chosen in selection.select(request, map(_for_all, node.pools)).pools:
        pool = by_name[chosen.name]
        if is_exact(pool, node.name):
            exact[pool.name] = node.free(pool)
        else:
            is_plenty = is_plenty or node.free(pool) > 0
    return Supply(PLENTY if is_plenty else min(sum(exact.values()), PLENTY), frozenset(exact))


def _capacity(own: Supply, requested: int, taken: int) -> int:
    """Never less than what is requested: a kubelet refuses a pod for good that its node lacks a resource for."""
    return plenty(requested) if own.free >= PLENTY else min(requested + max(own.free - taken, 0), LARGEST)


def _taken(name: str, own: Supply, supplies: Mapping[str, Supply], waiting: Mapping[str, int]) -> int:
    """How many addresses of a resource's pools the node's pods have yet to get."""
    return sum(
        count
        for other, count in waiting.items()
        if other == name or (other in supplies and own.pools & supplies[other].pools)
    )


def _is_for_some(pool: SpiderIPPool) -> bool:
    """Whether labels or Namespaces of pods decide who gets the pool's addresses."""
    spec = pool.spec
    restricted = spec.podAffinity or spec.namespaceAffinity or spec.namespaceName
    return restricted is not None or APPLICATION_NAME_LABEL in (pool.metadata.labels or {})


def _for_all(pool: SpiderIPPool) -> SpiderIPPool:
    """The pool without the rules on pods and Namespaces."""
    if not _is_for_some(pool):
        return pool
    labels = {key: text for key, text in (pool.metadata.labels or {}).items() if key != APPLICATION_NAME_LABEL}
    spec = structs.replace(pool.spec, podAffinity=None, namespaceAffinity=None, namespaceName=None)
    return structs.replace(pool, metadata=structs.replace(pool.metadata, labels=labels), spec=spec)
