"""DEL: what goes with an interface, and what the pod's others keep."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from spiderpool.core.network.plumbing.naming import temporary_name, veth_mac
from spiderpool.core.network.plumbing.removal import LeftoverState, is_foreign, plan_removal
from spiderpool.core.network.plumbing.steps import AddAddress, DeleteLink, MoveLink
from spiderpool.core.network.plumbing.values import Link, Loan, PodState
from tests.core.pods import FIRST, NETNS, SECOND, after_removal, assert_paths, full_state, with_pod
from tests.core.pretend import Pretend
from tests.kernel.questions import (
    CLIENT,
    CONTAINER,
    ETH0,
    HOST_END,
    NET1,
    SERVICE,
    NextHop,
    Question,
    one_interface,
    second,
)

pytestmark = pytest.mark.unit


def test_removal_frees_the_address_first() -> None:
    assert plan_removal(CONTAINER, "eth0", LeftoverState(PodState())) == (
        DeleteLink("pod", "eth0"),
        DeleteLink("pod", temporary_name(CONTAINER, "eth0")),
        DeleteLink("node", HOST_END),
    )


def test_removal_of_a_pod_that_is_gone() -> None:
    assert plan_removal(CONTAINER, "eth0", LeftoverState(None)) == (DeleteLink("node", HOST_END),)


def test_removal_of_a_later_one_leaves_the_first_as_it_was() -> None:
    for default in ("", "net1"):
        world = after_removal(with_pod(FIRST, second(NETNS, "ipvlan", default_route_nic=default)), "net1")
        assert_paths(world, (*one_interface(4), *one_interface(6)))
        assert world.route_of(Question("node", NET1[4].pod, None)) == NextHop("eth1")
        assert HOST_END in world.sides["node"].links
        assert {str(address) for _, address in world.sides["node"].neighbours} == {ETH0[4].pod, ETH0[6].pod}


def test_removal_of_the_first_leaves_the_later_one() -> None:
    world = after_removal(with_pod(FIRST, SECOND), "eth0")
    questions = [
        Question("pod", CLIENT[4], NextHop("net1", NET1[4].router), source=NET1[4].pod),
        Question("pod", NET1[4].node, NextHop("veth0"), source=NET1[4].pod),
        Question("pod", SERVICE[4], NextHop("veth0", ETH0[4].node), source=NET1[4].pod),
        Question("pod", CLIENT[4], NextHop("veth0", ETH0[4].node), source=NET1[4].pod, mark=1),
        Question("node", NET1[4].pod, NextHop(HOST_END)),
        Question("node", ETH0[4].pod, NextHop("eth0")),
    ]
    assert_paths(world, questions)


def test_removal_of_all_leaves_nothing_on_the_node() -> None:
    clean = full_state(with_pod(replace(FIRST, coordination=None)))[0]
    for order in (("eth0", "net1"), ("net1", "eth0"), ("net1", "net1", "eth0", "eth0")):
        world = after_removal(with_pod(FIRST, SECOND), *order)
        assert full_state(world)[0] == clean
        assert list(world.sides["pod"].links) == ["lo"]
        assert [rule for rule in world.sides["pod"].rules if rule.source] == []


def test_default_route_taken_from_another_cni_and_given_back() -> None:
    world = Pretend()
    world.other_cni()
    with_pod(second(NETNS, "macvlan", versions=(4,), default_route_nic="net1"), world=world)
    by_eth0 = NextHop("eth0", "10.244.0.1")
    assert_paths(
        world,
        [
            Question("pod", CLIENT[4], NextHop("net1", NET1[4].router)),
            Question("pod", CLIENT[4], by_eth0, source="10.244.0.9"),
        ],
    )
    assert_paths(after_removal(world, "net1"), [Question("pod", CLIENT[4], by_eth0)])


VF3, PHYSICAL = Loan("vf3", permanent_mac="00:16:3e:00:00:03"), "00:16:3e:00:00:03"


def test_lent_device_that_outlived_its_pod() -> None:
    stray, other = Link("dev7", 7, permanent_mac=PHYSICAL), Link("eth0", 8, permanent_mac="00:16:3e:00:00:01")
    steps = plan_removal(CONTAINER, "net1", LeftoverState(None, links=(other, stray)), VF3)
    assert steps[0] == MoveLink("node", "dev7", "vf3")
    back = LeftoverState(None, links=(replace(stray, name="vf3"),))
    assert plan_removal(CONTAINER, "net1", back, VF3) == (DeleteLink("node", HOST_END),)


def test_a_device_with_the_same_permanent_mac_is_not_taken_for_the_lent_one() -> None:
    """On some clouds a virtual function has that of the device that stands for it when it is away."""
    twin, lent = Link("eth0", 2, permanent_mac=PHYSICAL), Link("vf3", 7, permanent_mac=PHYSICAL)
    for links in ((twin, lent), (twin, replace(lent, name="dev7"))):
        assert plan_removal(CONTAINER, "net1", LeftoverState(None, links=links), VF3) == (DeleteLink("node", HOST_END),)
    lent = replace(lent, name="net1")
    steps = plan_removal(CONTAINER, "net1", LeftoverState(PodState((twin, lent))), VF3)
    assert MoveLink("node", "net1", "vf3") in steps


@pytest.mark.parametrize("name", ["net1", "renamed"])
def test_lent_device_goes_back_under_its_name(name: str) -> None:
    own = Link("eth0", 3, kind="macvlan", permanent_mac=PHYSICAL)  # a child has that of its master
    lent = LeftoverState(PodState((own, Link(name, 7, permanent_mac=PHYSICAL))))
    assert plan_removal(CONTAINER, "net1", lent, VF3)[0] == MoveLink("node", name, "vf3")


def test_without_a_loan_nothing_goes_to_the_node() -> None:
    state = LeftoverState(PodState((Link("net1", 7, permanent_mac=PHYSICAL),)))
    assert not any(isinstance(step, MoveLink) for step in plan_removal(CONTAINER, "net1", state))


@pytest.mark.parametrize("made", [Link("net1", 7, kind="dummy", mac=PHYSICAL), Link("net1", 1)])
def test_what_a_pod_puts_in_the_place_of_a_lent_device_stays(made: Link) -> None:
    steps = plan_removal(CONTAINER, "net1", LeftoverState(PodState((made,))), VF3)
    assert not any(isinstance(step, MoveLink) for step in steps)
    assert DeleteLink("pod", "net1") in steps


def test_a_namespace_with_another_containers_path_is_foreign() -> None:
    ours, theirs = veth_mac(CONTAINER, "pod"), veth_mac("another", "pod")
    host_end = Link(HOST_END, 7)

    def state(mac: str, peer: int = 0) -> PodState:
        return PodState((Link("veth0", 3, "veth", mac=mac, parent=peer),))

    assert not is_foreign(CONTAINER, "eth0", state(ours), None)
    assert is_foreign(CONTAINER, "eth0", state(theirs, 7), None)
    assert is_foreign(CONTAINER, "eth0", state(theirs, 8), host_end)
    assert not is_foreign(CONTAINER, "eth0", state(theirs, 7), host_end)  # somebody has changed the MAC


def test_without_a_path_the_addresses_of_other_pods_tell() -> None:
    pod = PodState(addresses=(AddAddress("pod", "eth0", ip_interface("10.9.0.7/16")),))
    taken = frozenset({ip_address("10.9.0.7")})
    assert is_foreign(CONTAINER, "eth0", pod, None, taken)
    assert not is_foreign(CONTAINER, "net1", pod, None, taken)
    assert not is_foreign(CONTAINER, "eth0", pod, None, {ip_address("10.9.0.8")})
    assert not is_foreign(CONTAINER, "eth0", pod, None)
    own = Link("veth0", 3, "veth", mac=veth_mac(CONTAINER, "pod"))
    assert not is_foreign(CONTAINER, "eth0", replace(pod, links=(own,)), None, taken)
