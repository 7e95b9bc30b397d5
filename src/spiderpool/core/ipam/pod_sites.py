"""What a pod needs on a node: new addresses with the pools that may give them, by the rules that agents allocate by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam import selection
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.dry_run import AddressSnapshot, DryGrant, GrantOrigin, RefusalCause, dry_run
from spiderpool.core.ipam.placement import NeededAddress, PodSite
from spiderpool.core.ipam.quota import counts
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.core.ipam.subnet_addresses import pool_addresses

INHERITED = frozenset({GrantOrigin.HELD, GrantOrigin.OWNER, GrantOrigin.FORMER})
REFUSED = PodSite(refused=True)


def pod_site(requests: Mapping[RequestKey, AllocationRequest], seen: AddressSnapshot) -> PodSite:
    """What a pod with these requests needs on the node of a snapshot.

    Its records need only be those of the pod's owner, and those of addresses that the pod asks for: pools are counted
    elsewhere.
    """
    visible = seen.visible()
    needs: list[NeededAddress | None] = []
    for key, request in requests.items():
        pools = tuple(pool.name for pool in selection.select(request, visible).pools)
        need = NeededAddress(key, pools, request.address, counts(request))
        if request.address is None and not seen.records:
            needs.append(need)
            continue
        (outcome,) = dry_run({key: request}, seen)
        if outcome.cause is RefusalCause.OWNER or (outcome.refusal and request.address):
            return REFUSED
        needs.append(_still_needed(need, outcome, seen))
    return PodSite(tuple(need for need in needs if need is not None))


def _still_needed(need: NeededAddress, outcome: DryGrant, seen: AddressSnapshot) -> NeededAddress | None:
    """What is needed of what pools have to give, after a look at records; None: nothing."""
    if outcome.record is None:
        return need
    pool, name = outcome.record.spec.pool, outcome.record.name
    if outcome.origin not in INHERITED:
        return need if need.address is None else replace(need, pools=(pool,))
    stored = next(each for each in seen.records if each.name == name)
    if not stored.spec.releasedAt or pool not in need.pools or not _is_given(stored, seen):
        return None
    # It was released: another pod may get it before, when nothing else is free.
    return replace(need, pools=(pool, *(each for each in need.pools if each != pool)), address=None, returns=True)


def _is_given(record: SpiderIP, seen: AddressSnapshot) -> bool:
    """Whether the pool of a record gives its address to others, too: it may have been excluded or reserved since."""
    pool, version = seen.pool(record.spec.pool), family(record)
    return pool is not None and address_of(record) in pool_addresses(pool, version) - seen.reserved[version]
