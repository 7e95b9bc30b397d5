"""A pod asks the cloud's metadata service for the keys of its server's role, by each way that leads there."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks, metadata_filter, rtnetlink, traffic_control
from spiderpool.kernel.programs import IPTABLES
from spiderpool_lab import namespaces
from tests.kernel.environment import NODE, World, run, seen_by, serve
from tests.kernel.questions import CONTAINER, ETH0, NET1, SERVICE, interface, second

pytestmark = pytest.mark.lab

METADATA, NAME_SERVER = "100.100.100.200", "100.100.2.136"
PORT = 80
PAYLOAD = b"give me the keys"
ADDRESS = IPv4Address(METADATA)

block, unblock = partial(metadata_filter.load, ADDRESS), partial(metadata_filter.unload, ADDRESS)
through_node = metadata_filter.through_node(ADDRESS)


@pytest.fixture
async def cloud(wide: World) -> AsyncIterator[World]:
    """The network beyond the node has the cloud's services."""
    wide.batch(wide.router, *(f"address add {each}/32 dev lo" for each in (METADATA, NAME_SERVER)))
    server = await serve(wide.router, PORT)
    yield wide
    server.close()


def on_node(world: World, work: Callable[[], None]) -> None:
    namespaces.call_in(world.node, work)


async def reaches(namespace: str | Path, address: str, source: str = "") -> bool:
    try:
        await seen_by(namespace, address, PORT, source=source, timeout=1)
    except (TimeoutError, OSError):
        return False
    return True


async def test_by_the_pods_own_nic(cloud: World, kind: str) -> None:
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    await interfaces.add(second(pod, kind, versions=(4,)), node=cloud.node)
    sources = (ETH0[4].pod, NET1[4].pod)
    assert [await reaches(pod, METADATA, source) for source in sources] == [True, True]
    for _ in range(2):
        on_node(cloud, block)
        assert [await reaches(pod, METADATA, source) for source in sources] == [False, False]
        assert await reaches(pod, NAME_SERVER)
        assert await reaches(cloud.node, METADATA)
        assert await reaches(cloud.node, METADATA, NODE)
    gained = "172.31.199.99"
    cloud.ip(cloud.node, "address", "add", f"{gained}/20", "dev", "eth0")
    on_node(cloud, block)
    assert await reaches(cloud.node, METADATA, gained)
    assert not await reaches(pod, METADATA)
    on_node(cloud, unblock)
    assert await reaches(pod, METADATA)
    await interfaces.remove(CONTAINER, pod, "net1", node=cloud.node)
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


async def test_addresses_that_are_allowed_pass_by_the_pods_own_nic(cloud: World, kind: str) -> None:
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    await interfaces.add(second(pod, kind, versions=(4,)), node=cloud.node)
    sources = (ETH0[4].pod, NET1[4].pod)
    for allowed in ((True, False), (False, True), (True, True), (False, False)):
        passing = [IPv4Address(source) for source, passes in zip(sources, allowed, strict=True) if passes]
        on_node(cloud, partial(block, passing))
        assert [await reaches(pod, METADATA, source) for source in sources] == [*allowed]
        assert await reaches(cloud.node, METADATA)
    on_node(cloud, unblock)
    await interfaces.remove(CONTAINER, pod, "net1", node=cloud.node)
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


def frame(vlans: Sequence[int], destination: str, source: str = ETH0[4].pod) -> bytes:
    """A broadcast UDP packet; its Ethernet header has a tag of each of the given kinds."""
    udp = struct.pack("!HHHH", 4242, PORT, 8 + len(PAYLOAD), 0) + PAYLOAD
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    tags = b"".join(struct.pack("!HH", kind, 5) for kind in vlans)
    return b"\xff" * 6 + bytes.fromhex("0216 3e00 0001") + tags + struct.pack("!H", 0x0800) + header + udp


def leaves(world: World, where: str | Path, sent: bytes, protocol: int = 0) -> bool:
    """Whether a frame comes to the router that a packet socket has sent by eth0, as one of a protocol that it names."""
    all_protocols = socket.htons(0x0003)
    with (
        namespaces.open_socket(world.router, socket.AF_PACKET, socket.SOCK_RAW, all_protocols) as router,
        namespaces.open_socket(Path(where), socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
    ):
        sender.bind(("eth0", protocol))
        with contextlib.suppress(OSError):  # the kernel says so to the sender: No buffer space available
            sender.send(sent)
        router.settimeout(0.5)
        try:
            while PAYLOAD not in router.recv(2048):
                pass
        except TimeoutError:
            return False
    return True


TAGS = [(), (0x8100,), (0x88A8,), (0x9100,), (0x8100, 0x8100), (0x88A8, 0x8100), (0x8100,) * 3]


@pytest.mark.parametrize("vlans", TAGS, ids=lambda tags: "-".join(map(hex, tags)) or "untagged")
async def test_frames_that_a_packet_socket_makes(cloud: World, kind: str, vlans: tuple[int, ...]) -> None:
    """They may carry the tags of VLANs; a device of a VLAN in the pod makes the same."""
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    assert leaves(cloud, pod, frame(vlans, METADATA))
    on_node(cloud, block)
    assert not leaves(cloud, pod, frame(vlans, METADATA))
    known = len(vlans) < 3
    assert leaves(cloud, pod, frame(vlans, NAME_SERVER)) is known
    assert leaves(cloud, cloud.node, frame(vlans, METADATA, NODE)) is known
    on_node(cloud, partial(block, [IPv4Address(ETH0[4].pod)]))
    assert leaves(cloud, pod, frame(vlans, METADATA)) is known
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


@pytest.mark.parametrize("protocol", [0x0003, 0x0806, 0x8100, 0x86DD, 0x1234], ids=hex)
async def test_the_protocol_that_a_packet_socket_names(cloud: World, kind: str, protocol: int) -> None:
    """It is what the kernel takes the frame for, whatever its header says."""
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    for vlans in ((), (0x8100,)):
        on_node(cloud, unblock)
        assert leaves(cloud, pod, frame(vlans, METADATA), protocol)
        on_node(cloud, block)
        assert not leaves(cloud, pod, frame(vlans, METADATA), protocol)
        assert leaves(cloud, pod, frame(vlans, NAME_SERVER), protocol)
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


@pytest.mark.parametrize("made", [True, False], ids=["our qdisc", "another's qdisc"])
async def test_a_filter_of_untagged_packets_alone_is_replaced(cloud: World, made: bool) -> None:
    """As earlier agents have set it."""
    tc = ("tc", "-n", cloud.node.name)
    before = run(*tc, "qdisc")
    run(*tc, "qdisc", "add", "dev", "eth0", "clsact")
    priority, handle = str(traffic_control.PRIORITY), "1" if not made else "2"
    earlier = ("protocol", "ip", "pref", priority, "handle", handle, "bpf", "bytecode", "1,6 0 0 0", "direct-action")
    run(*tc, "filter", "add", "dev", "eth0", "egress", *earlier)
    on_node(cloud, block)
    shown = run(*tc, "filter", "show", "dev", "eth0", "egress")
    assert (shown.count("handle"), "protocol all" in shown) == (1, True)
    on_node(cloud, unblock)
    assert (run(*tc, "qdisc") == before) is made


async def test_through_the_node(cloud: World, kind: str) -> None:
    """By a route of the pod's own, and by a Service whose endpoint is the metadata service."""
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    to = ("-j", "DNAT", "--to-destination", f"{METADATA}:{PORT}")
    nat = (IPTABLES[4], "-t", "nat", "-A")
    cloud.inside(cloud.node, *nat, "PREROUTING", "-d", SERVICE[4], "-p", "tcp", "--dport", str(PORT), *to)
    cloud.inside(cloud.node, *nat, "POSTROUTING", "-d", METADATA, "-j", "MASQUERADE")
    cloud.ip(pod, "route", "add", METADATA, "via", ETH0[4].node, "dev", "veth0", "src", ETH0[4].pod)
    targets = (METADATA, SERVICE[4])
    assert [await reaches(pod, one) for one in targets] == [True, True]
    on_node(cloud, through_node.load)
    assert [await reaches(pod, one) for one in targets] == [False, False]
    on_node(cloud, through_node.unload)
    assert [await reaches(pod, one) for one in targets] == [True, True]
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


@pytest.fixture(params=["any", "iptables"])
def packet_filter(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the node has, and iptables alone."""
    if request.param == "iptables":
        (tmp_path / "nft").write_text("#!/bin/sh\necho 'Operation not supported' >&2\nexit 1\n")
        (tmp_path / "nft").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])


@pytest.mark.usefixtures("packet_filter")
async def test_addresses_that_are_allowed_pass_through_the_node(cloud: World, kind: str) -> None:
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    cloud.inside(cloud.node, IPTABLES[4], "-t", "nat", "-A", "POSTROUTING", "-d", METADATA, "-j", "MASQUERADE")
    cloud.ip(pod, "route", "add", METADATA, "via", ETH0[4].node, "dev", "veth0", "src", ETH0[4].pod)
    others = [IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")]
    for allowed, passes in ((others, False), ([*others, IPv4Address(ETH0[4].pod)], True), ([], False)):
        on_node(cloud, metadata_filter.through_node(ADDRESS, allowed).load)
        assert await reaches(pod, METADATA) is passes
    on_node(cloud, through_node.unload)
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


@pytest.mark.usefixtures("packet_filter")
async def test_what_is_translated_for_an_address_that_is_allowed_passes(cloud: World) -> None:
    """The connection's first source counts; here it is the node's, as a pod's would be with IPVS."""
    to = ("-j", "DNAT", "--to-destination", f"{METADATA}:{PORT}")
    nat = (IPTABLES[4], "-t", "nat", "-A", "OUTPUT", "-d", SERVICE[4], "-p", "tcp", "--dport", str(PORT))
    cloud.inside(cloud.node, *nat, *to)
    for allowed, passes in (([IPv4Address("10.0.0.1")], False), ([IPv4Address(NODE)], True), ([], False)):
        on_node(cloud, metadata_filter.through_node(ADDRESS, allowed).load)
        assert await reaches(cloud.node, SERVICE[4], NODE) is passes
    on_node(cloud, through_node.unload)
    saved = cloud.inside(cloud.node, "sh", "-c", "(iptables-legacy-save; nft list ruleset) 2>/dev/null || true")
    assert metadata_filter.CHAIN not in saved
    assert metadata_filter.TABLE not in saved


@pytest.mark.usefixtures("packet_filter")
async def test_what_the_node_translates_on_its_way_out(cloud: World) -> None:
    """As IPVS does for a pod: the node's netfilter sees it leave, and not pass. What the node itself sends passes."""
    to = ("-j", "DNAT", "--to-destination", f"{METADATA}:{PORT}")
    nat = (IPTABLES[4], "-t", "nat", "-A", "OUTPUT", "-d", SERVICE[4], "-p", "tcp", "--dport", str(PORT))
    cloud.inside(cloud.node, *nat, *to)
    targets = (METADATA, SERVICE[4])
    assert [await reaches(cloud.node, one) for one in targets] == [True, True]
    for _ in range(2):
        on_node(cloud, through_node.load)
        assert [await reaches(cloud.node, one) for one in targets] == [True, False]
    on_node(cloud, through_node.unload)
    assert [await reaches(cloud.node, one) for one in targets] == [True, True]


def test_filters_of_others_stay(wide: World) -> None:
    tc = ("tc", "-n", wide.node.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "clsact")
    match = ("protocol", "ip", "u32", "match", "ip", "dst", "203.0.113.1/32", "classid", "1:1")
    run(*tc, "filter", "add", "dev", "eth0", "egress", "pref", "5", *match)
    shown = (*tc, "filter", "show", "dev", "eth0", "egress")
    before = run(*shown)
    on_node(wide, block)
    assert f"pref {traffic_control.PRIORITY} bpf" in run(*shown)
    on_node(wide, unblock)
    assert run(*shown) == before


def test_a_qdisc_that_we_have_made_goes_with_the_filter(wide: World) -> None:
    tc = ("tc", "-n", wide.node.name)
    before = run(*tc, "qdisc")
    for _ in range(2):
        on_node(wide, block)
        assert "clsact" in run(*tc, "qdisc")
        wide.ip(wide.node, "address", "add", "172.31.199.99/20", "dev", "eth0")
        on_node(wide, block)  # the filter is replaced
        wide.ip(wide.node, "address", "del", "172.31.199.99/20", "dev", "eth0")
        on_node(wide, unblock)
        assert run(*tc, "qdisc") == before
        on_node(wide, unblock)


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_a_qdisc_that_others_use_as_well_stays(wide: World, side: str) -> None:
    tc = ("tc", "-n", wide.node.name)
    on_node(wide, block)
    match = ("protocol", "ip", "u32", "match", "ip", "dst", "203.0.113.1/32", "classid", "1:1")
    run(*tc, "filter", "add", "dev", "eth0", side, "pref", "5", *match)
    on_node(wide, unblock)
    assert "u32" in run(*tc, "filter", "show", "dev", "eth0", side)
    assert "bpf" not in run(*tc, "filter", "show", "dev", "eth0", "egress")


def test_no_qdisc_stays_where_the_kernel_refuses_the_filter(wide: World) -> None:
    before = run("tc", "-n", wide.node.name, "qdisc")
    too_many = [IPv4Address(number) for number in range(3000)]  # a program has at most 4,096 instructions

    def refused() -> None:
        with contextlib.closing(rtnetlink.Socket()) as kernel:
            index = socket.if_nametoindex("eth0")
            with pytest.raises(KernelFailure, match="could not be set"):
                traffic_control.drop_except(kernel, index, ADDRESS, too_many)

    on_node(wide, refused)
    assert run("tc", "-n", wide.node.name, "qdisc") == before


def test_a_qdisc_that_was_there_stays(wide: World) -> None:
    tc = ("tc", "-n", wide.node.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "clsact")
    before = run(*tc, "qdisc")
    on_node(wide, block)
    on_node(wide, unblock)
    assert run(*tc, "qdisc") == before


def test_where_the_kernel_cannot_filter_a_nic_it_is_said(wide: World) -> None:
    """The ways through the node and by the other NIC are closed all the same."""
    tc = ("tc", "-n", wide.node.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "ingress")  # in the place of clsact
    with pytest.raises(KernelFailure, match="pods reach the metadata service by eth0: "):
        on_node(wide, block)
    rules = wide.inside(wide.node, "sh", "-c", "(nft list ruleset; iptables-legacy-save) 2>/dev/null || true")
    assert metadata_filter.TABLE in rules
    assert "bpf" in run(*tc, "filter", "show", "dev", "eth1", "egress")
