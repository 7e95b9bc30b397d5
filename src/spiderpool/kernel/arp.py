"""Frames of the Address Resolution Protocol (RFC 826)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST = 1


def gratuitous_request(mac: bytes, address: IPv4Address) -> bytes:
    """An Ethernet frame with an ARP request whose sender and target are ``address`` (RFC 826, RFC 5227 section 3)."""
    ethernet = _BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REQUEST)
    return ethernet + header + mac + address.packed + bytes(6) + address.packed
