"""Frames of the Address Resolution Protocol (RFC 826)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

ETH_P_ARP = 0x0806  # linux/if_ether.h
_ETH_P_IP = 0x0800  # linux/if_ether.h
_HARDWARE_ETHERNET = 1  # ARPHRD_ETHER: linux/if_arp.h
_MAC_LENGTH, _IPV4_LENGTH = 6, 4
_BROADCAST = b"\xff" * _MAC_LENGTH
_REQUEST, _REPLY = 1, 2  # ARPOP_REQUEST, ARPOP_REPLY: linux/if_arp.h
_HEADER = struct.Struct("!HHBBH")  # hardware, protocol, lengths of their addresses, operation
_ETHERNET_LENGTH, _FRAME_LENGTH = 14, 42
_REPLY_HEADER = (_HARDWARE_ETHERNET, _ETH_P_IP, _MAC_LENGTH, _IPV4_LENGTH, _REPLY)


def gratuitous_request(mac: bytes, address: IPv4Address) -> bytes:
    """An Ethernet frame with an ARP request whose sender and target are ``address`` (RFC 826, RFC 5227 section 3)."""
    return request(mac, address, address)


def request(mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    """An Ethernet frame that asks who has ``target``; a source of 0.0.0.0 makes it a probe (RFC 5227 section 1.1)."""
    ethernet = _BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
    header = _HEADER.pack(_HARDWARE_ETHERNET, _ETH_P_IP, _MAC_LENGTH, _IPV4_LENGTH, _REQUEST)
    return ethernet + header + mac + source.packed + bytes(_MAC_LENGTH) + target.packed


def parse_reply(frame: bytes) -> tuple[IPv4Address, bytes] | None:
    """The sender's address and MAC in an ARP reply; None for every other frame."""
    if len(frame) < _FRAME_LENGTH or frame[12:14] != struct.pack("!H", ETH_P_ARP):
        return None
    if _HEADER.unpack_from(frame, _ETHERNET_LENGTH) != _REPLY_HEADER:
        return None
    return IPv4Address(frame[28:32]), frame[22:28]
