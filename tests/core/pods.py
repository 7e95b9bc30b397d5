"""Pods for the tests of core.network.plumbing: on a node with a given state, and on a pretend kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.core.network.plumbing.drift import find_drift
from spiderpool.core.network.plumbing.planning import full_plan, plan
from spiderpool.core.network.plumbing.removal import plan_removal
from spiderpool.core.network.plumbing.values import Attachment, Coordination, Link, NodeAddress, Observation
from tests.core.pretend import Pretend
from tests.kernel.questions import CONTAINER, Question, assert_next_hops, interface, second

NODE, SECOND_NIC = "172.31.199.183", "192.168.0.154"
NETNS = "/run/netns/p"
POD, GATEWAY = "172.31.199.187", "172.31.207.253"

SETTINGS = Coordination(
    mode="underlay",
    service_cidrs=(ip_network("10.233.0.0/18"),),
    overlay_cidrs=(ip_network("10.233.64.0/18"),),
    hijack_cidrs=(ip_network("169.254.0.0/16"),),
)
POD_ETH0 = Attachment(
    container_id=CONTAINER,
    netns=NETNS,
    ifname="eth0",
    kind="ipvlan",
    master="eth0",
    addresses=(ip_interface(f"{POD}/20"),),
    gateways=(ip_address(GATEWAY),),
    coordination=SETTINGS,
)
NIC = Link("eth0", 2, mac="00:16:3e:00:01:02", mtu=1500)
IDLE_NODE = Observation(
    master=NIC,
    addresses=(
        NodeAddress("eth1", ip_address(SECOND_NIC)),
        NodeAddress("eth0", ip_address(NODE)),
        NodeAddress("docker0", ip_address("172.17.0.1")),
        NodeAddress("eth0", ip_address("fe80::1")),
    ),
    sources=(ip_address(NODE),),
)

FIRST = interface(NETNS, "ipvlan")
SECOND = second(NETNS, "ipvlan")
THIRD = replace(
    SECOND,
    ifname="net2",
    addresses=(ip_interface("192.168.0.170/24"), ip_interface("2001:db8:2::170/64")),
)


def with_pod(*attachments: Attachment, world: Pretend | None = None) -> Pretend:
    """A node and a pod after ADDs of these interfaces."""
    world = world or Pretend()
    for attachment in attachments:
        world.apply(plan(attachment, world.observe(attachment)))
    return world


def after_removal(world: Pretend, *names: str) -> Pretend:
    """The node and the pod after DELs of these interfaces."""
    for name in names:
        world.apply(plan_removal(CONTAINER, name, world.leftovers(CONTAINER)))
    return world


def faults(world: Pretend, attachment: Attachment) -> tuple[str, ...]:
    """The result of CHECK for an interface."""
    seen = world.observe(attachment)
    return find_drift(full_plan(attachment, seen), replace(world.present(), master=seen.master))


def full_state(world: Pretend) -> tuple[object, ...]:
    """The state of node and pod, without link indexes and the node's rule that serves all pods."""
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


def assert_paths(world: Pretend, questions: Iterable[Question]) -> None:
    """Every packet takes its expected next hop."""
    assert_next_hops(world.route_of, questions)
