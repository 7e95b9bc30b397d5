"""Makes the NetworkAttachmentDefinition of a SpiderMultusConfig, which Multus and our agent read.

The JSON text is compared with that of the stored object, so the order of keys, the escapes and the empty fields must
stay as they are: any difference rewrites every NetworkAttachmentDefinition of a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from spiderpool.api.coordinator import CoordinatorSpec
from spiderpool.api.decoding import decode
from spiderpool.api.ippool import Route
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import (
    CNI_VERSION_ANNOTATION,
    CONFIG_NAME_ANNOTATION,
    Bond,
    IbsriovConfig,
    IpoibConfig,
    IpvlanConfig,
    MacvlanConfig,
    MultusConfigSpec,
    NetworkPools,
    OvsConfig,
    SpiderMultusConfig,
    SriovConfig,
    Trunk,
    VlanConfig,
)
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.core.network.multusconfig import BLOCK_FIELDS, Block, attachment_name, interface_block
from spiderpool.errors import BadConfig

RESOURCE_ANNOTATION = "k8s.v1.cni.cncf.io/resourceName"
"""Device plugin resource that Multus allocates for a pod of the network."""
OVS_RESOURCE_DOMAIN = "ovs-cni.network.kubevirt.io"

DEFAULT_CNI_VERSION = "0.3.1"
SCHEMA_HOST_RULE_TABLE = 500
"""Default in the CRD's schema: the API server sets it on every object, so it is no choice of the user."""

_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})
"""Characters that Go's encoding/json escapes; escaped here too, so that the text stays equal to earlier ones."""

Plugin = dict[str, Any]


def attachment(config: SpiderMultusConfig) -> NetworkAttachmentDefinition:
    """The NetworkAttachmentDefinition of a network.

    Raises BadConfig when the block of the interface or its master is missing, or a chained plugin is no JSON object.
    """
    spec = config.spec or MultusConfigSpec()
    annotations = dict(config.metadata.annotations or {})
    if resource := _resource_name(interface_block(spec)):
        annotations[RESOURCE_ANNOTATION] = resource
    return NetworkAttachmentDefinition(
        metadata=ObjectMeta(
            name=attachment_name(config),
            namespace=config.metadata.namespace,
            annotations=annotations or None,
            ownerReferences=[owner(config)],
        ),
        spec=NADSpec(_config_text(config, spec) or None),
    )


def owner(config: SpiderMultusConfig) -> OwnerReference:
    """Owner reference by which Kubernetes deletes the NetworkAttachmentDefinition together with its network."""
    return config.as_owner(controller=True)


def _config_text(config: SpiderMultusConfig, spec: MultusConfigSpec) -> str:
    if spec.cniType in ("custom", None):
        return spec.customCNI or ""
    annotations = config.metadata.annotations or {}
    document = {
        "cniVersion": annotations.get(CNI_VERSION_ANNOTATION, DEFAULT_CNI_VERSION),
        "name": annotations.get(CONFIG_NAME_ANNOTATION) or attachment_name(config),
        "plugins": _plugins(spec),
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)


def _plugins(spec: MultusConfigSpec) -> list[Plugin]:
    block = interface_block(spec)
    if block is None:
        field = BLOCK_FIELDS.get(spec.cniType or "", spec.cniType)
        raise BadConfig(f"spec.{field} is missing, which cniType {spec.cniType} needs; add it")
    return [
        *_vlan_or_bond(block),
        _interface(block, _ipam(block.ippools, spec)),
        *([{"type": "rdma"}] if isinstance(block, SriovConfig) and block.rdmaIsolation else []),
        *(_chained(text) for text in spec.chainCNIJsonData or ()),
        *([] if spec.enableCoordinator is False else [_coordinator(spec.coordinator or CoordinatorSpec())]),
        *([{"type": "tuning", "mtu": block.mtu}] if isinstance(block, SriovConfig) and block.mtu else []),
    ]


def _vlan_or_bond(block: Block) -> list[Plugin]:
    """The plugin that makes the VLAN sub-interface or bond under the interface, where there is one."""
    if not isinstance(block, MacvlanConfig):
        return []
    vlan = 0 if isinstance(block, VlanConfig) else block.vlanID or 0
    if not vlan and len(block.master) < 2:
        return []
    plugin = {"vlanID": vlan or None, "type": "ifacer", "interfaces": block.master, "bond": _bond(block.bond)}
    return [_present(plugin)]


def _bond(bond: Bond | None) -> Plugin | None:
    return _present({"name": bond.name, "mode": bond.mode, "options": bond.options or None}) if bond else None


def _interface(block: Block, ipam: Plugin | None) -> Plugin:
    match block:
        case VlanConfig():
            plugin = _vlan(block, ipam)
        case IpvlanConfig():
            plugin = {"type": "ipvlan", "master": _master(block), "mtu": block.mtu or 0, "ipam": ipam}
        case MacvlanConfig():
            plugin = {
                "type": "macvlan",
                "master": _master(block),
                "mode": "bridge",
                "mtu": block.mtu or 0,
                "ipam": ipam,
            }
        case SriovConfig():
            plugin = _sriov(block, ipam)
        case IbsriovConfig():
            plugin = _ibsriov(block, ipam)
        case IpoibConfig():
            plugin = {"type": "ipoib", "master": block.master, "ipam": ipam}
        case OvsConfig():
            plugin = _ovs(block, ipam)
        case _:
            assert_never(block)
    return _present(plugin)


def _master(block: MacvlanConfig) -> str:
    parent = _nic_or_bond(block)
    return f"{parent}.{block.vlanID}" if block.vlanID else parent


def _nic_or_bond(block: MacvlanConfig) -> str:
    if len(block.master) == 1:
        return block.master[0]
    if not block.master or block.bond is None:
        raise BadConfig("the network names no single master and no bond; name one NIC, or several with a bond")
    return block.bond.name


def _vlan(block: VlanConfig, ipam: Plugin | None) -> Plugin:
    mode = block.vlanMode or "manual"
    vlan = (block.vlanID or 0) if mode == "manual" else None
    return {
        "type": "vlan",
        "master": _nic_or_bond(block),
        "vlanMode": mode,
        "vlanId": vlan,
        "mtu": block.mtu or 0,
        "ipam": ipam,
    }


def _sriov(block: SriovConfig, ipam: Plugin | None) -> Plugin:
    rates = {"min_tx_rate": block.minTxRateMbps or 0, "max_tx_rate": block.maxTxRateMbps or 0}
    return {"vlan": block.vlanID or 0, **rates, "type": "sriov", "ipam": ipam}


def _ibsriov(block: IbsriovConfig, ipam: Plugin | None) -> Plugin:
    return {
        "type": "ib-sriov",
        "pkey": block.pkey or "",
        "link_state": block.linkState or "enable",
        "rdmaIsolation": block.rdmaIsolation is not False,
        "ibKubernetesEnabled": bool(block.enableIbKubernetes),
        "ipam": ipam,
    }


def _ovs(block: OvsConfig, ipam: Plugin | None) -> Plugin:
    return {
        "vlan": block.vlan or 0,
        "type": "ovs",
        "bridge": block.bridge,
        "deviceID": block.deviceID or None,
        "ipam": ipam,
        "trunk": [_trunk(trunk) for trunk in block.trunk or ()] or None,
    }


def _trunk(trunk: Trunk) -> Plugin:
    return _present({"minID": trunk.minID, "maxID": trunk.maxID, "id": trunk.id})


def _ipam(pools: NetworkPools | None, spec: MultusConfigSpec) -> Plugin | None:
    if spec.disableIPAM:
        return None
    pools = pools or NetworkPools()
    plugin = {
        "type": "spiderpool",
        "default_ipv4_ippool": pools.ipv4 or None,
        "default_ipv6_ippool": pools.ipv6 or None,
        "match_master_subnet": True if spec.cniType == "sriov" and pools.matchMasterSubnet else None,
    }
    return _present(plugin)


def _chained(text: str) -> Plugin:
    """A chained plugin as the user wrote it, with its keys in alphabetical order at every depth."""
    try:
        plugin = decode(text, dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadConfig(f"spec.chainCNIJsonData holds {text!r}, not a JSON object ({error}); correct it") from error
    ordered: Plugin = json.loads(json.dumps(plugin, sort_keys=True))
    return ordered


def _coordinator(spec: CoordinatorSpec) -> Plugin:
    """The coordinator's plugin. Leaves out defaults of the schema, so that the cluster's settings apply."""
    table = spec.hostRuleTable
    plugin = {
        "txQueueLen": spec.txQueueLen or 0,
        "vethLinkAddress": spec.vethLinkAddress or None,
        "vethMTU": spec.vethMTU,
        "tunePodRoutes": spec.tunePodRoutes is not False,
        "podMACPrefix": spec.podMACPrefix or None,
        "mode": spec.mode or "auto",
        "type": "coordinator",
        "podDefaultRouteNic": spec.podDefaultRouteNIC or None,
        "podRPFilter": spec.podRPFilter or None,
        "hostRuleTable": None if table == SCHEMA_HOST_RULE_TABLE else table,
        "hijackCIDR": spec.hijackCIDR or None,
        "ipamCIDR": spec.ipamCIDR or None,
        "policyRoutes": [_route(route) for route in spec.policyRoutes or ()] or None,
    }
    return _present(plugin)


def _route(route: Route) -> Plugin:
    return {"dst": route.dst, "gw": route.gw}


def _resource_name(block: Block | None) -> str | None:
    match block:
        case SriovConfig() | IbsriovConfig():
            return block.resourceName
        case OvsConfig() if block.deviceID:
            return f"{OVS_RESOURCE_DOMAIN}/{block.bridge}"
        case _:
            return None


def _present(plugin: Mapping[str, Any]) -> Plugin:
    """Without keys whose value is None."""
    return {key: value for key, value in plugin.items() if value is not None}
