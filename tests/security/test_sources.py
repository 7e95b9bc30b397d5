"""A pod with NET_RAW sends through its path to the node with the address of somebody else as source."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.core.network.plumbing.naming import veth_mac
from spiderpool.core.network.plumbing.refresh import PathSettings
from spiderpool.kernel import sources
from spiderpool.kernel.namespaces import opened, run_inside
from spiderpool_lab import namespaces
from tests.kernel.environment import World
from tests.kernel.questions import CLIENT, CONTAINER, ETH0, HOST_END, NET1, interface, second

pytestmark = pytest.mark.lab

PAYLOAD = b"under a false flag"
ETHERNET = {4: 0x0800, 6: 0x86DD}
NET2 = {4: replace(NET1[4], pod="192.168.0.170"), 6: replace(NET1[6], pod="2001:db8:2::170")}
OWN = {"eth0": ETH0, "net1": NET1, "net2": NET2}
VICTIM = {4: "172.31.199.77", 6: "2001:db8:1::77"}


def frame(source: str, destination: str) -> bytes:
    """A UDP packet in an Ethernet frame from the pod's end of its path to the node's."""
    length = 8 + len(PAYLOAD)
    udp = struct.pack("!HHHH", 4242, 4242, length, 0) + PAYLOAD
    ends = ip_address(source).packed + ip_address(destination).packed
    version = ip_address(source).version
    if version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
        total = sum(struct.unpack("!10H", header))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        header = header[:10] + checksum.to_bytes(2) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + ends
    macs = b"".join(bytes.fromhex(veth_mac(CONTAINER, end).replace(":", "")) for end in ("node", "pod"))
    return macs + ETHERNET[version].to_bytes(2) + header + udp


def forwarded(world: World, pod: str, source: str, destination: str) -> bool:
    """Whether a packet that the pod sends through veth0 leaves the node."""
    kind = socket.htons(ETHERNET[ip_address(source).version])
    with (
        namespaces.open_socket(world.router, socket.AF_PACKET, socket.SOCK_RAW, kind) as router,
        namespaces.open_socket(world.node, socket.AF_PACKET, socket.SOCK_RAW, kind) as node,
    ):
        with namespaces.open_socket(Path(pod), socket.AF_PACKET, socket.SOCK_RAW, 0) as pods:
            pods.bind(("veth0", 0))
            pods.send(frame(source, destination))
        assert _heard(node), "the packet does not come to the node"
        return _heard(router)


def _heard(ear: socket.socket) -> bool:
    ear.settimeout(1)
    try:
        while PAYLOAD not in ear.recv(2048):
            pass
    except TimeoutError:
        return False
    return True


async def on_node(world: World, work: Callable[[], None]) -> None:
    with opened(world.node) as descriptor:
        await run_inside(descriptor, work)


async def pod_with(world: World, kind: str, *names: str) -> str:
    pod = world.pod()
    await interfaces.add(interface(pod, kind), node=world.node)
    for name in names[1:]:
        addresses = tuple(ip_interface(f"{net.pod}/{net.length}") for net in OWN[name].values())
        await interfaces.add(replace(second(pod, kind), ifname=name, addresses=addresses), node=world.node)
    return pod


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("names", [("eth0",), ("eth0", "net1"), ("eth0", "net1", "net2")])
async def test_only_the_pods_own_addresses_pass(wide: World, kind: str, names: tuple[str, ...], version: int) -> None:
    await on_node(wide, sources.RULES.load)
    pod = await pod_with(wide, kind, *names)
    target = CLIENT[version]
    for name in names:
        assert forwarded(wide, pod, OWN[name][version].pod, target)
    for false in (VICTIM[version], ETH0[version].other, NET1[version].other):
        assert not forwarded(wide, pod, false, target)
    for name in reversed(names):
        await interfaces.remove(CONTAINER, pod, name, node=wide.node)


@pytest.mark.parametrize("everywhere", [0, 2])
async def test_without_a_packet_filter_the_links_own_filter_helps_in_ipv4(
    wide: World, kind: str, everywhere: int
) -> None:
    """Also where all links are loose: one without addresses of its own is strict then, too."""
    wide.inside(wide.node, "sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={everywhere}")
    wide.inside(wide.node, "sysctl", "-qw", "net.ipv4.conf.default.rp_filter=0")
    pod = await pod_with(wide, kind)
    assert forwarded(wide, pod, ETH0[4].pod, CLIENT[4])
    assert not forwarded(wide, pod, VICTIM[4], CLIENT[4])
    await interfaces.remove(CONTAINER, pod, "eth0", node=wide.node)


async def test_what_another_program_loosens_is_made_strict_again(wide: World, kind: str) -> None:
    """Such as systemd's rule for new links, which applies sysctl.d. The packet filter helps meanwhile."""
    wide.inside(wide.node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    pod = await pod_with(wide, kind)
    assert await interfaces.refresh(CONTAINER, pod, PathSettings(), node=wide.node) == ()
    wide.inside(wide.node, "sysctl", "-qw", f"net.ipv4.conf.{HOST_END}.rp_filter=0")
    assert forwarded(wide, pod, VICTIM[4], CLIENT[4])
    await on_node(wide, sources.RULES.load)
    assert not forwarded(wide, pod, VICTIM[4], CLIENT[4])
    (step,) = await interfaces.refresh(CONTAINER, pod, PathSettings(), node=wide.node)
    assert str(step) == f"node: sysctl net/ipv4/conf/{HOST_END}/rp_filter = 1"
    await interfaces.remove(CONTAINER, pod, "eth0", node=wide.node)


async def test_rules_come_back(wide: World) -> None:
    def ours() -> list[str]:
        programs = "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"
        shown = wide.inside(wide.node, "sh", "-c", f"({programs}) 2>/dev/null || true")
        return [line for line in shown.splitlines() if sources.TABLE in line or "fib" in line]

    await on_node(wide, sources.RULES.load)
    once = ours()
    assert len(once) > 1
    await on_node(wide, sources.RULES.load)
    assert ours() == once
    wide.inside(wide.node, "sh", "-c", f"nft flush table ip {sources.TABLE} || iptables-legacy -t raw -F PREROUTING")
    assert ours() != once
    await on_node(wide, sources.RULES.load)
    assert sorted(ours()) == sorted(once)
