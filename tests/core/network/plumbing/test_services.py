"""Pods that reach addresses of Services outside the Service CIDRs by their node, while these come and go."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from spiderpool.core.network.plumbing.naming import SERVICE_TABLE
from spiderpool.core.network.plumbing.refresh import PathSettings, plan_refresh
from spiderpool.core.network.plumbing.services import reserved_addresses, service_changes, service_steps
from spiderpool.core.network.plumbing.steps import AddRoute, AddRule
from spiderpool.core.network.plumbing.values import Address, Attachment, NodeAddress, PodState, default_destination
from tests.core.pods import FIRST, SECOND, after_removal, assert_paths, faults, full_state, with_pod
from tests.core.pretend import Pretend
from tests.kernel.questions import CLIENT, CONTAINER, ETH0, NET1, NextHop, Question

pytestmark = pytest.mark.unit

BALANCERS = (ip_address("198.51.100.65"), ip_address("2001:db8:5::65"))
IN_SUBNET = ip_address("172.31.200.9")
TEMPLATE = AddRoute("pod", default_destination(4), "veth0", ip_address("10.0.0.1"), ip_address("10.0.0.9"))


def serving(attachment: Attachment, *addresses: Address) -> Attachment:
    assert attachment.coordination is not None
    return replace(attachment, coordination=replace(attachment.coordination, service_addresses=addresses))


def by_node(address: Address, *sources: str) -> list[Question]:
    node = ETH0[address.version].node
    return [Question("pod", str(address), NextHop("veth0", node), source=source) for source in ("", *sources)]


def refreshed(world: Pretend, *addresses: Address) -> Pretend:
    link = world.pod_link(CONTAINER, PathSettings(services=addresses))
    world.apply(plan_refresh(link))
    assert plan_refresh(world.pod_link(CONTAINER, PathSettings(services=addresses))) == ()
    return world


def test_every_interface_of_a_pod_reaches_balancers_by_the_node_from_the_beginning() -> None:
    first, second = serving(FIRST, *BALANCERS, IN_SUBNET), serving(SECOND, *BALANCERS, IN_SUBNET)
    world = with_pod(first, second)
    for address in (*BALANCERS, IN_SUBNET):
        version = address.version
        assert_paths(world, by_node(address, ETH0[version].pod, NET1[version].pod))
    assert_paths(world, [Question("pod", CLIENT[4], NextHop("eth0", ETH0[4].router))])
    assert faults(world, first) == faults(world, second) == ()


def test_addresses_that_come_and_go_while_a_pod_lives() -> None:
    world, before = with_pod(FIRST, SECOND), full_state(with_pod(FIRST, SECOND))
    refreshed(world, *BALANCERS)
    for address in BALANCERS:
        assert_paths(world, by_node(address, ETH0[address.version].pod, NET1[address.version].pod))
    assert full_state(world) == full_state(with_pod(serving(FIRST, *BALANCERS), serving(SECOND, *BALANCERS)))
    refreshed(world, IN_SUBNET)
    assert_paths(world, by_node(IN_SUBNET))
    assert_paths(world, [Question("pod", str(BALANCERS[0]), NextHop("eth0", ETH0[4].router))])
    refreshed(world)
    assert [route for route in world.pod().routes if route.table == SERVICE_TABLE] == []
    assert full_state(world)[1][2] == before[1][2]  # type: ignore[index]


def test_routes_stay_while_the_addresses_are_not_known() -> None:
    world = with_pod(serving(FIRST, *BALANCERS))
    assert plan_refresh(world.pod_link(CONTAINER)) == ()


def test_check_tells_of_a_route_that_is_missing() -> None:
    world = with_pod(FIRST)
    assert any("198.51.100.65" in fault for fault in faults(world, serving(FIRST, *BALANCERS)))


def test_the_node_and_gateways_keep_their_routes() -> None:
    taken = tuple(ip_address(each) for each in (ETH0[4].node, NET1[4].node, ETH0[4].router, NET1[4].router))
    wanted = (*taken, *BALANCERS)
    first, second = serving(FIRST, *wanted), serving(SECOND, *wanted)
    for world in (with_pod(first, second), refreshed(with_pod(FIRST, SECOND), *wanted)):
        refreshed(world, *wanted)
        assert_paths(world, [Question("pod", ETH0[4].node, NextHop("veth0"))])
        assert_paths(world, [Question("pod", ETH0[4].router, NextHop("eth0"))])
        assert faults(world, first) == faults(world, second) == ()


def test_gateway_that_the_node_no_longer_has() -> None:
    world = with_pod(serving(FIRST, *BALANCERS))
    world.lose_node_address(ETH0[4].node)
    refreshed(world, *BALANCERS)
    assert_paths(world, [Question("pod", str(BALANCERS[0]), NextHop("veth0", NET1[4].node))])


def test_what_the_last_interface_of_a_family_leaves() -> None:
    only4 = replace(FIRST, addresses=FIRST.addresses[:1], gateways=FIRST.gateways[:1])
    world = with_pod(serving(only4, *BALANCERS), serving(SECOND, *BALANCERS))
    assert_paths(world, [Question("pod", str(BALANCERS[1]), NextHop("veth0", ETH0[6].node), source=NET1[6].pod)])
    left = [route for route in after_removal(world, "net1").pod().routes if route.table == SERVICE_TABLE]
    assert [str(route.destination) for route in left] == ["198.51.100.65/32"]


def test_a_pod_without_path_to_its_node_gets_no_route() -> None:
    world = with_pod(replace(FIRST, coordination=None))
    assert plan_refresh(world.pod_link(CONTAINER, PathSettings(services=BALANCERS))) == ()


def test_nothing_of_other_families_or_reserved() -> None:
    assert tuple(service_steps(TEMPLATE, BALANCERS[1:], frozenset())) == ()
    rule, route = service_steps(TEMPLATE, BALANCERS, frozenset())
    assert isinstance(rule, AddRule)
    assert str(route) == "pod: route 198.51.100.65/32 via 10.0.0.1 dev veth0 src 10.0.0.9 table 98"
    assert tuple(service_changes(PodState(), TEMPLATE, BALANCERS, frozenset(BALANCERS))) == ()
    node = (NodeAddress("eth0", BALANCERS[0]), NodeAddress("kube-ipvs0", BALANCERS[1]))
    assert reserved_addresses(PodState(routes=(TEMPLATE,)), "eth0", node) == {BALANCERS[0], ip_address("10.0.0.1")}
