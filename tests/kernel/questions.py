"""Where packets of a pod and its node must go: the same questions for the pretend kernel and for the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.core.network.plumbing.naming import MARK
from spiderpool.core.network.plumbing.steps import Side
from spiderpool.core.network.plumbing.values import Attachment, Coordination

CONTAINER = "4f1c2d3e5a6b7c8d"
HOST_END = "veth4f1c2d3e5a6"
CLIENT = {4: "203.0.113.77", 6: "2001:db8:9::77"}
SERVICE = {4: "10.233.0.1", 6: "fd00:10::1"}
HIJACKED = {4: "169.254.25.10", 6: "fd00:20::1"}


@dataclass(frozen=True)
class Net:
    """One subnet: the router's address, the node's, another node's, the pod's."""

    router: str
    node: str
    other: str
    pod: str
    length: int


ETH0 = {
    4: Net("172.31.207.253", "172.31.199.183", "172.31.199.184", "172.31.199.187", 20),
    6: Net("2001:db8:1::253", "2001:db8:1::183", "2001:db8:1::184", "2001:db8:1::187", 64),
}
NET1 = {
    4: Net("192.168.0.253", "192.168.0.154", "192.168.0.155", "192.168.0.160", 24),
    6: Net("2001:db8:2::253", "2001:db8:2::154", "2001:db8:2::155", "2001:db8:2::160", 64),
}

UNDERLAY = Coordination(
    mode="auto",
    service_cidrs=(ip_network("10.233.0.0/18"), ip_network("fd00:10::/108")),
    overlay_cidrs=(ip_network("10.233.64.0/18"),),
    hijack_cidrs=(ip_network("169.254.0.0/16"), ip_network("fd00:20::/108")),
)


def interface(
    netns: str,
    kind: str,
    *,
    nets: dict[int, Net] = ETH0,
    versions: tuple[int, ...] = (4, 6),
    coordination: Coordination | None = UNDERLAY,
) -> Attachment:
    """The pod's eth0, on the node's eth0, with an address and a gateway of each family."""
    return Attachment(
        container_id=CONTAINER,
        netns=netns,
        ifname="eth0",
        kind=kind,
        master="eth0",
        addresses=tuple(ip_interface(f"{nets[version].pod}/{nets[version].length}") for version in versions),
        gateways=tuple(ip_address(nets[version].router) for version in versions),
        coordination=coordination,
    )


def second(netns: str, kind: str, *, versions: tuple[int, ...] = (4, 6), **settings: object) -> Attachment:
    """The pod's net1, on the node's second NIC."""
    chosen = replace(UNDERLAY, **settings)  # type: ignore[arg-type]
    attachment = interface(netns, kind, nets=NET1, versions=versions, coordination=chosen)
    return replace(attachment, ifname="net1", master="eth1")


@dataclass(frozen=True)
class NextHop:
    """Through which link and to which gateway (None: on the link) a packet leaves."""

    link: str
    gateway: str | None = None


@dataclass(frozen=True)
class Question:
    """A packet on one side, and the next hop that it must take."""

    side: Side
    destination: str
    expected: NextHop | None
    source: str = ""
    mark: int = 0


def assert_next_hops(route_of: Callable[[Question], NextHop | None], questions: Iterable[Question]) -> None:
    """Every packet takes its expected next hop."""
    assert_answers({question: route_of(question) for question in questions})


def assert_answers(answers: Mapping[Question, NextHop | None]) -> None:
    """Every answer is the expected one."""
    assert [(question, answer) for question, answer in answers.items() if answer != question.expected] == []


def one_interface(version: int) -> tuple[Question, ...]:
    """Packets of a pod that has eth0."""
    net, foreign = ETH0[version], CLIENT[version]
    return (
        Question("pod", net.node, NextHop("veth0")),
        Question("pod", NET1[version].node, NextHop("veth0")),
        Question("pod", net.other, NextHop("eth0")),
        Question("pod", net.router, NextHop("eth0")),
        Question("pod", foreign, NextHop("eth0", net.router)),
        Question("pod", SERVICE[version], NextHop("veth0", net.node)),
        Question("pod", HIJACKED[version], NextHop("veth0", net.node)),
        Question("pod", foreign, NextHop("veth0", net.node), source=net.pod, mark=MARK),
        Question("pod", net.other, NextHop("veth0", net.node), source=net.pod, mark=MARK),
        Question("node", net.pod, NextHop(HOST_END)),
        Question("node", net.pod, NextHop(HOST_END), source=net.node),
        Question("node", net.pod, NextHop(HOST_END), source=NET1[version].node),
    )


def two_interfaces(version: int, default: str = "eth0", link: str = "veth0") -> tuple[Question, ...]:
    """Packets of a pod that has eth0 and net1, whose path to its node is ``link``."""
    eth0, net1, foreign = ETH0[version], NET1[version], CLIENT[version]
    by_default = NextHop("eth0", eth0.router) if default == "eth0" else NextHop("net1", net1.router)
    marked = (
        Question("pod", foreign, NextHop(link, eth0.node), source=net1.pod, mark=MARK),
        Question("pod", foreign, NextHop(link, eth0.node), source=eth0.pod, mark=MARK),
    )
    return (
        Question("pod", foreign, by_default),
        Question("pod", foreign, NextHop("eth0", eth0.router), source=eth0.pod),
        Question("pod", foreign, NextHop("net1", net1.router), source=net1.pod),
        Question("pod", net1.other, NextHop("net1")),
        Question("pod", net1.other, NextHop("net1"), source=net1.pod),
        Question("pod", net1.other, NextHop("eth0", eth0.router), source=eth0.pod),
        Question("pod", eth0.other, NextHop("eth0")),
        Question("pod", eth0.other, NextHop("net1", net1.router), source=net1.pod),
        *(
            Question("pod", node, NextHop(link), source=pod)
            for node in (eth0.node, net1.node)
            for pod in ("", net1.pod)
        ),
        *(Question("pod", SERVICE[version], NextHop(link, eth0.node), source=pod) for pod in ("", eth0.pod, net1.pod)),
        *(marked if link == "veth0" else ()),
        *(Question("node", pod, NextHop(HOST_END)) for pod in (eth0.pod, net1.pod) if link == "veth0"),
        *(Question("node", net1.pod, NextHop(HOST_END), source=node) for node in (eth0.node, net1.node)),
    )
