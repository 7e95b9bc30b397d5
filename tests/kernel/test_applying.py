"""Steps on a real kernel: in order, and for removals all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import TypeVar, get_args

import pytest

from spiderpool.core.network.plumbing.steps import (
    AddNeighbour,
    AddRoute,
    AddRule,
    DeleteLink,
    Enslave,
    Remove,
    SetLink,
    SetSysctl,
    Step,
)
from spiderpool.errors import KernelFailure
from spiderpool.kernel import applying
from spiderpool.kernel.applying import apply, apply_all
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import Kernel, opened_kernel
from tests.kernel.environment import World

T = TypeVar("T")

ROUTE = AddRoute("node", ip_network("10.9.0.0/16"), "eth0", table=500)
RULE = AddRule("node", 4, 1000, 500)
NEIGHBOUR = AddNeighbour("node", "eth0", ip_address("172.31.199.9"), "02:00:00:00:00:09")


async def _in_node(world: World, work: Callable[[Kernel], T]) -> T:
    def body() -> T:
        with opened_kernel(None, world.node, ExitStack()) as kernel:
            return work(kernel)

    return await run_inside(None, body)


@pytest.mark.unit
def test_every_type_of_step_can_be_carried_out() -> None:
    assert set(applying._EXECUTORS) == set(get_args(Step))


@pytest.mark.lab
async def test_what_exists_is_added_and_what_is_absent_is_removed_with_success(world: World) -> None:
    steps: tuple[AddRule | AddRoute | AddNeighbour, ...] = (RULE, ROUTE, NEIGHBOUR)
    removals: tuple[Step, ...] = (
        *map(Remove, steps),
        Remove(AddRoute("node", ROUTE.destination, "eth7")),
        DeleteLink("node", "eth7"),
    )
    for _ in range(2):
        await _in_node(world, lambda kernel: apply(kernel, steps))
    for _ in range(2):
        await _in_node(world, lambda kernel: apply(kernel, removals))
    assert world.ip(world.node, "route", "show", "table", "all").count("10.9.0.0/16") == 0


@pytest.mark.lab
async def test_an_addition_stops_at_the_first_failure(world: World) -> None:
    steps: tuple[Step, ...] = (SetLink("node", "eth7"), RULE)
    with pytest.raises(KernelFailure, match="eth7 has disappeared"):
        await _in_node(world, lambda kernel: apply(kernel, steps))
    assert "1000:" not in world.ip(world.node, "rule")


@pytest.mark.lab
async def test_a_removal_goes_on_after_failures_and_reports_them_all(world: World) -> None:
    world.ip(world.node, "link", "add", "stale", "type", "veth", "peer", "far")
    steps: tuple[Step, ...] = (
        SetLink("pod", "eth0"),
        SetSysctl("node", "net/ipv4/nonsense", "1"),
        Enslave("node", "stale", "lo"),
        DeleteLink("node", "stale"),
    )
    with pytest.raises(KernelFailure) as caught:
        await _in_node(world, lambda kernel: apply_all(kernel, steps))
    for words in ("the pod's network namespace is gone", "sysctl net/ipv4/nonsense", "enslave stale to lo"):
        assert words in caught.value.message
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert "stale" not in world.ip(world.node, "link")


@pytest.mark.lab
async def test_one_failure_of_a_removal_is_reported_as_it_is(world: World) -> None:
    steps: tuple[Step, ...] = (SetLink("node", "eth7"), DeleteLink("node", "eth0"))
    with pytest.raises(KernelFailure, match=r"^node: eth7 has disappeared"):
        await _in_node(world, lambda kernel: apply_all(kernel, steps))
