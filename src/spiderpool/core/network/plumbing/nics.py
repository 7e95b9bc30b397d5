"""A node with several NICs: a connection that arrives through a NIC is answered through the same NIC.

A cloud drops a packet whose source address is not the NIC's. By its main table the node answers through the NIC of the
default route, whichever NIC the request came through. So the node gets:

    1100  fwmark of NIC   table of NIC   answers of pods to connections that came in through that NIC (NodePorts)
    3000  from NIC's IP   table of NIC   packets that the node itself sends from that NIC's address

The NIC of the default route has a mark, too: otherwise a client in the subnet of a second NIC that asks through the
first would be answered through the second. Both rules follow that of the pods' table (priority 1000), which has the
routes to pods. A node with one NIC needs no mark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
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
from spiderpool.core.network.plumbing.values import Address, Interface, Network, default_destination, is_default
from spiderpool.errors import BadConfig

NIC_MARK_PRIORITY = 1100
"""Priority of the rules that send marked packets to a NIC's table."""
NIC_SOURCE_PRIORITY = 3000
"""Priority of the rules that send packets from a NIC's address to the NIC's table."""
NIC_TABLES = range(1000, 1016)
"""Tables of NICs: one for each number that a mark can hold."""
NIC_MASK = 0xF0
"""Bits of the mark with the NIC's number. kube-proxy uses 0x4000 and 0x8000, overlay networks the upper half."""


@dataclass(frozen=True, slots=True)
class NIC:
    """A NIC of the node and its gateways, at most one for each family."""

    link: str
    gateways: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class NICAddress:
    """An address of a NIC, with its subnet."""

    link: str
    address: Interface


@dataclass(frozen=True, slots=True)
class Reply:
    """The NIC by which an answer from ``source`` to a client outside leaves: the node's own, or a pod's."""

    arrived_by: str
    source: Address
    leaves_by: str | None
    for_pods: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """The state of a node's routing. ``strict`` are NICs whose effective rp_filter is 1.

    ``untracked`` says that kube-proxy serves by IPVS, and connection tracking does not see what that translates.
    """

    addresses: tuple[NICAddress, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    rules: tuple[AddRule, ...] = ()
    strict: tuple[str, ...] = ()
    forwarding: tuple[int, ...] = (4, 6)
    replies: tuple[Reply, ...] = ()
    untracked: bool = False


def nics_with_gateways(observed: NodeState, gateways: Mapping[Network, Address]) -> tuple[NIC, ...]:
    """The node's NICs with the gateways of their subnets. ``gateways`` maps subnets to gateways."""
    nics = (
        NIC(link, tuple(gateway for subnet, gateway in gateways.items() if subnet in subnets))
        for link, subnets in _subnets(observed).items()
    )
    return tuple(nic for nic in nics if nic.gateways)


def plan_nics(nics: tuple[NIC, ...], observed: NodeState) -> tuple[Step, ...]:
    """The steps that make every NIC answer for itself: removes what is stale, adds what is missing, loads the marks.

    Raises:
        BadConfig: more than 15 NICs, or a gateway that no address of its NIC reaches.
    """
    if len(nics) > len(NIC_TABLES) - 1:
        raise BadConfig(f"{len(nics)} NICs are more than the {len(NIC_TABLES) - 1} that marks can tell apart")
    marks = {nic.link: _mark(number) for number, nic in enumerate(nics) if len(nics) > 1 or _is_second(nic, observed)}
    steps = (step for number, nic in enumerate(nics) for step in _nic_steps(number, nic, observed, marks.get(nic.link)))
    needed = tuple(dict.fromkeys(steps))
    present = {*observed.routes, *observed.rules}
    stale = (Remove(step) for step in _own_objects(observed) if step not in needed)
    missing = (step for step in needed if step not in present)
    return (*stale, *missing, *_loosen_filters(marks, observed), *_mark_steps(marks))


def undo_nics(observed: NodeState) -> tuple[Step, ...]:
    """The steps that remove everything of `plan_nics` except rp_filter, whose former value is not recorded."""
    return (*(Remove(step) for step in _own_objects(observed)), DropNICMarks("node"))


def diagnose(
    observed: NodeState, subnets: Collection[Network], *, tuning: bool = False, failed: str = ""
) -> tuple[str, ...]:
    """A sentence for each setting that keeps pods or NICs from being reached or from answering.

    ``subnets`` are those of the pools and of the server's ENIs. A NIC in none of them by which no route has a gateway,
    such as one of a management network, is asked by its own network alone. ``tuning`` says that the node is tuned by
    `plan_nics`, with the gateways that are known; ``failed`` says why the tuning has failed.
    """
    reachable = {held.link for held in observed.addresses if _is_in_any(held.address.network, subnets)}
    reachable |= {route.link for route in observed.routes if route.gateway}
    return (
        *((f"The tuning of the node's NICs has failed: {failed}.",) if failed else ()),
        *_forwarding_faults(observed),
        *_order_faults(observed),
        *_reply_faults(observed, reachable, tuning, failed=bool(failed)),
        *_filter_faults(observed, reachable),
        *_service_faults(observed),
    )


def _is_in_any(network: Network, subnets: Iterable[Network]) -> bool:
    """Whether a NIC's network and a subnet have addresses in common: a pool's may be a part of it."""
    return any(each.version == network.version and each.overlaps(network) for each in subnets)


def _subnets(observed: NodeState) -> dict[str, set[Network]]:
    subnets: dict[str, set[Network]] = {}
    for held in observed.addresses:
        subnets.setdefault(held.link, set()).add(held.address.network)
    return subnets


def _nic_steps(number: int, nic: NIC, observed: NodeState, mark: int | None) -> Iterator[AddRoute | AddRule]:
    table = NIC_TABLES[number]
    addresses = [held.address for held in observed.addresses if held.link == nic.link]
    for address in addresses:
        yield AddRoute("node", address.network, nic.link, table=table)
        source = ip_network(address.ip)
        yield AddRule("node", address.version, NIC_SOURCE_PRIORITY, table, source=source)
    for gateway in nic.gateways:
        if not any(gateway in address.network for address in addresses) and not gateway.is_link_local:
            raise BadConfig(
                f"gateway {gateway} lies in no subnet of {nic.link}: correct it, or give the NIC an address"
            )
        yield AddRoute("node", default_destination(gateway.version), nic.link, gateway, table=table)
        if mark is not None:
            yield AddRule("node", gateway.version, NIC_MARK_PRIORITY, table, mark, mask=NIC_MASK)


def _mark(number: int) -> int:
    return (number + 1) << 4


def _is_second(nic: NIC, observed: NodeState) -> bool:
    return not any(is_default(route) and route.link == nic.link for route in observed.routes)


def _own_objects(observed: NodeState) -> tuple[AddRule | AddRoute, ...]:
    """Our rules and routes, recognised by their tables and priorities."""
    rules = (
        rule
        for rule in observed.rules
        if rule.table in NIC_TABLES and rule.priority in (NIC_MARK_PRIORITY, NIC_SOURCE_PRIORITY)
    )
    return (*rules, *(route for route in observed.routes if route.table in NIC_TABLES))


def _loosen_filters(marked: Iterable[str], observed: NodeState) -> Iterator[Step]:
    """Set rp_filter to loose: a strict one ignores the mark in its lookup and drops packets that DNAT sends to pods."""
    for link in marked:
        if link in observed.strict:
            yield SetSysctl("node", f"net/ipv4/conf/{link}/rp_filter", "2")


def _mark_steps(marks: dict[str, int]) -> tuple[Step, ...]:
    return (LoadNICMarks("node", tuple(marks.items()), NIC_MASK, (4, 6)),) if marks else (DropNICMarks("node"),)


def _forwarding_faults(observed: NodeState) -> Iterator[str]:
    for version in sorted({held.address.version for held in observed.addresses} - set(observed.forwarding)):
        key = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
        yield f"The node does not forward IPv{version}, so Services do not work from pods: set {key} to 1."


def _order_faults(observed: NodeState) -> Iterator[str]:
    for rule in observed.rules:
        if rule.source is not None and 0 < rule.priority <= RULE_PRIORITY:
            yield (
                f"Rule {rule.priority} from {rule.source} comes before the rule of the pods' table (priority"
                f" {RULE_PRIORITY}), so answers of the node to its pods leave by a NIC: give it a priority above that."
            )


def _reply_faults(observed: NodeState, reachable: set[str], tuning: bool, *, failed: bool) -> Iterator[str]:
    for reply in observed.replies:
        if reply.leaves_by == reply.arrived_by or reply.arrived_by not in reachable:
            continue
        path = f"leave by {reply.leaves_by}" if reply.leaves_by else "have no route"
        what = "answers of pods to connections that arrived by it" if reply.for_pods else f"answers from {reply.source}"
        remedy = "switch on node tuning for this NIC, or add its rules by hand"
        if tuning and failed:
            remedy = "mend what keeps the node from being tuned, or add its rules by hand"
        elif tuning:
            remedy = _remedy_when_tuned(observed, reply)
        yield f"On NIC {reply.arrived_by}, {what} {path}, where the network may drop them: {remedy}."


def _remedy_when_tuned(observed: NodeState, reply: Reply) -> str:
    source = ip_network(reply.source)
    tables = {rule.table for rule in observed.rules if rule.source == source and rule.table in NIC_TABLES}
    known = {route.table for route in observed.routes if route.destination == default_destination(source.version)}
    if tables & known:
        return "another rule of the node comes before those of its tuning: give it a higher priority number"
    return "its tuning lacks the gateway, which no pool of the NIC's subnet names: set it in one, or add rules by hand"


def _filter_faults(observed: NodeState, reachable: set[str]) -> Iterator[str]:
    second = {held.link for held in observed.addresses} - {route.link for route in observed.routes if is_default(route)}
    for link in sorted(second & reachable & set(observed.strict)):
        yield (
            f"NIC {link} filters strictly by reverse path, which drops connections to NodePorts that arrive by it:"
            f" set net.ipv4.conf.{link}.rp_filter to 2."
        )


def _service_faults(observed: NodeState) -> Iterator[str]:
    if observed.untracked:
        yield (
            "kube-proxy serves by IPVS, and connections to Services are not tracked: they may fail where their source"
            " has to be translated, and a Service can lead pods to the metadata service: set net.ipv4.vs.conntrack to"
            " 1, as kube-proxy does when it begins."
        )
