"""A pod with NET_ADMIN writes into its network namespace what the agent reads there: none of it decides on the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spiderpool.agent.interfaces import remove
from spiderpool.core.network.plumbing.naming import temporary_name
from spiderpool.core.network.plumbing.values import Loan
from tests.kernel.environment import World

pytestmark = pytest.mark.lab

CONTAINER = "4f1c2d3e5a6b7c8d"
VICTIM = "172.31.199.77"


def links(world: World, namespace: str | Path) -> dict[str, Any]:
    return {link["ifname"]: link for link in json.loads(world.ip(namespace, "-json", "-details", "link"))}


@pytest.mark.parametrize("name", ["evil0", "eth0"])
async def test_an_alias_moves_no_link_to_the_node_and_does_not_stop_the_removal(world: World, name: str) -> None:
    pod = world.pod()
    alias = f"{temporary_name(CONTAINER, 'eth0')} {name}"
    world.batch(Path(pod), "link add eth0 type veth peer other", f'link set eth0 alias "{alias}"')
    before = {*links(world, world.node)}
    await remove(CONTAINER, pod, "eth0", node=world.node)
    assert {*links(world, world.node)} == before
    assert {*links(world, pod)} == {"lo"}


@pytest.mark.parametrize("loan", [Loan("vf3"), Loan("vf3", permanent_mac="00:16:3e:00:00:03")])
async def test_a_link_in_the_place_of_a_lent_device_stays_in_the_pod(world: World, loan: Loan) -> None:
    """The pod has hidden the virtual function of a NIC that it borrows, and made a link of its name and MAC."""
    pod = world.pod()
    world.batch(Path(pod), "link add net1 address 00:16:3e:00:00:03 type veth peer other")
    await remove(CONTAINER, pod, "net1", loan, node=world.node)
    assert "vf3" not in links(world, world.node)
    assert {*links(world, pod)} == {"lo"}


async def test_the_loopback_under_another_name_does_not_stop_the_removal(world: World) -> None:
    pod = world.pod()
    world.batch(Path(pod), "link set lo down", "link set lo name eth0")
    for _ in range(2):
        await remove(CONTAINER, pod, "eth0", node=world.node)


async def test_indexes_of_another_pods_pair_do_not_give_its_path_away(world: World) -> None:
    """The pod makes a pair of its own with the indexes of the victim's, and takes the victim's address."""
    victim, pod = world.pod("victim"), world.pod()
    world.batch(
        world.node,
        f"link add vethvictim type veth peer eth0 netns {Path(victim).name}",
        "link set vethvictim up",
        f"route add {VICTIM} dev vethvictim table 500",
        f"neighbour add {VICTIM} lladdr 02:00:00:00:00:77 dev vethvictim nud permanent",
    )
    outer, inner = links(world, world.node)["vethvictim"]["ifindex"], links(world, victim)["eth0"]["ifindex"]
    world.batch(
        Path(pod),
        f"link add name eth0 index {inner} type veth peer name other index {outer}",
        "link add net1 type veth peer far",
        f"address add {VICTIM}/32 dev eth0",
        "address add 172.31.199.88/32 dev net1",
    )
    await remove(CONTAINER, pod, "eth0", node=world.node)
    assert VICTIM in world.ip(world.node, "route", "show", "table", "500")
    assert VICTIM in world.ip(world.node, "neighbour", "show", "nud", "permanent")
