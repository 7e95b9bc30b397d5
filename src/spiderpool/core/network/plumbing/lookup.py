"""Which rule and which route of a namespace a packet takes, as Linux looks it up: where no kernel can be asked.

Rules in the order of their priorities, each with one table; in that the longest prefix; without a route there the next
rule (ip-rule(8)). A program that names no source address has its packet looked up twice: without one, which chooses the
source, and then with it, by which rules for source addresses count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spiderpool.core.network.plumbing.naming import MAIN_TABLE
from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute, AddRule
from spiderpool.core.network.plumbing.values import Address

MAIN_PRIORITY = 32766
"""Priority of the kernel's own rule for table ``main``."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What is looked up of a packet. ``source`` None: it has none yet. ``mark`` 0: none."""

    destination: Address
    source: Address | None = None
    mark: int = 0


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The route that a packet takes, and the rule that named its table."""

    rule: AddRule
    route: AddRoute

    @property
    def next_hop(self) -> Address | None:
        """The gateway; None where the destination itself is on the link."""
        return self.route.gateway


@dataclass(frozen=True, slots=True)
class RoutingState:
    """What decides about packets in one namespace: rules, routes, and addresses of links in their order."""

    rules: tuple[AddRule, ...] = ()
    routes: tuple[AddRoute, ...] = ()
    addresses: tuple[AddAddress, ...] = ()

    def holds(self, address: Address) -> bool:
        """Whether an address is one of its own."""
        return any(held.address.ip == address for held in self.addresses)

    def held(self, version: int) -> tuple[Address, ...]:
        """Its own addresses of a family."""
        return tuple(held.address.ip for held in self.addresses if held.address.version == version)


def look_up(flow: Flow, state: RoutingState) -> RouteChoice | None:
    """The rule and the route that a packet takes; None where no table has a route for it."""
    version = flow.destination.version
    own = (rule for rule in state.rules if rule.version == version)
    rules = sorted((*own, main_rule(version)), key=lambda rule: rule.priority)  # stable: equal ones as they were added
    for rule in rules:
        if applies(rule, flow) and (route := _longest(flow.destination, rule.table, state.routes)):
            return RouteChoice(rule, route)
    return None


def main_rule(version: int) -> AddRule:
    """The kernel's own rule for table ``main``."""
    return AddRule("pod", version, MAIN_PRIORITY, MAIN_TABLE)


def applies(rule: AddRule, flow: Flow) -> bool:
    """Whether a rule of the flow's family selects it. A packet without source address is in no range."""
    if rule.mark is not None and flow.mark & rule.mask != rule.mark:
        return False
    return rule.source is None or (flow.source is not None and flow.source in rule.source)


def look_up_unbound(destination: Address, state: RoutingState) -> tuple[RouteChoice, Address | None] | None:
    """The route of a packet whose program names no source address, and the address that it gets.

    None where there is no route; the address is None where the namespace has none of the family.
    """
    first = look_up(Flow(destination), state)
    if first is None:
        return None
    source = source_of(first.route, destination, state)
    choice = look_up(Flow(destination, source), state) if source is not None else first
    return (choice or first), source


def source_of(route: AddRoute, destination: Address, state: RoutingState) -> Address | None:
    """The source address of a packet that takes a route and has none: the route's, else one of the link, else any.

    Of several that of the subnet of the next hop (IPv4), or the one with the longest common prefix (RFC 6724, rule 8).
    """
    if route.source is not None:
        return route.source
    version = destination.version
    on_link = [held for held in state.addresses if (held.link, held.address.version) == (route.link, version)]
    if version == 6:
        nearest = max(on_link, key=lambda held: _common_bits(held.address.ip, destination), default=None)
    else:
        near = route.gateway or destination
        nearest = next((held for held in on_link if near in held.address.network), next(iter(on_link), None))
    return nearest.address.ip if nearest else next(iter(state.held(version)), None)


def _longest(destination: Address, table: int, routes: Iterable[AddRoute]) -> AddRoute | None:
    return max(_covering(destination, table, routes), key=lambda route: route.destination.prefixlen, default=None)


def _covering(destination: Address, table: int, routes: Iterable[AddRoute]) -> Iterator[AddRoute]:
    for route in routes:
        of_family = route.destination.version == destination.version
        if of_family and route.table == table and destination in route.destination:
            yield route


def _common_bits(one: Address, other: Address) -> int:
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()
