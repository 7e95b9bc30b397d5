"""Steps on a real kernel: in order, and for removals all of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar, get_args

import pytest

from spiderpool.core.network.plumbing.steps import (
    AddAddress,
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
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import AddressHeld, KernelFailure
from spiderpool.kernel import applying, rtnetlink
from spiderpool.kernel.applying import apply, apply_all
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import Kernel, Netns, opened_kernel
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


class _Refusing(rtnetlink.Socket):
    """A kernel that refuses every request with one error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        raise rtnetlink.NetlinkError(kind, self._code, os.strerror(self._code))


@pytest.mark.unit
@pytest.mark.parametrize("code", [errno.EADDRINUSE, errno.EEXIST])
def test_an_address_that_another_link_has_is_a_conflict(code: int) -> None:
    pod = Netns("pod", _Refusing(code), -1, {"eth0": Link("eth0", 2)})
    kernel = Kernel(Netns("node", _Refusing(code), -1), pod, ExitStack())
    address = AddAddress("pod", "eth0", ip_interface("10.9.0.7/16"))
    with pytest.raises(AddressHeld, match=r"address 10\.9\.0\.7/16"):
        apply(kernel, [address])
    with pytest.raises(KernelFailure):
        apply(kernel, [AddRoute("pod", ip_network("10.9.0.0/16"), "eth0")])
