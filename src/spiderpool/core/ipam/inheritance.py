"""Which address a pod takes over from its sticky owner, or from a former pod of its name, and why not another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.ipam import allocation, selection
from spiderpool.core.ipam.new_nodes import why_incomplete
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import Refused

PARSED_TEXTS = 128
"""Annotations whose addresses are remembered: one may be long, and each ADD of the pool's pods asks for them."""


def is_for(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether a record of the sticky owner is for the interface and family of a request."""
    return (record.spec.owner, *_key(record)) == (request.owner, request.interface, request.version)


def in_order(records: Iterable[SpiderIP], request: AllocationRequest) -> list[SpiderIP]:
    """Returns the records of the sticky owner for a request, the one that it most surely has before the others.

    Those that are released come last: the owner has another address since. A create that a network carries out long
    after its call has failed was granted to nobody, and comes later than what the owner got meanwhile; unless it took
    longer than the clocks of two API servers differ.
    """
    mine = (record for record in records if is_for(record, request))
    return sorted(mine, key=lambda each: (bool(each.spec.releasedAt), each.metadata.creationTimestamp or "", each.name))


def was_of(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether a released record was held by a pod of the same name, for the same interface and family."""
    spec = record.spec
    former = (spec.namespace, spec.pod, *_key(record))
    return former == (request.namespace, request.pod, request.interface, request.version)


def may_run_elsewhere(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether another pod of the owner may have the address, as only virtual machines have two pods at once.

    Those of a StatefulSet's ordinal have the same name.
    """
    spec = record.spec
    return not spec.releasedAt and spec.podUID != request.pod_uid and spec.pod != request.pod


def other_machine(record: SpiderIP, request: AllocationRequest) -> Refused:
    """The refusal of a pod whose machine still runs in the pod of a record."""
    spec = record.spec
    return Refused(
        f"{request} gets {spec.address} when pod {spec.namespace}/{spec.pod} on node {spec.node}, which has it, has "
        "ended; if that node is lost, delete that pod by force"
    )


def why_not_asked(request: AllocationRequest, record: SpiderIP) -> str | None:
    """Why an address that an owner has is not one that its pod asks for any more, whatever its pool is."""
    if not allocation.is_acceptable(record, request):
        return f"is not {request.address}, which the pod asks for"
    if not selection.may_be_candidate(request, record.spec.pool):
        return f"does not come from {request.source}"
    return None


def moving_addresses(pool: SpiderIPPool, version: int) -> AddressSet:
    """The addresses that pods move away from, by the annotation of their pool.

    None where it cannot be read: it is written by hand then, and no owner loses its address for that. Nor where it
    lists the whole pool and this gives addresses: it was enabled by hand, and the annotation is left over.
    """
    text = (pool.metadata.annotations or {}).get(POOL_MOVING_ANNOTATION, "")
    if not text:  # as a rule
        return AddressSet(version)
    try:
        listed = _listed_addresses(text, version)
        is_left_over = not pool.spec.disable and AddressSet.of_network(parse_subnet(pool.spec.subnet)).issubset(listed)
    except ValueError:
        return AddressSet(version)
    return AddressSet(version) if is_left_over else listed


def why_moving_unreadable(pool: SpiderIPPool) -> str | None:
    """Why the annotation of a pool that lists addresses which pods move away from has no effect; None when it has."""
    try:
        _listed_addresses((pool.metadata.annotations or {}).get(POOL_MOVING_ANNOTATION, ""), selection.version_of(pool))
    except ValueError as error:
        return str(error)
    return None


@lru_cache(PARSED_TEXTS)
def _listed_addresses(text: str, version: int) -> AddressSet:
    return AddressSet.parse(filter(None, (each.strip() for each in text.split(","))), version)


def why_not_given(record: SpiderIP, pool: SpiderIPPool, reserved: AddressSet) -> str | None:
    """Why a released address is for nobody any more, not even for the next pod of who had it; None when it is.

    ``reserved`` are the reserved addresses of its family. An address that is held stays with its holder whatever its
    pool lists: the webhook and the commands take away none that is held.
    """
    if record.spec.releasedAt is None:
        return None
    address = allocation.address_of(record)
    try:
        is_listed = address in allocation.usable(pool)
    except ValueError:
        return f"pool {pool.name} cannot be read"
    if not is_listed:
        return f"pool {pool.name} does not give it any more"
    return "it is reserved" if address in reserved else None


def why_moving(request: AllocationRequest, record: SpiderIP, pool: SpiderIPPool) -> str | None:
    """Why a pod gets another address than its owner, or a former pod of its name, has; None when it does not.

    Whoever has the address keeps it: a pod through restarts of its sandbox, a running machine through its migration.
    """
    if request.migrating or record.spec.podUID == request.pod_uid:
        return None
    is_moving = allocation.address_of(record) in moving_addresses(pool, allocation.family(record))
    return f"pool {pool.name} says that pods move away from it ({POOL_MOVING_ANNOTATION})" if is_moving else None


def why_lost(request: AllocationRequest, record: SpiderIP, pool: SpiderIPPool, reserved: AddressSet) -> str | None:
    """Why a pod does not get the address again that its owner, or a former pod of its name, has; None when it does."""
    reason = selection.why_unsuitable(request, pool) or why_moving(request, record, pool)
    return reason or why_not_given(record, pool, reserved)


def missing_pool(request: AllocationRequest, record: SpiderIP) -> Refused:
    """The refusal of a pod whose fixed address is from a pool that does not exist."""
    address = record.spec.address
    return Refused(
        f"{request} keeps {address} of pool {record.spec.pool}, which does not exist: create the pool again, "
        f"or run `spiderpoolctl ip release {address.partition('/')[0]}` to give the address up"
    )


def why_labels_differ(
    request: AllocationRequest, record: SpiderIP, pool: SpiderIPPool, node: Node | None
) -> str | None:
    """Why the labels of the pod's Node, as just read, are not those that a pool selects; None when they are.

    Raises Refused while some may be about to come.
    """
    labels = (node.metadata.labels if node else None) or {}
    reason = selection.why_unsuitable(replace(request, node_labels=labels), pool)
    if reason and (sign := why_incomplete(node)):
        raise Refused(
            f"{request} keeps {record.spec.address} of pool {pool.name}: {reason}, but some may be about to come, "
            f"since {sign}"
        )
    return reason


def _key(record: SpiderIP) -> tuple[str, int]:
    return record.spec.interface, allocation.family(record)
