"""Rules of admission: what we fill in, and what we refuse, for pools, networks and the coordinator.

``default_*`` takes an object and returns it with defaults; ``validate_*`` returns every fault that
it finds, each with the path of the field as the user wrote it and what to do about it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import assert_never

import msgspec
from msgspec.structs import replace

from spiderpool.api.coordinator import CoordinatorSpec, SpiderCoordinator
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_CIDR_LABEL, POOL_NODE_LABEL, IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import FINALIZER, LabelSelector, ObjectMeta, OwnerReference, SelectorRequirement
from spiderpool.api.multusconfig import (
    CNI_TYPES,
    CNI_VERSION_ANNOTATION,
    NAD_NAME_ANNOTATION,
    Bond,
    IbsriovConfig,
    IpoibConfig,
    MacvlanConfig,
    MultusConfigSpec,
    NetworkPools,
    OvsConfig,
    SpiderMultusConfig,
    SriovConfig,
    VlanConfig,
)
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.addresses import AddressSet, Network, RangeError, from_int, parse_address, parse_subnet, to_int
from spiderpool.core.allocation import LABEL_LENGTH, address_of, label_value, usable

CNI_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
POD_CIDR_TYPES = ("auto", "cluster", "calico", "cilium", "none")

RDMA_INJECT = "cni.spidernet.io/rdma-resource-inject"
NETWORK_INJECT = "cni.spidernet.io/network-resource-inject"

OWNER_APPLICATION_LABEL = "ipam.spidernet.io/owner-application-name"
"""On pools that belong to one application."""
APPLICATION_KEYS = frozenset(
    f"ipam.spidernet.io/app-{word}" for word in ("api-group", "api-version", "kind", "namespace", "name")
)

BLOCKS = {cni_type: cni_type.replace("-", "") for cni_type in CNI_TYPES if cni_type != "custom"}
"""Field of ``spec`` that describes the interface of each cniType."""

SHOWN = 5
"""Addresses that one message names; the rest is counted."""

_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAC_PREFIX = re.compile(r"[0-9a-fA-F][02468aceACE]:[0-9a-fA-F]{2}")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


class Fault(enum.StrEnum):
    """Kind of a fault: the cause types of metav1.Status."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    NOT_SUPPORTED = "FieldValueNotSupported"


_FAULT_WORDS = {
    Fault.REQUIRED: "Required value",
    Fault.INVALID: "Invalid value",
    Fault.FORBIDDEN: "Forbidden",
    Fault.NOT_SUPPORTED: "Unsupported value",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of an object: where, what was found there, and the remedy."""

    kind: Fault
    path: str
    value: object
    message: str

    @property
    def detail(self) -> str:
        """The fault without its path, worded as Kubernetes words its own."""
        words = _FAULT_WORDS[self.kind]
        if self.kind in (Fault.INVALID, Fault.NOT_SUPPORTED):
            words += f": {msgspec.json.encode(self.value).decode()}"
        return f"{words}: {self.message}"

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


Faults = Iterator[FieldError]


# --- SpiderIPPool -------------------------------------------------------------------------------------------------


def default_ippool(pool: SpiderIPPool) -> SpiderIPPool:
    """Finalizer, ``ipVersion``, labels, and merged ranges. What cannot be read stays as it is."""
    if pool.terminating:
        return pool
    subnet = _subnet(pool.spec)
    spec = _merged(pool.spec, subnet) if subnet else pool.spec
    finalizers = pool.metadata.finalizers or []
    metadata = replace(
        pool.metadata,
        finalizers=finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER],
        labels=_pool_labels(pool.metadata.labels or {}, spec, subnet) or None,
    )
    return replace(pool, metadata=metadata, spec=spec)


def _subnet(spec: IPPoolSpec) -> Network | None:
    try:
        return parse_subnet(spec.subnet)
    except ValueError:
        return None


def _pool_labels(labels: Mapping[str, str], spec: IPPoolSpec, subnet: Network | None) -> dict[str, str]:
    wanted = {
        POOL_CIDR_LABEL: cidr_label(subnet) if subnet else labels.get(POOL_CIDR_LABEL),
        POOL_NODE_LABEL: _node_label(spec.nodeName or []),
    }
    return {key: value for key, value in ({**labels, **wanted}).items() if value is not None}


def _node_label(nodes: list[str]) -> str | None:
    value = label_value(nodes[0]) if len(nodes) == 1 else ""
    return value if value and _is_label_value(value) else None


def cidr_label(subnet: Network) -> str | None:
    """The subnet as a label value; None for the few (such as ``::/0``) that the API would refuse."""
    value = str(subnet).translate(str.maketrans(".:/", "---"))
    return value if _is_label_value(value) else None


def _merged(spec: IPPoolSpec, subnet: Network) -> IPPoolSpec:
    version = spec.ipVersion or subnet.version
    if version != subnet.version:
        return spec
    whole = AddressSet.of_network(subnet)
    return replace(
        spec,
        ipVersion=version,
        ips=_merged_ranges(spec.ips, whole),
        excludeIPs=_merged_ranges(spec.excludeIPs, whole),
    )


def _merged_ranges(ranges: list[str] | None, whole: AddressSet) -> list[str] | None:
    """Only lists that will be accepted are merged, so that a refusal names the entry that the user wrote."""
    if not ranges or len(ranges) < 2:
        return ranges
    try:
        parsed = AddressSet.parse(ranges, whole.version)
    except RangeError:
        return ranges
    return parsed.ranges() if parsed.issubset(whole) else ranges


def validate_ippool(
    new: SpiderIPPool,
    old: SpiderIPPool | None,
    others: Iterable[SpiderIPPool],
    holders: Iterable[SpiderIP] = (),
    families: frozenset[int] = frozenset({4, 6}),
) -> tuple[FieldError, ...]:
    """Faults of a new or changed pool.

    ``others`` are the other pools of the cluster, ``holders`` the SpiderIPs of this pool, ``families``
    the enabled address families. A change that leaves ``spec`` alone is always accepted.
    """
    if old is not None and old.spec == new.spec:
        return ()
    if new.terminating:
        return (FieldError(Fault.FORBIDDEN, "spec", None, "the pool is being deleted; create another one"),)
    return tuple(_pool_identity(new.spec, old, families)) or tuple(_pool_faults(new, old, tuple(others), holders))


def _pool_identity(spec: IPPoolSpec, old: SpiderIPPool | None, families: frozenset[int]) -> Faults:
    """Faults without whose repair nothing else can be judged."""
    if old is not None and old.spec.subnet != spec.subnet:
        remedy = f"the subnet of a pool cannot be changed from {old.spec.subnet}; create another pool"
        yield FieldError(Fault.FORBIDDEN, "spec.subnet", spec.subnet, remedy)
        return
    try:
        version = parse_subnet(spec.subnet).version
    except ValueError as error:
        yield FieldError(Fault.INVALID, "spec.subnet", spec.subnet, str(error))
        return
    if (spec.ipVersion or version) != version:
        remedy = f"the subnet {spec.subnet} is IPv{version}; write {version} or leave the field out"
        yield FieldError(Fault.INVALID, "spec.ipVersion", spec.ipVersion, remedy)
    elif version not in families:
        remedy = f"IPv{version} is switched off; set enableIPv{version} to true in the ConfigMap first"
        yield FieldError(Fault.FORBIDDEN, "spec.ipVersion", version, remedy)


def _pool_faults(
    new: SpiderIPPool, old: SpiderIPPool | None, others: tuple[SpiderIPPool, ...], holders: Iterable[SpiderIP]
) -> Faults:
    spec, subnet = new.spec, parse_subnet(new.spec.subnet)
    range_faults = (
        *_range_faults(spec.ips, "spec.ips", subnet),
        *_range_faults(spec.excludeIPs, "spec.excludeIPs", subnet),
    )
    yield from range_faults
    yield from _subnet_overlaps(subnet, others) if old is None else ()
    if not range_faults:
        after = usable(new)
        before = _usable_or_none(old, subnet.version) if old else AddressSet(subnet.version)
        yield from _address_overlaps(after - before, subnet, others)
        yield from _removed_in_use(before - after, spec, subnet, holders)
        yield from _gateway_faults(spec, subnet, after)
    yield from _route_faults(spec.routes or (), subnet)
    yield from _affinity_faults(new)


def _usable_or_none(pool: SpiderIPPool, version: int) -> AddressSet:
    """Usable addresses of a stored pool; none when its ranges cannot be read (the agents use none of it either)."""
    try:
        return usable(pool)
    except ValueError:
        return AddressSet(version)


def _range_faults(ranges: list[str] | None, path: str, subnet: Network) -> Faults:
    whole = AddressSet.of_network(subnet)
    for index, text in enumerate(ranges or ()):
        try:
            parsed = AddressSet.parse((text,), subnet.version)
        except RangeError as error:
            yield FieldError(Fault.INVALID, f"{path}[{index}]", text, error.reason)
            continue
        if outside := (parsed - whole).ranges():
            remedy = f"{', '.join(outside)} lies outside the subnet {subnet}; write addresses of the subnet"
            yield FieldError(Fault.INVALID, f"{path}[{index}]", text, remedy)


def _subnet_overlaps(subnet: Network, others: tuple[SpiderIPPool, ...]) -> Faults:
    for other, its in _neighbours(subnet, others):
        if its != subnet:
            remedy = f"overlaps the subnet {its} of pool {other.name}; use exactly that subnet or another one"
            yield FieldError(Fault.INVALID, "spec.subnet", str(subnet), remedy)


def _address_overlaps(added: AddressSet, subnet: Network, others: tuple[SpiderIPPool, ...]) -> Faults:
    for other, its in _neighbours(subnet, others):
        common = added & _usable_or_none(other, its.version)
        if common:
            remedy = f"pool {other.name} has {_shown(common.ranges())} as well; take them out of one of the two pools"
            yield FieldError(Fault.FORBIDDEN, "spec.ips", None, remedy)


def _neighbours(subnet: Network, others: Iterable[SpiderIPPool]) -> Iterator[tuple[SpiderIPPool, Network]]:
    """Pools whose subnet shares addresses with this one."""
    whole = AddressSet.of_network(subnet)
    for other in others:
        its = _subnet(other.spec)
        if its and its.version == subnet.version and not whole.isdisjoint(AddressSet.of_network(its)):
            yield other, its


def _removed_in_use(removed: AddressSet, spec: IPPoolSpec, subnet: Network, holders: Iterable[SpiderIP]) -> Faults:
    version = subnet.version
    named = AddressSet.parse(spec.ips or (), version)
    lost: dict[str, list[tuple[int, SpiderIP]]] = {"spec.ips": [], "spec.excludeIPs": []}
    for holder in holders:
        if (address := address_of(holder)) in removed:
            lost["spec.excludeIPs" if address in named else "spec.ips"].append((address, holder))
    for path, entries in lost.items():
        if entries:
            users = [_user_text(address, holder, version) for address, holder in sorted(entries, key=lambda e: e[0])]
            remedy = f"takes away addresses in use: {_shown(users)}; keep them, or delete these pods first"
            yield FieldError(Fault.FORBIDDEN, path, None, remedy)


def _user_text(address: int, holder: SpiderIP, version: int) -> str:
    return f"{from_int(address, version)} (pod {holder.spec.namespace}/{holder.spec.pod})"


def _shown(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _gateway_faults(spec: IPPoolSpec, subnet: Network, given: AddressSet) -> Faults:
    if spec.gateway is None:
        return
    yield from _hop_faults(spec.gateway, "spec.gateway", subnet)
    if _is_address(spec.gateway, subnet.version) and to_int(spec.gateway, subnet.version) in given:
        remedy = "is one of spec.ips and would be given to a pod; add it to spec.excludeIPs"
        yield FieldError(Fault.INVALID, "spec.gateway", spec.gateway, remedy)


def _hop_faults(text: str, path: str, subnet: Network) -> Faults:
    try:
        hop = parse_address(text, subnet.version)
    except ValueError as error:
        yield FieldError(Fault.INVALID, path, text, f"{error}; write an address of the subnet {subnet}")
        return
    if hop not in subnet:
        yield FieldError(Fault.INVALID, path, text, f"lies outside the subnet {subnet}; write an address of the subnet")


def _route_faults(routes: Iterable[Route], subnet: Network) -> Faults:
    seen: set[str] = set()
    for index, route in enumerate(routes):
        path = f"spec.routes[{index}]"
        yield from _destination_faults(route.dst, f"{path}.dst", subnet.version, seen)
        yield from _hop_faults(route.gw, f"{path}.gw", subnet)


def _destination_faults(text: str, path: str, version: int, seen: set[str]) -> Faults:
    prefix = _prefix(text) if "/" in text else None
    if prefix is None or prefix.version != version:
        yield FieldError(Fault.INVALID, path, text, f"not an IPv{version} CIDR; write one such as {_example(version)}")
        return
    network = str(prefix.network)
    if prefix.network.prefixlen == 0:
        yield FieldError(Fault.INVALID, path, text, "a default route is made from spec.gateway; leave this one out")
    elif network in seen:
        yield FieldError(Fault.INVALID, path, text, f"a route to {network} is in the list already; keep one of them")
    seen.add(network)


def _example(version: int) -> str:
    return "10.233.0.0/18" if version == 4 else "fd00:233::/64"


def _affinity_faults(pool: SpiderIPPool) -> Faults:
    spec = pool.spec
    if OWNER_APPLICATION_LABEL in (pool.metadata.labels or {}):
        yield from _application_faults(spec.podAffinity)
    else:
        yield from _selector_faults(spec.podAffinity, "spec.podAffinity")
        if spec.podAffinity is not None and not spec.podAffinity.matchLabels and not spec.podAffinity.matchExpressions:
            remedy = "an empty selector is ambiguous; name labels, or leave the field out to allow all pods"
            yield FieldError(Fault.INVALID, "spec.podAffinity", {}, remedy)
    yield from _selector_faults(spec.namespaceAffinity, "spec.namespaceAffinity")
    yield from _selector_faults(spec.nodeAffinity, "spec.nodeAffinity")


def _application_faults(selector: LabelSelector | None) -> Faults:
    foreign = sorted(set((selector and selector.matchLabels) or ()) - APPLICATION_KEYS)
    if foreign or (selector and selector.matchExpressions):
        remedy = f"a pool of one application selects by {', '.join(sorted(APPLICATION_KEYS))} alone; remove the rest"
        yield FieldError(Fault.INVALID, "spec.podAffinity", foreign, remedy)


def _selector_faults(selector: LabelSelector | None, path: str) -> Faults:
    if selector is None:
        return
    for key, value in (selector.matchLabels or {}).items():
        yield from _label_key_faults(key, f"{path}.matchLabels")
        yield from _label_value_faults(value, f"{path}.matchLabels[{key}]")
    for index, requirement in enumerate(selector.matchExpressions or ()):
        yield from _requirement_faults(requirement, f"{path}.matchExpressions[{index}]")


def _requirement_faults(requirement: SelectorRequirement, path: str) -> Faults:
    yield from _label_key_faults(requirement.key, f"{path}.key")
    values = requirement.values or []
    match requirement.operator:
        case "In" | "NotIn" if not values:
            yield FieldError(Fault.REQUIRED, f"{path}.values", None, f"{requirement.operator} needs at least one value")
        case "In" | "NotIn":
            for index, value in enumerate(values):
                yield from _label_value_faults(value, f"{path}.values[{index}]")
        case "Exists" | "DoesNotExist" if values:
            yield FieldError(Fault.FORBIDDEN, f"{path}.values", values, f"{requirement.operator} takes no values")
        case "Exists" | "DoesNotExist":
            pass
        case other:
            yield FieldError(Fault.INVALID, f"{path}.operator", other, "write In, NotIn, Exists or DoesNotExist")


def _label_key_faults(key: str, path: str) -> Faults:
    prefix, slash, name = key.rpartition("/")
    prefix_ok = not slash or (len(prefix) <= 253 and _DNS_SUBDOMAIN.fullmatch(prefix))
    if not name or not _is_label_value(name) or not prefix_ok:
        remedy = "not a label key; write a name of at most 63 letters, digits, '-', '_', '.', with an optional domain/"
        yield FieldError(Fault.INVALID, path, key, remedy)


def _label_value_faults(value: str, path: str) -> Faults:
    if not _is_label_value(value):
        remedy = "not a label value; write at most 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
        yield FieldError(Fault.INVALID, path, value, remedy)


def _is_label_value(text: str) -> bool:
    return len(text) <= LABEL_LENGTH and _LABEL_VALUE.fullmatch(text) is not None


def _is_address(text: str, version: int) -> bool:
    try:
        to_int(text, version)
    except ValueError:
        return False
    return True


# --- SpiderMultusConfig -------------------------------------------------------------------------------------------


def default_multusconfig(config: SpiderMultusConfig, old: SpiderMultusConfig | None = None) -> SpiderMultusConfig:
    """Defaults of the block that ``cniType`` names, of the coordinator, and the labels for resource injection.

    Empty text is no default: absent says the same, and older API servers read an empty value of a patch as null.
    ``enableCoordinator`` stays as written for ``custom`` too, where it has no effect: a network that becomes
    ipvlan later shall not find it switched off.
    """
    spec = config.spec or MultusConfigSpec()
    spec = replace(spec, cniType=spec.cniType or "custom", chainCNIJsonData=spec.chainCNIJsonData or [])
    if spec.cniType == "custom":
        spec = replace(spec, coordinator=None)
    else:
        spec = replace(_with_block_defaults(spec), coordinator=_network_coordinator(spec.coordinator))
    return replace(config, metadata=_with_inject_labels(config.metadata, old), spec=spec)


Block = MacvlanConfig | SriovConfig | IbsriovConfig | IpoibConfig | OvsConfig


def interface_block(spec: MultusConfigSpec) -> Block | None:
    """The block that ``cniType`` names, if it is there."""
    field = BLOCKS.get(spec.cniType or "")
    return getattr(spec, field) if field else None


def _with_block_defaults(spec: MultusConfigSpec) -> MultusConfigSpec:
    block = interface_block(spec)
    return spec if block is None else replace(spec, **{BLOCKS[spec.cniType or ""]: _default_block(block)})


def _default_block(block: Block) -> Block:
    match block:
        case MacvlanConfig():
            return _default_card(block)
        case SriovConfig():
            return _default_sriov(block)
        case IbsriovConfig():
            return _default_ibsriov(block)
        case IpoibConfig():
            return replace(block, ippools=block.ippools or NetworkPools())
        case OvsConfig():
            return replace(block, vlan=block.vlan or 0, ippools=block.ippools or NetworkPools())
        case _:
            assert_never(block)


def _default_card(block: MacvlanConfig) -> MacvlanConfig:
    manual = not isinstance(block, VlanConfig) or (block.vlanMode or "manual") == "manual"
    block = replace(
        block,
        vlanID=block.vlanID or 0 if manual else block.vlanID,
        ippools=block.ippools or NetworkPools(),
    )
    return replace(block, vlanMode=block.vlanMode or "manual") if isinstance(block, VlanConfig) else block


def _default_sriov(block: SriovConfig) -> SriovConfig:
    pools = block.ippools or NetworkPools()
    return replace(
        block,
        vlanID=block.vlanID or 0,
        minTxRateMbps=block.minTxRateMbps or 0,
        maxTxRateMbps=block.maxTxRateMbps or 0,
        ippools=replace(pools, matchMasterSubnet=bool(pools.matchMasterSubnet)),
    )


def _default_ibsriov(block: IbsriovConfig) -> IbsriovConfig:
    return replace(
        block,
        linkState=block.linkState or "enable",
        rdmaIsolation=block.rdmaIsolation is not False,
        enableIbKubernetes=bool(block.enableIbKubernetes),
        ippools=block.ippools or NetworkPools(),
    )


def _network_coordinator(spec: CoordinatorSpec | None) -> CoordinatorSpec:
    spec = spec or CoordinatorSpec()
    return _with_prefixes(
        replace(
            spec,
            mode=spec.mode or "auto",
            podRPFilter=spec.podRPFilter or 0,
            tunePodRoutes=spec.tunePodRoutes is not False,
            txQueueLen=spec.txQueueLen or 0,
        )
    )


def _with_inject_labels(metadata: ObjectMeta, old: SpiderMultusConfig | None) -> ObjectMeta:
    """Pods are matched by label; a label goes when its annotation goes."""
    annotations = metadata.annotations or {}
    former = (old.metadata.annotations if old else None) or {}
    labels = dict(metadata.labels or {})
    for key in (RDMA_INJECT, NETWORK_INJECT):
        if key in annotations:
            labels[key] = annotations[key]
        elif key in former:
            labels.pop(key, None)
    return replace(metadata, labels=labels) if labels != (metadata.labels or {}) else metadata


def validate_multusconfig(
    new: SpiderMultusConfig,
    old: SpiderMultusConfig | None = None,
    existing: NetworkAttachmentDefinition | None = None,
) -> tuple[FieldError, ...]:
    """Faults of a new or changed network.

    ``existing`` is the NetworkAttachmentDefinition that already has the name of the one to be made.
    """
    spec = new.spec or MultusConfigSpec()
    return (
        *_name_faults(new, old, existing),
        *_cni_version_faults(new.metadata.annotations or {}),
        *_block_faults(spec),
        *_foreign_block_faults(spec),
        *_inject_faults(new.metadata.annotations or {}, spec),
        *_custom_faults(spec),
        *(_coordinator_faults(spec.coordinator, "spec.coordinator") if spec.coordinator else ()),
        *_chain_faults(spec.chainCNIJsonData or ()),
    )


def attachment_name(config: SpiderMultusConfig) -> str:
    """Name of the NetworkAttachmentDefinition of a network."""
    return (config.metadata.annotations or {}).get(NAD_NAME_ANNOTATION, config.name)


def other_owner(config: SpiderMultusConfig, existing: NetworkAttachmentDefinition) -> OwnerReference | None:
    """The other SpiderMultusConfig that an existing NetworkAttachmentDefinition belongs to, if one does."""
    owners = existing.metadata.ownerReferences or ()
    return next((ref for ref in owners if ref.kind == config.KIND.name and ref.name != config.name), None)


def _name_faults(
    new: SpiderMultusConfig, old: SpiderMultusConfig | None, existing: NetworkAttachmentDefinition | None
) -> Faults:
    path = f"metadata.annotations[{NAD_NAME_ANNOTATION}]"
    name = (new.metadata.annotations or {}).get(NAD_NAME_ANNOTATION)
    if old is not None and name is not None and name != (old.metadata.annotations or {}).get(NAD_NAME_ANNOTATION):
        yield FieldError(Fault.INVALID, path, name, "cannot be added or changed later; create another network")
    if name is not None and (len(name) > 253 or not _DNS_SUBDOMAIN.fullmatch(name)):
        remedy = "not a name of an object; write lower-case letters, digits, '-' and '.'"
        yield FieldError(Fault.INVALID, path, name, remedy)
    if existing is not None and (owner := other_owner(new, existing)):
        remedy = f"the NetworkAttachmentDefinition belongs to SpiderMultusConfig {owner.name}; choose another name"
        yield FieldError(Fault.INVALID, path, existing.name, remedy)


def _cni_version_faults(annotations: Mapping[str, str]) -> Faults:
    version = annotations.get(CNI_VERSION_ANNOTATION)
    if version is not None and version not in CNI_VERSIONS:
        path = f"metadata.annotations[{CNI_VERSION_ANNOTATION}]"
        yield FieldError(Fault.INVALID, path, version, f"write one of {', '.join(CNI_VERSIONS)}")


def _block_faults(spec: MultusConfigSpec) -> Faults:
    field = BLOCKS.get(spec.cniType or "")
    if field is None:
        return
    path, block = f"spec.{field}", interface_block(spec)
    match block:
        case None:
            yield FieldError(Fault.REQUIRED, path, None, f"cniType {spec.cniType} needs this block")
        case MacvlanConfig():
            yield from _card_faults(block, path)
        case SriovConfig():
            yield from _sriov_faults(block, path)
        case IbsriovConfig():
            yield from _required(block.resourceName, f"{path}.resourceName", "name the device plugin resource")
        case IpoibConfig():
            yield from _required(block.master, f"{path}.master", "name the InfiniBand card")
        case OvsConfig():
            yield from _ovs_faults(block, path)
        case _:
            assert_never(block)


def _required(value: str | None, path: str, remedy: str) -> Faults:
    if not value:
        yield FieldError(Fault.REQUIRED, path, value, remedy)


def _card_faults(block: MacvlanConfig, path: str) -> Faults:
    yield from _master_faults(block.master, block.bond, path)
    if block.ippools and block.ippools.matchMasterSubnet:
        where = f"{path}.ippools.matchMasterSubnet"
        yield FieldError(Fault.INVALID, where, True, "works with cniType sriov only; remove it")
    if isinstance(block, VlanConfig):
        yield from _vlan_mode_faults(block, path)


def _master_faults(masters: list[str], bond: Bond | None, path: str) -> Faults:
    if not masters:
        yield FieldError(Fault.REQUIRED, f"{path}.master", masters, "name the card, such as eth0")
    for index, master in enumerate(masters):
        if not _INTERFACE.fullmatch(master):
            remedy = "not an interface name; Linux allows 1 to 15 characters without '/', ':' and white space"
            yield FieldError(Fault.INVALID, f"{path}.master[{index}]", master, remedy)
    if len(masters) > 1 and bond is None:
        yield FieldError(Fault.REQUIRED, f"{path}.bond", None, "several masters need a bond; or name one master alone")
    elif len(masters) > 1 and bond is not None:
        yield from _required(bond.name, f"{path}.bond.name", "name the bond, such as bond0")


def _vlan_mode_faults(block: VlanConfig, path: str) -> Faults:
    match block.vlanMode:
        case "manual" if block.vlanID is None:
            yield FieldError(Fault.REQUIRED, f"{path}.vlanID", None, "vlanMode manual needs the VLAN")
        case "auto" if block.vlanID is not None:
            remedy = "vlanMode auto finds the VLAN itself; remove the field or set vlanMode to manual"
            yield FieldError(Fault.FORBIDDEN, f"{path}.vlanID", block.vlanID, remedy)
        case None:
            yield FieldError(Fault.REQUIRED, f"{path}.vlanMode", None, "write manual or auto")


def _sriov_faults(block: SriovConfig, path: str) -> Faults:
    yield from _required(block.resourceName, f"{path}.resourceName", "name the device plugin resource")
    low, high = block.minTxRateMbps or 0, block.maxTxRateMbps or 0
    if 0 < high < low:
        remedy = f"exceeds maxTxRateMbps {high}; lower it, or set maxTxRateMbps to 0 for no limit"
        yield FieldError(Fault.INVALID, f"{path}.minTxRateMbps", low, remedy)


def _ovs_faults(block: OvsConfig, path: str) -> Faults:
    yield from _required(block.bridge, f"{path}.bridge", "name the Open vSwitch bridge")
    if not 0 <= (block.vlan or 0) <= 4094:
        yield FieldError(Fault.INVALID, f"{path}.vlan", block.vlan, "write 0 to 4094")
    for index, trunk in enumerate(block.trunk or ()):
        if trunk.maxID is not None and trunk.maxID < (trunk.minID or 0):
            remedy = f"is below minID {trunk.minID}; exchange the two"
            yield FieldError(Fault.INVALID, f"{path}.trunk[{index}].maxID", trunk.maxID, remedy)
        if (trunk.minID is None) != (trunk.maxID is None):
            remedy = "minID and maxID come together; use id for a single VLAN"
            yield FieldError(Fault.INVALID, f"{path}.trunk[{index}]", msgspec.to_builtins(trunk), remedy)


def _foreign_block_faults(spec: MultusConfigSpec) -> Faults:
    own = BLOCKS.get(spec.cniType or "", "customCNI")
    for field in (*BLOCKS.values(), "customCNI"):
        if field != own and getattr(spec, field) not in (None, ""):
            remedy = f"does not go with cniType {spec.cniType or 'custom'}; remove it or correct spec.cniType"
            yield FieldError(Fault.FORBIDDEN, f"spec.{field}", None, remedy)


def _inject_faults(annotations: Mapping[str, str], spec: MultusConfigSpec) -> Faults:
    for key in (RDMA_INJECT, NETWORK_INJECT):
        if key in annotations:
            yield from _inject_key_faults(key, spec)


def _inject_key_faults(key: str, spec: MultusConfigSpec) -> Faults:
    block = interface_block(spec)
    if spec.cniType in ("ovs", "custom", None):
        remedy = f"the annotation {key} works with a card, not with this cniType; remove the annotation"
        yield FieldError(Fault.FORBIDDEN, "spec.cniType", spec.cniType, remedy)
    elif block is not None:
        path, resource = f"spec.{BLOCKS[spec.cniType]}", _resource(block)
        pools = block.ippools or NetworkPools()
        if key == RDMA_INJECT and not resource:
            yield FieldError(Fault.REQUIRED, path, None, f"the annotation {key} needs the name of a resource here")
        if not (pools.ipv4 or pools.ipv6) and (key == RDMA_INJECT or resource):
            yield FieldError(Fault.REQUIRED, f"{path}.ippools", None, f"the annotation {key} needs at least one pool")


def _resource(block: Block) -> str | None:
    match block:
        case MacvlanConfig():
            return block.rdmaResourceName
        case SriovConfig() | IbsriovConfig():
            return block.resourceName
        case IpoibConfig():
            return block.master
        case OvsConfig():
            return None
        case _:
            assert_never(block)


def _custom_faults(spec: MultusConfigSpec) -> Faults:
    if spec.cniType in ("custom", None) and spec.customCNI and _json_object(spec.customCNI) is None:
        remedy = "not a JSON object; write a whole CNI configuration"
        yield FieldError(Fault.INVALID, "spec.customCNI", spec.customCNI, remedy)


def _chain_faults(entries: Iterable[str]) -> Faults:
    for index, text in enumerate(entries):
        plugin = _json_object(text)
        name = plugin.get("type") if plugin is not None else None
        if not isinstance(name, str) or not name:
            remedy = "not a CNI plugin configuration; write a JSON object with a type"
            yield FieldError(Fault.INVALID, f"spec.chainCNIJsonData[{index}]", text, remedy)


def _json_object(text: str) -> dict[str, object] | None:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


# --- SpiderCoordinator --------------------------------------------------------------------------------------------


def default_coordinator(coordinator: SpiderCoordinator) -> SpiderCoordinator:
    """Defaults, and bare addresses written as prefixes. No finalizer: nothing has to be cleaned up."""
    spec = coordinator.spec or CoordinatorSpec()
    spec = replace(
        spec,
        mode=spec.mode or "auto",
        tunePodRoutes=spec.tunePodRoutes is not False,
        hostRuleTable=500 if spec.hostRuleTable is None else spec.hostRuleTable,
        podRPFilter=spec.podRPFilter or 0,
        txQueueLen=spec.txQueueLen or 0,
        vethMTU=1500 if spec.vethMTU is None else spec.vethMTU,
    )
    return replace(coordinator, spec=_with_prefixes(spec))


def _with_prefixes(spec: CoordinatorSpec) -> CoordinatorSpec:
    hijack, routes = spec.hijackCIDR, spec.policyRoutes
    return replace(
        spec,
        hijackCIDR=hijack and [_prefix_text(text) for text in hijack],
        policyRoutes=routes and [replace(route, dst=_prefix_text(route.dst)) for route in routes],
    )


def validate_coordinator(new: SpiderCoordinator) -> tuple[FieldError, ...]:
    """Faults of the cluster's coordinator settings."""
    spec = new.spec or CoordinatorSpec()
    required = () if spec.podCIDRType else (_pod_cidr_type(Fault.REQUIRED, "spec", spec),)
    return (*required, *_coordinator_faults(spec, "spec"))


def _coordinator_faults(spec: CoordinatorSpec, path: str) -> Faults:
    if spec.podCIDRType and spec.podCIDRType not in POD_CIDR_TYPES:
        yield _pod_cidr_type(Fault.NOT_SUPPORTED, path, spec)
    for index, text in enumerate(spec.hijackCIDR or ()):
        yield from _prefix_faults(text, f"{path}.hijackCIDR[{index}]")
    for index, route in enumerate(spec.policyRoutes or ()):
        yield from _policy_route_faults(route, f"{path}.policyRoutes[{index}]")
    if spec.podMACPrefix and not _MAC_PREFIX.fullmatch(spec.podMACPrefix):
        remedy = "write two bytes such as 0a:1b, the first one even (a unicast address)"
        yield FieldError(Fault.INVALID, f"{path}.podMACPrefix", spec.podMACPrefix, remedy)
    if (spec.txQueueLen or 0) < 0:
        yield FieldError(Fault.INVALID, f"{path}.txQueueLen", spec.txQueueLen, "write 0 or more")
    if (spec.podRPFilter or 0) > 2:
        remedy = "write 0 (off), 1 (strict), 2 (loose), or -1 to leave it alone"
        yield FieldError(Fault.NOT_SUPPORTED, f"{path}.podRPFilter", spec.podRPFilter, remedy)
    if spec.vethLinkAddress and not _is_address(spec.vethLinkAddress, 4):
        remedy = "write an IPv4 address without a prefix length, such as 169.254.100.1"
        yield FieldError(Fault.INVALID, f"{path}.vethLinkAddress", spec.vethLinkAddress, remedy)
    if spec.vethMTU is not None and spec.vethMTU <= 0:
        yield FieldError(Fault.INVALID, f"{path}.vethMTU", spec.vethMTU, "write 1 or more, or leave the field out")


def _pod_cidr_type(kind: Fault, path: str, spec: CoordinatorSpec) -> FieldError:
    return FieldError(kind, f"{path}.podCIDRType", spec.podCIDRType, f"write one of {', '.join(POD_CIDR_TYPES)}")


def _prefix_faults(text: str, path: str) -> Faults:
    if _prefix(text) is None:
        yield FieldError(Fault.INVALID, path, text, "write a CIDR such as 10.233.0.0/18, or an address")


def _policy_route_faults(route: Route, path: str) -> Faults:
    destination = _prefix(route.dst)
    hop = None if "/" in route.gw else _prefix(route.gw)
    yield from _prefix_faults(route.dst, f"{path}.dst")
    if hop is None:
        yield FieldError(Fault.INVALID, f"{path}.gw", route.gw, "write an address without a prefix length")
    elif destination is not None and hop.version != destination.version:
        remedy = f"gw must be an IPv{destination.version} address, as dst is"
        yield FieldError(Fault.INVALID, path, msgspec.to_builtins(route), remedy)


def _prefix(text: str) -> IPv4Interface | IPv6Interface | None:
    """An address with or without a prefix length; host bits are allowed, netmasks and zones are not."""
    _, slash, length = text.partition("/")
    if "%" in text or (slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length)):
        return None
    try:
        return ip_interface(text)
    except ValueError:
        return None


def _prefix_text(text: str) -> str:
    """With a prefix length; what cannot be read stays as it is."""
    prefix = _prefix(text)
    return prefix.with_prefixlen if prefix else text
