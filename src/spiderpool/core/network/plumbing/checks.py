"""Reject attachments that cannot work on this node; each error says which field is wrong and what to do."""

from __future__ import annotations

from spiderpool.core.network.plumbing.foreign import check_foreign
from spiderpool.core.network.plumbing.leftovers import is_lent
from spiderpool.core.network.plumbing.naming import is_nic
from spiderpool.core.network.plumbing.values import DISABLED, EXISTING, MODES, Attachment, Observation
from spiderpool.errors import AddressHeld, BadConfig, KernelFailure

MINIMUM_MTU = {4: 68, 6: 1280}
"""IP version → minimum MTU (RFC 791, RFC 8200). On a link with a lower MTU the kernel disables the family."""


def check(attachment: Attachment, observed: Observation) -> None:
    """Check the attachment against the node.

    Raises:
        BadConfig: a field is wrong, or another plugin gave an address that is not the pod's.
        AddressHeld: the node itself, or another pod, has one of the addresses.
        KernelFailure: the NIC does not exist.
    """
    _check_kind(attachment)
    _check_mac(attachment, observed)
    _check_gateways(attachment)
    _check_mtu(attachment)
    if observed.master is None and attachment.kind != EXISTING and not is_lent(attachment, observed.pod):
        nics = ", ".join(name for name in observed.links if is_nic(name)) or "none"
        raise KernelFailure(
            f"NIC {attachment.master} does not exist on this node; its NICs are {nics}:"
            f" correct spec.{attachment.kind}.master of the network"
        )
    if observed.master is not None and attachment.mtu > observed.master.mtu:
        raise BadConfig(
            f"mtu {attachment.mtu} is more than the {observed.master.mtu} of {attachment.master}:"
            f" lower it, or leave it out"
        )
    _check_node_addresses(attachment, observed)
    check_foreign(attachment, observed)


def _check_kind(attachment: Attachment) -> None:
    modes = MODES.get(attachment.kind)
    if modes is None:
        raise BadConfig(f"kind {attachment.kind!r} is none of {', '.join(MODES)}")
    if attachment.mode and attachment.mode not in modes:
        raise BadConfig(f"mode {attachment.mode!r} of {attachment.kind} is none of {', '.join(modes)}")
    if attachment.kind == "vlan" and not 0 <= attachment.vlan_id <= 4094:  # with 0, frames have a priority but no VLAN
        raise BadConfig(f"vlanId {attachment.vlan_id} of {attachment.ifname} is not between 0 and 4094")
    coordination = attachment.coordination
    if coordination and coordination.mode not in ("auto", "underlay", "overlay", *DISABLED):
        raise BadConfig(f"coordinator mode {coordination.mode!r} is none of auto, underlay, overlay, disabled")


def _check_mac(attachment: Attachment, observed: Observation) -> None:
    existing = observed.pod.link(attachment.ifname) if attachment.kind == EXISTING else None
    kind = existing.kind if existing else attachment.kind
    coordination = attachment.coordination
    if kind == "ipvlan" and (attachment.mac or (coordination and coordination.pod_mac_prefix)):
        raise BadConfig(
            f"{attachment.ifname} cannot have a MAC of its own, since ipvlan children carry their NIC's:"
            f" leave podMACPrefix and the requested MAC empty, or use macvlan"
        )


def _check_gateways(attachment: Attachment) -> None:
    for gateway in attachment.gateways:
        if gateway.version not in attachment.versions():
            raise BadConfig(f"gateway {gateway} of {attachment.ifname} is of a family of which it has no address")


def _check_mtu(attachment: Attachment) -> None:
    version = 6 if 6 in attachment.versions() else 4
    minimum = MINIMUM_MTU[version]
    if attachment.mtu < 0 or 0 < attachment.mtu < minimum:
        raise BadConfig(
            f"mtu {attachment.mtu} is below the {minimum} that IPv{version} needs; 0 means that of {attachment.master}"
        )
    coordination = attachment.coordination
    if coordination and not minimum <= coordination.veth_mtu <= 65535:
        raise BadConfig(
            f"vethMTU {coordination.veth_mtu} is not between {minimum}, which IPv{version} needs, and 65535"
        )


def _check_node_addresses(attachment: Attachment, observed: Observation) -> None:
    """Reject addresses that the node holds, since it would answer instead of the pod, and devices that hold one."""
    requested = {address.ip for address in attachment.addresses} | attachment.ownership.reported
    for held in observed.addresses:
        if held.address in requested:
            raise AddressHeld(
                f"{held.address} is configured on {held.link} of this node, so it cannot serve a pod:"
                f" remove it there, or exclude it from the pool"
            )
        if attachment.kind == "host-device" and held.link == attachment.master:
            raise BadConfig(
                f"{held.link} carries {held.address} of this node, which would lose it if a pod took the device:"
                f" remove the address, or choose another device"
            )
