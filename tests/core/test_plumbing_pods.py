"""Pods with several interfaces: what would a packet do, after whatever sequence of additions and removals?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiderpool.core.plumbing import (
    Attachment,
    Link,
    LoadMarks,
    MoveLink,
    SetLink,
    plan,
    wanted,
)
from spiderpool.core.plumbing.drift import drift
from spiderpool.core.plumbing.naming import loan
from spiderpool.core.plumbing.refresh import refresh
from spiderpool.core.plumbing.removal import Remains, removal
from spiderpool.errors import BadConfig, KernelFailure
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    CONTAINER,
    ETH0,
    HOST_END,
    NET1,
    SERVICE,
    UNDERLAY,
    Question,
    Way,
    ask,
    interface,
    one_interface,
    second,
    two_interfaces,
)

pytestmark = pytest.mark.unit

NETNS = "/run/netns/p"
FIRST = interface(NETNS, "ipvlan")
SECOND = second(NETNS, "ipvlan")
THIRD = replace(
    SECOND,
    ifname="net2",
    addresses=(ip_interface("192.168.0.170/24"), ip_interface("2001:db8:2::170/64")),
)


def with_pod(*attachments: Attachment, world: Pretend | None = None) -> Pretend:
    """A node and a pod after some additions."""
    world = world or Pretend()
    for attachment in attachments:
        world.apply(plan(attachment, world.observe(attachment)))
    return world


def taken_away(world: Pretend, *names: str) -> Pretend:
    for name in names:
        world.apply(removal(CONTAINER, name, world.remains(CONTAINER)))
    return world


def faults(world: Pretend, attachment: Attachment) -> tuple[str, ...]:
    seen = world.observe(attachment)
    return drift(wanted(attachment, seen), world.present(), seen.master)


def everything(world: Pretend) -> tuple[object, ...]:
    """All that is there, without link indexes and the node's rule for all pods."""
    sides = world.sides.values()
    return tuple(
        (
            sorted(replace(link, index=0, parent=0).name for link in side.links.values()),
            set(side.addresses),
            set(side.routes),
            {rule for rule in side.rules if rule.table != 500},
            set(side.neighbours.values()),
        )
        for side in sides
    )


def asked(world: Pretend, questions: Iterable[Question]) -> None:
    ask(world.route_of, questions)


@pytest.mark.parametrize("version", [4, 6])
def test_default_route_stays_on_the_first(version: int) -> None:
    asked(with_pod(FIRST, SECOND), two_interfaces(version))


@pytest.mark.parametrize("version", [4, 6])
def test_default_route_of_a_later_one(version: int) -> None:
    chosen = second(NETNS, "ipvlan", default_route_nic="net1")
    asked(with_pod(FIRST, chosen), two_interfaces(version, default="net1"))


def test_default_route_of_one_that_comes_last() -> None:
    settings = replace(UNDERLAY, default_route_nic="net2")
    attachments = [replace(one, coordination=settings) for one in (FIRST, SECOND, THIRD)]
    world = with_pod(*attachments[:2])
    asked(world, two_interfaces(4))
    with_pod(attachments[2], world=world)
    asked(
        world,
        [
            Question("pod", CLIENT[4], Way("net2", NET1[4].router)),
            Question("pod", CLIENT[4], Way("eth0", ETH0[4].router), source=ETH0[4].pod),
            Question("pod", CLIENT[4], Way("net1", NET1[4].router), source=NET1[4].pod),
            Question("pod", ETH0[4].node, Way("veth0")),
        ],
    )


def test_default_route_nic_of_the_first() -> None:
    settings = replace(UNDERLAY, default_route_nic="eth0")
    asked(with_pod(replace(FIRST, coordination=settings), replace(SECOND, coordination=settings)), two_interfaces(4))


def test_first_without_gateway_leaves_the_default_route_to_the_next() -> None:
    world = with_pod(replace(FIRST, gateways=()), SECOND)
    asked(world, [Question("pod", CLIENT[4], Way("net1", NET1[4].router))])


def test_first_that_is_made_again_takes_its_default_route_back() -> None:
    world = taken_away(with_pod(FIRST, SECOND), "eth0")
    with_pod(SECOND, world=world)
    asked(world, [Question("pod", CLIENT[4], Way("net1", NET1[4].router))])
    asked(with_pod(FIRST, world=world), two_interfaces(4))


def test_tables_count_from_101_and_are_kept() -> None:
    def tables(world: Pretend) -> dict[str, int]:
        rules = {str(rule.source): rule.table for rule in world.sides["pod"].rules if rule.source and rule.version == 4}
        return {
            name: rules.get(f"{address}/32", 0) for name, address in (("net1", NET1[4].pod), ("net2", "192.168.0.170"))
        }

    world = with_pod(FIRST, SECOND, THIRD)
    assert tables(world) == {"net1": 101, "net2": 102}
    assert tables(with_pod(THIRD, SECOND, FIRST, world=world)) == {"net1": 101, "net2": 102}
    assert tables(taken_away(world, "net1")) == {"net1": 0, "net2": 102}
    assert tables(with_pod(SECOND, world=world)) == {"net1": 101, "net2": 102}


@pytest.mark.parametrize("again", [(FIRST,), (SECOND,), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND)])
def test_repetition_changes_nothing(again: tuple[Attachment, ...]) -> None:
    world = with_pod(FIRST, SECOND)
    before = everything(world)
    with_pod(*again, world=world)
    if again[0] is FIRST:
        with_pod(SECOND, world=world)
    assert everything(world) == before
    asked(world, (*two_interfaces(4), *two_interfaces(6)))


def test_check_finds_nothing_wrong_after_any_order() -> None:
    for default in ("", "net1", "net2"):
        settings = replace(UNDERLAY, default_route_nic=default)
        attachments = [replace(one, coordination=settings) for one in (FIRST, SECOND, THIRD)]
        world = with_pod(*attachments)
        assert [faults(world, one) for one in attachments] == [(), (), ()]


def test_removal_of_a_later_one_leaves_the_first_as_it_was() -> None:
    for default in ("", "net1"):
        world = taken_away(with_pod(FIRST, second(NETNS, "ipvlan", default_route_nic=default)), "net1")
        asked(world, (*one_interface(4), *one_interface(6)))
        assert world.route_of(Question("node", NET1[4].pod, None)) == Way("eth1")
        assert HOST_END in world.sides["node"].links
        assert {str(address) for _, address in world.sides["node"].neighbours} == {ETH0[4].pod, ETH0[6].pod}


def test_removal_of_the_first_leaves_the_later_one() -> None:
    world = taken_away(with_pod(FIRST, SECOND), "eth0")
    questions = [
        Question("pod", CLIENT[4], Way("net1", NET1[4].router), source=NET1[4].pod),
        Question("pod", NET1[4].node, Way("veth0"), source=NET1[4].pod),
        Question("pod", SERVICE[4], Way("veth0", ETH0[4].node), source=NET1[4].pod),
        Question("pod", CLIENT[4], Way("veth0", ETH0[4].node), source=NET1[4].pod, mark=1),
        Question("node", NET1[4].pod, Way(HOST_END)),
        Question("node", ETH0[4].pod, Way("eth0")),
    ]
    asked(world, questions)


def test_removal_of_all_leaves_nothing_on_the_node() -> None:
    clean = everything(with_pod(replace(FIRST, coordination=None)))[0]
    for order in (("eth0", "net1"), ("net1", "eth0"), ("net1", "net1", "eth0", "eth0")):
        world = taken_away(with_pod(FIRST, SECOND), *order)
        assert everything(world)[0] == clean
        assert list(world.sides["pod"].links) == ["lo"]
        assert [rule for rule in world.sides["pod"].rules if rule.source] == []


@settings(max_examples=150, deadline=None)
@given(
    attempts=st.lists(
        st.tuples(st.sampled_from(["eth0", "net1", "net2"]), st.integers(0, 90), st.booleans()), max_size=4
    ),
    default=st.sampled_from(["", "eth0", "net1", "net2"]),
)
def test_whatever_was_cut_short_is_completed(attempts: list[tuple[str, int, bool]], default: str) -> None:
    """Additions and removals that end after any number of steps, then the additions once more."""
    chosen = replace(UNDERLAY, default_route_nic=default)
    every = {one.ifname: replace(one, coordination=chosen) for one in (FIRST, SECOND, THIRD)}
    world = with_pod(every["eth0"])
    for name, length, away in attempts:
        if away:
            world.apply(removal(CONTAINER, name, world.remains(CONTAINER))[:length])
        elif name == "eth0" or {"eth0", "veth0"} <= set(world.sides["pod"].links):
            world.apply(plan(every[name], world.observe(every[name]))[:length])
    with_pod(*every.values(), world=world)
    assert [faults(world, one) for one in every.values()] == [(), (), ()]
    assert len(world.sides["pod"].rules) == len(set(world.sides["pod"].rules)) == 8
    taken_away(world, *every)
    assert everything(world)[0] == everything(Pretend())[0]


@given(length=st.integers(0, 80))
def test_a_first_addition_that_was_cut_short_leaves_no_trace(length: int) -> None:
    world = Pretend()
    world.apply(plan(FIRST, world.observe(FIRST))[:length])
    with_pod(FIRST, SECOND, world=world)
    assert everything(world) == everything(with_pod(FIRST, SECOND))


def test_without_tuning_nothing_moves() -> None:
    world = with_pod(FIRST, second(NETNS, "ipvlan", tune_pod_routes=False, default_route_nic="net1"))
    assert [rule for rule in world.sides["pod"].rules if rule.source] == []
    asked(world, [Question("pod", CLIENT[4], Way("eth0", ETH0[4].router), source=NET1[4].pod)])


def test_policy_routes_are_in_the_table_of_the_interface() -> None:
    far = "198.51.100.9"
    routes = ((ip_network("198.51.100.0/24"), ip_address(NET1[4].other)),)
    world = with_pod(FIRST, second(NETNS, "ipvlan", policy_routes=routes))
    asked(
        world,
        [
            Question("pod", far, Way("net1", NET1[4].other), source=NET1[4].pod),
            Question("pod", far, Way("eth0", ETH0[4].router)),
        ],
    )
    first = replace(FIRST, coordination=replace(UNDERLAY, policy_routes=((routes[0][0], ip_address(ETH0[4].other)),)))
    asked(with_pod(first), [Question("pod", far, Way("eth0", ETH0[4].other))])


def test_static_routes_are_in_main_and_in_the_table() -> None:
    far = "198.51.100.9"
    world = with_pod(FIRST, replace(SECOND, routes=((ip_network(f"{far}/32"), ip_address(NET1[4].other)),)))
    by_net1 = Way("net1", NET1[4].other)
    asked(world, [Question("pod", far, by_net1), Question("pod", far, by_net1, source=NET1[4].pod)])


def test_a_family_that_only_the_later_one_has() -> None:
    world = with_pod(interface(NETNS, "ipvlan", versions=(4,)), SECOND)
    assert world.sides["pod"].marks == {4, 6}
    asked(
        world,
        [
            Question("pod", CLIENT[6], Way("net1", NET1[6].router)),
            Question("pod", ETH0[6].node, Way("veth0")),
            Question("pod", SERVICE[6], Way("veth0", ETH0[6].node)),
            Question("pod", CLIENT[6], Way("veth0", ETH0[6].node), source=NET1[6].pod, mark=1),
            Question("node", NET1[6].pod, Way(HOST_END)),
        ],
    )
    again = plan(SECOND, world.observe(SECOND))
    assert not any(isinstance(step, LoadMarks) for step in again)


@pytest.mark.parametrize("mode", ["auto", "overlay"])
def test_beside_the_interface_of_another_cni(mode: str) -> None:
    world = Pretend()
    world.other_cni()
    with_pod(second(NETNS, "macvlan", versions=(4,), mode=mode), world=world)
    gateway = Way("eth0", "10.244.0.1")
    asked(
        world,
        [
            Question("pod", CLIENT[4], gateway),
            Question("pod", CLIENT[4], gateway, source="10.244.0.9"),
            Question("pod", CLIENT[4], Way("net1", NET1[4].router), source=NET1[4].pod),
            Question("pod", ETH0[4].node, Way("eth0")),
            Question("pod", NET1[4].node, Way("eth0"), source=NET1[4].pod),
            Question("pod", SERVICE[4], Way("eth0", ETH0[4].node), source=NET1[4].pod),
            Question("node", NET1[4].pod, Way("calif00")),
        ],
    )
    assert "veth0" not in world.sides["pod"].links
    assert faults(world, second(NETNS, "macvlan", versions=(4,), mode=mode)) == ()
    taken_away(world, "net1")
    asked(world, [Question("pod", CLIENT[4], gateway), Question("node", NET1[4].pod, Way("eth1"))])
    assert "calif00" in world.sides["node"].links


def test_default_route_taken_from_another_cni_and_given_back() -> None:
    world = Pretend()
    world.other_cni()
    with_pod(second(NETNS, "macvlan", versions=(4,), default_route_nic="net1"), world=world)
    by_eth0 = Way("eth0", "10.244.0.1")
    asked(
        world,
        [
            Question("pod", CLIENT[4], Way("net1", NET1[4].router)),
            Question("pod", CLIENT[4], by_eth0, source="10.244.0.9"),
        ],
    )
    asked(taken_away(world, "net1"), [Question("pod", CLIENT[4], by_eth0)])


def test_modes_that_do_not_fit_the_pod() -> None:
    with pytest.raises(BadConfig, match="net1 needs veth0, which the pod lacks, as its eth0 was made without"):
        with_pod(replace(FIRST, coordination=None), second(NETNS, "ipvlan", mode="underlay"))
    with pytest.raises(BadConfig, match="overlay of net1 does not fit a pod whose first interface is underlay"):
        with_pod(FIRST, second(NETNS, "ipvlan", mode="overlay"))
    with pytest.raises(KernelFailure, match="the pod's eth0 has no far end on this node, so net1 cannot use it"):
        with_pod(replace(FIRST, coordination=None), SECOND)


def test_disabled_beside_others() -> None:
    world = with_pod(FIRST, replace(SECOND, coordination=None))
    asked(world, (*one_interface(4)[2:], Question("pod", NET1[4].other, Way("net1"))))
    asked(taken_away(world, "net1"), one_interface(4))


def test_device_of_the_node_is_lent_and_given_back() -> None:
    world = Pretend()
    world.sides["node"].links["vf3"] = Link("vf3", 7, mac="00:16:3e:00:02:03")
    lent = replace(SECOND, kind="host-device", master="vf3", mtu=1400)
    with_pod(FIRST, lent, world=world)
    assert world.sides["pod"].links["net1"].alias == f"{loan(CONTAINER, 'net1')}vf3"
    assert "vf3" not in world.sides["node"].links
    asked(world, two_interfaces(4))
    again = plan(lent, world.observe(lent))
    assert not any(isinstance(step, MoveLink) for step in again)
    assert SetLink("pod", "net1", mtu=1400) in again
    taken_away(world, "net1")
    assert world.sides["node"].links["vf3"].alias == ""
    asked(world, one_interface(4))


def test_lent_device_that_outlived_its_pod() -> None:
    stray = Link("dev7", 7, alias=f"{loan(CONTAINER, 'net1')}vf3")
    other = Link("vf4", 8, alias="uplink")
    assert removal(CONTAINER, "net1", Remains(None, lent=(stray, other)))[0] == MoveLink("node", "dev7", "vf3", "")


def test_node_that_gains_and_loses_addresses() -> None:
    world = with_pod(FIRST, SECOND)
    assert refresh(world.wiring(CONTAINER)) == ()
    world.node_address("eth1", "192.168.0.77/32")
    world.node_address("eth0", "2001:db8:1::77/128")
    world.apply(refresh(world.wiring(CONTAINER)))
    new = ("192.168.0.77", "2001:db8:1::77")
    asked(world, [Question("pod", one, Way("veth0"), source=pod) for one in new for pod in ("", *_pods(one))])
    assert refresh(world.wiring(CONTAINER)) == ()
    asked(world, (*two_interfaces(4), *two_interfaces(6)))
    for one in new:
        world.lose_node_address(one)
    world.apply(refresh(world.wiring(CONTAINER)))
    assert everything(world)[1] == everything(with_pod(FIRST, SECOND))[1]


def _pods(address: str) -> tuple[str, str]:
    version = ip_address(address).version
    return ETH0[version].pod, NET1[version].pod


def test_gateway_that_the_node_no_longer_has() -> None:
    world = with_pod(FIRST, SECOND)
    world.lose_node_address(ETH0[4].node)
    world.apply(refresh(world.wiring(CONTAINER)))
    by_other = Way("veth0", NET1[4].node)
    asked(
        world,
        [
            Question("pod", SERVICE[4], by_other),
            Question("pod", SERVICE[4], by_other, source=NET1[4].pod),
            Question("pod", CLIENT[4], by_other, source=ETH0[4].pod, mark=1),
            Question("pod", ETH0[4].node, Way("eth0")),
        ],
    )
    assert refresh(world.wiring(CONTAINER)) == ()


def test_family_whose_last_address_the_node_lost_is_left_alone() -> None:
    world = with_pod(FIRST)
    for nets in (ETH0, NET1):
        world.lose_node_address(nets[6].node)
    assert refresh(world.wiring(CONTAINER)) == ()


def test_nothing_to_refresh_without_a_path() -> None:
    assert refresh(with_pod(replace(FIRST, coordination=None)).wiring(CONTAINER)) == ()
