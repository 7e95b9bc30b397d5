"""The lookup of a packet: the questions that the real kernel is asked as well, and what holds for all states."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.core.network.plumbing.lookup import (
    Flow,
    RoutingState,
    applies,
    look_up,
    look_up_unbound,
    main_rule,
    source_of,
)
from spiderpool.core.network.plumbing.naming import MAIN_TABLE
from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute, AddRule
from tests.core.pods import FIRST, SECOND, with_pod
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    ETH0,
    NET1,
    NextHop,
    Question,
    assert_next_hops,
    one_interface,
    two_interfaces,
)

pytestmark = pytest.mark.unit


def routing_of(kernel: Pretend) -> RoutingState:
    pod = kernel.pod()
    return RoutingState(pod.rules, pod.routes, pod.addresses)


def of_pod(questions: tuple[Question, ...]) -> list[Question]:
    return [question for question in questions if question.side == "pod"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("attachments", "questions"), [((FIRST,), one_interface), ((FIRST, SECOND), two_interfaces)])
def test_the_answers_are_those_of_the_kernel(attachments: object, questions: object, version: int) -> None:
    """tests/kernel asks the real kernel the same questions about the same pods."""
    state = routing_of(with_pod(*attachments))  # type: ignore[misc]

    def next_hop(question: Question) -> NextHop | None:
        source = ip_address(question.source) if question.source else None
        choice = look_up(Flow(ip_address(question.destination), source, question.mark), state)
        if choice is None:
            return None
        return NextHop(choice.route.link, str(choice.next_hop) if choice.next_hop else None)

    asked = of_pod(questions(version))  # type: ignore[operator]
    assert asked
    assert_next_hops(next_hop, asked)


@pytest.mark.parametrize("version", [4, 6])
def test_the_source_that_is_chosen_decides_about_the_rule(version: int) -> None:
    state = routing_of(with_pod(FIRST, SECOND))
    found = look_up_unbound(ip_address(NET1[version].other), state)
    assert found is not None
    choice, source = found
    assert (str(source), choice.route.link, choice.rule.priority) == (NET1[version].pod, "net1", 1001)
    found = look_up_unbound(ip_address(CLIENT[version]), state)
    assert found is not None
    assert (str(found[1]), found[0].rule.table) == (ETH0[version].pod, 99)


# --- for all rules and routes

addresses = st.integers(0, 255).map(lambda last: IPv4Address(f"10.0.0.{last}"))
networks = st.builds(lambda at, bits: IPv4Network((int(at), bits), strict=False), addresses, st.integers(24, 32))
tables = st.sampled_from([98, 99, 100, MAIN_TABLE])
routes = st.builds(AddRoute, st.just("pod"), networks, st.sampled_from(["eth0", "net1"]), table=tables)
rules = st.builds(
    AddRule,
    st.just("pod"),
    st.just(4),
    st.integers(1, 40000),
    tables,
    st.one_of(st.none(), st.integers(1, 15)),
    st.one_of(st.none(), networks),
    st.sampled_from([0xF, 0xFFFFFFFF]),
)
states = st.builds(
    lambda some, more: RoutingState(tuple(some), tuple(more)), st.lists(rules, max_size=6), st.lists(routes, max_size=8)
)
flows = st.builds(Flow, addresses, st.one_of(st.none(), addresses), st.integers(0, 15))


@given(flows, states)
def test_no_better_rule_and_no_longer_prefix_is_passed_over(flow: Flow, state: RoutingState) -> None:
    choice = look_up(flow, state)
    fitting = [route for route in state.routes if flow.destination in route.destination]
    ruled = [rule for rule in (*state.rules, main_rule(4)) if applies(rule, flow)]
    usable = [rule for rule in ruled if any(route.table == rule.table for route in fitting)]
    if choice is None:
        assert usable == []
        return
    assert choice.rule in usable
    assert choice.rule.priority == min(rule.priority for rule in usable)
    lengths = [route.destination.prefixlen for route in fitting if route.table == choice.rule.table]
    assert choice.route.destination.prefixlen == max(lengths)
    assert choice.route.table == choice.rule.table


@given(flows, states, rules)
def test_a_rule_that_does_not_apply_changes_nothing(flow: Flow, state: RoutingState, rule: AddRule) -> None:
    if not applies(rule, flow):
        assert look_up(flow, RoutingState((rule, *state.rules), state.routes)) == look_up(flow, state)


@given(flows, states)
def test_rules_may_be_told_in_any_order_of_priorities(flow: Flow, state: RoutingState) -> None:
    distinct = tuple({rule.priority: rule for rule in state.rules}.values())
    one = RoutingState(distinct, state.routes)
    other = RoutingState(tuple(reversed(distinct)), state.routes)
    if 32766 not in {rule.priority for rule in distinct}:
        assert look_up(flow, one) == look_up(flow, other)


def test_of_equal_rules_the_first_one_counts() -> None:
    both = (AddRule("pod", 4, 1000, 98), AddRule("pod", 4, 1000, 99))
    routes = tuple(AddRoute("pod", ip_network("10.0.0.0/24"), f"eth{table}", table=table) for table in (99, 98))
    choice = look_up(Flow(ip_address("10.0.0.1")), RoutingState(both, routes))
    assert choice is not None
    assert choice.route.link == "eth98"


def test_a_mask_leaves_other_bits_of_the_mark_alone() -> None:
    rule = AddRule("node", 4, 1100, 1000, 0x20, mask=0xF0)
    assert applies(rule, Flow(ip_address("10.0.0.1"), mark=0x4020))
    assert not applies(rule, Flow(ip_address("10.0.0.1"), mark=0x4030))


@pytest.mark.parametrize(
    ("held", "gateway", "source"),
    [
        (("eth0 10.0.0.5/24", "eth0 10.0.1.5/24"), "10.0.1.1", "10.0.1.5"),  # that of the gateway's subnet
        (("eth0 10.0.0.5/24",), "192.0.2.1", "10.0.0.5"),
        (("eth1 10.0.2.5/24",), "10.0.0.1", "10.0.2.5"),  # the link has none: as a node towards its pods
        ((), "10.0.0.1", None),
    ],
)
def test_the_source_of_a_packet_without_one(held: tuple[str, ...], gateway: str, source: str | None) -> None:
    own = [each.split() for each in held]
    state = RoutingState(addresses=tuple(AddAddress("pod", link, ip_interface(text)) for link, text in own))
    route = AddRoute("pod", ip_network("0.0.0.0/0"), "eth0", ip_address(gateway))
    found = source_of(route, ip_address("8.8.8.8"), state)
    assert (str(found) if found else None) == source


def test_of_several_ipv6_addresses_that_with_the_longest_common_prefix() -> None:
    held = ("fd00:1::5/64", "fd00:2::5/64")
    state = RoutingState(addresses=tuple(AddAddress("pod", "eth0", ip_interface(each)) for each in held))
    route = AddRoute("pod", ip_network("::/0"), "eth0", ip_address("fd00:1::1"))
    assert str(source_of(route, ip_address("fd00:2::9"), state)) == "fd00:2::5"


def test_nothing_is_found_where_there_is_no_route_and_addresses_are_held_by_family() -> None:
    held = AddAddress("pod", "eth0", ip_interface("10.0.0.5/24"))
    state = RoutingState(addresses=(held,))
    assert look_up_unbound(ip_address("10.0.0.9"), state) is None
    assert [state.holds(ip_address(each)) for each in ("10.0.0.5", "10.0.0.9")] == [True, False]
    assert (state.held(4), state.held(6)) == ((ip_address("10.0.0.5"),), ())
