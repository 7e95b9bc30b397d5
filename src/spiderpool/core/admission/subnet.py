"""Rules of SpiderSubnet: what it gets by default, and what it may contain, also given the pools of its CIDR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SUBNET_CIDR_LABEL, SpiderSubnet, SubnetSpec
from spiderpool.core.addresses import AddressSet, Network, parse_subnet
from spiderpool.core.admission.faults import Fault, Faults, FieldError, first_faults, shown
from spiderpool.core.admission.ranges import (
    FAMILIES,
    cidr_label,
    gateway_faults,
    merged,
    range_faults,
    route_faults,
    subnet_faults,
    subnet_or_none,
    with_finalizer,
)
from spiderpool.core.ipam.subnet_addresses import parse_subnet_addresses, pool_addresses, subnet_addresses


def default_subnet(subnet: SpiderSubnet) -> SpiderSubnet:
    """The subnet with finalizer, ``ipVersion``, label and merged ranges.

    Fields that cannot be read stay as written, for the validation to refuse.
    """
    if subnet.terminating:
        return subnet
    network = subnet_or_none(subnet.spec.subnet)
    spec = _with_merged_ranges(subnet.spec, network) if network else subnet.spec
    labels = _subnet_labels(subnet.metadata.labels or {}, network)
    return replace(subnet, metadata=with_finalizer(subnet.metadata, labels), spec=spec)


def _subnet_labels(labels: Mapping[str, str], network: Network | None) -> dict[str, str]:
    value = cidr_label(network) if network else labels.get(SUBNET_CIDR_LABEL)
    others = {key: text for key, text in labels.items() if key != SUBNET_CIDR_LABEL}
    return others | ({SUBNET_CIDR_LABEL: value} if value else {})


def _with_merged_ranges(spec: SubnetSpec, network: Network) -> SubnetSpec:
    version = spec.ipVersion or network.version
    if version != network.version:
        return spec
    whole = AddressSet.of_network(network)
    ips, excluded = merged(spec.ips, version, whole), merged(spec.excludeIPs, version, whole)
    return replace(spec, ipVersion=version, ips=ips, excludeIPs=excluded)


def validate_subnet(
    new: SpiderSubnet,
    old: SpiderSubnet | None,
    others: Iterable[SpiderSubnet] = (),
    pools: Iterable[SpiderIPPool] = (),
    families: frozenset[int] = FAMILIES,
) -> tuple[FieldError, ...]:
    """All faults of a new or changed subnet; ``old`` is None for a new one.

    ``others`` are the other subnets of the cluster, ``pools`` all pools, ``families`` those that are switched on. A
    change that leaves ``spec`` as it is has no faults.
    """
    if old is not None and old.spec == new.spec:
        return ()
    if new.terminating:
        return (FieldError(Fault.FORBIDDEN, "spec", None, "the subnet is being deleted; create another one"),)
    identity = tuple(subnet_faults(new.spec.subnet, new.spec.ipVersion, families))
    return identity or first_faults(_subnet_faults(new, old, tuple(others), tuple(pools)))


def why_subnet_in_use(subnet: SpiderSubnet, pools: Iterable[SpiderIPPool]) -> str | None:
    """Why a subnet cannot be deleted: pools have addresses of it. None when none has."""
    network = subnet_or_none(subnet.spec.subnet)
    names = (
        [pool.name for pool in _pools_of(network, pools) if pool_addresses(pool, network.version)] if network else []
    )
    return f"its addresses are in pools: {shown(names)}; delete these pools first" if names else None


def _subnet_faults(
    new: SpiderSubnet, old: SpiderSubnet | None, others: tuple[SpiderSubnet, ...], pools: tuple[SpiderIPPool, ...]
) -> Faults:
    spec, network = new.spec, parse_subnet(new.spec.subnet)
    unreadable = (
        *range_faults(spec.ips, "spec.ips", network.version, network),
        *range_faults(spec.excludeIPs, "spec.excludeIPs", network.version, network),
    )
    yield from unreadable
    yield from _overlaps(network, others, pools) if old is None else ()
    if not unreadable:
        after = parse_subnet_addresses(new)
        if old is None:
            yield from _pools_outside(spec, after, network, pools)
        else:
            yield from _removed_in_use(subnet_addresses(old, network.version) - after, network, pools)
        yield from gateway_faults(spec.gateway, network, after)
    yield from route_faults(spec.routes or (), network)


def _overlaps(network: Network, others: Iterable[SpiderSubnet], pools: Iterable[SpiderIPPool]) -> Faults:
    """Faults of a CIDR that overlaps another subnet, or overlaps a pool without being equal to the pool's CIDR."""
    for other in others:
        if _overlap(network, other_network := subnet_or_none(other.spec.subnet)):
            remedy = f"overlaps {other_network} of SpiderSubnet {other.name}; use addresses that no other subnet has"
            yield FieldError(Fault.INVALID, "spec.subnet", str(network), remedy)
    for pool in pools:
        if _overlap(network, pool_network := subnet_or_none(pool.spec.subnet)) and pool_network != network:
            remedy = f"overlaps {pool_network} of pool {pool.name}; use exactly that subnet or another one"
            yield FieldError(Fault.INVALID, "spec.subnet", str(network), remedy)


def _overlap(network: Network, other: Network | None) -> bool:
    return other is not None and other.version == network.version and other.overlaps(network)


def _pools_outside(spec: SubnetSpec, after: AddressSet, network: Network, pools: Iterable[SpiderIPPool]) -> Faults:
    """Addresses of existing pools that a new subnet does not have."""
    for pool in _pools_of(network, pools):
        if outside := (pool_addresses(pool, network.version) - after).ranges():
            remedy = f"pool {pool.name} has {shown(outside)}, which the subnet has not; add them, or change the pool"
            yield FieldError(Fault.INVALID, "spec.ips", spec.ips, remedy)


def _pools_of(network: Network, pools: Iterable[SpiderIPPool]) -> list[SpiderIPPool]:
    return [pool for pool in pools if subnet_or_none(pool.spec.subnet) == network]


def _removed_in_use(removed: AddressSet, network: Network, pools: Iterable[SpiderIPPool]) -> Faults:
    """Removed addresses that pools have."""
    for pool in _pools_of(network, pools):
        if common := (pool_addresses(pool, network.version) & removed).ranges():
            remedy = f"takes away {shown(common)} of pool {pool.name}; take them out of the pool first"
            yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)
