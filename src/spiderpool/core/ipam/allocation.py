"""Which address of a pool a node takes next, and the record by which it takes it.

Nothing here knows the API server: what is free is a best guess, and creating the record decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from spiderpool.api.ip import IP_NODE_LABEL, IP_OWNER_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, RangeError, from_int, object_name, to_int
from spiderpool.core.annotations import Route
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.core.labels import LABEL_LENGTH, label_value
from spiderpool.errors import Refused

__all__ = [
    "LABEL_LENGTH",
    "Grant",
    "address_of",
    "choose",
    "cooldown_is_over",
    "elsewhere",
    "exhausted",
    "family",
    "grant",
    "held_by",
    "hinted",
    "is_exclusive",
    "label_value",
    "main_reason",
    "occupied",
    "record",
    "refusal",
    "released",
    "start_of",
    "taken_over",
    "unreadable",
    "usable",
]


@dataclass(frozen=True, slots=True)
class Grant:
    """An address that a pod's interface holds, with what its pool says about reaching others."""

    address: str
    """CIDR text."""
    pool: str
    gateway: str | None
    routes: tuple[Route, ...]
    clean_gateway: bool = False
    """Whether the gateway, if any, serves no default route."""

    @property
    def version(self) -> int:
        """The address family, 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """The default route, where there is one, and the others."""
        everything = "::/0" if self.version == 6 else "0.0.0.0/0"
        return ((everything, self.gateway), *self.routes) if self.gateway else self.routes


def usable(pool: SpiderIPPool) -> AddressSet:
    """The addresses of a pool: ``ips`` without ``excludeIPs``. Raises RangeError."""
    version = ip_network(pool.spec.subnet).version
    return AddressSet.parse(pool.spec.ips or (), version) - AddressSet.parse(pool.spec.excludeIPs or (), version)


def hinted(pool: SpiderIPPool, version: int) -> AddressSet:
    """The addresses that the pool's status says are in use; nothing where it says nothing sensible."""
    try:
        return AddressSet.parse((pool.status.allocatedRanges if pool.status else None) or (), version)
    except RangeError:
        return AddressSet(version)


def is_exclusive(pool: SpiderIPPool, node: str) -> bool:
    """Whether only this node takes addresses from the pool, so that its own records tell all."""
    return pool.spec.nodeName == [node]


def start_of(addresses: AddressSet, node: str, *, exclusive: bool) -> int:
    """Where a node begins to look: at the first address of its own pool, at a place of its own in a shared one.

    Nodes that begin at different places meet late, so two seldom try the same address.
    """
    if exclusive or not addresses:
        return 0
    digest = hashlib.sha256(node.encode()).digest()
    return addresses.nth(int.from_bytes(digest[:16]) % addresses.size)


def choose(free: AddressSet, taken: Callable[[int], bool], start: int) -> int | None:
    """The first address of ``free`` at or after ``start``, going around, that is not ``taken``; None if all are.

    Asked one address at a time, so that the answer costs no more than the taken addresses it has to pass.
    """
    candidates = (address for first, last in free.rotated(start) for address in range(first, last + 1))
    return next((address for address in candidates if not taken(address)), None)


def held_by(records: Iterable[SpiderIP], pod_uid: str, interface: str) -> list[SpiderIP]:
    """The records of one pod's interface, by name; released ones are nobody's."""
    mine = (
        each
        for each in records
        if each.spec.podUID == pod_uid and each.spec.interface == interface and not each.spec.releasedAt
    )
    return sorted(mine, key=lambda record: record.name)


def record(ask: AllocationRequest, pool: SpiderIPPool, address: int) -> SpiderIP:
    """The SpiderIP by which a pod's interface claims an address of a pool."""
    network = ip_network(pool.spec.subnet)
    text = from_int(address, network.version)
    return SpiderIP(
        metadata=ObjectMeta(name=object_name(text), labels=_labels(ask, pool.name)),
        spec=_spec(ask, f"{text}/{network.prefixlen}", pool.name),
    )


def taken_over(held: SpiderIP, ask: AllocationRequest) -> SpiderIP:
    """The record as it is to be when the pod that asks takes it over; it replaces the very version that was seen."""
    metadata = replace(held.metadata, labels=(held.metadata.labels or {}) | _labels(ask, held.spec.pool))
    if ask.owner is None and metadata.labels:
        metadata.labels.pop(IP_OWNER_LABEL, None)
    return replace(held, metadata=metadata, spec=_spec(ask, held.spec.address, held.spec.pool))


def released(held: SpiderIP, now: float) -> SpiderIP:
    """The record as it is to be when its pod is gone and its pool's cooldown begins, ``now`` in seconds since 1970."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return replace(held, spec=replace(held.spec, releasedAt=moment))


def cooldown_is_over(held: SpiderIP, pool: SpiderIPPool | None, now: float) -> bool:
    """Whether a released record is anybody's, ``now`` in seconds since 1970; one whose pool is gone or goes is.

    A record that is not released is its holder's: the answer is no.
    """
    if held.spec.releasedAt is None:
        return False
    seconds = (pool.spec.cooldownSeconds if pool and not pool.terminating else None) or 0
    try:
        since = datetime.fromisoformat(held.spec.releasedAt)
    except ValueError:  # written by others: it must not block the address for ever
        return True
    return since.replace(tzinfo=since.tzinfo or UTC).timestamp() + seconds <= now


def address_of(held: SpiderIP) -> int:
    """The address of a record as an integer."""
    return to_int(held.spec.address.partition("/")[0], family(held))


def family(held: SpiderIP) -> int:
    """The address family of a record, 4 or 6."""
    return 6 if ":" in held.spec.address else 4


def grant(
    held: SpiderIP, pool: SpiderIPPool | None, *, clean_gateway: bool = False, routes: Iterable[Route] = ()
) -> Grant:
    """What a record and its pool give; the pool may have been deleted meanwhile.

    Of the pod's own ``routes`` those belong to it whose gateway lies in its subnet.
    """
    gateway = pool.spec.gateway if pool and not clean_gateway else None
    own = tuple((route.dst, route.gw) for route in (pool.spec.routes if pool else None) or ())
    network = ip_network(held.spec.address, strict=False)
    custom = tuple(route for route in routes if ip_address(route[1]) in network and route not in own)
    return Grant(held.spec.address, held.spec.pool, gateway or None, (*own, *custom), clean_gateway)


def exhausted(pool: str, size: int) -> Verdict:
    """The verdict on a pool without a free address."""
    reason = f"{size} of {size} addresses in use" if size else "holds no addresses but excluded and reserved ones"
    return Verdict(pool, False, "exhausted", reason)


def elsewhere(pool: str, address: str) -> Verdict:
    """The verdict on a pool that does not hold the address that was asked for."""
    return Verdict(pool, False, "address", f"does not hold {address}, or excludes it, or it is reserved")


def occupied(pool: str, address: str) -> Verdict:
    """The verdict on a pool whose address that was asked for is somebody else's."""
    return Verdict(pool, False, "address", f"{address} is in use; `kubectl get spiderip` tells by whom")


def unreadable(pool: str, error: ValueError) -> Verdict:
    """The verdict on a pool whose ranges were written past admission."""
    return Verdict(pool, False, "ranges", f"its addresses cannot be read: {error}")


def refusal(ask: AllocationRequest, trace: Iterable[Verdict]) -> Refused:
    """The refusal that names every pool considered and why it gave no address."""
    last = {verdict.subject: verdict for verdict in trace}
    reasons = "; ".join(str(verdict) for verdict in last.values())
    why = reasons or "no pool is a default pool; set spec.default on one, or name pools in the network's configuration"
    return Refused(f"no IPv{ask.version} address for {ask} from {ask.source}: {why}")


def main_reason(trace: Iterable[Verdict]) -> str:
    """The rule that dropped the pool which came furthest: the one whose remedy is nearest."""
    rules = [verdict.rule for verdict in {verdict.subject: verdict for verdict in trace}.values() if not verdict.kept]
    return "exhausted" if "exhausted" in rules else rules[0] if rules else "no default pool"


def _labels(ask: AllocationRequest, pool: str) -> dict[str, str]:
    labels = {IP_NODE_LABEL: label_value(ask.node), IP_POOL_LABEL: label_value(pool)}
    return labels | ({IP_OWNER_LABEL: owner_label(ask.owner, ask.pod)} if ask.owner else {})


def _spec(ask: AllocationRequest, address: str, pool: str) -> IPSpec:
    return IPSpec(
        address=address,
        pool=pool,
        node=ask.node,
        namespace=ask.namespace,
        pod=ask.pod,
        podUID=ask.pod_uid,
        interface=ask.interface,
        owner=ask.owner,
    )
