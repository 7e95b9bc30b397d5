"""TCP ports on loopback for the servers of a lab."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from spiderpool_lab import reservations

PORTS = range(20000, 32768)
"""Below 32768, where by default the kernel takes ports for clients from: a client cannot take one of these."""


def free_ports(count: int, processes: Path | None = None) -> list[int]:
    """TCP ports on which no server listens and which no other lab on this machine has reserved.

    They are reserved until this process ends, and all processes recorded in the folder ``processes``.
    """
    shuffled = random.sample(PORTS, len(PORTS))
    return reservations.reserve_ports(filter(is_free, shuffled), count, processes)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
