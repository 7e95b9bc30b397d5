"""Before an address is used: does another machine answer for it, and does its gateway answer?

Probes are sent through the NIC with a source address that the node has on it: a cloud drops frames with any other. For
a NIC without address, conflict probes have the unspecified source (RFC 5227, RFC 4862) and gateway probes the
pod's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from spiderpool.core.network.plumbing.values import Address, Attachment, Interface, NodeAddress
from spiderpool.errors import AddressInUse, GatewaySilent

UNSPECIFIED: dict[int, Address] = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


@dataclass(frozen=True, slots=True)
class Detection:
    """Which of the two detections are switched on."""

    conflicts: bool = False
    gateway: bool = False


@dataclass(frozen=True, slots=True)
class AddressProbe:
    """One probe: which MAC has ``target``?"""

    target: Address
    source: Address
    expects_answer: bool
    """True for a gateway: silence is the fault. False for a conflict: an answer is."""


def plan_probes(attachment: Attachment, detection: Detection, node: Iterable[NodeAddress]) -> tuple[AddressProbe, ...]:
    """The probes to send through the attachment's NIC before the interface is created."""
    own = [held.address for held in node if held.link == attachment.master]
    return tuple(dict.fromkeys(_probes(attachment, detection, own)))


def check_answers(
    probes: Iterable[AddressProbe], answers: Mapping[Address, frozenset[str]], own_macs: frozenset[str], link: str
) -> None:
    """Reject conflicts and silent gateways. ``answers`` maps addresses to MACs; those of NIC and pod do not count.

    Raises:
        AddressInUse: names the address and the MAC that answered.
        GatewaySilent: names the gateway.
    """
    for probe in probes:
        others = answers.get(probe.target, frozenset()) - own_macs
        if probe.expects_answer and not others:
            raise GatewaySilent(
                f"gateway {probe.target} does not answer on {link}: correct spec.gateway of the pool, or the network,"
                f" or set enableGatewayDetection to false"
            )
        if not probe.expects_answer and others:
            raise AddressInUse(
                f"{probe.target} is in use on the network of {link} by {', '.join(sorted(others))}: remove it there, or"
                f" exclude it from the pool; where the network itself answers for all, set"
                f" enableIPConflictDetection to false"
            )


def _probes(attachment: Attachment, detection: Detection, own: list[Address]) -> Iterator[AddressProbe]:
    for address in attachment.addresses:
        source = next((candidate for candidate in own if candidate in address.network), None)
        if detection.conflicts:
            yield AddressProbe(address.ip, source or UNSPECIFIED[address.version], False)
        if detection.gateway:
            yield from (AddressProbe(gateway, source or address.ip, True) for gateway in _gateways(attachment, address))


def _gateways(attachment: Attachment, address: Interface) -> Iterator[Address]:
    return (gateway for gateway in attachment.gateways if gateway in address.network)
