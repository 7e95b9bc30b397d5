"""Frames of the Address Resolution Protocol (RFC 826)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_HEADER = struct.Struct("!HHBBH")
_ETHERNET_LENGTH, _FRAME_LENGTH = 14, 42


def gratuitous_request(mac: bytes, address: IPv4Address) -> bytes:
    """An Ethernet frame with an ARP request whose sender and target are ``address`` (RFC 826, RFC 5227 section 3)."""
    return request(mac, address, address)


def request(mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    """An Ethernet frame that asks who has ``target``; a source of 0.0.0.0 makes it a probe (RFC 5227 section 1.1)."""
    ethernet = _BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
    header = _HEADER.pack(1, 0x0800, 6, 4, _REQUEST)
    return ethernet + header + mac + source.packed + bytes(6) + target.packed


def answer(frame: bytes) -> tuple[IPv4Address, bytes] | None:
    """The address for which a frame's sender answers, and the MAC that it gives; None when it is no reply."""
    if len(frame) < _FRAME_LENGTH or frame[12:14] != struct.pack("!H", ETH_P_ARP):
        return None
    if _HEADER.unpack_from(frame, _ETHERNET_LENGTH) != (1, 0x0800, 6, 4, _REPLY):
        return None
    return IPv4Address(frame[28:32]), frame[22:28]
