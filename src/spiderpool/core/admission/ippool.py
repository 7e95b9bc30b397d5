"""Rules of SpiderIPPool: what it gets by default and from a SpiderSubnet, and what it may contain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_CIDR_LABEL, POOL_MOVING_ANNOTATION, POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, OwnerReference
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, SpiderSubnet
from spiderpool.core.addresses import AddressSet, Network, from_int, parse_subnet
from spiderpool.core.admission.faults import (
    Fault,
    Faults,
    FieldError,
    first_faults,
    is_label_value,
    selector_faults,
    shown,
)
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
from spiderpool.core.ipam.allocation import address_of, usable
from spiderpool.core.ipam.owners import APPLICATION_KEYS, is_automatic
from spiderpool.core.ipam.subnet_addresses import pool_addresses, subnet_addresses
from spiderpool.core.ipam.subnets import adopted_pool, is_cut_from
from spiderpool.core.labels import label_value

MOST_MOVING = 32_768
"""Characters of the annotation that lists addresses which pods move away from: about a thousand ranges."""


@dataclass(frozen=True, slots=True)
class PoolContext:
    """The rest of the cluster, and the caller, that a new or changed pool is checked against."""

    others: Sequence[SpiderIPPool] = ()
    """All pools but the one that is checked."""
    records: Sequence[SpiderIP] = ()
    """SpiderIPs of the pool."""
    subnets: Sequence[SpiderSubnet] | None = None
    """All SpiderSubnets; None when the feature is switched off."""
    families: frozenset[int] = FAMILIES
    """Address families that are switched on."""
    trusted: bool = False
    """Whether a service account of Spiderpool makes the change."""


def default_ippool(pool: SpiderIPPool, subnets: Iterable[SpiderSubnet] = ()) -> SpiderIPPool:
    """The pool with finalizer, ``ipVersion``, labels, merged ranges, and what it inherits from a SpiderSubnet.

    It inherits from the subnet of the same CIDR. Fields that cannot be read stay as written, for the validation to
    refuse.
    """
    if pool.terminating:
        return pool
    subnet = subnet_or_none(pool.spec.subnet)
    spec = _with_merged_ranges(pool.spec, subnet) if subnet else pool.spec
    labels = _pool_labels(pool.metadata.labels or {}, spec, subnet)
    pool = replace(pool, metadata=with_finalizer(pool.metadata, labels), spec=spec)
    parent = next((parent for parent in subnets if is_cut_from(pool, parent) and not parent.terminating), None)
    return (parent and adopted_pool(pool, parent)) or pool


def _pool_labels(labels: Mapping[str, str], spec: IPPoolSpec, subnet: Network | None) -> dict[str, str]:
    """The pool's labels, with our own labels set from ``spec``; one of ours that does not apply is removed."""
    ours = {
        POOL_CIDR_LABEL: cidr_label(subnet) if subnet else labels.get(POOL_CIDR_LABEL),
        POOL_NODE_LABEL: _node_label(spec.nodeName or []),
    }
    return {key: value for key, value in {**labels, **ours}.items() if value is not None}


def _node_label(nodes: list[str]) -> str | None:
    """The label of a pool that is for one node alone; None for other pools and for an invalid name."""
    value = label_value(nodes[0]) if len(nodes) == 1 else ""
    return value if value and is_label_value(value) else None


def _with_merged_ranges(spec: IPPoolSpec, subnet: Network) -> IPPoolSpec:
    version = spec.ipVersion or subnet.version
    if version != subnet.version:
        return spec
    whole = AddressSet.of_network(subnet)
    ips, excluded = merged(spec.ips, version, whole), merged(spec.excludeIPs, version, whole)
    return replace(spec, ipVersion=version, ips=ips, excludeIPs=excluded)


def validate_ippool(
    new: SpiderIPPool, old: SpiderIPPool | None = None, context: PoolContext | None = None
) -> tuple[FieldError, ...]:
    """All faults of a new or changed pool; ``old`` is None for a new one.

    A change that leaves ``spec`` as it is has none, so that labels and finalizers of a faulty pool can be changed; but
    for an annotation that would cost each agent too much.
    """
    context = context or PoolContext()
    if fault := _moving_fault(new, old):
        return (fault,)
    if old is not None and old.spec == new.spec:
        return ()
    if new.terminating:
        return (FieldError(Fault.FORBIDDEN, "spec", None, "the pool is being deleted; create another one"),)
    identity = tuple(subnet_faults(new.spec.subnet, new.spec.ipVersion, context.families))
    return identity or first_faults(_pool_faults(new, old, context))


def _moving_fault(new: SpiderIPPool, old: SpiderIPPool | None) -> FieldError | None:
    """That of an annotation which was not so long before; agents read it at each ADD of the pool's pods."""
    text, former = ((each.metadata.annotations or {}).get(POOL_MOVING_ANNOTATION, "") for each in (new, old or new))
    if len(text) <= MOST_MOVING or (old is not None and text == former):
        return None
    field, said = f"metadata.annotations[{POOL_MOVING_ANNOTATION}]", f"{len(text)} characters"
    return FieldError(Fault.INVALID, field, said, f"longer than {MOST_MOVING}: move away from fewer ranges at a time")


def why_ippool_in_use(pool: SpiderIPPool, records: Iterable[SpiderIP]) -> str | None:
    """Why a pool cannot be deleted: pods hold addresses of it. None when none does."""
    users = _user_texts(_held(records), 6 if ":" in pool.spec.subnet else 4)
    return f"its addresses are in use: {shown(users)}; delete these pods first" if users else None


def _pool_faults(new: SpiderIPPool, old: SpiderIPPool | None, context: PoolContext) -> Faults:
    spec, subnet = new.spec, parse_subnet(new.spec.subnet)
    unreadable = (
        *range_faults(spec.ips, "spec.ips", subnet.version, subnet),
        *range_faults(spec.excludeIPs, "spec.excludeIPs", subnet.version, subnet),
    )
    yield from unreadable
    if old is None:
        yield from _subnet_overlaps(subnet, context.others)
    if not unreadable:
        yield from _address_faults(new, old, subnet, context)
    yield from route_faults(spec.routes or (), subnet)
    yield from _affinity_faults(new)


def _address_faults(new: SpiderIPPool, old: SpiderIPPool | None, subnet: Network, context: PoolContext) -> Faults:
    """Faults of the addresses that the change adds, removes and leaves."""
    after = usable(new)
    before = pool_addresses(old, subnet.version) if old else AddressSet(subnet.version)
    yield from _address_overlaps(after - before, subnet, context.others)
    # Addresses that the cloud no longer has on an ENI must not be given again. The controller excludes them from
    # the pool of the ENI while pods still hold them: those SpiderIPs stay.
    may_exclude = context.trusted and new.eni is not None
    yield from _removed_in_use(before - after, new.spec, subnet, context.records, may_exclude=may_exclude)
    yield from gateway_faults(new.spec.gateway, subnet, after)
    if context.subnets is not None and after and (owner := _subnet_owner(new)):
        yield from _outside_subnet_faults(owner.name, after - before, context.subnets)
        if is_automatic(new) and after != before and not context.trusted:
            remedy = "the pool's size follows its application; change annotation "
            yield FieldError(Fault.FORBIDDEN, "spec.ips", None, f"{remedy}{IP_NUMBER_ANNOTATION} of the workload")


def _subnet_owner(pool: SpiderIPPool) -> OwnerReference | None:
    owner = pool.controller
    return owner if owner is not None and owner.kind == SpiderSubnet.KIND.name else None


def _subnet_overlaps(subnet: Network, others: Iterable[SpiderIPPool]) -> Faults:
    for other, other_subnet in _overlapping_pools(subnet, others):
        if other_subnet != subnet:
            remedy = f"overlaps the subnet {other_subnet} of pool {other.name}; use exactly that subnet or another one"
            yield FieldError(Fault.INVALID, "spec.subnet", str(subnet), remedy)


def _address_overlaps(added: AddressSet, subnet: Network, others: Iterable[SpiderIPPool]) -> Faults:
    for other, other_subnet in _overlapping_pools(subnet, others):
        common = added & pool_addresses(other, other_subnet.version)
        if common:
            remedy = f"pool {other.name} has {shown(common.ranges())} as well; take them out of one of the two pools"
            yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)


def _overlapping_pools(subnet: Network, others: Iterable[SpiderIPPool]) -> Iterator[tuple[SpiderIPPool, Network]]:
    """Pools whose subnet shares addresses with this one, each with its subnet; skips pools that cannot be read."""
    for other in others:
        other_subnet = subnet_or_none(other.spec.subnet)
        if other_subnet and other_subnet.version == subnet.version and other_subnet.overlaps(subnet):
            yield other, other_subnet


def _removed_in_use(
    removed: AddressSet, spec: IPPoolSpec, subnet: Network, records: Iterable[SpiderIP], *, may_exclude: bool
) -> Faults:
    """Removed addresses that pods hold; with ``may_exclude``, those that ``excludeIPs`` removes are no fault."""
    listed = AddressSet.parse(spec.ips or (), subnet.version)
    by_field: dict[str, list[SpiderIP]] = {"spec.ips": [], "spec.excludeIPs": []}  # field that removes → records
    for record in _held(records):
        if (address := address_of(record)) in removed:
            by_field["spec.excludeIPs" if address in listed else "spec.ips"].append(record)
    if may_exclude:
        del by_field["spec.excludeIPs"]
    for path, lost in by_field.items():
        if lost:
            users = shown(_user_texts(lost, subnet.version))
            remedy = f"takes away addresses in use: {users}; keep them, or delete these pods first"
            yield FieldError(Fault.FORBIDDEN, path, None, remedy)


def _held(records: Iterable[SpiderIP]) -> list[SpiderIP]:
    """Without released records, which are in their cooldown."""
    return [record for record in records if record.spec.releasedAt is None]


def _user_texts(records: Iterable[SpiderIP], version: int) -> list[str]:
    return [
        f"{from_int(address_of(record), version)} (pod {record.spec.namespace}/{record.spec.pod})"
        for record in sorted(records, key=address_of)
    ]


def _outside_subnet_faults(name: str, added: AddressSet, subnets: Iterable[SpiderSubnet]) -> Faults:
    """New addresses of a pool that the subnet ``name``, its owner, does not have."""
    subnet = next((subnet for subnet in subnets if subnet.name == name), None)
    if subnet is None:
        remedy = "no SpiderSubnet of that name exists; create it or remove the owner"
        yield FieldError(Fault.INVALID, "metadata.ownerReferences", name, remedy)
    elif outside := (added - subnet_addresses(subnet, added.version)).ranges():
        remedy = f"SpiderSubnet {subnet.name} does not have {shown(outside)}; add them to it first"
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
    """An automatic pool selects its application alone: agents find the application in podAffinity."""
    others = sorted(set((selector and selector.matchLabels) or ()) - APPLICATION_KEYS)
    if others or (selector and selector.matchExpressions):
        remedy = f"a pool of one application selects by {', '.join(sorted(APPLICATION_KEYS))} alone; remove the rest"
        yield FieldError(Fault.INVALID, "spec.podAffinity", others, remedy)
