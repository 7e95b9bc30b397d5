"""Rules of SpiderMultusConfig: defaults, and faults of its blocks, its annotations and its chained plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import assert_never

import msgspec
from msgspec.structs import replace

from spiderpool.api.coordinator import CoordinatorSpec
from spiderpool.api.decoding import decode
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import (
    CNI_VERSION_ANNOTATION,
    NAD_NAME_ANNOTATION,
    NETWORK_INJECT,
    RDMA_INJECT,
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
from spiderpool.core.admission.coordinator import coordinator_faults, with_prefixes
from spiderpool.core.admission.faults import Fault, Faults, FieldError, first_faults, is_label_value, is_object_name
from spiderpool.core.network.multusconfig import BLOCK_FIELDS, Block, NICBlock, interface_block

CNI_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")

MAX_VLAN = 4094
"""Highest VLAN that may be used (IEEE 802.1Q reserves 4095)."""

_INTERFACE = re.compile(r"[^\s/:]{1,15}")


def default_multusconfig(config: SpiderMultusConfig, old: SpiderMultusConfig | None = None) -> SpiderMultusConfig:
    """The network with defaults in the interface's block and the coordinator, and with labels for injection.

    No default is an empty string: an absent field means the same. ``enableCoordinator`` stays as written, also for
    ``custom``, where it has no effect: a network that becomes ipvlan later must not find it switched off.
    """
    spec = config.spec or MultusConfigSpec()
    spec = replace(spec, cniType=spec.cniType or "custom", chainCNIJsonData=spec.chainCNIJsonData or [])
    if spec.cniType == "custom":
        spec = replace(spec, coordinator=None)
    else:
        spec = replace(_with_block_defaults(spec), coordinator=_network_coordinator(spec.coordinator))
    return replace(config, metadata=_with_inject_labels(config.metadata, old), spec=spec)


def _with_block_defaults(spec: MultusConfigSpec) -> MultusConfigSpec:
    block = interface_block(spec)
    return spec if block is None else replace(spec, **{BLOCK_FIELDS[spec.cniType or ""]: _default_block(block)})


def _default_block(block: Block) -> Block:
    match block:
        case MacvlanConfig():
            return _default_nic(block)
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


def _default_nic(block: MacvlanConfig) -> MacvlanConfig:
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
    return with_prefixes(
        replace(
            spec,
            mode=spec.mode or "auto",
            podRPFilter=spec.podRPFilter or 0,
            tunePodRoutes=spec.tunePodRoutes is not False,
            txQueueLen=spec.txQueueLen or 0,
        )
    )


def _with_inject_labels(metadata: ObjectMeta, old: SpiderMultusConfig | None) -> ObjectMeta:
    """Copies the injection annotations into labels, by which a pod's networks are listed, and removes stale labels."""
    annotations = metadata.annotations or {}
    old_annotations = (old.metadata.annotations if old else None) or {}
    labels = dict(metadata.labels or {})
    for key in (RDMA_INJECT, NETWORK_INJECT):
        if key in annotations and is_label_value(annotations[key]):
            labels[key] = annotations[key]
        elif key in old_annotations:
            labels.pop(key, None)
    return replace(metadata, labels=labels) if labels != (metadata.labels or {}) else metadata


def validate_multusconfig(
    new: SpiderMultusConfig,
    old: SpiderMultusConfig | None = None,
    existing: NetworkAttachmentDefinition | None = None,
) -> tuple[FieldError, ...]:
    """All faults of a new or changed network; ``old`` is None for a new one.

    ``existing`` is the stored NetworkAttachmentDefinition of the name that this network's will have, if there is one.
    """
    spec = new.spec or MultusConfigSpec()
    return first_faults(
        _name_faults(new, old, existing),
        _cni_version_faults(new.metadata.annotations or {}),
        _block_faults(spec),
        _other_block_faults(spec),
        _annotation_faults(new.metadata.annotations or {}, spec),
        _custom_faults(spec),
        coordinator_faults(spec.coordinator, "spec.coordinator") if spec.coordinator else (),
        _chain_faults(spec.chainCNIJsonData or ()),
    )


def other_owner(config: SpiderMultusConfig, existing: NetworkAttachmentDefinition) -> OwnerReference | None:
    """The SpiderMultusConfig of another name that owns an existing NetworkAttachmentDefinition; None without one."""
    owners = existing.metadata.ownerReferences or ()
    return next((ref for ref in owners if ref.kind == config.KIND.name and ref.name != config.name), None)


def _name_faults(
    new: SpiderMultusConfig, old: SpiderMultusConfig | None, existing: NetworkAttachmentDefinition | None
) -> Faults:
    path = f"metadata.annotations[{NAD_NAME_ANNOTATION}]"
    name = (new.metadata.annotations or {}).get(NAD_NAME_ANNOTATION)
    if old is not None and name is not None and name != (old.metadata.annotations or {}).get(NAD_NAME_ANNOTATION):
        yield FieldError(Fault.INVALID, path, name, "cannot be added or changed later; create another network")
    if name is not None and not is_object_name(name):
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
    field = BLOCK_FIELDS.get(spec.cniType or "")
    if field is None:
        return
    path, block = f"spec.{field}", interface_block(spec)
    match block:
        case None:
            yield FieldError(Fault.REQUIRED, path, None, f"cniType {spec.cniType} needs this block")
        case MacvlanConfig():
            yield from _nic_faults(block, path)
        case SriovConfig():
            yield from _sriov_faults(block, path)
        case IbsriovConfig():
            yield from _required(block.resourceName, f"{path}.resourceName", "name the device plugin resource")
        case IpoibConfig():
            yield from _required(block.master, f"{path}.master", "name the InfiniBand NIC")
        case OvsConfig():
            yield from _ovs_faults(block, path)
        case _:
            assert_never(block)


def _required(value: str | None, path: str, remedy: str) -> Faults:
    if not value:
        yield FieldError(Fault.REQUIRED, path, value, remedy)


def _nic_faults(block: MacvlanConfig, path: str) -> Faults:
    yield from _master_faults(block.master, block.bond, path)
    if block.ippools and block.ippools.matchMasterSubnet:
        field = f"{path}.ippools.matchMasterSubnet"
        yield FieldError(Fault.INVALID, field, True, "works with cniType sriov only; remove it")
    if isinstance(block, VlanConfig):
        yield from _vlan_mode_faults(block, path)


def _master_faults(masters: list[str], bond: Bond | None, path: str) -> Faults:
    if not masters:
        yield FieldError(Fault.REQUIRED, f"{path}.master", masters, "name the NIC, such as eth0")
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
    if not 0 <= (block.vlan or 0) <= MAX_VLAN:
        yield FieldError(Fault.INVALID, f"{path}.vlan", block.vlan, f"write 0 to {MAX_VLAN}")
    for index, trunk in enumerate(block.trunk or ()):
        if trunk.maxID is not None and trunk.maxID < (trunk.minID or 0):
            remedy = f"is below minID {trunk.minID}; exchange the two"
            yield FieldError(Fault.INVALID, f"{path}.trunk[{index}].maxID", trunk.maxID, remedy)
        if (trunk.minID is None) != (trunk.maxID is None):
            remedy = "minID and maxID come together; use id for a single VLAN"
            yield FieldError(Fault.INVALID, f"{path}.trunk[{index}]", msgspec.to_builtins(trunk), remedy)


def _other_block_faults(spec: MultusConfigSpec) -> Faults:
    """Blocks that another ``cniType`` would use."""
    own = BLOCK_FIELDS.get(spec.cniType or "", "customCNI")
    for field in (*BLOCK_FIELDS.values(), "customCNI"):
        if field != own and getattr(spec, field) not in (None, ""):
            remedy = f"does not go with cniType {spec.cniType or 'custom'}; remove it or correct spec.cniType"
            yield FieldError(Fault.FORBIDDEN, f"spec.{field}", None, remedy)


def _annotation_faults(annotations: Mapping[str, str], spec: MultusConfigSpec) -> Faults:
    for key in (RDMA_INJECT, NETWORK_INJECT):
        if key in annotations:
            yield from inject_faults(key, spec)
            if not is_label_value(annotations[key]):
                remedy = "pods are matched by a label of this value; write what a label may hold"
                yield FieldError(Fault.INVALID, f"metadata.annotations[{key}]", annotations[key], remedy)


def inject_faults(key: str, spec: MultusConfigSpec) -> Faults:
    """Why this network cannot be injected into pods that have the annotation ``key``."""
    block = interface_block(spec)
    if spec.cniType in ("custom", None) or isinstance(block, OvsConfig):
        remedy = f"the annotation {key} works with a NIC, not with this cniType; remove the annotation"
        yield FieldError(Fault.FORBIDDEN, "spec.cniType", spec.cniType, remedy)
    elif block is not None:
        path, resource = f"spec.{BLOCK_FIELDS[spec.cniType]}", injected_resource(block)
        pools = block.ippools or NetworkPools()
        if key == RDMA_INJECT and not resource:
            yield FieldError(Fault.REQUIRED, path, None, f"the annotation {key} needs the name of a resource here")
        if not (pools.ipv4 or pools.ipv6) and (key == RDMA_INJECT or resource):
            yield FieldError(Fault.REQUIRED, f"{path}.ippools", None, f"the annotation {key} needs at least one pool")


def injected_resource(block: NICBlock) -> str | None:
    """The device plugin resource of an interface; for IPoIB, which has none, the NIC."""
    match block:
        case MacvlanConfig():
            return block.rdmaResourceName
        case SriovConfig() | IbsriovConfig():
            return block.resourceName
        case IpoibConfig():
            return block.master
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
        value = decode(text)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None
