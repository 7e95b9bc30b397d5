"""Rules of SpiderIPPool: what it gets, from a SpiderSubnet too, and what it may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_CARD_LABEL, POOL_CIDR_LABEL, POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector
from spiderpool.api.subnet import (
    IP_NUMBER_ANNOTATION,
    SpiderSubnet,
)
from spiderpool.core.addresses import AddressSet, Network, from_int, parse_subnet
from spiderpool.core.admission.faults import Fault, Faults, FieldError, is_label_value, selector_faults, shown
from spiderpool.core.admission.ranges import (
    cidr_label,
    gateway_faults,
    merged,
    range_faults,
    route_faults,
    subnet_faults,
    subnet_or_none,
    with_finalizer,
)
from spiderpool.core.ipam.allocation import address_of, usable
from spiderpool.core.ipam.owners import APPLICATION_KEYS, is_automatic
from spiderpool.core.ipam.subnets import adoption, is_cut_from, pool_addresses, stored_addresses
from spiderpool.core.labels import label_value


def default_ippool(pool: SpiderIPPool, subnets: Iterable[SpiderSubnet] = ()) -> SpiderIPPool:
    """Finalizer, ``ipVersion``, labels, merged ranges, and what the SpiderSubnet of the same CIDR hands down.

    What cannot be read stays as it is.
    """
    if pool.terminating:
        return pool
    subnet = subnet_or_none(pool.spec.subnet)
    spec = _merged(pool.spec, subnet) if subnet else pool.spec
    labels = _pool_labels(pool.metadata.labels or {}, spec, subnet)
    pool = replace(pool, metadata=with_finalizer(pool.metadata, labels), spec=spec)
    parent = next((each for each in subnets if is_cut_from(pool, each) and not each.terminating), None)
    return (parent and adoption(pool, parent)) or pool


def _pool_labels(labels: Mapping[str, str], spec: IPPoolSpec, subnet: Network | None) -> dict[str, str]:
    wanted = {
        POOL_CIDR_LABEL: cidr_label(subnet) if subnet else labels.get(POOL_CIDR_LABEL),
        POOL_NODE_LABEL: _node_label(spec.nodeName or []),
    }
    return {key: value for key, value in ({**labels, **wanted}).items() if value is not None}


def _node_label(nodes: list[str]) -> str | None:
    value = label_value(nodes[0]) if len(nodes) == 1 else ""
    return value if value and is_label_value(value) else None


def _merged(spec: IPPoolSpec, subnet: Network) -> IPPoolSpec:
    version = spec.ipVersion or subnet.version
    if version != subnet.version:
        return spec
    whole = AddressSet.of_network(subnet)
    ips, excluded = merged(spec.ips, version, whole), merged(spec.excludeIPs, version, whole)
    return replace(spec, ipVersion=version, ips=ips, excludeIPs=excluded)


def validate_ippool(
    new: SpiderIPPool,
    old: SpiderIPPool | None,
    others: Iterable[SpiderIPPool],
    holders: Iterable[SpiderIP] = (),
    families: frozenset[int] = frozenset({4, 6}),
    subnets: Iterable[SpiderSubnet] | None = None,
    *,
    trusted: bool = False,
) -> tuple[FieldError, ...]:
    """Faults of a new or changed pool.

    ``others`` are the other pools of the cluster, ``holders`` the SpiderIPs of this pool, ``families``
    the enabled address families, ``subnets`` all SpiderSubnets (None: the feature is off), ``trusted``
    whether Spiderpool itself asks. A change that leaves ``spec`` alone is always accepted.
    """
    if old is not None and old.spec == new.spec:
        return ()
    if new.terminating:
        return (FieldError(Fault.FORBIDDEN, "spec", None, "the pool is being deleted; create another one"),)
    former = old.spec.subnet if old else None
    identity = tuple(subnet_faults(new.spec.subnet, former, new.spec.ipVersion, families, "pool"))
    return identity or tuple(_pool_faults(new, old, tuple(others), holders, subnets, trusted))


def ippool_kept_by(pool: SpiderIPPool, holders: Iterable[SpiderIP]) -> str | None:
    """Why a pool cannot be deleted yet: its addresses in use."""
    users = _user_texts(_held(holders), 6 if ":" in pool.spec.subnet else 4)
    return f"its addresses are in use: {shown(users)}; delete these pods first" if users else None


def _pool_faults(
    new: SpiderIPPool,
    old: SpiderIPPool | None,
    others: tuple[SpiderIPPool, ...],
    holders: Iterable[SpiderIP],
    subnets: Iterable[SpiderSubnet] | None,
    trusted: bool,
) -> Faults:
    spec, subnet = new.spec, parse_subnet(new.spec.subnet)
    unreadable = (
        *range_faults(spec.ips, "spec.ips", subnet.version, subnet),
        *range_faults(spec.excludeIPs, "spec.excludeIPs", subnet.version, subnet),
    )
    yield from unreadable
    yield from _subnet_overlaps(subnet, others) if old is None else ()
    if not unreadable:
        after = usable(new)
        before = pool_addresses(old, subnet.version) if old else AddressSet(subnet.version)
        yield from _address_overlaps(after - before, subnet, others)
        fences = trusted and POOL_CARD_LABEL in (new.metadata.labels or {})
        yield from _removed_in_use(before - after, spec, subnet, holders, fences=fences)
        yield from gateway_faults(spec.gateway, subnet, after)
        if subnets is not None and after:
            yield from _ownership_faults(new, before, after, subnets, trusted)
    yield from route_faults(spec.routes or (), subnet)
    yield from _affinity_faults(new)


def _subnet_overlaps(subnet: Network, others: tuple[SpiderIPPool, ...]) -> Faults:
    for other, its in _neighbours(subnet, others):
        if its != subnet:
            remedy = f"overlaps the subnet {its} of pool {other.name}; use exactly that subnet or another one"
            yield FieldError(Fault.INVALID, "spec.subnet", str(subnet), remedy)


def _address_overlaps(added: AddressSet, subnet: Network, others: tuple[SpiderIPPool, ...]) -> Faults:
    for other, its in _neighbours(subnet, others):
        common = added & pool_addresses(other, its.version)
        if common:
            remedy = f"pool {other.name} has {shown(common.ranges())} as well; take them out of one of the two pools"
            yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)


def _neighbours(subnet: Network, others: Iterable[SpiderIPPool]) -> Iterator[tuple[SpiderIPPool, Network]]:
    """Pools whose subnet shares addresses with this one."""
    for other in others:
        its = subnet_or_none(other.spec.subnet)
        if its and its.version == subnet.version and its.overlaps(subnet):
            yield other, its


def _removed_in_use(
    removed: AddressSet, spec: IPPoolSpec, subnet: Network, holders: Iterable[SpiderIP], *, fences: bool
) -> Faults:
    """Addresses in use stay in a pool. ``fences``: in a NIC's pool the controller may exclude them.

    Their holders keep them, as the SpiderIPs stay; but nobody is to get next what the cloud no longer knows.
    """
    named = AddressSet.parse(spec.ips or (), subnet.version)
    lost: dict[str, list[SpiderIP]] = {"spec.ips": [], "spec.excludeIPs": []}
    for holder in _held(holders):
        if (address := address_of(holder)) in removed:
            lost["spec.excludeIPs" if address in named else "spec.ips"].append(holder)
    if fences:
        del lost["spec.excludeIPs"]
    for path, entries in lost.items():
        if entries:
            users = shown(_user_texts(entries, subnet.version))
            remedy = f"takes away addresses in use: {users}; keep them, or delete these pods first"
            yield FieldError(Fault.FORBIDDEN, path, None, remedy)


def _held(holders: Iterable[SpiderIP]) -> list[SpiderIP]:
    """Without those that only wait for the end of the pool's cooldown."""
    return [holder for holder in holders if holder.spec.releasedAt is None]


def _user_texts(holders: Iterable[SpiderIP], version: int) -> list[str]:
    return [
        f"{from_int(address_of(holder), version)} (pod {holder.spec.namespace}/{holder.spec.pod})"
        for holder in sorted(holders, key=address_of)
    ]


def _ownership_faults(
    pool: SpiderIPPool, before: AddressSet, after: AddressSet, subnets: Iterable[SpiderSubnet], trusted: bool
) -> Faults:
    """A pool of a subnet holds addresses of that subnet alone; one of an application is sized by us alone."""
    owner = pool.controller
    if owner is None or owner.kind != SpiderSubnet.KIND.name:
        return
    subnet = next((each for each in subnets if each.name == owner.name), None)
    if subnet is None:
        remedy = "no SpiderSubnet of that name exists; create it or remove the owner"
        yield FieldError(Fault.INVALID, "metadata.ownerReferences", owner.name, remedy)
    elif outside := (after - before - stored_addresses(subnet, after.version)).ranges():
        remedy = f"SpiderSubnet {subnet.name} does not have {shown(outside)}; add them to it first"
        yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)
    if is_automatic(pool) and after != before and not trusted:
        remedy = f"the pool's size follows its application; change annotation {IP_NUMBER_ANNOTATION} of the workload"
        yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)


def _affinity_faults(pool: SpiderIPPool) -> Faults:
    spec = pool.spec
    if is_automatic(pool):
        yield from _application_faults(spec.podAffinity)
    else:
        yield from selector_faults(spec.podAffinity, "spec.podAffinity")
        if spec.podAffinity is not None and not spec.podAffinity.matchLabels and not spec.podAffinity.matchExpressions:
            remedy = "an empty selector is ambiguous; name labels, or leave the field out to allow all pods"
            yield FieldError(Fault.INVALID, "spec.podAffinity", {}, remedy)
    yield from selector_faults(spec.namespaceAffinity, "spec.namespaceAffinity")
    yield from selector_faults(spec.nodeAffinity, "spec.nodeAffinity")


def _application_faults(selector: LabelSelector | None) -> Faults:
    foreign = sorted(set((selector and selector.matchLabels) or ()) - APPLICATION_KEYS)
    if foreign or (selector and selector.matchExpressions):
        remedy = f"a pool of one application selects by {', '.join(sorted(APPLICATION_KEYS))} alone; remove the rest"
        yield FieldError(Fault.INVALID, "spec.podAffinity", foreign, remedy)
