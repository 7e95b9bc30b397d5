"""Which address of a pool to try next, and the SpiderIP record that claims it.

Nothing here calls the API server. The free addresses are the node's best guess; creating the SpiderIP decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from msgspec.structs import replace

from spiderpool.api.cni_result import DEFAULT_DESTINATIONS
from spiderpool.api.ip import (
    IP_NODE_LABEL,
    IP_OWNER_LABEL,
    IP_POOL_LABEL,
    RELEASE_ANNOTATION,
    RENEWED_ANNOTATION,
    FormerPod,
    IPSpec,
    SpiderIP,
)
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, Network, canonical, from_int, object_name, to_int
from spiderpool.core.annotations import Route
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.core.labels import label_value
from spiderpool.errors import Refused

Slot: TypeAlias = tuple[str, str, int]
"""What a pod holds one record for: its UID, one of its interfaces, and a family."""


@dataclass(frozen=True, slots=True)
class Grant:
    """An address that a pod's interface holds, with the gateway and routes of its pool."""

    address: str
    """CIDR text."""
    pool: str
    gateway: str | None
    routes: tuple[Route, ...]
    clean_gateway: bool = False
    """Whether the gateway is left out, so that the interface gets no default route."""

    @property
    def version(self) -> int:
        """The address family, 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """(destination, gateway) of every route: the default route first, if there is a gateway."""
        return ((DEFAULT_DESTINATIONS[self.version], self.gateway), *self.routes) if self.gateway else self.routes


def usable(pool: SpiderIPPool) -> AddressSet:
    """The addresses of a pool that pods may get. Raises RangeError."""
    return assignable(pool.spec.ips, pool.spec.excludeIPs, ip_network(pool.spec.subnet))


def assignable(ips: Iterable[str] | None, exclude: Iterable[str] | None, subnet: Network) -> AddressSet:
    """``ips`` without ``exclude``, and without addresses of the subnet that no machine may have. Raises RangeError."""
    listed = AddressSet.parse(ips or (), subnet.version) - AddressSet.parse(exclude or (), subnet.version)
    return listed - AddressSet.unassignable(subnet)


def is_exclusive(pool: SpiderIPPool, node: str) -> bool:
    """Whether this node is the only one that may use the pool, so that its own records are all there are."""
    return pool.spec.nodeName == [node]


def start_of(addresses: AddressSet, node: str, *, exclusive: bool) -> int:
    """The address at which a node starts to look: 0 (the first) in its own pool, else a hash of its name.

    Nodes that share a pool start at different addresses, so two nodes seldom try the same one.
    """
    if exclusive or not addresses:
        return 0
    digest = hashlib.sha256(node.encode()).digest()
    return addresses.nth(int.from_bytes(digest[:16]) % addresses.size)


def choose(free: AddressSet, taken: Callable[[int], bool], start: int) -> int | None:
    """The first address of ``free`` from ``start`` on, wrapping around, that is not ``taken``; None if all are.

    Looks at one address at a time, so the cost grows with the taken addresses it skips, not with the pool.
    """
    candidates = (address for first, last in free.rotated(start) for address in range(first, last + 1))
    return next((address for address in candidates if not taken(address)), None)


def new_record(request: AllocationRequest, pool: SpiderIPPool, address: int) -> SpiderIP:
    """The SpiderIP that claims an address of a pool for the interface of a request."""
    network = ip_network(pool.spec.subnet)
    text = from_int(address, network.version)
    return SpiderIP(
        metadata=ObjectMeta(name=object_name(text), labels=_labels(request, pool.name)),
        spec=_spec(request, f"{text}/{network.prefixlen}", pool.name),
    )


def taken_over(record: SpiderIP, request: AllocationRequest, moved_from: Iterable[FormerPod] = ()) -> SpiderIP:
    """The record changed to belong to the requesting pod. Keeps the resourceVersion, so that a race is a Conflict.

    ``moved_from`` are the pods of its virtual machine that may still have the address.
    """
    labels = (record.metadata.labels or {}) | _labels(request, record.spec.pool)
    metadata = replace(unmarked(record).metadata, labels=labels)
    if request.owner is None and metadata.labels:
        metadata.labels.pop(IP_OWNER_LABEL, None)
    spec = _spec(request, record.spec.address, record.spec.pool)
    return replace(record, metadata=metadata, spec=replace(spec, movedFrom=list(moved_from) or None))


def unmarked(record: SpiderIP) -> SpiderIP:
    """The record without the mark of a release by hand. Keeps the resourceVersion, so that a race is a Conflict."""
    annotations = {key: text for key, text in (record.metadata.annotations or {}).items() if key != RELEASE_ANNOTATION}
    return replace(record, metadata=replace(record.metadata, annotations=annotations or None))


def renewed(record: SpiderIP) -> SpiderIP:
    """The record as another version, unmarked, so that a deletion of the present one becomes a Conflict."""
    plain = unmarked(record)
    annotations = {**(plain.metadata.annotations or {}), RENEWED_ANNOTATION: record.metadata.resourceVersion or ""}
    return replace(plain, metadata=replace(plain.metadata, annotations=annotations))


def holder_before_move(record: SpiderIP) -> FormerPod:
    """The pod of a record, as it is noted when the virtual machine is to move to another one."""
    spec = record.spec
    return FormerPod(spec.node, spec.pod, spec.podUID, record.metadata.resourceVersion or "")


def as_held_by(record: SpiderIP, former: FormerPod) -> SpiderIP:
    """The record as it was when a former pod of its virtual machine had it."""
    metadata = replace(record.metadata, resourceVersion=former.recordVersion)
    spec = replace(record.spec, node=former.node, pod=former.pod, podUID=former.podUID, movedFrom=None)
    return replace(record, metadata=metadata, spec=spec)


def released(record: SpiderIP, now: float) -> SpiderIP:
    """The record marked as released at ``now`` (seconds since 1970); its pool's cooldown begins."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return replace(record, spec=replace(record.spec, releasedAt=moment))


def moved_to(record: SpiderIP, node: str) -> SpiderIP:
    """The record of another node's pod, which uses it no more, as this node's: an agent ends only those of its own."""
    labels = (record.metadata.labels or {}) | {IP_NODE_LABEL: label_value(node)}
    return replace(record, metadata=replace(record.metadata, labels=labels), spec=replace(record.spec, node=node))


def disowned(record: SpiderIP) -> SpiderIP:
    """The record without its sticky owner, whose pod has another address: it is its former pod's alone."""
    labels = {key: value for key, value in (record.metadata.labels or {}).items() if key != IP_OWNER_LABEL}
    return replace(record, metadata=replace(record.metadata, labels=labels), spec=replace(record.spec, owner=None))


def cooldown_is_over(record: SpiderIP, pool: SpiderIPPool | None, now: float) -> bool:
    """Whether a released record may go to any pod at ``now`` (seconds since 1970).

    Always true once its pool is deleted or being deleted; false for a record that is not released.
    """
    if record.spec.releasedAt is None:
        return False
    end = cooldown_end(record, pool)
    return end is None or end <= now


def cooldown_end(record: SpiderIP, pool: SpiderIPPool | None) -> float | None:
    """When a released record may go to any pod, in seconds since 1970; None where its time cannot be read."""
    seconds = (pool.spec.cooldownSeconds if pool and not pool.terminating else None) or 0
    try:
        since = datetime.fromisoformat(record.spec.releasedAt or "")
    except ValueError:  # not written by us; it must not block the address for ever
        return None
    return since.replace(tzinfo=since.tzinfo or UTC).timestamp() + seconds


def address_text(record: SpiderIP) -> str:
    """The address of a record without its prefix length, as canonical text; people may spell IPv6 otherwise."""
    text = record.spec.address.partition("/")[0]
    return canonical(text) if ":" in text else text


def address_of(record: SpiderIP) -> int:
    """The address of a record as an integer."""
    return to_int(record.spec.address.partition("/")[0], family(record))


def pools_of(record: SpiderIP) -> tuple[str]:
    """The pool of a record: the keys of an index of records by pool, which all that use one share."""
    return (record.spec.pool,)


def family(record: SpiderIP) -> int:
    """The address family of a record, 4 or 6."""
    return 6 if ":" in record.spec.address else 4


def slot_of(record: SpiderIP) -> Slot:
    """What the pod of a record holds it for; it needs no second one."""
    return record.spec.podUID, record.spec.interface, family(record)


def is_acceptable(record: SpiderIP, request: AllocationRequest) -> bool:
    """Whether a record has the address that a pod asks for; any will do where it asks for none."""
    return request.address is None or address_of(record) == to_int(request.address, request.version)


def grant(
    record: SpiderIP, pool: SpiderIPPool | None, *, clean_gateway: bool = False, routes: Iterable[Route] = ()
) -> Grant:
    """The grant of a record; ``pool`` is None if it has been deleted meanwhile.

    Of the pod's own ``routes`` it gets those whose gateway lies in its subnet.
    """
    gateway = pool.spec.gateway if pool and not clean_gateway else None
    own = tuple((route.dst, route.gw) for route in (pool.spec.routes if pool else None) or ())
    network = ip_network(record.spec.address, strict=False)
    custom = tuple(route for route in routes if ip_address(route[1]) in network and route not in own)
    return Grant(record.spec.address, record.spec.pool, gateway or None, (*own, *custom), clean_gateway)


def exhausted(pool: str, size: int) -> Verdict:
    """The verdict on a pool without a free address."""
    reason = f"{size} of {size} addresses in use" if size else "holds no addresses but excluded and reserved ones"
    return Verdict(pool, False, "exhausted", reason)


def elsewhere(pool: str, address: str) -> Verdict:
    """The verdict on a pool that does not contain the requested address."""
    return Verdict(pool, False, "address", f"does not hold {address}, or excludes it, or it is reserved")


def occupied(pool: str, address: str, released_at: str | None = None) -> Verdict:
    """The verdict on a pool whose requested address is in use, or was released at a time and cools down."""
    cooling = f"{address} was released at {released_at} and cools down; only the pod that had it gets it now"
    in_use = f"{address} is in use; `kubectl get spiderip` tells by whom"
    return Verdict(pool, False, "address", cooling if released_at else in_use)


def unreadable(pool: str, error: ValueError) -> Verdict:
    """The verdict on a pool whose ranges cannot be parsed, because they were written past the webhook."""
    return Verdict(pool, False, "ranges", f"its addresses cannot be read: {error}")


def refusal(request: AllocationRequest, trace: Iterable[Verdict]) -> Refused:
    """The error that names every pool that was considered and why it gave no address."""
    last = {verdict.subject: verdict for verdict in trace}
    reasons = "; ".join(str(verdict) for verdict in last.values())
    why = reasons or "no pool is a default pool; set spec.default on one, or name pools in the network's configuration"
    return Refused(f"no IPv{request.version} address for {request} from {request.source}: {why}")


def quota_refusal(request: AllocationRequest, quota: str) -> Refused:
    """The error that names the quota of which nothing is left."""
    remedy = "delete pods of the Namespace, or let an administrator raise its spec.addresses"
    return Refused(
        f"no IPv{request.version} address for {request}: nothing is left of SpiderIPQuota {request.namespace}/{quota}; "
        f"{remedy}"
    )


def main_reason(trace: Iterable[Verdict]) -> str:
    """The rule for metrics: ``exhausted`` if any pool was full, else the rule that dropped the first pool."""
    rules = [verdict.rule for verdict in {verdict.subject: verdict for verdict in trace}.values() if not verdict.kept]
    return "exhausted" if "exhausted" in rules else rules[0] if rules else "no default pool"


def _labels(request: AllocationRequest, pool: str) -> dict[str, str]:
    labels = {IP_NODE_LABEL: label_value(request.node), IP_POOL_LABEL: label_value(pool)}
    return labels | ({IP_OWNER_LABEL: owner_label(request.owner, request.pod)} if request.owner else {})


def _spec(request: AllocationRequest, address: str, pool: str) -> IPSpec:
    return IPSpec(
        address=address,
        pool=pool,
        node=request.node,
        namespace=request.namespace,
        pod=request.pod,
        podUID=request.pod_uid,
        interface=request.interface,
        owner=request.owner,
    )
