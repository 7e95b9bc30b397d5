"""Pods with several interfaces: which path leads to the node, which tables they have, who owns the default route."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.routing import node_addresses
from spiderpool.errors import BadConfig, KernelFailure, NotReady
from tests.core.pods import (
    FIRST,
    IDLE_NODE,
    NETNS,
    NODE,
    POD_ETH0,
    SECOND,
    SECOND_NIC,
    THIRD,
    after_removal,
    assert_paths,
    with_pod,
)
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    ETH0,
    NET1,
    UNDERLAY,
    NextHop,
    Question,
    second,
    two_interfaces,
)

pytestmark = pytest.mark.unit


def test_node_without_address() -> None:
    with pytest.raises(NotReady, match="no global IPv4 address yet"):
        plan(POD_ETH0, replace(IDLE_NODE, addresses=(), sources=()))


def test_first_node_address_is_the_one_that_the_node_speaks_from() -> None:
    assert [str(one) for one in node_addresses(IDLE_NODE, 4)] == [NODE, SECOND_NIC]
    assert [str(one) for one in node_addresses(replace(IDLE_NODE, sources=()), 4)] == [SECOND_NIC, NODE]
    stranger = replace(IDLE_NODE, sources=(ip_address("172.17.0.1"),))
    assert [str(one) for one in node_addresses(stranger, 4)] == [SECOND_NIC, NODE]


@pytest.mark.parametrize("version", [4, 6])
def test_default_route_stays_on_the_first(version: int) -> None:
    assert_paths(with_pod(FIRST, SECOND), two_interfaces(version))


@pytest.mark.parametrize("version", [4, 6])
def test_default_route_of_a_later_one(version: int) -> None:
    chosen = second(NETNS, "ipvlan", default_route_nic="net1")
    assert_paths(with_pod(FIRST, chosen), two_interfaces(version, default="net1"))


def test_default_route_of_one_that_comes_last() -> None:
    settings = replace(UNDERLAY, default_route_nic="net2")
    attachments = [replace(one, coordination=settings) for one in (FIRST, SECOND, THIRD)]
    world = with_pod(*attachments[:2])
    assert_paths(world, two_interfaces(4))
    with_pod(attachments[2], world=world)
    assert_paths(
        world,
        [
            Question("pod", CLIENT[4], NextHop("net2", NET1[4].router)),
            Question("pod", CLIENT[4], NextHop("eth0", ETH0[4].router), source=ETH0[4].pod),
            Question("pod", CLIENT[4], NextHop("net1", NET1[4].router), source=NET1[4].pod),
            Question("pod", ETH0[4].node, NextHop("veth0")),
        ],
    )


def test_default_route_nic_of_the_first() -> None:
    settings = replace(UNDERLAY, default_route_nic="eth0")
    assert_paths(
        with_pod(replace(FIRST, coordination=settings), replace(SECOND, coordination=settings)), two_interfaces(4)
    )


def test_first_without_gateway_leaves_the_default_route_to_the_next() -> None:
    world = with_pod(replace(FIRST, gateways=()), SECOND)
    assert_paths(world, [Question("pod", CLIENT[4], NextHop("net1", NET1[4].router))])


def test_first_that_is_made_again_takes_its_default_route_back() -> None:
    world = after_removal(with_pod(FIRST, SECOND), "eth0")
    with_pod(SECOND, world=world)
    assert_paths(world, [Question("pod", CLIENT[4], NextHop("net1", NET1[4].router))])
    assert_paths(with_pod(FIRST, world=world), two_interfaces(4))


def test_tables_count_from_101_and_are_kept() -> None:
    def tables(world: Pretend) -> dict[str, int]:
        rules = {str(rule.source): rule.table for rule in world.sides["pod"].rules if rule.source and rule.version == 4}
        return {
            name: rules.get(f"{address}/32", 0) for name, address in (("net1", NET1[4].pod), ("net2", "192.168.0.170"))
        }

    world = with_pod(FIRST, SECOND, THIRD)
    assert tables(world) == {"net1": 101, "net2": 102}
    assert tables(with_pod(THIRD, SECOND, FIRST, world=world)) == {"net1": 101, "net2": 102}
    assert tables(after_removal(world, "net1")) == {"net1": 0, "net2": 102}
    assert tables(with_pod(SECOND, world=world)) == {"net1": 101, "net2": 102}


def test_modes_that_do_not_fit_the_pod() -> None:
    with pytest.raises(BadConfig, match="net1 needs veth0, which the pod lacks, as its eth0 was made without"):
        with_pod(replace(FIRST, coordination=None), second(NETNS, "ipvlan", mode="underlay"))
    with pytest.raises(BadConfig, match="overlay of net1 does not fit a pod whose first interface is underlay"):
        with_pod(FIRST, second(NETNS, "ipvlan", mode="overlay"))
    with pytest.raises(KernelFailure, match="the pod's eth0 has no far end on this node, so net1 cannot use it"):
        with_pod(replace(FIRST, coordination=None), SECOND)


def test_overlay_is_not_for_the_first() -> None:
    with pytest.raises(BadConfig, match="mode overlay is for interfaces beside another CNI plugin's, and eth0"):
        with_pod(replace(FIRST, coordination=replace(UNDERLAY, mode="overlay")))


def test_routes_of_the_network_are_of_its_families() -> None:
    far = (ip_network("198.51.100.0/24"), ip_network("2001:db8:ff::/48"))
    hops = (ip_address(NET1[4].other), ip_address(NET1[6].other))
    world = with_pod(FIRST, replace(SECOND, routes=tuple(zip(far, hops, strict=True))))
    assert_paths(
        world, [Question("pod", str(net[9]), NextHop("net1", str(hop))) for net, hop in zip(far, hops, strict=True)]
    )
