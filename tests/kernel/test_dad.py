"""Duplicate address detection on a real link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from spiderpool.errors import AddressInUse
from spiderpool.kernel.dad import wait_for_dad
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import opened_kernel
from tests.kernel.environment import World
from tests.support.eventually import eventually

pytestmark = pytest.mark.lab

ADDRESS = "2001:db8:7::7"


@pytest.fixture(autouse=True)
def detection(world: World) -> None:
    """The node looks for duplicates of its addresses, as nodes do."""
    world.inside(world.node, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=1")


async def _wait(world: World, check: Callable[[], None] = lambda: None) -> None:
    def body() -> None:
        with opened_kernel(None, world.node, ExitStack()) as kernel:
            wait_for_dad(kernel.node, "eth0", check)

    await run_inside(None, body)


async def test_an_address_is_usable_afterwards(world: World) -> None:
    world.ip(world.node, "address", "add", f"{ADDRESS}/64", "dev", "eth0")
    shown = ("address", "show", "dev", "eth0", "scope", "global")
    assert "tentative" in world.ip(world.node, *shown)
    await _wait(world)
    assert "tentative" not in world.ip(world.node, *shown)


async def test_link_local_addresses_are_not_waited_for(world: World) -> None:
    world.ip(world.node, "link", "set", "eth0", "down")
    world.ip(world.node, "link", "set", "eth0", "up")
    await eventually(lambda: "tentative" in world.ip(world.node, "address", "show", "dev", "eth0"), "detection")

    def refuse() -> None:
        pytest.fail("it waits")

    await _wait(world, refuse)
    assert "tentative" in world.ip(world.node, "-6", "address", "show", "dev", "eth0", "scope", "link")


async def test_a_duplicate_is_reported(world: World) -> None:
    world.ip(world.router, "address", "add", f"{ADDRESS}/64", "dev", "port", "nodad")
    world.ip(world.node, "address", "add", f"{ADDRESS}/64", "dev", "eth0")
    with pytest.raises(AddressInUse, match=f"{ADDRESS} of eth0 is used by somebody else"):
        await _wait(world)


async def test_the_check_may_end_the_wait(world: World) -> None:
    def give_up() -> None:
        raise InterruptedError

    world.ip(world.node, "address", "add", f"{ADDRESS}/64", "dev", "eth0")
    with pytest.raises(InterruptedError):
        await _wait(world, give_up)
