"""A node with several NICs: what arrives by a NIC is answered by that NIC.

A cloud drops a packet whose source address is not the NIC's, and a client does not recognise an answer that comes
from elsewhere. By its main table the node answers by the NIC of the default route, whichever NIC was asked. So:

    1100  fwmark of NIC   table of NIC   answers of pods to connections that came in by that NIC (NodePorts)
    3000  from NIC's IP   table of NIC   what the node itself sends from that NIC's address

Also the NIC of the default route has a mark: a client in the subnet of another NIC would be answered by that one.
Both come after the pods' table, which knows where pods are. A node's only NIC needs no mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from spiderpool.core.network.plumbing.naming import RULE_PRIORITY
from spiderpool.core.network.plumbing.steps import (
    AddRoute,
    AddRule,
    DropNICMarks,
    LoadNICMarks,
    Remove,
    SetSysctl,
    Step,
)
from spiderpool.core.network.plumbing.values import Address, Interface, Network, everything, is_default
from spiderpool.errors import BadConfig

NIC_MARK_PRIORITY = 1100
NIC_SOURCE_PRIORITY = 3000
NIC_TABLES = range(1000, 1016)
NIC_MASK = 0xF0
"""Bits of the mark that number the NIC: kube-proxy uses 0x4000 and 0x8000, overlay networks the upper half."""


@dataclass(frozen=True, slots=True)
class NIC:
    """A NIC of the node and its gateways, one a family."""

    link: str
    gateways: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class NICAddress:
    """An address of a NIC, with its subnet."""

    link: str
    address: Interface


@dataclass(frozen=True, slots=True)
class Reply:
    """By which NIC the answer to a far client would leave that asked ``source``: the node's own, or a pod's."""

    arrived_by: str
    source: Address
    leaves_by: str | None
    for_pods: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node's routing looks like. ``strict`` are NICs whose effective rp_filter is 1."""

    addresses: tuple[NICAddress, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    rules: tuple[AddRule, ...] = ()
    strict: tuple[str, ...] = ()
    forwarding: tuple[int, ...] = (4, 6)
    replies: tuple[Reply, ...] = ()


def nics_of(seen: NodeState, gateways: Mapping[Network, Address]) -> tuple[NIC, ...]:
    """The node's NICs, with the gateways that are known of the subnets in which they have addresses."""
    nics = (
        NIC(link, tuple(gateway for subnet, gateway in gateways.items() if subnet in subnets))
        for link, subnets in _subnets(seen).items()
    )
    return tuple(nic for nic in nics if nic.gateways)


def plan_nics(nics: tuple[NIC, ...], seen: NodeState) -> tuple[Step, ...]:
    """The steps that make every NIC answer for itself; what is right already is left alone.

    Raises:
        BadConfig: more than 15 NICs, or a gateway that no address of its NIC reaches.
    """
    if len(nics) > len(NIC_TABLES) - 1:
        raise BadConfig(f"{len(nics)} NICs are more than the {len(NIC_TABLES) - 1} that marks can tell apart")
    marks = {nic.link: _mark(number) for number, nic in enumerate(nics) if len(nics) > 1 or _is_second(nic, seen)}
    things = tuple(
        dict.fromkeys(
            thing for number, nic in enumerate(nics) for thing in _nic(number, nic, seen, marks.get(nic.link))
        )
    )
    there = {*seen.routes, *seen.rules}
    stale = (Remove(thing) for thing in _ours(seen) if thing not in things)
    return (*stale, *(thing for thing in things if thing not in there), *_filters(marks, seen), *_marks(marks))


def undo_nics(seen: NodeState) -> tuple[Step, ...]:
    """The steps that take all of `plan_nics` away, but for rp_filter, whose former value nobody knows."""
    return (*(Remove(thing) for thing in _ours(seen)), DropNICMarks("node"))


def diagnose(seen: NodeState) -> tuple[str, ...]:
    """What is missing for pods and NICs to be reached and to answer, in sentences; empty when all is well."""
    return (*_forwarding_faults(seen), *_order_faults(seen), *_reply_faults(seen.replies), *_filter_faults(seen))


def _subnets(seen: NodeState) -> dict[str, set[Network]]:
    subnets: dict[str, set[Network]] = {}
    for held in seen.addresses:
        subnets.setdefault(held.link, set()).add(held.address.network)
    return subnets


def _nic(number: int, nic: NIC, seen: NodeState, mark: int | None) -> Iterator[AddRoute | AddRule]:
    table = NIC_TABLES[number]
    held = [one.address for one in seen.addresses if one.link == nic.link]
    for address in held:
        yield AddRoute("node", address.network, nic.link, table=table)
        source = ip_network(address.ip)
        yield AddRule("node", address.version, NIC_SOURCE_PRIORITY, table, source=source)
    for gateway in nic.gateways:
        if not any(gateway in address.network for address in held) and not gateway.is_link_local:
            raise BadConfig(
                f"gateway {gateway} lies in no subnet of {nic.link}: correct it, or give the NIC an address"
            )
        yield AddRoute("node", everything(gateway.version), nic.link, gateway, table=table)
        if mark is not None:
            yield AddRule("node", gateway.version, NIC_MARK_PRIORITY, table, mark, mask=NIC_MASK)


def _mark(number: int) -> int:
    return (number + 1) << 4


def _is_second(nic: NIC, seen: NodeState) -> bool:
    return not any(is_default(route) and route.link == nic.link for route in seen.routes)


def _ours(seen: NodeState) -> tuple[AddRule | AddRoute, ...]:
    rules = (
        rule
        for rule in seen.rules
        if rule.table in NIC_TABLES and rule.priority in (NIC_MARK_PRIORITY, NIC_SOURCE_PRIORITY)
    )
    return (*rules, *(route for route in seen.routes if route.table in NIC_TABLES))


def _filters(marked: Iterable[str], seen: NodeState) -> Iterator[Step]:
    """A strict filter looks up the way back without the mark, and drops what DNAT has sent on to a pod."""
    for link in marked:
        if link in seen.strict:
            yield SetSysctl("node", f"net/ipv4/conf/{link}/rp_filter", "2")


def _marks(marks: dict[str, int]) -> tuple[Step, ...]:
    return (LoadNICMarks("node", tuple(marks.items()), NIC_MASK, (4, 6)),) if marks else (DropNICMarks("node"),)


def _forwarding_faults(seen: NodeState) -> Iterator[str]:
    for version in sorted({one.address.version for one in seen.addresses} - set(seen.forwarding)):
        key = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
        yield f"The node does not forward IPv{version}, so Services do not work from pods: set {key} to 1."


def _order_faults(seen: NodeState) -> Iterator[str]:
    for rule in seen.rules:
        if rule.source is not None and 0 < rule.priority <= RULE_PRIORITY:
            yield (
                f"Rule {rule.priority} from {rule.source} comes before the rule of the pods' table (priority"
                f" {RULE_PRIORITY}), so answers of the node to its pods leave by a NIC: give it a priority above that."
            )


def _reply_faults(replies: Iterable[Reply]) -> Iterator[str]:
    for reply in replies:
        if reply.leaves_by == reply.arrived_by:
            continue
        where = f"leave by {reply.leaves_by}" if reply.leaves_by else "have no route"
        what = "answers of pods to connections that arrived by it" if reply.for_pods else f"answers from {reply.source}"
        yield (
            f"On NIC {reply.arrived_by}, {what} {where}, where the network may drop them:"
            f" switch on node tuning for this NIC, or add its rules by hand."
        )


def _filter_faults(seen: NodeState) -> Iterator[str]:
    second = {one.link for one in seen.addresses} - {route.link for route in seen.routes if is_default(route)}
    for link in sorted(second & set(seen.strict)):
        yield (
            f"NIC {link} filters strictly by reverse path, which drops connections to NodePorts that arrive by it:"
            f" set net.ipv4.conf.{link}.rp_filter to 2."
        )
