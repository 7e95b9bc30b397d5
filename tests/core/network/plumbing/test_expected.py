"""What a namespace has after a plan, held against the pretend kernel that carries the same plans out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.network.plumbing.expected import after
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import CreateVeth, DeleteLink, MoveLink, Remove
from spiderpool.core.network.plumbing.values import Attachment, Link, PodState
from tests.core.pods import FIRST, SECOND
from tests.core.pretend import Pretend

pytestmark = pytest.mark.unit


def both(*attachments: Attachment) -> tuple[PodState, PodState]:
    """A pod after the same plans: as values, and in the pretend kernel."""
    kernel, state = Pretend(), PodState((Link("lo", 1),))
    for attachment in attachments:
        steps = plan(attachment, kernel.observe(attachment))
        kernel.apply(steps)
        state = after(state, steps)
    return state, kernel.pod()


@pytest.mark.parametrize(
    "attachments",
    [(FIRST,), (FIRST, SECOND), (FIRST, replace(SECOND, mode="l3")), (replace(FIRST, coordination=None),)],
)
def test_it_is_what_a_kernel_would_have(attachments: tuple[Attachment, ...]) -> None:
    state, kernel = both(*attachments)
    assert [(link.name, link.kind) for link in state.links] == [(link.name, link.kind) for link in kernel.links]
    assert set(state.addresses) == set(kernel.addresses)
    assert set(state.routes) == set(kernel.routes)
    assert set(state.rules) == set(kernel.rules)
    assert set(state.neighbours) == set(kernel.neighbours)


def test_a_link_goes_with_what_it_has() -> None:
    state, _ = both(FIRST)
    left = after(state, [DeleteLink("pod", "eth0")])
    assert [link.name for link in left.links] == ["lo", "veth0"]
    assert [held for held in left.addresses if held.link == "eth0"] == []
    assert [route for route in left.routes if route.link == "eth0"] == []


def test_what_is_removed_is_gone() -> None:
    state, _ = both(FIRST)
    assert after(state, [Remove(rule) for rule in state.rules]).rules == ()
    assert after(state, [Remove(route) for route in state.routes]).routes == ()
    assert after(state, [Remove(each) for each in state.neighbours]).neighbours == ()


def test_a_device_of_the_node_comes_under_its_new_name() -> None:
    assert after(PodState(), [MoveLink("pod", "eth3", "net1")]).link("net1") is not None


def test_steps_of_the_node_change_nothing_but_the_end_of_the_pair() -> None:
    state = after(PodState(), [CreateVeth("node", "veth1", "02:0", "veth0", "02:1", 1500), DeleteLink("node", "veth0")])
    assert [link.name for link in state.links] == ["veth0"]
