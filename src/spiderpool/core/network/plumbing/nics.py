"""A node with several cards: what arrives by a card is answered by that card.

A cloud drops a packet whose source address is not the card's, and a client does not recognise an answer that comes
from elsewhere. By its main table the node answers by the card of the default route, whichever card was asked. So:

    1100  fwmark of card   table of card   answers of pods to connections that came in by that card (NodePorts)
    3000  from card's IP   table of card   what the node itself sends from that card's address

Also the card of the default route has a mark: a client in the subnet of another card would be answered by that one.
Both come after the pods' table, which knows where pods are. A node's only card needs no mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from spiderpool.core.network.plumbing.naming import RULE_PRIORITY
from spiderpool.core.network.plumbing.steps import (
    AddRoute,
    AddRule,
    DropCardMarks,
    LoadCardMarks,
    Remove,
    SetSysctl,
    Step,
)
from spiderpool.core.network.plumbing.values import Address, Interface, Network, everything, is_default
from spiderpool.errors import BadConfig

CARD_MARK_PRIORITY = 1100
CARD_SOURCE_PRIORITY = 3000
CARD_TABLES = range(1000, 1016)
CARD_MASK = 0xF0
"""Bits of the mark that number the card: kube-proxy uses 0x4000 and 0x8000, overlay networks the upper half."""


@dataclass(frozen=True, slots=True)
class NIC:
    """A card of the node and its gateways, one a family."""

    link: str
    gateways: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class NICAddress:
    """An address of a card, with its subnet."""

    link: str
    address: Interface


@dataclass(frozen=True, slots=True)
class Reply:
    """By which card the answer to a far client would leave that asked ``source``: the node's own, or a pod's."""

    arrived_by: str
    source: Address
    leaves_by: str | None
    for_pods: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node's routing looks like. ``strict`` are cards whose effective rp_filter is 1."""

    addresses: tuple[NICAddress, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    rules: tuple[AddRule, ...] = ()
    strict: tuple[str, ...] = ()
    forwarding: tuple[int, ...] = (4, 6)
    replies: tuple[Reply, ...] = ()


def cards_of(seen: NodeState, gateways: Mapping[Network, Address]) -> tuple[NIC, ...]:
    """The node's cards, with the gateways that are known of the subnets in which they have addresses."""
    cards = (
        NIC(link, tuple(gateway for subnet, gateway in gateways.items() if subnet in subnets))
        for link, subnets in _subnets(seen).items()
    )
    return tuple(card for card in cards if card.gateways)


def plan_cards(cards: tuple[NIC, ...], seen: NodeState) -> tuple[Step, ...]:
    """The steps that make every card answer for itself; what is right already is left alone.

    Raises:
        BadConfig: more than 15 cards, or a gateway that no address of its card reaches.
    """
    if len(cards) > len(CARD_TABLES) - 1:
        raise BadConfig(f"{len(cards)} cards are more than the {len(CARD_TABLES) - 1} that marks can tell apart")
    marks = {card.link: _mark(number) for number, card in enumerate(cards) if len(cards) > 1 or _is_second(card, seen)}
    things = tuple(
        dict.fromkeys(
            thing for number, card in enumerate(cards) for thing in _card(number, card, seen, marks.get(card.link))
        )
    )
    there = {*seen.routes, *seen.rules}
    stale = (Remove(thing) for thing in _ours(seen) if thing not in things)
    return (*stale, *(thing for thing in things if thing not in there), *_filters(marks, seen), *_marks(marks))


def undo_cards(seen: NodeState) -> tuple[Step, ...]:
    """The steps that take all of `plan_cards` away, but for rp_filter, whose former value nobody knows."""
    return (*(Remove(thing) for thing in _ours(seen)), DropCardMarks("node"))


def diagnose(seen: NodeState) -> tuple[str, ...]:
    """What is missing for pods and cards to be reached and to answer, in sentences; empty when all is well."""
    return (*_forwarding_faults(seen), *_order_faults(seen), *_reply_faults(seen.replies), *_filter_faults(seen))


def _subnets(seen: NodeState) -> dict[str, set[Network]]:
    subnets: dict[str, set[Network]] = {}
    for held in seen.addresses:
        subnets.setdefault(held.link, set()).add(held.address.network)
    return subnets


def _card(number: int, card: NIC, seen: NodeState, mark: int | None) -> Iterator[AddRoute | AddRule]:
    table = CARD_TABLES[number]
    held = [one.address for one in seen.addresses if one.link == card.link]
    for address in held:
        yield AddRoute("node", address.network, card.link, table=table)
        source = ip_network(address.ip)
        yield AddRule("node", address.version, CARD_SOURCE_PRIORITY, table, source=source)
    for gateway in card.gateways:
        if not any(gateway in address.network for address in held) and not gateway.is_link_local:
            raise BadConfig(
                f"gateway {gateway} lies in no subnet of {card.link}: correct it, or give the card an address"
            )
        yield AddRoute("node", everything(gateway.version), card.link, gateway, table=table)
        if mark is not None:
            yield AddRule("node", gateway.version, CARD_MARK_PRIORITY, table, mark, mask=CARD_MASK)


def _mark(number: int) -> int:
    return (number + 1) << 4


def _is_second(card: NIC, seen: NodeState) -> bool:
    return not any(is_default(route) and route.link == card.link for route in seen.routes)


def _ours(seen: NodeState) -> tuple[AddRule | AddRoute, ...]:
    rules = (
        rule
        for rule in seen.rules
        if rule.table in CARD_TABLES and rule.priority in (CARD_MARK_PRIORITY, CARD_SOURCE_PRIORITY)
    )
    return (*rules, *(route for route in seen.routes if route.table in CARD_TABLES))


def _filters(marked: Iterable[str], seen: NodeState) -> Iterator[Step]:
    """A strict filter looks up the way back without the mark, and drops what DNAT has sent on to a pod."""
    for link in marked:
        if link in seen.strict:
            yield SetSysctl("node", f"net/ipv4/conf/{link}/rp_filter", "2")


def _marks(marks: dict[str, int]) -> tuple[Step, ...]:
    return (LoadCardMarks("node", tuple(marks.items()), CARD_MASK, (4, 6)),) if marks else (DropCardMarks("node"),)


def _forwarding_faults(seen: NodeState) -> Iterator[str]:
    for version in sorted({one.address.version for one in seen.addresses} - set(seen.forwarding)):
        key = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
        yield f"The node does not forward IPv{version}, so Services do not work from pods: set {key} to 1."


def _order_faults(seen: NodeState) -> Iterator[str]:
    for rule in seen.rules:
        if rule.source is not None and 0 < rule.priority <= RULE_PRIORITY:
            yield (
                f"Rule {rule.priority} from {rule.source} comes before the rule of the pods' table (priority"
                f" {RULE_PRIORITY}), so answers of the node to its pods leave by a card: give it a priority above that."
            )


def _reply_faults(replies: Iterable[Reply]) -> Iterator[str]:
    for reply in replies:
        if reply.leaves_by == reply.arrived_by:
            continue
        where = f"leave by {reply.leaves_by}" if reply.leaves_by else "have no route"
        what = "answers of pods to connections that arrived by it" if reply.for_pods else f"answers from {reply.source}"
        yield (
            f"On card {reply.arrived_by}, {what} {where}, where the network may drop them:"
            f" switch on node tuning for this card, or add its rules by hand."
        )


def _filter_faults(seen: NodeState) -> Iterator[str]:
    second = {one.link for one in seen.addresses} - {route.link for route in seen.routes if is_default(route)}
    for link in sorted(second & set(seen.strict)):
        yield (
            f"Card {link} filters strictly by reverse path, which drops connections to NodePorts that arrive by it:"
            f" set net.ipv4.conf.{link}.rp_filter to 2."
        )
