"""SpiderMultusConfig (spiderpool.spidernet.io/v2beta1): a network, from which the controller makes its definition.

The definition is a NetworkAttachmentDefinition (`spiderpool.api.nad`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.coordinator import CoordinatorSpec
from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, spiderpool_kind

NAD_NAME_ANNOTATION = "multus.spidernet.io/cr-name"
"""Name of the NetworkAttachmentDefinition, where it differs from that of the SpiderMultusConfig."""
CNI_VERSION_ANNOTATION = "multus.spidernet.io/cni-version"
CONFIG_NAME_ANNOTATION = "cni.spidernet.io/cniconfig-name"

RDMA_INJECT = "cni.spidernet.io/rdma-resource-inject"
NETWORK_INJECT = "cni.spidernet.io/network-resource-inject"
"""Annotations of networks, and of pods or namespaces: a pod gets all networks whose annotation has the same value."""

CNI_TYPES = ("macvlan", "ipvlan", "vlan", "sriov", "ovs", "ib-sriov", "ipoib", "custom")

_ON_A_NIC = ".spec['macvlan','ipvlan','vlan']"
"""Path of the block of a network whose interfaces are children of a NIC. A column shows the first of its masters."""

VlanID = Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, field_doc("VLAN ID of the interface; 0 for none.")]
Rate = Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Rate in Mbit/s; 0 for no limit.")]


class NetworkPools(msgspec.Struct, omit_defaults=True):
    """Pools of pods that name none; wildcards are allowed."""

    ipv4: Annotated[list[str] | None, field_doc("IPv4 pools.")] = None
    ipv6: Annotated[list[str] | None, field_doc("IPv6 pools.")] = None
    matchMasterSubnet: Annotated[
        bool | None, field_doc("Only pools whose subnet holds an address of the physical function.", default=False)
    ] = None


class Bond(msgspec.Struct, omit_defaults=True):
    """A bond of several master interfaces."""

    name: Annotated[str, field_doc("Name of the bond.")]
    mode: Annotated[int, Meta(ge=0, le=6), field_doc("Bonding mode 0 to 6.")]
    options: Annotated[str | None, field_doc("Bonding options, k=v;k=v.")] = None


class MacvlanConfig(msgspec.Struct, omit_defaults=True):
    """macvlan children of a NIC."""

    master: Annotated[list[str], field_doc("NIC, or the NICs of a bond.")]
    mtu: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("MTU; 0 for that of the master.", default=0)] = None
    vlanID: VlanID = None
    bond: Annotated[Bond | None, field_doc("Bond of the masters.")] = None
    rdmaResourceName: Annotated[str | None, field_doc("RDMA resource of the pods.")] = None
    ippools: Annotated[NetworkPools | None, field_doc("Default pools.")] = None


class IpvlanConfig(MacvlanConfig, omit_defaults=True):
    """ipvlan children of a NIC, which share its MAC address."""


class VlanConfig(MacvlanConfig, omit_defaults=True):
    """VLAN sub-interfaces of a NIC."""

    vlanMode: Annotated[str | None, field_doc("manual or auto.", enum=["manual", "auto"], default="manual")] = None


class SriovConfig(msgspec.Struct, omit_defaults=True):
    """SR-IOV virtual functions."""

    resourceName: Annotated[str | None, field_doc("Device plugin resource.")] = None
    vlanID: VlanID = None
    mtu: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("MTU; 0 for that of the device.", default=0)] = None
    minTxRateMbps: Rate = None
    maxTxRateMbps: Rate = None
    rdmaIsolation: Annotated[bool | None, field_doc("Move the RDMA device too.", default=False)] = None
    ippools: Annotated[NetworkPools | None, field_doc("Default pools.")] = None


class IbsriovConfig(msgspec.Struct, omit_defaults=True):
    """InfiniBand virtual functions."""

    resourceName: Annotated[str | None, field_doc("Device plugin resource.")] = None
    pkey: Annotated[str | None, field_doc("Partition key.")] = None
    linkState: Annotated[
        str | None, field_doc("auto, enable or disable.", enum=["auto", "enable", "disable"], default="enable")
    ] = None
    rdmaIsolation: Annotated[bool | None, field_doc("Move the RDMA device too.", default=True)] = None
    enableIbKubernetes: Annotated[bool | None, field_doc("Work with ib-kubernetes.", default=False)] = None
    ippools: Annotated[NetworkPools | None, field_doc("Default pools.")] = None


class IpoibConfig(msgspec.Struct, omit_defaults=True):
    """IP over InfiniBand children."""

    master: Annotated[str, field_doc("InfiniBand NIC.")]
    ippools: Annotated[NetworkPools | None, field_doc("Default pools.")] = None


class Trunk(msgspec.Struct, omit_defaults=True):
    """VLANs of an Open vSwitch trunk port."""

    minID: Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, field_doc("First VLAN of a range.")] = None
    maxID: Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, field_doc("Last VLAN of a range.")] = None
    id: Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, field_doc("A single VLAN.")] = None


class OvsConfig(msgspec.Struct, omit_defaults=True):
    """Ports of an Open vSwitch bridge."""

    bridge: Annotated[str, field_doc("Bridge.")]
    vlan: Annotated[int | None, field_doc("VLAN of the port.")] = None
    trunk: Annotated[list[Trunk] | None, field_doc("VLANs of a trunk port.")] = None
    deviceID: Annotated[str | None, field_doc("PCI address of the virtual function.")] = None
    ippools: Annotated[NetworkPools | None, field_doc("Default pools.")] = None


class MultusConfigSpec(msgspec.Struct, omit_defaults=True):
    """The network: exactly one block describes the interface, the one that ``cniType`` names."""

    cniType: Annotated[str | None, field_doc("Kind of interface.", enum=list(CNI_TYPES), default="custom")] = None
    macvlan: Annotated[MacvlanConfig | None, field_doc("For cniType macvlan.")] = None
    ipvlan: Annotated[IpvlanConfig | None, field_doc("For cniType ipvlan.")] = None
    vlan: Annotated[VlanConfig | None, field_doc("For cniType vlan.")] = None
    sriov: Annotated[SriovConfig | None, field_doc("For cniType sriov.")] = None
    ovs: Annotated[OvsConfig | None, field_doc("For cniType ovs.")] = None
    ibsriov: Annotated[IbsriovConfig | None, field_doc("For cniType ib-sriov.")] = None
    ipoib: Annotated[IpoibConfig | None, field_doc("For cniType ipoib.")] = None
    enableCoordinator: Annotated[bool | None, field_doc("Whether the coordinator is run.", default=True)] = None
    disableIPAM: Annotated[bool | None, field_doc("Whether pods get no addresses.", default=False)] = None
    coordinator: Annotated[CoordinatorSpec | None, field_doc("Coordinator settings of this network.")] = None
    chainCNIJsonData: Annotated[list[str] | None, field_doc("Further CNI plugins, each as JSON text.")] = None
    customCNI: Annotated[str | None, field_doc("For cniType custom: the whole CNI configuration as JSON text.")] = None


class MultusConfigStatus(msgspec.Struct, omit_defaults=True):
    """Whether pods can use the network."""

    conditions: Conditions = None


class SpiderMultusConfig(Object, kw_only=True):
    """A network for pods, in short form."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderMultusConfig",
        Scope.NAMESPACED,
        "smc",
        (
            Column("TYPE", "string", ".spec.cniType"),
            Column("MASTER", "string", f"{_ON_A_NIC}.master[*]"),
            Column("READY", "string", '.status.conditions[?(@.type=="Ready")].status'),
            Column("BOND", "string", f"{_ON_A_NIC}.bond.name", 10),
            Column("VLAN", "integer", f"{_ON_A_NIC}.vlanID", 10),
            Column("COORDINATOR", "boolean", ".spec.enableCoordinator", 10),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
        status=True,
    )

    spec: MultusConfigSpec | None = None
    status: MultusConfigStatus | None = None
