"""Gratuitous ARP from the network namespace in which the calling thread is."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from ipaddress import IPv4Address

from spiderpool.errors import KernelFailure

ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST = 1


def announce(link: str, address: IPv4Address, finish: ExitStack) -> None:
    """Broadcast that ``address`` is at the MAC of ``link``, so that neighbours forget an earlier holder.

    Closing a packet socket waits for an RCU grace period, some 10 ms; that is left to ``finish``.

    Raises:
        KernelFailure: the link is missing or down.
    """
    try:
        sock = finish.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC))
        sock.bind((link, ETH_P_ARP))
        mac = sock.getsockname()[4]
        sock.send(gratuitous_request(mac, address))
    except OSError as error:
        raise KernelFailure(f"announce {address} from {link}: {error.strerror}") from error


def gratuitous_request(mac: bytes, address: IPv4Address) -> bytes:
    """An Ethernet frame with an ARP request whose sender and target are ``address`` (RFC 826, RFC 5227 section 3)."""
    ethernet = _BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REQUEST)
    return ethernet + header + mac + address.packed + bytes(6) + address.packed
