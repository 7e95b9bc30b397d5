"""What the network of a cloud drops between servers: frames from, and to, addresses that an ENI does not have."""

from __future__ import annotations

from ipaddress import ip_address

from spiderpool.api.spiderserver import ENI
from spiderpool.cli.trace.node_sites import TracedNode
from spiderpool.cli.trace.pod_sites import TracedPod
from spiderpool.cli.trace.values import Drop, Packet
from spiderpool.core.addresses import Address
from spiderpool.core.network.plumbing.values import Attachment

PLACE = "the cloud's network"
REGISTER = "register it on the ENI, or delete {holder}, so that it gets another"
OTHER_NIC = "set tunePodRoutes to true, so that answers leave by the interface of their address"


def drop_of_source(node: TracedNode, nic: str, packet: Packet) -> Drop | None:
    """Whether the cloud drops what a node, or a pod on its NIC, sends: for the source address of the packet."""
    if packet.source is None or node.routing.holds(packet.source):
        return None
    return _drop(node, nic, packet.source, "drops what has it as source", REGISTER.format(holder=packet.sender))


def drop_of_destination(node: TracedNode, interface: Attachment, packet: Packet, site: TracedPod) -> Drop | None:
    """Whether the cloud leads nothing to the address of a pod on that node."""
    remedy = REGISTER.format(holder=site.place)
    return _drop(node, interface.master, packet.destination, "leads nothing to it", remedy)


def drop_of_answers(node: TracedNode, link: str, site: TracedPod, address: Address) -> Drop | None:
    """Whether the cloud drops answers of a pod from ``address`` that leave by its interface ``link``."""
    nic = site.attachments[link].master
    holder = site.interface_with(address)
    other = holder is not None and holder.master != nic
    remedy = OTHER_NIC if other else REGISTER.format(holder=site.place)
    return _drop(node, nic, address, f"drops the answers, which leave by {link}", remedy)


def _drop(node: TracedNode, nic: str, address: Address, does: str, remedy: str) -> Drop | None:
    eni = node.enis.get(nic)
    if eni is None or address in _registered(eni):
        return None
    reason = f"{address} is not registered on ENI {eni.identity} ({nic} of {node.place}), so the cloud {does}"
    return Drop(PLACE, reason, remedy)


def _registered(eni: ENI) -> set[Address]:
    return {ip_address(text) for text in eni.all_addresses}
