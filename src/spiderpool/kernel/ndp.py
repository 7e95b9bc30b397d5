"""Frames of Neighbour Discovery for IPv6 (RFC 4861)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

ETH_P_IPV6 = 0x86DD  # linux/if_ether.h
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6, _HOP_LIMIT = 58, 255  # RFC 4443; RFC 4861 section 7.1: receivers drop a lower hop limit
_SOLICITATION, _ADVERTISEMENT, _OVERRIDE = 135, 136, 0x20000000  # RFC 4861 sections 4.3, 4.4
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2  # options: RFC 4861 section 4.6.1
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0")  # RFC 4291 section 2.7.1; the target's last 24 bits follow
_ETHERNET_LENGTH, _IPV6_LENGTH, _MESSAGE_LENGTH = 14, 40, 24


def unsolicited_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """An Ethernet frame that announces to all nodes that ``mac`` has ``address`` (RFC 4861 section 7.2.6)."""
    option = struct.pack("!BB", _TARGET_LINK_LAYER, 1) + mac
    message = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed + option
    return _frame(mac, _ALL_NODES_MAC, address, _ALL_NODES, message)


def solicitation(mac: bytes, source: IPv6Address, target: IPv6Address) -> bytes:
    """An Ethernet frame that asks who has ``target``; a source of ``::`` makes it a probe (RFC 4861 section 7.2.2)."""
    group = IPv6Address(int(_SOLICITED_NODE) | int(target) & 0xFFFFFF)
    option = b"" if source.is_unspecified else struct.pack("!BB", _SOURCE_LINK_LAYER, 1) + mac
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + target.packed + option
    return _frame(mac, b"\x33\x33" + group.packed[-4:], source, group, message)


def parse_advertisement(frame: bytes) -> tuple[IPv6Address, bytes] | None:
    """The target and its MAC in a neighbour advertisement; None for every other frame."""
    message = frame[_ETHERNET_LENGTH + _IPV6_LENGTH :]
    if frame[12:14] != struct.pack("!H", ETH_P_IPV6) or frame[20:21] != bytes((_ICMPV6,)):
        return None
    if len(message) < _MESSAGE_LENGTH or message[0] != _ADVERTISEMENT:
        return None
    option = message[_MESSAGE_LENGTH:]
    has_mac = len(option) >= 8 and option[:2] == struct.pack("!BB", _TARGET_LINK_LAYER, 1)
    return IPv6Address(message[8:24]), option[2:8] if has_mac else frame[6:12]


def _frame(mac: bytes, to_mac: bytes, source: IPv6Address, target: IPv6Address, message: bytes) -> bytes:
    """The message, with its checksum, in an IPv6 packet in an Ethernet frame."""
    pseudo = source.packed + target.packed + struct.pack("!IxxxB", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, _HOP_LIMIT) + source.packed + target.packed
    return to_mac + mac + struct.pack("!H", ETH_P_IPV6) + header + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
