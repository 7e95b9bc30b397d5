"""Which address of a pool a node takes next, and the record by which it takes it.

Nothing here knows the API server: what is free is a best guess, and creating the record decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet, RangeError, from_int, object_name, to_int
from spiderpool.core.selection import Ask, Verdict
from spiderpool.errors import Refused

LABEL_LENGTH = 63


@dataclass(frozen=True, slots=True)
class Grant:
    """An address that a pod's interface holds, with what its pool says about reaching others."""

    address: str
    """CIDR text."""
    pool: str
    gateway: str | None
    routes: tuple[tuple[str, str], ...]


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


def choose(addresses: AddressSet, taken: AddressSet, start: int) -> int | None:
    """The first free address at or after ``start``, going around; None when all are taken."""
    return next((first for first, _ in (addresses - taken).rotated(start)), None)


def held_by(records: Iterable[SpiderIP], pod_uid: str, interface: str) -> list[SpiderIP]:
    """The records of one pod's interface, by name."""
    mine = (each for each in records if each.spec.podUID == pod_uid and each.spec.interface == interface)
    return sorted(mine, key=lambda record: record.name)


def record(ask: Ask, pool: SpiderIPPool, address: int) -> SpiderIP:
    """The SpiderIP by which a pod's interface claims an address of a pool."""
    network = ip_network(pool.spec.subnet)
    text = from_int(address, network.version)
    return SpiderIP(
        metadata=ObjectMeta(
            name=object_name(text),
            labels={IP_NODE_LABEL: label_value(ask.node), IP_POOL_LABEL: label_value(pool.name)},
        ),
        spec=IPSpec(
            address=f"{text}/{network.prefixlen}",
            pool=pool.name,
            node=ask.node,
            namespace=ask.namespace,
            pod=ask.pod,
            podUID=ask.pod_uid,
            interface=ask.interface,
        ),
    )


def address_of(held: SpiderIP) -> int:
    """The address of a record as an integer."""
    text = held.spec.address.partition("/")[0]
    return to_int(text, 6 if ":" in text else 4)


def grant(held: SpiderIP, pool: SpiderIPPool | None, *, clean_gateway: bool = False) -> Grant:
    """What a record and its pool give; the pool may have been deleted meanwhile."""
    gateway = pool.spec.gateway if pool and not clean_gateway else None
    routes: list[Route] = (pool.spec.routes if pool else None) or []
    return Grant(held.spec.address, held.spec.pool, gateway, tuple((route.dst, route.gw) for route in routes))


def exhausted(pool: str, size: int) -> Verdict:
    """The verdict on a pool without a free address."""
    return Verdict(pool, False, "exhausted", f"{size} of {size} addresses in use" if size else "holds no addresses")


def refusal(ask: Ask, trace: Iterable[Verdict]) -> Refused:
    """The refusal that names every pool considered and why it gave no address."""
    last = {verdict.pool: verdict for verdict in trace}
    reasons = "; ".join(str(verdict) for verdict in last.values())
    why = reasons or "no pool is a default pool; set spec.default on one, or name pools in the network's configuration"
    return Refused(f"no IPv{ask.version} address for {ask}: {why}")


def label_value(name: str) -> str:
    """A name as a label value: names may be longer than labels, then a digest stands for them."""
    return name if len(name) <= LABEL_LENGTH else hashlib.sha256(name.encode()).hexdigest()[:LABEL_LENGTH]
