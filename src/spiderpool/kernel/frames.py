"""Send a raw Ethernet frame from the network namespace in which the calling thread is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

from spiderpool.errors import KernelFailure
from spiderpool.kernel.arp import ETH_P_ARP, gratuitous_request
from spiderpool.kernel.ndp import ETH_P_IPV6, unsolicited_advertisement


def announce(link: str, address: IPv4Address | IPv6Address, finish: ExitStack) -> None:
    """Announce that the MAC of ``link`` has ``address``, so that neighbours update their caches.

    ``finish`` closes the socket later, since closing a packet socket waits for an RCU grace period, some 10 ms.

    Raises:
        KernelFailure: the link is missing or down.
    """
    match address:
        case IPv4Address():
            _send(link, ETH_P_ARP, lambda mac: gratuitous_request(mac, address), finish, f"announce {address}")
        case IPv6Address():
            _send(link, ETH_P_IPV6, lambda mac: unsolicited_advertisement(mac, address), finish, f"announce {address}")


def _send(link: str, protocol: int, frame: Callable[[bytes], bytes], finish: ExitStack, purpose: str) -> None:
    try:
        sock = finish.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC))
        sock.bind((link, protocol))
        sock.send(frame(sock.getsockname()[4]))
    except OSError as error:
        raise KernelFailure(f"{purpose} from {link}: {error.strerror}") from error
