"""Additions after others that were cut short, and devices that are lent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiderpool.core.network.plumbing.naming import MARK, temporary_name
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.removal import plan_removal
from spiderpool.core.network.plumbing.steps import AddRule, DeleteLink, LoadMarks, MoveLink, SetLink
from spiderpool.core.network.plumbing.values import Attachment, Link, Loan, PodState
from spiderpool.errors import KernelFailure
from tests.core.pods import (
    FIRST,
    IDLE_NODE,
    POD_ETH0,
    SECOND,
    THIRD,
    after_removal,
    assert_paths,
    faults,
    full_state,
    with_pod,
)
from tests.core.pretend import Pretend
from tests.kernel.questions import CONTAINER, HOST_END, UNDERLAY, one_interface, two_interfaces

pytestmark = pytest.mark.unit


def test_leftovers_go_first() -> None:
    temporary = temporary_name(CONTAINER, "eth0")
    left = (Link("lo", 1), Link("eth0", 2, "ipvlan"), Link(temporary, 3, "ipvlan"), Link("veth0", 4, "veth"))
    marked = (AddRule("pod", 4, 1000, 100, MARK),)
    steps = plan(POD_ETH0, replace(IDLE_NODE, pod=PodState(left, rules=marked), host_end=Link(HOST_END, 9)))
    clear = (DeleteLink("pod", "eth0"), DeleteLink("pod", temporary), DeleteLink("node", HOST_END))
    assert steps[:3] == clear
    fresh = plan(POD_ETH0, IDLE_NODE)
    assert [step for step in steps[3:] if not isinstance(step, LoadMarks)] == [
        step for step in fresh if not isinstance(step, LoadMarks)
    ]
    assert LoadMarks("pod", "veth0", MARK, flush=True) in steps


def test_link_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(KernelFailure, match="already has eth0, a veth that was not made here"):
        plan(POD_ETH0, replace(IDLE_NODE, pod=PodState((Link("eth0", 2, "veth"),))))


@pytest.mark.parametrize("again", [(FIRST,), (SECOND,), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND)])
def test_repetition_changes_nothing(again: tuple[Attachment, ...]) -> None:
    world = with_pod(FIRST, SECOND)
    before = full_state(world)
    with_pod(*again, world=world)
    if again[0] is FIRST:
        with_pod(SECOND, world=world)
    assert full_state(world) == before
    assert_paths(world, (*two_interfaces(4), *two_interfaces(6)))


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
            world.apply(plan_removal(CONTAINER, name, world.leftovers(CONTAINER))[:length])
        elif name == "eth0" or {"eth0", "veth0"} <= set(world.sides["pod"].links):
            world.apply(plan(every[name], world.observe(every[name]))[:length])
    with_pod(*every.values(), world=world)
    assert [faults(world, one) for one in every.values()] == [(), (), ()]
    assert len(world.sides["pod"].rules) == len(set(world.sides["pod"].rules)) == 8
    after_removal(world, *every)
    assert full_state(world)[0] == full_state(Pretend())[0]


@given(length=st.integers(0, 80))
def test_a_first_addition_that_was_cut_short_leaves_no_trace(length: int) -> None:
    world = Pretend()
    world.apply(plan(FIRST, world.observe(FIRST))[:length])
    with_pod(FIRST, SECOND, world=world)
    assert full_state(world) == full_state(with_pod(FIRST, SECOND))


def test_device_of_the_node_is_lent_and_given_back() -> None:
    world = Pretend()
    world.sides["node"].links["vf3"] = Link("vf3", 7, mac="00:16:3e:00:02:03")
    lent = replace(SECOND, kind="host-device", master="vf3", mtu=1400, loan=Loan("vf3"))
    with_pod(FIRST, lent, world=world)
    assert "vf3" not in world.sides["node"].links
    assert_paths(world, two_interfaces(4))
    again = plan(lent, world.observe(lent))
    assert not any(isinstance(step, MoveLink) for step in again)
    assert SetLink("pod", "net1", mtu=1400) in again
    world.apply(plan_removal(CONTAINER, "net1", world.leftovers(CONTAINER), lent.loan))
    assert "vf3" in world.sides["node"].links
    assert_paths(world, one_interface(4))


def test_half_a_veth_pair_is_made_anew() -> None:
    seen = replace(IDLE_NODE, pod=PodState((Link("veth0", 4, "veth"),)))
    assert plan(POD_ETH0, seen)[0] == DeleteLink("pod", "veth0")
