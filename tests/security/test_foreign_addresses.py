"""A pod asks another IPAM plugin for an address that is somebody else's: the node's own traffic does not go to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import COORDINATOR, PATIENCE, AttachingNode, attaching_node, macvlan, network
from tests.agent.runtime import Container, Json, Refusal
from tests.kernel.environment import NODE, ROUTER
from tests.kernel.questions import ETH0
from tests.support.eventually import wait_until

pytestmark = [
    *(pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)),
    pytest.mark.usefixtures("nothing_is_left"),
]

METADATA = "100.100.100.200"
EVERYWHERE = COORDINATOR | {"ipamCIDR": ["0.0.0.0/0"]}
FREE, GAINED = "172.31.199.66", "172.31.199.99"


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        yield node


def static(address: str, coordinator: Json = EVERYWHERE) -> Json:
    """A network of the reference plugins whose pods get the address that they ask for."""
    ipam = {"type": "static", "addresses": [{"address": f"{address}/20", "gateway": ROUTER}]}
    return network("static", {"type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": ipam}, coordinator)


def way(node: AttachingNode, address: str) -> str:
    """The link by which the node sends to an address."""
    words = node.world.ip(node.world.node, "route", "get", address).split()
    return words[words.index("dev") + 1]


def refused(node: AttachingNode, pod: Container, net: Json) -> str:
    """Why an ADD is refused; what it has begun is taken away as a runtime does."""
    with pytest.raises(Refusal) as caught:
        node.runtime.add(net, pod)
    node.runtime.delete(net, pod, {})
    return caught.value.message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (METADATA, "metadata service"),
        ("169.254.169.254", "link-local"),
        (ROUTER, "a gateway of this node"),
        (NODE, "is configured on eth0 of this node"),
        ("10.233.0.10", "Service CIDR"),
    ],
)
def test_the_address_of_somebody_else(node: AttachingNode, address: str, words: str) -> None:
    before = way(node, address)
    pod = node.pod("thief")
    assert words in refused(node, pod, static(address))
    assert way(node, address) == before


def test_the_address_of_another_pod(node: AttachingNode) -> None:
    """Of one that has it of Spiderpool, and of one that has it of another plugin."""
    victim, other = node.pod("victim"), node.pod("other")
    spiderpool = network("pools", macvlan("eth0", "eth0-v4"), COORDINATOR)
    first = node.runtime.add(spiderpool, victim)
    second = node.runtime.add(static(FREE), other)
    ends = way(node, ETH0[4].pod), way(node, FREE)
    thief = node.pod("thief")
    assert "pod default/victim has it" in refused(node, thief, static(ETH0[4].pod))
    assert "pod default/other has it" in refused(node, thief, static(FREE))
    assert (way(node, ETH0[4].pod), way(node, FREE)) == ends
    assert ends == tuple(f"veth{each.identifier[:11]}" for each in (victim, other))
    node.runtime.delete(static(FREE), other, second)
    node.runtime.delete(spiderpool, victim, first)


@pytest.mark.parametrize("declared", [[], ["172.31.200.0/24"]])
def test_an_address_outside_the_subnets_that_the_administrator_declares(
    node: AttachingNode, declared: list[str]
) -> None:
    pod = node.pod("outside")
    message = refused(node, pod, static(FREE, COORDINATOR | {"ipamCIDR": declared}))
    assert f"eth0 has {FREE}" in message
    assert "add its subnet to ipamCIDR" in message
    assert way(node, FREE) == "eth0"


def test_a_route_that_is_made_again_obeys_the_same_rule(node: AttachingNode) -> None:
    """The pod's address has become a gateway of the node, and another program has flushed the node's table."""
    pod = node.pod("later")
    result = node.runtime.add(static(FREE), pod)
    end = f"veth{pod.identifier[:11]}"
    assert way(node, FREE) == end
    node.world.ip(node.world.node, "route", "add", "198.51.100.0/24", "via", FREE, "dev", "eth0", "onlink")
    node.world.ip(node.world.node, "route", "flush", "table", "500")
    node.world.ip(node.world.node, "address", "add", GAINED, "dev", "eth0")
    wait_until(lambda: GAINED in node.world.ip(pod.netns, "route"), "the agent's look at the pod", timeout=PATIENCE)
    node.world.ip(node.world.node, "address", "delete", GAINED, "dev", "eth0")
    assert way(node, FREE) == "eth0"
    node.runtime.delete(static(FREE), pod, result)
