"""Before an address is used: does somebody else answer for it, and does its gateway answer?

The questions are asked from the NIC and in the name of an address that the node itself has there: a cloud drops
frames with any other source. Only a NIC without one asks as nobody (RFC 5227, RFC 4862) for a conflict, and in the
name of the pod's address for a gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from spiderpool.core.network.plumbing.values import Address, Attachment, Interface, NodeAddress
from spiderpool.errors import AddressInUse, GatewaySilent

NOBODY: dict[int, Address] = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


@dataclass(frozen=True, slots=True)
class Detection:
    """What is to be looked for."""

    conflicts: bool = False
    gateway: bool = False


@dataclass(frozen=True, slots=True)
class AddressProbe:
    """One question: who has ``target``?"""

    target: Address
    source: Address
    expects_answer: bool
    """Whether silence is the fault (a gateway), or an answer is (a conflict)."""


def probes(attachment: Attachment, detection: Detection, node: Iterable[NodeAddress]) -> tuple[AddressProbe, ...]:
    """The questions to be asked by the attachment's NIC before it is made."""
    own = [one.address for one in node if one.link == attachment.master]
    return tuple(dict.fromkeys(_probes(attachment, detection, own)))


def judge(
    asked: Iterable[AddressProbe], answers: Mapping[Address, frozenset[str]], ours: frozenset[str], link: str
) -> None:
    """Refuse what the answers, MACs by address, forbid; ``ours`` are the MACs of the NIC and of the pod itself.

    Raises:
        AddressInUse: names the address and the MAC that answered.
        GatewaySilent: names the gateway.
    """
    for probe in asked:
        others = answers.get(probe.target, frozenset()) - ours
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
        source = next((one for one in own if one in address.network), None)
        if detection.conflicts:
            yield AddressProbe(address.ip, source or NOBODY[address.version], False)
        if detection.gateway:
            yield from (AddressProbe(gateway, source or address.ip, True) for gateway in _gateways(attachment, address))


def _gateways(attachment: Attachment, address: Interface) -> Iterator[Address]:
    return (gateway for gateway in attachment.gateways if gateway in address.network)
