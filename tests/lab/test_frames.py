"""What the cloud drops is told in words: sender, rule, addresses, protocol and ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from spiderpool.kernel import arp, ndp
from spiderpool_lab import frames, namespaces
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.frames import DroppedFrame
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
TCP_SYN_ACK = bytes.fromhex("0050 9c40 00000001 00000001 5012 0400 0000 0000")


def ipv4(protocol: int, rest: bytes) -> bytes:
    return bytes.fromhex("45000028 00000000 40") + bytes([protocol, 0, 0, 10, 0, 0, 1, 203, 0, 113, 9]) + rest


def ipv6(protocol: int, rest: bytes) -> bytes:
    source, target = bytes.fromhex("20010db8" + "0" * 23 + "1"), bytes.fromhex("20010db8" + "0" * 23 + "2")
    return bytes.fromhex("60000000 0014") + bytes([protocol, 64]) + source + target + rest


@pytest.mark.unit
@pytest.mark.parametrize(
    ("kind", "packet", "words"),
    [
        (IPV4, ipv4(6, TCP_SYN_ACK), "TCP 10.0.0.1:80 → 203.0.113.9:40000 SYN ACK"),
        (IPV4, ipv4(17, b"\0\x35\0\x36"), "UDP 10.0.0.1:53 → 203.0.113.9:54"),
        (IPV4, ipv4(1, b"\x08\0"), "ICMP 10.0.0.1 → 203.0.113.9 type 8"),
        (IPV4, ipv4(89, b""), "protocol 89 10.0.0.1 → 203.0.113.9"),
        (IPV6, ipv6(6, TCP_SYN_ACK), "TCP [2001:db8::1]:80 → [2001:db8::2]:40000 SYN ACK"),
        (IPV6, ipv6(58, b"\x88\0"), "ICMPv6 2001:db8::1 → 2001:db8::2 type 136"),
        (IPV6, ipv6(6, b"\0"), "EtherType 0x86dd, cut off after 41 bytes"),
        (IPV4, b"", "EtherType 0x0800, cut off after 0 bytes"),
        (0x88CC, b"\1\2", "EtherType 0x88cc"),
    ],
)
def test_a_packet_is_told_in_words(kind: int, packet: bytes, words: str) -> None:
    assert frames.describe(kind, packet) == words


@pytest.mark.unit
def test_requests_for_neighbours_are_told_in_words() -> None:
    mac = bytes.fromhex("00163e010183")
    request = arp.request(mac, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))[14:]
    assert frames.describe(ARP, request) == "ARP request 10.0.0.1 at 00:16:3e:01:01:83 → 10.0.0.2"
    solicited = ndp.solicitation(mac, IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))[14:]
    assert frames.describe(IPV6, solicited) == "ICMPv6 2001:db8::1 → ff02::1:ff00:2 type 135"


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[Fabric, Path]]:
    """A fabric whose master is a namespace, and the file of the frames that it drops, recorded from now on."""
    fabric = Fabric(WALKTHROUGH, lab_name("frames"), backend=NodeBackend.NATIVE)
    processes, file = Processes(tmp_path / "processes"), tmp_path / "dropped.json"
    fabric.up()
    try:
        arguments = ["--netns", fabric.vpc, "--file", str(file)]
        processes.start(frames.NAME, [sys.executable, "-m", "spiderpool_lab.frames", *arguments])
        wait_until(file.exists, "the recorder listens")
        yield fabric, file
    finally:
        processes.stop_all()
        fabric.down()


SPOOF = """
import socket, sys
frame = bytes.fromhex(sys.argv[1])
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
    out.bind(("eth0", 0))
    for _ in range(int(sys.argv[2])):
        out.send(frame)
"""


def spoof(fabric: Fabric, frame: bytes, times: int = 1) -> None:
    """Send a frame by eth0 of the master."""
    netns = fabric.node_namespace(WALKTHROUGH.node("master"))
    namespaces.ip_batch(["link set eth0 up"], netns=netns)
    command = ["ip", "netns", "exec", netns, sys.executable, "-c", SPOOF, frame.hex(), str(times)]
    subprocess.run(command, check=True, timeout=30)


OWN_MAC, FOREIGN_MAC, ROUTER = (bytes.fromhex(mac) for mac in ("00163e010183", "020000000001", "020000000002"))


@pytest.mark.lab
def test_each_dropped_frame_is_recorded_with_its_sender_and_rule(recorded: tuple[Fabric, Path]) -> None:
    fabric, file = recorded
    syn_ack = ipv4(6, TCP_SYN_ACK)
    spoof(fabric, ROUTER + OWN_MAC + IPV4.to_bytes(2) + syn_ack)
    spoof(fabric, ROUTER + OWN_MAC + IPV6.to_bytes(2) + ipv6(17, bytes(8)))
    spoof(fabric, ROUTER + FOREIGN_MAC + IPV4.to_bytes(2) + syn_ack)
    wait_until(lambda: len(frames.read(file)) == 3, "three frames are recorded")
    found = [(frame.eni, frame.rule, str(frame)) for frame in frames.read(file)]
    to, own, foreign = "02:00:00:00:00:02", "00:16:3e:01:01:83", "02:00:00:00:00:01"
    assert found == [
        ("master/eth0", "spoof_ip", f"{own} → {to} TCP 10.0.0.1:80 → 203.0.113.9:40000 SYN ACK"),
        ("master/eth0", "spoof_ip6", f"{own} → {to} UDP [2001:db8::1]:0 → [2001:db8::2]:0"),
        ("master/eth0", "spoof_mac", f"{foreign} → {to} TCP 10.0.0.1:80 → 203.0.113.9:40000 SYN ACK"),
    ]


@pytest.mark.lab
def test_a_flood_is_kept_within_bounds(recorded: tuple[Fabric, Path]) -> None:
    fabric, file = recorded
    for _ in range(6):
        spoof(fabric, ROUTER + OWN_MAC + IPV4.to_bytes(2) + ipv4(17, bytes(8)), frames.LIMIT // 2)
    spoof(fabric, ROUTER + OWN_MAC + IPV6.to_bytes(2) + ipv6(17, bytes(8)))
    wait_until(lambda: last(file) == "spoof_ip6", "the last frame is recorded")
    assert frames.LIMIT // 2 < len(frames.read(file)) <= 2 * frames.LIMIT


def last(file: Path) -> str | None:
    found: list[DroppedFrame] = frames.read(file)
    return found[-1].rule if found else None
