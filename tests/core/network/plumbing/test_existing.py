"""The coordinator's part for an interface that another plugin made: what a packet does then, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.existing import (
    complete_attachment,
    missing_part,
    place_default_route,
    place_default_route_if_free,
)
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.removal import plan_removal
from spiderpool.core.network.plumbing.steps import AddAddress, AddRoute, CreateLink, DeleteLink, Remove, SetLink
from spiderpool.core.network.plumbing.values import EXISTING, Attachment, Link, Ownership, PodState, default_destination
from spiderpool.errors import BadConfig
from tests.core.pods import FIRST, NETNS, SECOND, assert_paths, faults
from tests.core.pretend import Pretend
from tests.kernel.questions import CONTAINER, HOST_END, UNDERLAY, one_interface, second, two_interfaces

pytestmark = pytest.mark.unit


def by_plugin(world: Pretend, made: Attachment, kind: str = "macvlan") -> Attachment:
    """A plugin makes an interface, with addresses and default routes; the coordinator's part of it."""
    bare = replace(made, coordination=None, kind=kind)
    world.apply(plan(replace(bare, gateways=()), world.observe(bare)))
    for gateway in made.gateways:  # a reference plugin puts its default route before those that are there
        default = default_destination(gateway.version)
        world.sides["pod"].routes.insert(0, AddRoute("pod", default, made.ifname, gateway))
    granted = Ownership(frozenset(address.ip for address in made.addresses))
    return Attachment(CONTAINER, NETNS, made.ifname, EXISTING, "", coordination=made.coordination, ownership=granted)


def coordinate(world: Pretend, part: Attachment) -> Attachment:
    whole = complete_attachment(part, world.pod())
    world.apply(plan(whole, world.observe(whole)))
    return whole


def test_an_address_that_no_pod_can_have_is_told_before_one_that_is_missing() -> None:
    reported = Ownership(reported=frozenset({ip_address("100.100.100.200")}))
    part = Attachment(CONTAINER, NETNS, "net1", EXISTING, "", coordination=FIRST.coordination, ownership=reported)
    assert "metadata service" in missing_part(part, PodState((Link("net1", 3),)))


def test_one_interface() -> None:
    world = Pretend()
    part = by_plugin(world, FIRST)
    steps = plan(complete_attachment(part, world.pod()), world.observe(complete_attachment(part, world.pod())))
    assert not [step for step in steps if isinstance(step, CreateLink | AddAddress)]
    assert SetLink("pod", "eth0") in steps
    whole = coordinate(world, part)
    for version in (4, 6):
        assert_paths(world, one_interface(version))
    assert faults(world, complete_attachment(part, world.pod())) == ()
    assert [str(one) for one in whole.addresses] == [str(one) for one in FIRST.addresses]


@pytest.mark.parametrize("default", ["eth0", "net1"])
def test_two_interfaces(default: str) -> None:
    world, wish = Pretend(), replace(UNDERLAY, default_route_nic=default if default == "net1" else "")
    first = by_plugin(world, replace(FIRST, coordination=wish))
    coordinate(world, first)
    later = by_plugin(world, replace(SECOND, coordination=wish))
    for _ in range(2):  # a repeated ADD changes nothing
        coordinate(world, later)
        for version in (4, 6):
            assert_paths(world, two_interfaces(version, default))
    held = [route.link for route in world.pod().routes if route.table == 254 and route.destination.prefixlen == 0]
    assert held == [default, default]
    assert faults(world, complete_attachment(later, world.pod())) == ()
    assert faults(world, complete_attachment(first, world.pod())) == ()


def test_routes_are_left_alone_where_they_are_not_to_be_tuned() -> None:
    world = Pretend()
    coordinate(world, by_plugin(world, FIRST))
    before = [route for route in world.pod().routes if route.destination.prefixlen == 0 and route.table == 254]
    coordinate(world, by_plugin(world, second(NETNS, "macvlan", tune_pod_routes=False)))
    after = [route for route in world.pod().routes if route.destination.prefixlen == 0 and route.table == 254]
    assert (len(before), len(after)) == (2, 4)


def test_a_route_without_gateway_comes_before_the_default_by_it() -> None:
    """A plugin may give a /32 and reach its gateway on the link."""
    world = Pretend()
    coordinate(world, by_plugin(world, FIRST))
    gateway, net = ip_address("169.254.1.1"), ip_interface("192.168.0.160/32")
    later = by_plugin(world, replace(SECOND, addresses=(net,), gateways=()))
    world.apply(
        [AddRoute("pod", ip_network(gateway), "net1"), AddRoute("pod", ip_network("10.9.0.0/16"), "net1", gateway)]
    )
    coordinate(world, later)
    mine = {str(route.destination) for route in world.pod().routes if route.table == 101 and route.link == "net1"}
    assert mine == {"192.168.0.160/32", "169.254.1.1/32", "10.9.0.0/16"}


def test_the_removal_keeps_the_interface() -> None:
    world = Pretend()
    coordinate(world, by_plugin(world, FIRST))
    world.apply(plan_removal(CONTAINER, "eth0", world.leftovers(CONTAINER), keep_link=True))
    assert list(world.sides["pod"].links) == ["lo", "eth0"]
    assert (HOST_END in world.sides["node"].links, [rule for rule in world.pod().rules if rule.source]) == (False, [])
    assert plan_removal(CONTAINER, "eth0", world.leftovers(CONTAINER), keep_link=True) == (
        DeleteLink("node", HOST_END),
    )


def test_what_must_be_there() -> None:
    part = Attachment(CONTAINER, NETNS, "eth0", EXISTING, "")
    assert "eth0 is missing in the pod" in missing_part(part, PodState())
    assert "eth0 of the pod has no address" in missing_part(part, PodState((Link("eth0", 2),)))
    held = PodState((Link("eth0", 2),), (AddAddress("pod", "eth0", ip_interface("10.0.0.1/24")),))
    assert "eth0 of the pod has none of the addresses in the result" in missing_part(part, held)
    given = replace(part, ownership=Ownership(reported=frozenset({ip_address("10.0.0.1")})))
    assert missing_part(given, held) == ""


def test_addresses_that_nobody_gave_are_left_alone() -> None:
    """Such as one that the pod has made of a router's advertisement."""
    world = Pretend()
    part = by_plugin(world, FIRST)
    world.apply((AddAddress("pod", "eth0", ip_interface("2001:db8:1::5054:ff:fe12:3456/64")),))
    assert complete_attachment(part, world.pod()).addresses == FIRST.addresses


def test_a_mac_by_prefix_is_refused_for_ipvlan_only() -> None:
    prefixed = replace(FIRST, coordination=replace(FIRST.coordination, pod_mac_prefix="0a:1b"))  # type: ignore[type-var]
    for kind in ("ipvlan", "macvlan"):
        world = Pretend()
        part = by_plugin(world, replace(prefixed), kind)
        if kind == "ipvlan":
            with pytest.raises(BadConfig, match="ipvlan children carry their NIC's"):
                coordinate(world, part)
            continue
        coordinate(world, part)
        assert world.pod().link("eth0") == replace(world.pod().links[1], mac="0a:1b:ac:1f:c7:bb")
        world.sides["pod"].links["eth0"] = replace(world.pod().links[1], mac="0a:00:00:00:00:01")
        assert faults(world, complete_attachment(part, world.pod())) == (
            "MAC of eth0 is 0a:00:00:00:00:01, not 0a:1b:ac:1f:c7:bb",
        )


def default(link: str, gateway: str) -> AddRoute:
    return AddRoute("pod", default_destination(ip_address(gateway).version), link, ip_address(gateway))


def test_the_default_route_of_a_plugin_by_wish() -> None:
    mine, theirs, six = default("net1", "10.0.0.1"), default("eth0", "10.1.0.1"), default("net1", "fd00::1")
    pod = PodState(routes=(mine, theirs, six))
    assert place_default_route(pod, "net1", None) == (Remove(mine), Remove(six))
    assert place_default_route(pod, "net1", ()) == ()
    other = ip_address("10.0.0.2")
    assert place_default_route(pod, "net1", (other,)) == (Remove(mine), default("net1", "10.0.0.2"))
    assert place_default_route_if_free(pod, "net1") == (Remove(mine),)
    assert place_default_route_if_free(PodState(routes=(mine, six)), "net1") == ()
