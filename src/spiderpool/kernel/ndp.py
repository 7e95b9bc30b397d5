"""Frames of Neighbour Discovery for IPv6 (RFC 4861)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

ETH_P_IPV6 = 0x86DD
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6, _HOP_LIMIT = 58, 255
_ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_LAYER = 136, 0x20000000, 2


def unsolicited_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """An Ethernet frame to all nodes that says ``address`` is at ``mac`` from now on (RFC 4861 section 7.2.6)."""
    option = struct.pack("!BB", _TARGET_LINK_LAYER, 1) + mac
    message = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed + option
    checksum = _checksum(address.packed + _ALL_NODES.packed + struct.pack("!IxxxB", len(message), _ICMPV6) + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, _HOP_LIMIT) + address.packed + _ALL_NODES.packed
    return _ALL_NODES_MAC + mac + struct.pack("!H", ETH_P_IPV6) + header + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
