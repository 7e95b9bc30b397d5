"""Which addresses of another IPAM plugin the node may route to a pod.

The rule of the node's table of pods precedes all its other routes. So an address that is somebody else's would lead
what the node itself sends there into the pod: its questions to the metadata service, or all that leaves by its gateway.
Addresses that Spiderpool gave are not asked about: pools and their administrators answer for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from spiderpool.core.network.plumbing.values import EXISTING, Address, Attachment, ClusterRanges, Network, Observation
from spiderpool.errors import AddressHeld, BadConfig

NEVER: Mapping[Network, str] = {
    ip_network(cidr): words
    for words, cidrs in {
        "an address of no single machine": ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8"),
        "a loopback address": ("127.0.0.0/8", "::1/128"),
        "a link-local address, as metadata services have": ("169.254.0.0/16", "fe80::/10"),
        "an address of a cloud's metadata service": (
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # Alibaba Cloud, Azure, Oracle
            *("fd00:ec2::/32", "fd20:ce::/64", "fd00:c1::/32"),  # AWS, Google, Oracle
        ),
        "an IPv4 address in IPv6 notation": ("::ffff:0:0/96",),
    }.items()
    for cidr in cidrs
}
"""Range → what its addresses are; no pod can have one."""


def check_foreign(attachment: Attachment, observed: Observation) -> None:
    """Check the addresses that another IPAM plugin gave to an interface which that plugin's chain made.

    Raises:
        BadConfig: an address is not the pod's, or the administrator does not allow other IPAM plugins to give it.
        AddressHeld: another pod of the node has it.
    """
    coordination, ownership = attachment.coordination, attachment.ownership
    if attachment.kind != EXISTING or coordination is None:
        return
    for address in sorted(ownership.foreign, key=lambda one: (one.version, one)):
        where = _found(attachment.ifname, address)
        if address in ownership.taken:
            raise AddressHeld(
                f"{where}, and {ownership.taken[address]} has it: give each address once, and delete the other pod"
            )
        owner = "a gateway of this node" if address in observed.gateways else owner_of(address, ownership.cluster)
        if owner:
            raise BadConfig(_not_the_pods(where, owner))
        if not any(address in cidr for cidr in coordination.ipam_cidrs):
            declared = ", ".join(map(str, coordination.ipam_cidrs)) or "empty"
            raise BadConfig(
                f"{where}, outside the subnets in which others may give addresses (coordinator.ipamCIDR is {declared}):"
                f" add its subnet to ipamCIDR of the network's coordinator or of the SpiderCoordinator"
            )


def impossible(attachment: Attachment) -> str:
    """A sentence about an address that another plugin says it gave and that no pod can have; empty if all can be."""
    for address in attachment.ownership.foreign:
        if owner := owner_of(address, ClusterRanges()):
            return _not_the_pods(_found(attachment.ifname, address), owner)
    return ""


def _found(ifname: str, address: Address) -> str:
    return f"{ifname} has {address} of another IPAM plugin than Spiderpool's"


def _not_the_pods(where: str, owner: str) -> str:
    return (
        f"{where}, which is {owner}, so the node routes it to no pod: leave it out of what that plugin gives, and"
        f" of the addresses that the pod requests"
    )


def owner_of(address: Address, cluster: ClusterRanges) -> str:
    """A phrase that says whose an address is, as far as ranges and Services tell; empty where it may be a pod's."""
    for network, words in NEVER.items():
        if address in network:
            return words
    for cidr in cluster.service_cidrs:
        if address in cidr:
            return f"in the Service CIDR {cidr}"
    if address in cluster.service_addresses:
        return "the address of a Service"
    for cidr in cluster.pod_cidrs:
        if address in cidr:
            return f"in the cluster's pod CIDR {cidr}"
    return ""
