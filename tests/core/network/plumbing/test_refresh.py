"""Pods whose node gains and loses addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.refresh import PathSettings, plan_refresh
from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute, Remove, SetSysctl, Step
from tests.core.pods import FIRST, SECOND, SETTINGS, assert_paths, full_state, with_pod
from tests.core.pretend import Pretend
from tests.kernel.questions import CLIENT, CONTAINER, ETH0, NET1, SERVICE, NextHop, Question, two_interfaces

pytestmark = pytest.mark.unit


def test_node_that_gains_and_loses_addresses() -> None:
    world = with_pod(FIRST, SECOND)
    assert plan_refresh(world.pod_link(CONTAINER)) == ()
    world.node_address("eth1", "192.168.0.77/32")
    world.node_address("eth0", "2001:db8:1::77/128")
    world.apply(plan_refresh(world.pod_link(CONTAINER)))
    new = ("192.168.0.77", "2001:db8:1::77")
    assert_paths(
        world, [Question("pod", one, NextHop("veth0"), source=pod) for one in new for pod in ("", *_pods(one))]
    )
    assert plan_refresh(world.pod_link(CONTAINER)) == ()
    assert_paths(world, (*two_interfaces(4), *two_interfaces(6)))
    for one in new:
        world.lose_node_address(one)
    world.apply(plan_refresh(world.pod_link(CONTAINER)))
    assert full_state(world)[1] == full_state(with_pod(FIRST, SECOND))[1]


def _pods(address: str) -> tuple[str, str]:
    version = ip_address(address).version
    return ETH0[version].pod, NET1[version].pod


def test_gateway_that_the_node_no_longer_has() -> None:
    world = with_pod(FIRST, SECOND)
    world.lose_node_address(ETH0[4].node)
    world.apply(plan_refresh(world.pod_link(CONTAINER)))
    by_other = NextHop("veth0", NET1[4].node)
    assert_paths(
        world,
        [
            Question("pod", SERVICE[4], by_other),
            Question("pod", SERVICE[4], by_other, source=NET1[4].pod),
            Question("pod", CLIENT[4], by_other, source=ETH0[4].pod, mark=1),
            Question("pod", ETH0[4].node, NextHop("eth0")),
        ],
    )
    assert plan_refresh(world.pod_link(CONTAINER)) == ()


def test_family_whose_last_address_the_node_lost_is_left_alone() -> None:
    world = with_pod(FIRST)
    for nets in (ETH0, NET1):
        world.lose_node_address(nets[6].node)
    assert plan_refresh(world.pod_link(CONTAINER)) == ()


def test_nothing_to_refresh_without_a_path() -> None:
    assert plan_refresh(with_pod(replace(FIRST, coordination=None)).pod_link(CONTAINER)) == ()


def test_addresses_of_services_by_the_gateway_that_is_in_use() -> None:
    world, service = with_pod(FIRST), ip_address("198.51.100.65")
    world.apply(plan_refresh(world.pod_link(CONTAINER, PathSettings(services=(service,)))))
    assert_paths(world, [Question("pod", str(service), NextHop("veth0", ETH0[4].node))])
    world.lose_node_address(ETH0[4].node)
    for services in (None, (service,)):  # while they are not known, the gateway is replaced all the same
        world.apply(plan_refresh(world.pod_link(CONTAINER, PathSettings(services=services))))
        assert_paths(world, [Question("pod", str(service), NextHop("veth0", NET1[4].node))])


def test_service_cidrs_that_are_newer_than_the_pod_while_they_last() -> None:
    world = with_pod(FIRST)
    own, newer = *SETTINGS.service_cidrs, ip_network("198.51.100.0/24")
    question = Question("pod", "198.51.100.7", NextHop("veth0", ETH0[4].node))
    grown = PathSettings(services=(), service_cidrs=(own, newer))
    world.apply(plan_refresh(world.pod_link(CONTAINER, grown)))
    assert_paths(world, [question])
    assert plan_refresh(world.pod_link(CONTAINER, grown)) == ()
    (removal,) = plan_refresh(world.pod_link(CONTAINER, PathSettings(services=(), service_cidrs=(own,))))
    assert isinstance(removal, Remove)
    later = with_pod(replace(FIRST, coordination=replace(SETTINGS, service_cidrs=(own, newer))))
    assert plan_refresh(later.pod_link(CONTAINER, grown)) == ()


GIVEN = {
    name: frozenset(ip_address(net.pod) for net in nets.values()) for name, nets in (("eth0", ETH0), ("net1", NET1))
}
BOTH = PathSettings(tables={"eth0": 500, "net1": 500}, addresses=GIVEN)


def test_a_link_that_sysctl_d_made_loose_again_is_strict_about_sources() -> None:
    world = with_pod(FIRST)
    (name,) = (name for name in world.sides["node"].sysctls if name.endswith("/rp_filter") and "veth" in name)
    world.sides["node"].sysctls[name] = "2"
    (step,) = plan_refresh(world.pod_link(CONTAINER))
    assert step == SetSysctl("node", name, "1", required=False)
    world.apply((step,))
    assert plan_refresh(world.pod_link(CONTAINER)) == ()


def test_rules_and_routes_that_another_program_removed_from_the_node() -> None:
    world = with_pod(FIRST, SECOND)
    before = full_state(world)[0]
    assert plan_refresh(world.pod_link(CONTAINER, BOTH)) == ()
    world.flush()
    world.sides["node"].neighbours.clear()
    assert_paths(world, [Question("node", ETH0[4].pod, NextHop("eth0"))])
    assert plan_refresh(world.pod_link(CONTAINER)) == ()
    steps = plan_refresh(world.pod_link(CONTAINER, BOTH))
    assert len(steps) == len({*steps}) == 2 + 2 * 4  # a rule for each family, a route and a neighbour for each address
    world.apply(steps)
    assert full_state(world)[0] == before
    assert_paths(world, (*two_interfaces(4), *two_interfaces(6)))
    assert plan_refresh(world.pod_link(CONTAINER, BOTH)) == ()


def test_the_node_gets_no_routes_to_interfaces_without_a_path() -> None:
    world = with_pod(FIRST, replace(SECOND, coordination=None))
    assert plan_refresh(world.pod_link(CONTAINER, BOTH)) == ()
    beside = Pretend()
    beside.other_cni()
    world = with_pod(replace(SECOND, coordination=replace(SETTINGS, mode="overlay")), world=beside)
    world.flush()
    routes = [step for step in plan_refresh(world.pod_link(CONTAINER, BOTH)) if isinstance(step, AddRoute)]
    assert {str(route.destination.network_address) for route in routes} == {NET1[4].pod, NET1[6].pod}


@pytest.mark.parametrize("use", ["gateway", "address"])
def test_the_node_gets_no_routes_to_addresses_of_other_ipam_plugins_that_it_uses_itself_by_now(use: str) -> None:
    world = with_pod(FIRST)
    mine = ip_address(ETH0[4].pod)
    settings = replace(BOTH, foreign=frozenset({mine}))
    world.flush()
    assert str(mine) in routed(plan_refresh(world.pod_link(CONTAINER, settings)))
    if use == "gateway":
        world.apply((AddRoute("node", ip_network("198.51.100.0/24"), "eth0", mine),))
    else:
        world.node_address("eth0", f"{mine}/20")
    assert routed(plan_refresh(world.pod_link(CONTAINER, settings))) == {ETH0[6].pod}
    assert str(mine) in routed(plan_refresh(world.pod_link(CONTAINER, BOTH))), "Spiderpool answers for its own"


def routed(steps: Iterable[Step]) -> set[str]:
    """The addresses to which the node gets routes."""
    return {str(one.destination.network_address) for one in steps if isinstance(one, AddRoute) and one.side == "node"}


def test_the_node_gets_no_routes_to_addresses_that_the_pod_has_given_itself() -> None:
    """Its own process can have any address, and a route with that as source."""
    world = with_pod(FIRST)
    victim = ip_interface("172.31.192.10/32")
    world.apply((AddAddress("pod", "eth0", victim),))
    world.apply((AddRoute("pod", ip_network("203.0.113.7"), "veth0", source=victim.ip),))
    world.flush()
    steps = plan_refresh(world.pod_link(CONTAINER, BOTH))
    on_node = [step for step in steps if isinstance(step, AddRoute) and step.side == "node"]
    assert {str(route.destination.network_address) for route in on_node} == {ETH0[4].pod, ETH0[6].pod}
