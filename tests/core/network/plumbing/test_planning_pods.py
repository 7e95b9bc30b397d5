"""Pods with several interfaces: what would a packet do?"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import AddRoute, LoadMarks
from spiderpool.core.network.plumbing.values import EXISTING, Link, default_destination
from tests.core.pods import (
    FIRST,
    NETNS,
    SECOND,
    after_removal,
    assert_paths,
    faults,
    with_pod,
)
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    ETH0,
    HOST_END,
    NET1,
    SERVICE,
    UNDERLAY,
    NextHop,
    Question,
    interface,
    one_interface,
    second,
    two_interfaces,
)

pytestmark = pytest.mark.unit


def test_without_tuning_nothing_moves() -> None:
    world = with_pod(FIRST, second(NETNS, "ipvlan", tune_pod_routes=False, default_route_nic="net1"))
    assert [rule for rule in world.sides["pod"].rules if rule.source] == []
    assert_paths(world, [Question("pod", CLIENT[4], NextHop("eth0", ETH0[4].router), source=NET1[4].pod)])


def test_policy_routes_are_in_the_table_of_the_interface() -> None:
    far = "198.51.100.9"
    routes = ((ip_network("198.51.100.0/24"), ip_address(NET1[4].other)),)
    world = with_pod(FIRST, second(NETNS, "ipvlan", policy_routes=routes))
    assert_paths(
        world,
        [
            Question("pod", far, NextHop("net1", NET1[4].other), source=NET1[4].pod),
            Question("pod", far, NextHop("eth0", ETH0[4].router)),
        ],
    )
    first = replace(FIRST, coordination=replace(UNDERLAY, policy_routes=((routes[0][0], ip_address(ETH0[4].other)),)))
    assert_paths(with_pod(first), [Question("pod", far, NextHop("eth0", ETH0[4].other))])


def test_static_routes_are_in_main_and_in_the_table() -> None:
    far = "198.51.100.9"
    world = with_pod(FIRST, replace(SECOND, routes=((ip_network(f"{far}/32"), ip_address(NET1[4].other)),)))
    by_net1 = NextHop("net1", NET1[4].other)
    assert_paths(world, [Question("pod", far, by_net1), Question("pod", far, by_net1, source=NET1[4].pod)])


def test_a_family_that_only_the_later_one_has() -> None:
    world = with_pod(interface(NETNS, "ipvlan", versions=(4,)), SECOND)
    assert world.sides["pod"].marks == {4, 6}
    assert_paths(
        world,
        [
            Question("pod", CLIENT[6], NextHop("net1", NET1[6].router)),
            Question("pod", ETH0[6].node, NextHop("veth0")),
            Question("pod", SERVICE[6], NextHop("veth0", ETH0[6].node)),
            Question("pod", CLIENT[6], NextHop("veth0", ETH0[6].node), source=NET1[6].pod, mark=1),
            Question("node", NET1[6].pod, NextHop(HOST_END)),
        ],
    )
    again = plan(SECOND, world.observe(SECOND))
    assert not any(isinstance(step, LoadMarks) for step in again)


@pytest.mark.parametrize("mode", ["auto", "overlay"])
def test_beside_the_interface_of_another_cni(mode: str) -> None:
    world = Pretend()
    world.other_cni()
    with_pod(second(NETNS, "macvlan", versions=(4,), mode=mode), world=world)
    gateway = NextHop("eth0", "10.244.0.1")
    assert_paths(
        world,
        [
            Question("pod", CLIENT[4], gateway),
            Question("pod", CLIENT[4], gateway, source="10.244.0.9"),
            Question("pod", CLIENT[4], NextHop("net1", NET1[4].router), source=NET1[4].pod),
            Question("pod", ETH0[4].node, NextHop("eth0")),
            Question("pod", NET1[4].node, NextHop("eth0"), source=NET1[4].pod),
            Question("pod", SERVICE[4], NextHop("eth0", ETH0[4].node), source=NET1[4].pod),
            Question("node", NET1[4].pod, NextHop("calif00")),
        ],
    )
    assert "veth0" not in world.sides["pod"].links
    assert faults(world, second(NETNS, "macvlan", versions=(4,), mode=mode)) == ()
    after_removal(world, "net1")
    assert_paths(world, [Question("pod", CLIENT[4], gateway), Question("node", NET1[4].pod, NextHop("eth1"))])
    assert "calif00" in world.sides["node"].links


def test_disabled_beside_others() -> None:
    world = with_pod(FIRST, replace(SECOND, coordination=None))
    assert_paths(world, (*one_interface(4)[2:], Question("pod", NET1[4].other, NextHop("net1"))))
    assert_paths(after_removal(world, "net1"), one_interface(4))


def test_default_route_of_a_later_one() -> None:
    chosen = second(NETNS, "ipvlan", default_route_nic="net1")
    assert_paths(with_pod(FIRST, chosen), (*two_interfaces(4, default="net1"), *two_interfaces(6, default="net1")))


def test_lent_nic_gets_the_mtu_and_the_mac_that_are_asked_for() -> None:
    lent = replace(SECOND, kind="host-device", master="vf3", mtu=1400, mac="0a:00:00:00:00:01")
    world = with_pod(FIRST)
    world.sides["node"].links["vf3"] = Link("vf3", 7, mac="00:16:3e:00:02:03", mtu=1500)
    with_pod(lent, world=world)
    net1 = world.sides["pod"].links["net1"]
    assert (net1.mtu, net1.mac, net1.up) == (1400, "0a:00:00:00:00:01", True)
    assert_paths(world, two_interfaces(4))


def test_first_that_is_made_again_beside_a_later_one() -> None:
    world = after_removal(with_pod(FIRST, SECOND), "eth0")
    assert_paths(with_pod(FIRST, world=world), (*two_interfaces(4), *two_interfaces(6)))


def test_routes_of_another_cni_to_services_stay_as_they_are() -> None:
    world = Pretend()
    world.other_cni()
    theirs = AddRoute("pod", UNDERLAY.service_cidrs[0], "eth0", ip_address("10.244.0.1"))
    world.apply([theirs])
    with_pod(second(NETNS, "macvlan", versions=(4,)), world=world)
    assert_paths(
        world,
        [
            Question("pod", SERVICE[4], NextHop("eth0", "10.244.0.1")),
            Question("pod", SERVICE[4], NextHop("eth0", ETH0[4].node), source=NET1[4].pod),
        ],
    )


@pytest.mark.parametrize("default", ["", "net1"])
def test_interface_of_another_plugin_brings_its_default_route(default: str) -> None:
    """It keeps it in ``main`` where it is to have it; otherwise it goes on in a table of its own."""
    world = with_pod(FIRST)
    bare = replace(SECOND, kind="macvlan", coordination=None)
    world.apply(plan(bare, world.observe(bare)))
    world.sides["pod"].routes = [
        *(AddRoute("pod", default_destination(one.version), "net1", one) for one in SECOND.gateways),
        *world.sides["pod"].routes,
    ]
    chosen = replace(UNDERLAY, default_route_nic=default)
    part = replace(SECOND, kind=EXISTING, master="", coordination=chosen)
    world.apply(plan(part, world.observe(part)))
    for version in (4, 6):
        assert_paths(world, two_interfaces(version, default or "eth0"))
    assert faults(world, part) == ()


def test_default_route_that_another_holds_moves_the_first_into_a_table_of_its_own() -> None:
    """Made again beside an interface that took its default route while it was away."""
    world = after_removal(with_pod(FIRST, second(NETNS, "ipvlan", default_route_nic="net1")), "eth0")
    world.sides["pod"].rules = [rule for rule in world.sides["pod"].rules if rule.source is None]
    first = replace(FIRST, coordination=replace(UNDERLAY, default_route_nic="net1"))
    with_pod(first, world=world)
    assert_paths(world, [Question("pod", CLIENT[4], NextHop("eth0", ETH0[4].router), source=ETH0[4].pod)])
