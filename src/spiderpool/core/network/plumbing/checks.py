"""What an attachment may not ask for: refusals that say which field is wrong and what to do."""

from __future__ import annotations

from spiderpool.core.network.plumbing.leftovers import on_loan
from spiderpool.core.network.plumbing.naming import is_nic
from spiderpool.core.network.plumbing.values import DISABLED, MODES, PRESENT, Attachment, Observation
from spiderpool.errors import BadConfig, KernelFailure

SMALLEST_MTU = {4: 68, 6: 1280}
"""RFC 791 and RFC 8200; below its minimum the kernel switches a family off."""


def check(attachment: Attachment, seen: Observation) -> None:
    """Refuse what cannot work on this node, with BadConfig, or KernelFailure where the NIC is missing."""
    _known(attachment)
    _own_mac(attachment, seen)
    _gateways(attachment)
    _fitting_mtu(attachment)
    if seen.master is None and attachment.kind != PRESENT and not on_loan(attachment, seen.pod):
        nics = ", ".join(name for name in seen.links if is_nic(name)) or "none"
        raise KernelFailure(
            f"NIC {attachment.master} does not exist on this node; its NICs are {nics}:"
            f" correct spec.{attachment.kind}.master of the network"
        )
    if seen.master is not None and attachment.mtu > seen.master.mtu:
        raise BadConfig(
            f"mtu {attachment.mtu} is more than the {seen.master.mtu} of {attachment.master}: lower it, or leave it out"
        )
    _free(attachment, seen)


def _known(attachment: Attachment) -> None:
    modes = MODES.get(attachment.kind)
    if modes is None:
        raise BadConfig(f"kind {attachment.kind!r} is none of {', '.join(MODES)}")
    if attachment.mode and attachment.mode not in modes:
        raise BadConfig(f"mode {attachment.mode!r} of {attachment.kind} is none of {', '.join(modes)}")
    if attachment.kind == "vlan" and not 1 <= attachment.vlan_id <= 4094:
        raise BadConfig(f"vlanId {attachment.vlan_id} of {attachment.ifname} is not between 1 and 4094")
    coordination = attachment.coordination
    if coordination and coordination.mode not in ("auto", "underlay", "overlay", *DISABLED):
        raise BadConfig(f"coordinator mode {coordination.mode!r} is none of auto, underlay, overlay, disabled")


def _own_mac(attachment: Attachment, seen: Observation) -> None:
    there = seen.pod.link(attachment.ifname) if attachment.kind == PRESENT else None
    kind = there.kind if there else attachment.kind
    coordination = attachment.coordination
    if kind == "ipvlan" and (attachment.mac or (coordination and coordination.pod_mac_prefix)):
        raise BadConfig(
            f"{attachment.ifname} cannot have a MAC of its own, since ipvlan children carry their NIC's:"
            f" leave podMACPrefix and the requested MAC empty, or use macvlan"
        )


def _gateways(attachment: Attachment) -> None:
    for gateway in attachment.gateways:
        if gateway.version not in attachment.versions():
            raise BadConfig(f"gateway {gateway} of {attachment.ifname} is of a family of which it has no address")


def _fitting_mtu(attachment: Attachment) -> None:
    version = 6 if 6 in attachment.versions() else 4
    least = SMALLEST_MTU[version]
    if attachment.mtu < 0 or 0 < attachment.mtu < least:
        raise BadConfig(
            f"mtu {attachment.mtu} is below the {least} that IPv{version} needs; 0 means that of {attachment.master}"
        )
    coordination = attachment.coordination
    if coordination and not least <= coordination.veth_mtu <= 65535:
        raise BadConfig(f"vethMTU {coordination.veth_mtu} is not between {least}, which IPv{version} needs, and 65535")


def _free(attachment: Attachment, seen: Observation) -> None:
    """Refuse addresses that the node holds itself: it would answer instead of the pod."""
    ours = {address.ip for address in attachment.addresses}
    for held in seen.addresses:
        if held.address in ours:
            raise BadConfig(
                f"{held.address} is configured on {held.link} of this node, so it cannot serve a pod:"
                f" remove it there, or exclude it from the pool"
            )
        if attachment.kind == "host-device" and held.link == attachment.master:
            raise BadConfig(
                f"{held.link} carries {held.address} of this node, which would lose it if a pod took the device:"
                f" remove the address, or choose another device"
            )
