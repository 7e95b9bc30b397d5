"""Frames that the cloud drops: their headers in words, read from the kernel's log of packets and kept in a file.

``python -m spiderpool_lab.frames --netns NAME --file FILE`` records until SIGTERM or SIGINT. nftables sends it a copy
of each frame by a statement ``log group`` (nfnetlink_log, linux/netfilter/nfnetlink_log.h).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import IO

import msgspec

from spiderpool.kernel import rtnetlink
from spiderpool_lab import namespaces
from spiderpool_lab.signals import exit_on_signals

NAME = "dropped-frames"
GROUP = 1
"""The log group of the cloud's rules."""
SNAPSHOT = 96
"""Bytes of a packet that are copied: the headers of IPv6 and TCP, with one extension header."""
LIMIT = 2000
"""Frames in one file. The file before it is kept as well, so up to twice as many are known."""

_NETFILTER = 12  # NETLINK_NETFILTER, linux/netlink.h
_PACKET, _CONFIGURE = 4 << 8, 4 << 8 | 1  # NFNL_SUBSYS_ULOG with NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5  # NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_QTHRESH
_BIND, _COPY = 1, 2  # NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET
_PAYLOAD, _PREFIX, _LINK_HEADER = 9, 10, 16  # NFULA_PAYLOAD, NFULA_PREFIX, NFULA_HWHEADER
_NO_OVERRUN_ERROR = 5  # NETLINK_NO_ENOBUFS, linux/netlink.h
_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_GENERIC = struct.Struct("!BBH")  # struct nfgenmsg
_BUFFER = 1 << 16
_ETHERNET_HEADER = 14

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_WITH_PORTS = (6, 17)
_WITH_TYPE = (1, 58)
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK")


class DroppedFrame(msgspec.Struct, frozen=True):
    """A frame, the ENI that sent it (``<node>/<ENI>``) and the rule that dropped it. ``time`` is in Unix seconds."""

    time: float
    eni: str
    rule: str
    source: str
    destination: str
    packet: str

    def __str__(self) -> str:
        return f"{self.source} → {self.destination} {self.packet}"


def read(file: Path) -> list[DroppedFrame]:
    """The frames that were recorded, oldest first; empty if there are none."""
    lines = (line for part in (_before(file), file) if part.exists() for line in part.read_bytes().splitlines())
    return [msgspec.json.decode(line, type=DroppedFrame) for line in lines]


def describe(kind: int, packet: bytes) -> str:
    """A packet in words: addresses, protocol and ports. ``kind`` is its EtherType; what is cut off is left out."""
    try:
        match kind:
            case 0x0806:
                return _describe_arp(packet)
            case 0x0800:
                header = (packet[0] & 15) * 4
                return _describe_ip(packet[9], packet[12:16], packet[16:20], packet[header:])
            case 0x86DD:
                return _describe_ip(packet[6], packet[8:24], packet[24:40], packet[40:])
            case _:
                return f"EtherType {kind:#06x}"
    except (IndexError, ValueError, struct.error):
        return f"EtherType {kind:#06x}, cut off after {len(packet)} bytes"


def _describe_arp(packet: bytes) -> str:
    operation, mac, sender, _, target = struct.unpack_from("!6xH6s4s6s4s", packet)
    word = {1: "request", 2: "reply"}.get(operation, str(operation))
    return f"ARP {word} {ip_address(sender)} at {mac.hex(':')} → {ip_address(target)}"


def _describe_ip(protocol: int, source: bytes, destination: bytes, rest: bytes) -> str:
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    ends = [str(ip_address(source)), str(ip_address(destination))]
    if protocol in _WITH_PORTS:
        ports = struct.unpack_from("!HH", rest)
        ends = [f"[{end}]:{port}" if ":" in end else f"{end}:{port}" for end, port in zip(ends, ports, strict=True)]
    flags = " ".join(word for bit, word in enumerate(_TCP_FLAGS) if rest[13] >> bit & 1) if protocol == 6 else ""
    detail = f"type {rest[0]}" if protocol in _WITH_TYPE else flags
    return f"{name} {' → '.join(ends)} {detail}".rstrip()


# --- the recorder


def listen() -> socket.socket:
    """A socket that receives a copy of each frame of the log group, in the network namespace of this thread."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    opened.setsockopt(rtnetlink.SOL_NETLINK, _NO_OVERRUN_ERROR, 1)
    header = _GENERIC.pack(socket.AF_UNSPEC, 0, GROUP)
    control = rtnetlink.Socket(opened)
    for settings in (
        rtnetlink.attribute(_COMMAND, bytes([_BIND])),
        rtnetlink.attribute(_MODE, struct.pack("!IBx", SNAPSHOT, _COPY)),
        rtnetlink.attribute(_THRESHOLD, struct.pack("!I", 1)),  # each frame at once
    ):
        control.request(_CONFIGURE, header + settings)
    opened.settimeout(None)
    return opened


def parse(datagram: bytes) -> Iterator[DroppedFrame]:
    """The frames in one datagram of the kernel."""
    offset, now = 0, time.time()
    while offset + _MESSAGE.size <= len(datagram):
        length, kind = _MESSAGE.unpack_from(datagram, offset)[:2]
        if kind == _PACKET:
            yield _frame(now, rtnetlink.attributes(datagram[offset : offset + length], _MESSAGE.size + _GENERIC.size))
        offset += max(_MESSAGE.size, length + -length % 4)


def _frame(now: float, found: dict[int, bytes]) -> DroppedFrame:
    eni, _, rule = rtnetlink.as_text(found[_PREFIX]).partition(" ")
    header = found.get(_LINK_HEADER, b"").ljust(_ETHERNET_HEADER, b"\0")
    destination, source, kind = struct.unpack_from("!6s6sH", header)
    packet = describe(kind, found.get(_PAYLOAD, b""))
    return DroppedFrame(now, eni, rule, source.hex(":"), destination.hex(":"), packet)


def record(netns: Path, file: Path) -> None:
    """Append frames to a file until this process is ended."""
    opened = namespaces.call_in(netns, listen)
    while True:
        with file.open("ab", buffering=0) as recorded:
            _fill(opened, recorded)
        file.replace(_before(file))


def _fill(opened: socket.socket, recorded: IO[bytes]) -> None:
    written = 0
    while written < LIMIT:
        for frame in parse(opened.recv(_BUFFER)):
            recorded.write(msgspec.json.encode(frame) + b"\n")
            written += 1


def _before(file: Path) -> Path:
    return file.with_suffix(".before")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--netns", required=True)
    parser.add_argument("--file", required=True, type=Path)
    arguments = parser.parse_args()
    exit_on_signals()
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        record(namespaces.path(arguments.netns), arguments.file)


if __name__ == "__main__":
    main()
